"""Brings a subscription up to an instant, step by step in the order of time, however late that is."""

import logging
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.catalog import Snapshot
from billing.event_kinds import EventKind
from billing.events import emit
from billing.grants import freeze_or_thaw, give_cycle_grant, is_active
from billing.money_gone import take_gone
from billing.rules.subscription_states import ENDED, INCOMPLETE, PAST_DUE, Event
from billing.rules.subscription_steps import ended, next_due, play
from billing.services import Billing
from billing.subscription_rows import Subscription, live_subscription, lock_wallet, renewal_of, save_subscription
from billing.taking_back import take_back_cycle
from kit import clock
from kit.errors import Refusal
from kit.ids import encode_id
from models.database import Database, connection, transaction
from models.pool import PoolConnection

MAX_STEPS: Final = 240
"""Steps of one subscription in one transaction: 10 years of monthly periods with their grants; the rest comes next."""

_DUE: Final = """SELECT s.workspace_id FROM subscriptions s JOIN workspaces w ON w.id = s.workspace_id
    WHERE s.due_at <= $1 AND w.deleted_at IS NULL ORDER BY s.due_at LIMIT $2"""
_POSTPONE: Final = """UPDATE subscriptions SET due_at = $2::timestamptz + interval '1 hour'
    WHERE workspace_id = $1 AND ended_at IS NULL"""

logger = logging.getLogger(__name__)


async def advance(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, subscription: Subscription, until: datetime
) -> Subscription:
    """Play and save what is due until then, the wallet being locked. The result does not depend on who calls when.

    Grants are posted at the present time with the instants of the schedule, so a late one starts and ends as planned.
    """
    now = clock.now()
    life = subscription.life
    for _ in range(MAX_STEPS):
        renewal = renewal_of(snapshot, life)
        due = next_due(life, renewal)
        if due is None or due.at > until:
            break
        if due.event is None:
            payment_id = await give_cycle_grant(conn, billing, snapshot, subscription.with_life(life), due.at, now)
            if payment_id is not None:
                await take_gone(conn, billing, payment_id)
        life = play(life, due, renewal)
    if life == subscription.life:
        return subscription
    return await change(conn, billing, snapshot, subscription, subscription.with_life(life))


async def change(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, before: Subscription | None, after: Subscription
) -> Subscription:
    """Save a life that changed, with what follows for credits that require a plan (A9)."""
    now = clock.now()
    await save_subscription(conn, snapshot, after, now)
    active = is_active(after.life, now)
    if before is None or active != is_active(before.life, now) or after.life.status is not before.life.status:
        await freeze_or_thaw(conn, billing, after.wallet_id, now, active=active)
    if before is not None and after.life.status is not before.life.status:
        await _tell_state(conn, before, after)
    return after


async def end_at_once(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, current: Subscription, now: datetime
) -> None:
    """End a living subscription before its time, the wallet being locked, and with it the credits of its cycle.

    What running calls hold of them is taken once they have ended (`billing.taking_back`).
    """
    after = current.with_life(ended(current.life, Event.ENDED_AT_ONCE, now))
    await change(conn, billing, snapshot, current, after)
    await take_back_cycle(conn, billing, after, now)


async def _tell_state(conn: PoolConnection, before: Subscription, after: Subscription) -> None:
    """That a plan is unpaid, or over; a checkout that nobody paid is no news."""
    life = after.life
    facts: dict[str, str | None] = {"subscriptionId": encode_id("sub", after.id)}
    key = f"{after.id}:{life.period_number}"
    if life.status is PAST_DUE:
        grace = None if life.grace_ends_at is None else life.grace_ends_at.isoformat()
        told = {**facts, "graceEndsAt": grace}
        await emit(conn, EventKind.SUBSCRIPTION_PAST_DUE, after.workspace_id, told, dedupe_key=key)
    elif life.status in ENDED and before.life.status is not INCOMPLETE:
        told = {**facts, "status": life.status.value}
        await emit(conn, EventKind.SUBSCRIPTION_ENDED, after.workspace_id, told, dedupe_key=key)


async def advance_due(billing: Billing, *, limit: int = 100) -> int:
    """Grants, renewals, ends of trials, periods, graces and checkouts that are due; how many subscriptions were done.

    One transaction each. The wallet is claimed with SKIP LOCKED and the row read under that lock: any number of workers
    share the work, and none grants twice.
    """
    await billing.catalog.refresh_if_changed()
    async with connection(billing.database) as conn:
        rows = await conn.fetch(_DUE, clock.now(), limit)
    done = 0
    for row in rows:
        try:
            async with transaction(billing.database) as conn:
                done += await _advance_claimed(conn, billing, row["workspace_id"])
        except Refusal as refusal:  # the ledger's word: one wallet at its bounds must not keep the others waiting
            logger.error("subscription of workspace %s waits an hour: %s", row["workspace_id"], refusal.message)
            await _postpone(billing.database, row["workspace_id"])
    return done


async def _advance_claimed(conn: PoolConnection, billing: Billing, workspace_id: UUID) -> bool:
    if await lock_wallet(conn, workspace_id, skip_locked=True) is None:
        return False
    subscription = await live_subscription(conn, billing, workspace_id)
    if subscription is None:
        return False
    snapshot = billing.catalog.current
    after = await advance(conn, billing, snapshot, subscription, clock.now())
    if after is subscription:  # nothing but another time to look at it
        await save_subscription(conn, snapshot, subscription, clock.now())
    return True


async def _postpone(database: Database, workspace_id: UUID) -> None:
    async with connection(database) as conn:
        await conn.execute(_POSTPONE, workspace_id, clock.now())
