"""Adds credits by amount of money (B5, D3)."""

from typing import Final
from uuid import UUID

from billing.buying import Purchase, buy
from billing.errors import AmountOutOfBounds, PaymentsNotConfigured, TopUpsNotOffered
from billing.services import Billing, Note, unnoted
from metering.idempotency import input_digest
from models.enums import PaymentPurpose

ADD_CREDITS: Final = "add_credits"


async def add_credits(
    billing: Billing,
    workspace_id: UUID,
    amount_usd_micro: int,
    *,
    idempotency_key: str,
    return_url: str | None = None,
    checkout: bool = False,
    note: Note = unnoted,
) -> Purchase:
    """Charge an amount within the catalog's bounds and give its credits, with the bonus of its step (D6).

    Raises TopUpsNotOffered, AmountOutOfBounds, PaymentsNotConfigured, PaymentMethodRequired (B5), UnknownWorkspace,
    IdempotencyKeyReused.
    """
    terms = billing.catalog.current.settings.top_up
    if terms is None:
        raise TopUpsNotOffered
    if not terms.min_usd_micro <= amount_usd_micro <= terms.max_usd_micro or amount_usd_micro % 10_000:
        raise AmountOutOfBounds("amount", terms.min_usd_micro, terms.max_usd_micro)
    if not billing.payments.configured:
        raise PaymentsNotConfigured
    return await buy(
        billing,
        workspace_id,
        PaymentPurpose.TOP_UP,
        amount_usd_micro,
        operation=ADD_CREDITS,
        digest=input_digest(amount_usd_micro, return_url, *(("checkout",) if checkout else ())),
        idempotency_key=idempotency_key,
        return_url=return_url,
        checkout=checkout,
        note=note,
    )
