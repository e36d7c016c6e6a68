"""Brings what was paid for in line with money that went back: credits, the payment's state, the plan (D5, A6, A7)."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.advance import advance, change, end_at_once
from billing.catalog import Snapshot
from billing.money_gone import gone_of, take_credits
from billing.payment_rows import Payment, last_period_paid, read_payment
from billing.rules.subscription_states import ENDED
from billing.rules.subscription_steps import with_price
from billing.services import Billing
from billing.subscription_rows import Subscription, price_by_id, subscription_by_id
from kit import clock
from models.enums import PaymentPurpose, PricePeriod
from models.pool import PoolConnection

_STATUS: Final = "UPDATE payments SET status = $2, updated_at = $3 WHERE id = $1 AND status <> $2"
_UPGRADE: Final = """SELECT id, former_price_id FROM payments WHERE subscription_id = $1 AND purpose = 'PLAN_CHANGE'
    AND price_id = $2 AND applied_at >= $3 AND ($4::uuid IS NULL OR id < $4) ORDER BY id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class _Upgrade:
    """The payment of one, and the price that it was made from."""

    id: UUID
    former_price_id: UUID


async def follow_money(conn: PoolConnection, billing: Billing, payment: Payment) -> None:
    """After refunds and disputes were written, the wallet being locked. Repeatable; the order of news does not matter."""
    gone = await gone_of(conn, payment)
    await take_credits(conn, billing, payment, gone)
    if gone.is_whole and payment.subscription_id is not None:
        await _end_unpaid(conn, billing, payment, payment.subscription_id)
    await conn.execute(_STATUS, payment.id, gone.status_from(payment.status), clock.now())


async def _end_unpaid(conn: PoolConnection, billing: Billing, payment: Payment, subscription_id: UUID) -> None:
    """What is under way is not paid any more: the plan ends as where an operator ends it, an upgrade is undone.

    At the provider too. Without this a year or a lifetime would go on granting each month. The payment of an older
    period ends nothing.
    """
    is_last = await last_period_paid(conn, subscription_id) == payment.id
    found = await subscription_by_id(conn, billing, subscription_id)
    if found is None or found.life.status in ENDED or not (is_last or payment.purpose is PaymentPurpose.PLAN_CHANGE):
        return
    snapshot, now = billing.catalog.current, clock.now()
    current = await advance(conn, billing, snapshot, found, now)
    life = current.life
    over = life.status in ENDED or (life.period_end is not None and life.period_end <= now)
    if over or life.price.period is PricePeriod.FREE:
        return
    if is_last:
        await end_at_once(conn, billing, snapshot, current, now)
    else:
        await _undo_upgrades(conn, billing, snapshot, current, now)


async def _undo_upgrades(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, current: Subscription, now: datetime
) -> None:
    """Back to the price before, as long as the upgrade in this period to the present one is not paid any more.

    The period stays as it is. What was granted by it stays until its cycle's end, but for the difference's credits.
    """
    life, undone = current.life, await _unpaid_upgrade(conn, current, None)
    while undone is not None:
        former, scheduled = await price_by_id(billing, undone.former_price_id), life.scheduled
        kept = None if scheduled is None or scheduled.id == former.id else scheduled
        life = replace(with_price(life, former, now), scheduled=kept)
        undone = await _unpaid_upgrade(conn, current.with_life(life), undone)
    if life is not current.life:
        await change(conn, billing, snapshot, current, current.with_life(life))


async def _unpaid_upgrade(conn: PoolConnection, current: Subscription, before: _Upgrade | None) -> _Upgrade | None:
    """The one that brought the present price, where its money is gone whole and what it was made from is known."""
    life = current.life
    row: Record | None = await conn.fetchrow(
        _UPGRADE, current.id, life.price.id, life.period_start, None if before is None else before.id
    )
    if row is None or row["former_price_id"] is None:
        return None
    gone = await gone_of(conn, await read_payment(conn, row["id"]))
    return _Upgrade(row["id"], row["former_price_id"]) if gone.is_whole else None
