"""Applies what a payment provider tells: the one routine through which a payment has its effect, once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.errors import UnknownPayment
from billing.event_kinds import EventKind
from billing.events import emit
from billing.money_back import follow_money
from billing.payment_port import ActionNeeded, Charged, ChargeResult, Declined
from billing.payment_rows import (
    Payment,
    locked_payment,
    mark_applied,
    note_invoice_due,
    note_payment,
    open_payment,
    payment_view,
    read_payment,
)
from billing.plan_payments import fail_renewal, give_due_grants, pay_change, pay_period
from billing.purchases import give_pack, give_top_up
from billing.recharge_rows import (
    METHOD_CHANGED,
    note_recharge_declined,
    note_recharge_paid,
    suspend_recharge,
    was_replaced,
)
from billing.services import Billing
from billing.subscription_rows import lock_wallet, price_by_id, subscription_by_id, tell_again
from billing.views import PaymentView
from kit import clock
from kit.ids import encode_id
from kit.money import usd_micro_text
from models.database import transaction
from models.enums import PaymentPurpose, PaymentStatus, PricePeriod
from models.pool import PoolConnection

DECIDED: Final = (PaymentStatus.SUCCEEDED, PaymentStatus.REFUNDED, PaymentStatus.DISPUTED)
"""States of a payment without effect that stays without: it had no place and is given back, or was taken back."""


@dataclass(frozen=True, slots=True)
class Applied:
    """`changed` False: it had been applied before, or has no place: the money is there, and is to be given back."""

    payment: PaymentView
    changed: bool


async def apply_payment(
    billing: Billing, payment_id: UUID, *, paid_at: datetime | None = None, object_id: str | None = None
) -> Applied:
    """Give what was paid for: called by the return page, the webhook and the reconciler alike, any number of times.

    `paid_at`: when the money moved, for news that come late; the present where it is not known. `object_id`: the
    provider's name for the payment, where it is new. Raises UnknownPayment.
    """
    async with transaction(billing.database) as conn:
        payment, wallet_id = await locked_payment(conn, payment_id)
        now = clock.now()
        if object_id is not None and payment.object_id is None:
            # With the effect: in between it would be neither on its way nor had, and could be bought again.
            await note_payment(conn, payment_id, now, object_id=object_id)
            payment = await read_payment(conn, payment_id)
        if payment.applied_at is not None or payment.status in DECIDED:
            return Applied(payment_view(payment), changed=False)
        at = now if paid_at is None else min(paid_at, now)
        changed = await _effect(conn, billing, payment, wallet_id, at)
        if changed:
            await mark_applied(conn, payment.id, now)
            if payment.purpose is not PaymentPurpose.SUBSCRIPTION or await _is_bought(billing, payment):
                await note_invoice_due(conn, payment, now)
            await give_due_grants(conn, billing, payment)
        else:
            await note_payment(conn, payment.id, now, status=PaymentStatus.SUCCEEDED)
            if payment.amount_usd_micro:  # a renewal may cost nothing, and then nothing is to be given back
                await _tell(conn, EventKind.PAYMENT_UNAPPLIED, payment)
        # News of a refund or a dispute may have come before.
        await follow_money(conn, billing, await read_payment(conn, payment_id))
        return Applied(payment_view(await read_payment(conn, payment_id)), changed=changed)


async def settle_charge(billing: Billing, payment_id: UUID, result: ChargeResult) -> PaymentView:
    """Write what the provider answered to a charge, and apply the payment where the money is there."""
    if isinstance(result, Charged):
        applied = await apply_payment(billing, payment_id, paid_at=result.paid_at, object_id=result.object_id)
        return applied.payment
    if isinstance(result, Declined):
        return await fail_payment(
            billing, payment_id, result.failure_code, object_id=result.object_id, method_id=result.method_id
        )
    if isinstance(result, ActionNeeded):
        return await ask_for_action(
            billing, payment_id, result.url, object_id=result.object_id, method_id=result.method_id
        )
    return await _note(billing, payment_id, object_id=result.object_id)


async def fail_payment(
    billing: Billing,
    payment_id: UUID,
    failure_code: str,
    *,
    object_id: str | None = None,
    method_id: str | None = None,
    is_last_word: bool = False,
) -> PaymentView:
    """A decline: nothing is given; a renewal makes its subscription past due, a recharge counts it. Repeatable.

    News of a payment whose money has come, such as that its page has expired, come too late and change nothing.
    `method_id`: which saved method was tried. `is_last_word`: the code takes the place of that of an earlier try.
    """
    async with transaction(billing.database) as conn:
        payment, _ = await locked_payment(conn, payment_id)
        if payment.applied_at is None and payment.status not in DECIDED:
            first = payment.status is not PaymentStatus.FAILED
            now = clock.now()
            if first or is_last_word:
                await note_payment(
                    conn, payment_id, now, status=PaymentStatus.FAILED, failure_code=failure_code, object_id=object_id
                )
            if first and payment.purpose is PaymentPurpose.AUTO_RECHARGE:
                if not await was_replaced(conn, payment.workspace_id, method_id):
                    await note_recharge_declined(conn, payment.workspace_id, failure_code, now)
            elif first and payment.purpose is PaymentPurpose.SUBSCRIPTION and payment.object_id is not None:
                # what was never paid on a page has no object at the provider: that was no renewal
                await fail_renewal(conn, billing, payment)
            elif first and payment.purpose is PaymentPurpose.PLAN_CHANGE and payment.subscription_id is not None:
                # no price was told while it waited
                await tell_again(conn, payment.subscription_id, now)
        return payment_view(await read_payment(conn, payment_id))


async def ask_for_action(
    billing: Billing, payment_id: UUID, url: str, *, object_id: str | None = None, method_id: str | None = None
) -> PaymentView:
    """The customer must confirm the payment at this address; a recharge waits for them meanwhile. Repeatable.

    A recharge of a method that another one has replaced is given up: nobody is to confirm it any more.
    """
    async with transaction(billing.database) as conn:
        payment, _ = await locked_payment(conn, payment_id)
        given_up = payment.failure_code == METHOD_CHANGED
        if payment.applied_at is None and payment.status not in DECIDED and not given_up:
            now = clock.now()
            recharge = payment.purpose is PaymentPurpose.AUTO_RECHARGE
            if recharge and await was_replaced(conn, payment.workspace_id, method_id):
                await note_payment(
                    conn, payment_id, now, status=PaymentStatus.FAILED, failure_code=METHOD_CHANGED, object_id=object_id
                )
                return payment_view(await read_payment(conn, payment_id))
            status = PaymentStatus.ACTION_REQUIRED
            await note_payment(conn, payment_id, now, status=status, action_url=url, object_id=object_id)
            if recharge and payment.status is not status:
                await suspend_recharge(conn, payment.workspace_id, "authentication_required", now, action_url=url)
                await _tell(conn, EventKind.AUTO_RECHARGE_ACTION_REQUIRED, payment, actionUrl=url)
        return payment_view(await read_payment(conn, payment_id))


async def renewal_payment(
    billing: Billing, subscription_id: UUID, amount_usd_micro: int, object_id: str, *, price_id: UUID | None = None
) -> UUID:
    """The payment of a renewal that the provider charged by itself: one row for each of its objects.

    `price_id`: what was charged for; the price it renews onto where the provider's object does not say.
    """
    async with transaction(billing.database) as conn:
        subscription = await subscription_by_id(conn, billing, subscription_id)
        if subscription is None:
            raise UnknownPayment
        await lock_wallet(conn, subscription.workspace_id)
        return await open_payment(
            conn,
            subscription.workspace_id,
            PaymentPurpose.SUBSCRIPTION,
            amount_usd_micro,
            clock.now(),
            price_id=price_id,
            subscription_id=subscription_id,
            object_id=object_id,
        )


async def _effect(conn: PoolConnection, billing: Billing, payment: Payment, wallet_id: UUID, at: datetime) -> bool:
    if await lock_wallet(conn, payment.workspace_id) is None:
        return False  # the workspace was deleted, and a page or an invoice of it was paid all the same
    match payment.purpose:
        case PaymentPurpose.SUBSCRIPTION:
            return await pay_period(conn, billing, payment, at)
        case PaymentPurpose.PLAN_CHANGE:
            return await pay_change(conn, billing, payment)
        case PaymentPurpose.PACK:
            await give_pack(conn, billing, payment, wallet_id, at)
        case PaymentPurpose.TOP_UP:
            await give_top_up(conn, billing, payment, wallet_id, at)
        case PaymentPurpose.AUTO_RECHARGE:
            await give_top_up(conn, billing, payment, wallet_id, at)
            await note_recharge_paid(conn, payment.workspace_id, clock.now())
    return True


async def _is_bought(billing: Billing, payment: Payment) -> bool:
    """A lifetime, which no subscription at the provider writes an invoice of."""
    return (
        payment.price_id is not None and (await price_by_id(billing, payment.price_id)).period is PricePeriod.LIFETIME
    )


async def _note(billing: Billing, payment_id: UUID, *, object_id: str | None) -> PaymentView:
    async with transaction(billing.database) as conn:
        await locked_payment(conn, payment_id)
        await note_payment(conn, payment_id, clock.now(), object_id=object_id)
        return payment_view(await read_payment(conn, payment_id))


async def _tell(conn: PoolConnection, kind: EventKind, payment: Payment, **more: str) -> None:
    """Once for each payment, with the fact itself."""
    facts = {"paymentId": encode_id("pay", payment.id), "amount": usd_micro_text(payment.amount_usd_micro), **more}
    await emit(conn, kind, payment.workspace_id, facts, dedupe_key=str(payment.id))
