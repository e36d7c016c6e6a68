"""Charges a one-time purchase to the saved payment method, and gives what it bought."""

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from billing.errors import PaymentMethodRequired, UnknownPayment, UnknownWorkspace
from billing.paying import charge_method, has_method, open_page
from billing.payment_port import Checkout
from billing.payment_rows import OPEN, open_payment, payment_by_id, payment_view
from billing.services import Billing, Note, unnoted
from billing.subscription_rows import lock_wallet
from billing.views import PaymentView
from kit import clock
from kit.money import usd_micro_text
from metering.idempotency import run_once
from models.database import connection
from models.enums import PaymentPurpose, PaymentStatus
from models.pool import PoolConnection

_GRANT: Final = "SELECT id FROM credit_grants WHERE payment_id = $1 ORDER BY created_at, id LIMIT 1"


@dataclass(frozen=True, slots=True)
class Purchase:
    """What became of it. `grant_id`: of the credits bought, once they are paid."""

    payment: PaymentView
    grant_id: UUID | None


async def buy(
    billing: Billing,
    workspace_id: UUID,
    purpose: PaymentPurpose,
    amount_usd_micro: int,
    *,
    operation: str,
    digest: bytes,
    idempotency_key: str,
    pack_id: UUID | None = None,
    return_url: str | None = None,
    checkout: bool = False,
    note: Note = unnoted,
) -> Purchase:
    """Charge and give, once for a key. A decline is in the payment's view: its status and failure code.

    `checkout`: by a hosted page, whose address is in the view, instead of the saved method; it saves one as well.
    Raises UnknownWorkspace, PaymentMethodRequired, IdempotencyKeyReused.
    """

    async def effect(conn: PoolConnection) -> dict[str, object]:
        if await lock_wallet(conn, workspace_id) is None:
            raise UnknownWorkspace
        if not checkout and not await has_method(conn, workspace_id):
            raise PaymentMethodRequired("checkout: true")
        now = clock.now()
        opened = await open_payment(conn, workspace_id, purpose, amount_usd_micro, now, pack_id=pack_id)
        facts = {"purpose": purpose.value, "amount_usd": usd_micro_text(amount_usd_micro)}
        await note(conn, "payment.open", "payment", opened, facts)
        return {"payment_id": str(opened)}

    answer = await run_once(billing.database, workspace_id, idempotency_key, operation, digest, effect)
    payment_id = UUID(str(answer["payment_id"]))
    payment = await _payment(billing, payment_id)
    if payment.status is PaymentStatus.PENDING and checkout:
        payment = await _page(billing, payment, pack_id, return_url)
    elif payment.status is PaymentStatus.PENDING:
        payment = await charge_method(billing, payment, f"topup:{payment_id}", return_url)
    return Purchase(payment, None if payment.status in OPEN else await _grant_id(billing, payment_id))


async def _page(billing: Billing, payment: PaymentView, pack_id: UUID | None, return_url: str | None) -> PaymentView:
    """The hosted page, opened once; a repeat gives its address again."""
    if payment.action_url is not None:
        return payment
    order = Checkout(
        key=f"checkout:{payment.id}",
        workspace_id=payment.workspace_id,
        purpose=payment.purpose,
        payment_id=payment.id,
        amount_usd_micro=payment.amount_usd_micro,
        pack_id=pack_id,
        success_url=return_url,
    )
    return replace(payment, action_url=await open_page(billing, order))


async def _payment(billing: Billing, payment_id: UUID) -> PaymentView:
    async with connection(billing.database) as conn:
        payment = await payment_by_id(conn, payment_id)
    if payment is None:
        raise UnknownPayment
    return payment_view(payment)


async def _grant_id(billing: Billing, payment_id: UUID) -> UUID | None:
    async with connection(billing.database) as conn:
        return await conn.fetchval(_GRANT, payment_id)
