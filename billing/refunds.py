"""Takes credits back when money goes back: for refunds unless they fail, for disputes until they are won (D5)."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.advance import advance, end_at_once
from billing.errors import UnknownPayment
from billing.event_kinds import EventKind
from billing.events import emit
from billing.grants import post_all
from billing.payment_rows import Payment, payment_by_id, payment_view
from billing.rules.bought_credits import refunded_micro
from billing.rules.subscription_states import ENDED
from billing.services import Billing
from billing.subscription_rows import subscription_by_id
from billing.views import PaymentView
from kit import clock
from kit.ids import encode_id
from kit.money import usd_micro_text
from metering.operations import Clawback, Freeze, Operation, Reinstate, Thaw
from models.database import connection, transaction
from models.enums import PaymentStatus, PricePeriod
from models.pool import PoolConnection

_GRANTS: Final = (
    "SELECT id, wallet_id, amount_micro, refunded_micro FROM credit_grants WHERE payment_id = $1 ORDER BY id"
)
_WALLET: Final = "SELECT id FROM wallets WHERE workspace_id = $1 FOR NO KEY UPDATE"
_SAVE: Final = """UPDATE payments SET refunded_usd_micro = $2, status = $3, updated_at = $4, failure_code =
    CASE WHEN $2 > refunded_usd_micro THEN nullif(failure_code, 'refund_failed') ELSE failure_code END WHERE id = $1"""
_CORRECT: Final = """UPDATE payments SET refunded_usd_micro = $2, status = $3, updated_at = $4,
    failure_code = 'refund_failed' WHERE id = $1"""
_LAST: Final = """SELECT id FROM payments WHERE subscription_id = $1 AND purpose = 'SUBSCRIPTION'
    AND applied_at IS NOT NULL ORDER BY applied_at DESC, id DESC LIMIT 1"""
_SEEN: Final = "SELECT updated_at FROM payments WHERE id = $1"
logger = logging.getLogger(__name__)


async def refund_payment(billing: Billing, payment_id: UUID, refunded_usd_micro: int) -> PaymentView:
    """So much of the payment has gone back in all: take the same fraction of each of its grants, from what is left.

    Absolute and repeatable: the same figure again takes nothing more, unless credits were held meanwhile and are free
    now; a smaller one, which came late, changes nothing. What is spent already stays spent: no wallet owes anything. Of a
    payment that had no place the customer is told, once.
    """
    async with transaction(billing.database) as conn:
        payment = await _locked(conn, payment_id)
        total = min(max(refunded_usd_micro, payment.refunded_usd_micro), payment.amount_usd_micro)
        await _take(conn, billing, payment, total, lambda row, amount: _refund(payment, row, amount))
        whole = total == payment.amount_usd_micro
        if whole:
            await _end_plan(conn, billing, payment)
        status = PaymentStatus.REFUNDED if whole else payment.status
        await conn.execute(_SAVE, payment_id, total, status, clock.now())
        had_no_place = payment.status is PaymentStatus.SUCCEEDED and payment.applied_at is None
        if had_no_place and status is PaymentStatus.REFUNDED:
            await _tell_given_back(conn, billing, payment)
        return payment_view(await _read(conn, payment_id))


async def seen_at(billing: Billing, payment_id: UUID) -> datetime | None:
    """When a payment was last changed: who asks the provider about it next says so to `refund_failed`."""
    async with connection(billing.database) as conn:
        return await conn.fetchval(_SEEN, payment_id)


async def refund_failed(billing: Billing, payment_id: UUID, refunded_usd_micro: int, *, seen: datetime | None) -> bool:
    """A refund did not reach the customer: only so much has gone back in all, and the rest of the credits come back.

    Repeatable. The customer is told; the operator finds it in the audit log and as the payment's failure code. Nothing is
    tried again by itself. False, and nothing done, where the payment has changed since it was `seen`: the sum may be an old one.
    """
    async with transaction(billing.database) as conn:
        payment = await _locked(conn, payment_id)
        if refunded_usd_micro >= payment.refunded_usd_micro:
            return True
        if await conn.fetchval(_SEEN, payment_id) != seen:
            return False
        wallet_id: UUID = await conn.fetchval(_WALLET, payment.workspace_id)
        await post_all(conn, billing, [Reinstate(_refunds(payment), wallet_id, "Refund failed")], clock.now())
        await _take(conn, billing, payment, refunded_usd_micro, lambda row, amount: _refund(payment, row, amount))
        status = PaymentStatus.SUCCEEDED if payment.status is PaymentStatus.REFUNDED else payment.status
        await conn.execute(_CORRECT, payment_id, refunded_usd_micro, status, clock.now())
        failed = usd_micro_text(payment.refunded_usd_micro - refunded_usd_micro)
        note = billing.note_for(payment.workspace_id)
        await note(conn, "payment.refund_failed", "payment", payment.id, {"amount_usd": failed})
        facts = {"paymentId": encode_id("pay", payment.id), "amount": failed}
        await emit(conn, EventKind.REFUND_FAILED, payment.workspace_id, facts)
    logger.error("a refund of $%s of payment %s failed at the provider", failed, payment_id)
    return True


async def dispute_payment(billing: Billing, payment_id: UUID, dispute_id: str, disputed_usd_micro: int) -> PaymentView:
    """The customer's bank takes so much back for now: the same fraction of each grant goes, from what is unspent.

    A payment may have several disputes, each of a part: `dispute_id` is the provider's. What is left of the payment's
    credits is frozen until the dispute is closed.
    """
    async with transaction(billing.database) as conn:
        payment = await _locked(conn, payment_id)
        disputed = min(disputed_usd_micro, payment.amount_usd_micro - payment.refunded_usd_micro)
        await _take(conn, billing, payment, disputed, lambda row, amount: _clawback(payment, dispute_id, row, amount))
        await _freeze(conn, billing, payment, frozen=True)
        await conn.execute(_SAVE, payment_id, payment.refunded_usd_micro, PaymentStatus.DISPUTED, clock.now())
        return payment_view(await _read(conn, payment_id))


async def close_dispute(
    billing: Billing, payment_id: UUID, dispute_id: str, *, disputed_usd_micro: int, won: bool
) -> PaymentView:
    """Won: what this dispute took comes back. Lost: it stays taken, and a plan whose period it paid ends (A6, A7).

    What was frozen is spendable again. Repeatable.
    """
    async with transaction(billing.database) as conn:
        payment = await _locked(conn, payment_id)
        disputed = payment.status is PaymentStatus.DISPUTED
        if disputed:
            await _freeze(conn, billing, payment, frozen=False)
        if not won and disputed_usd_micro + payment.refunded_usd_micro >= payment.amount_usd_micro:
            await _end_plan(conn, billing, payment)
        if won:
            wallet_id: UUID = await conn.fetchval(_WALLET, payment.workspace_id)
            operation = Reinstate(_dispute(payment, dispute_id), wallet_id, "Dispute won")
            await post_all(conn, billing, [operation], clock.now())
        if won and disputed:
            await conn.execute(_SAVE, payment_id, payment.refunded_usd_micro, PaymentStatus.SUCCEEDED, clock.now())
        return payment_view(await _read(conn, payment_id))


async def _end_plan(conn: PoolConnection, billing: Billing, payment: Payment) -> None:
    """The period under way is not paid any more: its plan ends as where an operator ends it, at the provider too.

    Without this a year or a lifetime would go on granting each month. An older payment, and that of an upgrade, end
    nothing.
    """
    if payment.subscription_id is None or await conn.fetchval(_LAST, payment.subscription_id) != payment.id:
        return
    found = await subscription_by_id(conn, billing, payment.subscription_id)
    if found is None or found.life.status in ENDED:
        return
    snapshot, now = billing.catalog.current, clock.now()
    current = await advance(conn, billing, snapshot, found, now)
    life = current.life
    over = life.status in ENDED or (life.period_end is not None and life.period_end <= now)
    if over or life.price.period is PricePeriod.FREE:
        return
    await end_at_once(conn, billing, snapshot, current, now)


async def _take(
    conn: PoolConnection,
    billing: Billing,
    payment: Payment,
    usd_micro: int,
    operation: Callable[[Record, int], Operation],
) -> None:
    rows = await conn.fetch(_GRANTS, payment.id)
    operations = [
        operation(row, refunded_micro(row["amount_micro"], usd_micro, payment.amount_usd_micro)) for row in rows
    ]
    await post_all(conn, billing, operations, clock.now())


async def _freeze(conn: PoolConnection, billing: Billing, payment: Payment, *, frozen: bool) -> None:
    rows = await conn.fetch(_GRANTS, payment.id)
    if rows:
        ids = tuple(row["id"] for row in rows)
        step = (Freeze if frozen else Thaw)(rows[0]["wallet_id"], "DISPUTE", ids)
        await post_all(conn, billing, [step], clock.now())


async def _tell_given_back(conn: PoolConnection, billing: Billing, payment: Payment) -> None:
    amount = usd_micro_text(payment.amount_usd_micro)
    facts = {"paymentId": encode_id("pay", payment.id), "amount": amount}
    await emit(conn, EventKind.PAYMENT_GIVEN_BACK, payment.workspace_id, facts, dedupe_key=str(payment.id))
    note = billing.note_for(payment.workspace_id)
    await note(conn, "payment.give_back", "payment", payment.id, {"amount_usd": amount})


def _refund(payment: Payment, row: Record, amount_micro: int) -> Operation:
    """A clawback, as a refund may fail yet; what was taken for good by an older version counts."""
    left = max(0, amount_micro - row["refunded_micro"])
    return Clawback(_refunds(payment), row["wallet_id"], row["id"], left, "Payment refunded")


def _refunds(payment: Payment) -> str:
    return f"payment:{payment.id}"


def _clawback(payment: Payment, dispute_id: str, row: Record, amount_micro: int) -> Operation:
    reference = _dispute(payment, dispute_id)
    return Clawback(reference, row["wallet_id"], row["id"], amount_micro, "Payment disputed")


def _dispute(payment: Payment, dispute_id: str) -> str:
    return f"dispute:{payment.id}:{dispute_id}"


async def _locked(conn: PoolConnection, payment_id: UUID) -> Payment:
    payment = await _read(conn, payment_id)
    await conn.execute(_WALLET, payment.workspace_id)
    locked = await payment_by_id(conn, payment_id, lock=True)
    assert locked is not None
    return locked


async def _read(conn: PoolConnection, payment_id: UUID) -> Payment:
    payment = await payment_by_id(conn, payment_id)
    if payment is None:
        raise UnknownPayment
    return payment
