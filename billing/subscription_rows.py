"""Reads and writes the rows of subscriptions; the wallet is locked before, so that one at a time changes them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.catalog import Snapshot
from billing.rules.subscription_steps import Life, look_again_at, next_credits_at
from billing.services import Billing
from billing.views import PriceView, SubscriptionView
from models.database import connection
from models.enums import SubscriptionStatus
from models.pool import PoolConnection

_LOCK: Final = """SELECT w.id FROM wallets w JOIN workspaces s ON s.id = w.workspace_id
    WHERE w.workspace_id = $1 AND s.deleted_at IS NULL FOR NO KEY UPDATE OF w"""
_SELECT: Final = "SELECT s.*, w.id AS wallet_id FROM subscriptions s JOIN wallets w ON w.workspace_id = s.workspace_id"
_INSERT: Final = """INSERT INTO subscriptions (id, workspace_id, plan_id, price_id, scheduled_price_id, status, anchor_at,
    current_period_start, current_period_end, period_number, grant_number, next_grant_at, trial_ends_at, grace_ends_at,
    cancel_at_period_end, canceled_at, ended_at, stripe_subscription_id, due_at, updated_at, created_at)
    VALUES ($1, $20, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $21)"""
_UPDATE: Final = """UPDATE subscriptions SET plan_id = $2, price_id = $3, scheduled_price_id = $4, status = $5,
    anchor_at = $6, current_period_start = $7, current_period_end = $8, period_number = $9, grant_number = $10,
    next_grant_at = $11, trial_ends_at = $12, grace_ends_at = $13, cancel_at_period_end = $14, canceled_at = $15,
    ended_at = $16, stripe_subscription_id = $17, due_at = $18, updated_at = $19 WHERE id = $1"""

_TELL_AGAIN: Final = """UPDATE subscriptions SET tell_due_at = $2 WHERE id = $1 AND stripe_subscription_id IS NOT NULL
    AND tell_due_at IS NULL"""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A row, with the wallet that its credits go to."""

    id: UUID
    workspace_id: UUID
    wallet_id: UUID
    life: Life
    stripe_subscription_id: str | None = None

    def with_life(self, life: Life) -> "Subscription":
        """The same row with another life."""
        return replace(self, life=life)


async def lock_wallet(conn: PoolConnection, workspace_id: UUID, *, skip_locked: bool = False) -> UUID | None:
    """The wallet of a workspace that is not deleted, locked before all else; None where there is none.

    `skip_locked`: None as well where another transaction has it, for work that can be done at another time.
    """
    return await conn.fetchval(f"{_LOCK} SKIP LOCKED" if skip_locked else _LOCK, workspace_id)


async def live_subscription(conn: PoolConnection, billing: Billing, workspace_id: UUID) -> Subscription | None:
    """The workspace's subscription that has not ended."""
    row = await conn.fetchrow(f"{_SELECT} WHERE s.workspace_id = $1 AND s.ended_at IS NULL", workspace_id)
    return None if row is None else await _subscription(billing, row)


async def subscription_by_id(conn: PoolConnection, billing: Billing, subscription_id: UUID) -> Subscription | None:
    """A subscription, ended or not."""
    row = await conn.fetchrow(f"{_SELECT} WHERE s.id = $1", subscription_id)
    return None if row is None else await _subscription(billing, row)


async def live_subscriptions(billing: Billing, workspace_ids: Sequence[UUID]) -> dict[UUID, SubscriptionView]:
    """By workspace: its subscription that has not ended."""
    async with connection(billing.database) as conn:
        rows = await conn.fetch(f"{_SELECT} WHERE s.workspace_id = ANY ($1) AND s.ended_at IS NULL", workspace_ids)
    return {row["workspace_id"]: subscription_view(await _subscription(billing, row)) for row in rows}


