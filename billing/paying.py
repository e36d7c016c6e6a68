"""Asks the provider for the money of a payment that is written down: from the saved method, or on a hosted page."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from billing.payment_port import Charge, Checkout
from billing.payment_rows import note_payment
from billing.payments import settle_charge
from billing.services import Billing
from billing.views import PaymentView
from kit import clock
from models.database import transaction
from models.pool import PoolConnection

_WITH_METHOD: Final = """SELECT DISTINCT workspace_id FROM payment_methods
    WHERE workspace_id = ANY ($1) AND is_default AND removed_at IS NULL"""


async def with_method(conn: PoolConnection, workspace_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the workspaces that have a saved method to be charged."""
    return frozenset(row["workspace_id"] for row in await conn.fetch(_WITH_METHOD, workspace_ids))


async def has_method(conn: PoolConnection, workspace_id: UUID) -> bool:
    """Whether a saved method can be charged."""
    return workspace_id in await with_method(conn, [workspace_id])


async def charge_method(billing: Billing, payment: PaymentView, key: str, return_url: str | None) -> PaymentView:
    """Charge the saved method with the customer present; a repeat with the same key tells what became of the first."""
    charge = Charge(
        key=key,
        workspace_id=payment.workspace_id,
        purpose=payment.purpose,
        payment_id=payment.id,
        amount_usd_micro=payment.amount_usd_micro,
        off_session=False,
        return_url=return_url,
    )
    return await settle_charge(billing, payment.id, await billing.payments.charge(charge))


async def open_page(billing: Billing, order: Checkout) -> str:
    """The hosted page of a payment, or of a trial's card; its address stands on the payment. Raises Unavailable."""
    url = await billing.payments.open_checkout(order)
    if order.payment_id is not None:
        async with transaction(billing.database) as conn:
            await note_payment(conn, order.payment_id, clock.now(), action_url=url)
    return url
