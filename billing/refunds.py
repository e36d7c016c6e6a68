"""Refunds: the credits of what goes back to the customer go with it, and come back where it did not arrive (D5)."""

import logging
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.event_kinds import EventKind
from billing.events import emit
from billing.grants import post_all
from billing.money_back import follow_money
from billing.money_gone import refund_reference
from billing.payment_rows import Payment, locked_payment, payment_view, read_payment
from billing.services import Billing
from billing.views import PaymentView
from kit import clock
from kit.ids import encode_id
from kit.money import usd_micro_text
from metering.operations import Reinstate
from models.database import connection, transaction
from models.enums import PaymentStatus
from models.pool import PoolConnection

_SAVE: Final = """UPDATE payments SET refunded_usd_micro = $2, updated_at = $3, failure_code =
    CASE WHEN $2 > refunded_usd_micro THEN nullif(failure_code, 'refund_failed') ELSE failure_code END WHERE id = $1"""
_CORRECT: Final = """UPDATE payments SET refunded_usd_micro = $2, updated_at = $3, failure_code = 'refund_failed'
    WHERE id = $1"""
_SEEN: Final = "SELECT updated_at FROM payments WHERE id = $1"
logger = logging.getLogger(__name__)


async def refund_payment(billing: Billing, payment_id: UUID, refunded_usd_micro: int) -> PaymentView:
    """So much of the payment has gone back in all: take the same fraction of each of its grants, from what is left.

    Absolute and repeatable: the same figure again takes nothing more, unless credits were held meanwhile and are free
    now; a smaller one, which came late, changes nothing. What is spent already stays spent: no wallet owes anything. Of a
    payment that had no place the customer is told, once.
    """
    async with transaction(billing.database) as conn:
        before, _ = await locked_payment(conn, payment_id)
        total = min(max(refunded_usd_micro, before.refunded_usd_micro), before.amount_usd_micro)
        await conn.execute(_SAVE, payment_id, total, clock.now())
        await follow_money(conn, billing, await read_payment(conn, payment_id))
        payment = await read_payment(conn, payment_id)
        had_no_place = before.status is PaymentStatus.SUCCEEDED and before.applied_at is None
        if had_no_place and payment.status is PaymentStatus.REFUNDED:
            await _tell_given_back(conn, billing, payment)
        return payment_view(payment)


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
        payment, wallet_id = await locked_payment(conn, payment_id)
        if refunded_usd_micro >= payment.refunded_usd_micro:
            return True
        if await conn.fetchval(_SEEN, payment_id) != seen:
            return False
        back = Reinstate(refund_reference(payment_id), wallet_id, "Refund failed")
        await post_all(conn, billing, [back], clock.now())
        await conn.execute(_CORRECT, payment_id, refunded_usd_micro, clock.now())
        await follow_money(conn, billing, await read_payment(conn, payment_id))
        failed = usd_micro_text(payment.refunded_usd_micro - refunded_usd_micro)
        note = billing.note_for(payment.workspace_id)
        await note(conn, "payment.refund_failed", "payment", payment.id, {"amount_usd": failed})
        facts = {"paymentId": encode_id("pay", payment.id), "amount": failed}
        await emit(conn, EventKind.REFUND_FAILED, payment.workspace_id, facts)
    logger.error("a refund of $%s of payment %s failed at the provider", failed, payment_id)
    return True


async def _tell_given_back(conn: PoolConnection, billing: Billing, payment: Payment) -> None:
    amount = usd_micro_text(payment.amount_usd_micro)
    facts = {"paymentId": encode_id("pay", payment.id), "amount": amount}
    await emit(conn, EventKind.PAYMENT_GIVEN_BACK, payment.workspace_id, facts, dedupe_key=str(payment.id))
    note = billing.note_for(payment.workspace_id)
    await note(conn, "payment.give_back", "payment", payment.id, {"amount_usd": amount})