async def subscriptions_by_ids(billing: Billing, ids: Sequence[UUID]) -> dict[UUID, SubscriptionView]:
    """Subscriptions, ended ones included."""
    async with connection(billing.database) as conn:
        rows = await conn.fetch(f"{_SELECT} WHERE s.id = ANY ($1)", ids)
    return {row["id"]: subscription_view(await _subscription(billing, row)) for row in rows}


async def insert_subscription(
    conn: PoolConnection, snapshot: Snapshot, subscription: Subscription, now: datetime
) -> None:
    """A new row; the unique index lets a workspace have one that has not ended."""
    values = _values(snapshot, subscription, now)
    await conn.execute(_INSERT, *values, subscription.workspace_id, subscription.life.created_at)


async def save_subscription(
    conn: PoolConnection, snapshot: Snapshot, subscription: Subscription, now: datetime
) -> None:
    """Write what has changed, and when to look at it again."""
    await conn.execute(_UPDATE, *_values(snapshot, subscription, now))


async def tell_again(conn: PoolConnection, subscription_id: UUID, now: datetime) -> None:
    """Have the provider told how it stands, which may not have been possible until now."""
    await conn.execute(_TELL_AGAIN, subscription_id, now)


def renewal_of(snapshot: Snapshot, life: Life) -> PriceView | None:
    """The price that it renews onto: what was scheduled, else its own, as the catalog has them now."""
    return snapshot.renewal_of(life.scheduled or life.price)


def subscription_view(subscription: Subscription) -> SubscriptionView:
    """What is handed upstairs."""
    life = subscription.life
    return SubscriptionView(
        id=subscription.id,
        workspace_id=subscription.workspace_id,
        plan_id=life.price.plan_id,
        price_id=life.price.id,
        scheduled_price_id=life.scheduled.id if life.scheduled else None,
        status=life.status,
        current_period_start=life.period_start,
        current_period_end=life.period_end,
        cancel_at_period_end=life.cancel_at_period_end,
        next_grant_at=next_credits_at(life),
        trial_ends_at=life.trial_ends_at,
        grace_ends_at=life.grace_ends_at,
        ended_at=life.ended_at,
    )


async def price_by_id(billing: Billing, price_id: UUID) -> PriceView:
    """A price that a row names: another process may have applied a catalog that this one has not seen."""
    price = billing.catalog.current.prices_by_id.get(price_id)
    if price is None:
        price = (await billing.catalog.reload()).prices_by_id[price_id]
    return price


async def _subscription(billing: Billing, row: Record) -> Subscription:
    scheduled = row["scheduled_price_id"]
    life = Life(
        status=SubscriptionStatus(row["status"]),
        price=await price_by_id(billing, row["price_id"]),
        anchor_at=row["anchor_at"],
        period_start=row["current_period_start"],
        period_end=row["current_period_end"],
        created_at=row["created_at"],
        scheduled=None if scheduled is None else await price_by_id(billing, scheduled),
        period_number=row["period_number"],
        grant_number=row["grant_number"],
        next_grant_at=row["next_grant_at"],
        trial_ends_at=row["trial_ends_at"],
        grace_ends_at=row["grace_ends_at"],
        cancel_at_period_end=row["cancel_at_period_end"],
        canceled_at=row["canceled_at"],
        ended_at=row["ended_at"],
    )
    return Subscription(row["id"], row["workspace_id"], row["wallet_id"], life, row["stripe_subscription_id"])


def _values(snapshot: Snapshot, subscription: Subscription, now: datetime) -> tuple[object, ...]:
    life = subscription.life
    return (
        subscription.id,
        life.price.plan_id,
        life.price.id,
        life.scheduled.id if life.scheduled else None,
        life.status,
        life.anchor_at,
        life.period_start,
        life.period_end,
        life.period_number,
        life.grant_number,
        life.next_grant_at,
        life.trial_ends_at,
        life.grace_ends_at,
        life.cancel_at_period_end,
        life.canceled_at,
        life.ended_at,
        subscription.stripe_subscription_id,
        look_again_at(life, renewal_of(snapshot, life), now),
        now,
    )
