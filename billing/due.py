"""Sweeps for what instants alone do not tell: free default plans to begin, and credits frozen or thawed too late."""

import logging
from typing import Final
from uuid import UUID

from billing.catalog import Snapshot
from billing.grants import freeze_or_thaw, is_active
from billing.plans import Standing, effective_plan
from billing.services import Billing
from billing.subscribing import begin_free, require_on_offer
from billing.subscription_rows import live_subscription, lock_wallet
from billing.views import PriceView
from kit import clock
from kit.errors import Refusal
from models.database import connection, transaction
from models.enums import PricePeriod

_WITHOUT: Final = """SELECT w.id, w.default_plan_id FROM workspaces w
    WHERE w.deleted_at IS NULL AND coalesce(w.default_plan_id, $1) = ANY ($2)
      AND NOT EXISTS (SELECT FROM subscriptions s WHERE s.workspace_id = w.id AND s.ended_at IS NULL)
    ORDER BY w.id LIMIT $3"""
# `active` as billing.rules.standing says it; the decision itself is taken again under the wallet's lock.
_OUT_OF_LINE: Final = """SELECT w.workspace_id FROM wallets w
    JOIN workspaces o ON o.id = w.workspace_id AND o.deleted_at IS NULL
    LEFT JOIN subscriptions s ON s.workspace_id = w.workspace_id AND s.ended_at IS NULL,
    LATERAL (SELECT s.id IS NOT NULL AND s.status <> 'INCOMPLETE'
        AND NOT coalesce(s.cancel_at_period_end AND s.current_period_end <= $1, false)
        AND (s.status <> 'PAST_DUE' OR coalesce(s.grace_ends_at > $1, false)) AS active) AS standing
    WHERE EXISTS (SELECT FROM credit_grants g WHERE g.wallet_id = w.id AND g.requires_active_plan
        AND g.remaining_micro > 0 AND (g.frozen_reason IS NULL) <> standing.active
        AND coalesce(g.frozen_reason, 'NO_ACTIVE_SUBSCRIPTION') = 'NO_ACTIVE_SUBSCRIPTION')
      AND w.id IN (SELECT wallet_id FROM credit_grants WHERE requires_active_plan AND remaining_micro > 0)
    LIMIT $2"""


logger = logging.getLogger(__name__)


async def subscribe_by_default(billing: Billing, *, limit: int = 100) -> int:
    """Workspaces without a subscription whose default plan is free get it, and its credits (C1); how many did.

    New ones, and those whose paid plan has ended. Where the default plan has no free price nothing is done (A, D3).
    """
    await billing.catalog.refresh_if_changed()
    snapshot = billing.catalog.current
    free = {plan.id: price for plan in snapshot.plans_by_id.values() for price in plan.prices if _is_free(price)}
    if not free:
        return 0
    async with connection(billing.database) as conn:
        rows = await conn.fetch(_WITHOUT, snapshot.default_plan.id, list(free), limit)
    done = 0
    for row in rows:
        plan = effective_plan(snapshot, Standing(row["default_plan_id"], subscribed=False))
        price = free.get(plan.id)
        if price is not None:
            done += await _subscribe(billing, snapshot, row["id"], price)
    return done


async def settle_frozen(billing: Billing, *, limit: int = 100) -> int:
    """Freeze and thaw what a subscription's end or beginning should have (A9), a dispute's end included; how many wallets.

    The ordinary way is in the transaction that ends or begins the subscription; this one mends whatever came between.
    """
    async with connection(billing.database) as conn:
        rows = await conn.fetch(_OUT_OF_LINE, clock.now(), limit)
    done = 0
    for row in rows:
        async with transaction(billing.database) as conn:
            wallet_id = await lock_wallet(conn, row["workspace_id"], skip_locked=True)
            if wallet_id is None:
                continue
            now = clock.now()
            live = await live_subscription(conn, billing, row["workspace_id"])
            active = live is not None and is_active(live.life, now)
            done += bool(await freeze_or_thaw(conn, billing, wallet_id, now, active=active))
    return done


async def _subscribe(billing: Billing, snapshot: Snapshot, workspace_id: UUID, price: PriceView) -> bool:
    try:
        async with transaction(billing.database) as conn:
            wallet_id = await lock_wallet(conn, workspace_id, skip_locked=True)
            if wallet_id is None or await live_subscription(conn, billing, workspace_id) is not None:
                return False
            await require_on_offer(conn, price)
            await begin_free(conn, billing, snapshot, workspace_id, wallet_id, price)
            return True
    except Refusal as refusal:  # retired by another process, or a wallet at its bounds: the others must not wait
        logger.warning("workspace %s gets no default plan yet: %s", workspace_id, refusal.message)
        return False


def _is_free(price: PriceView) -> bool:
    return price.period is PricePeriod.FREE and not price.retired
