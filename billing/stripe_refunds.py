"""Gives money back at Stripe, by the operator: a refund, or for an invoice a credit note, which corrects it (D5, D7)."""

from typing import Final
from uuid import UUID

from billing.errors import PaymentRefused, UnknownPayment
from billing.rules.stripe_values import CENT_MICRO, cents_of, id_of, number, text
from billing.stripe_changes import intent_of, invoice_of_intent
from billing.stripe_charges import read_intent
from billing.stripe_client import StripeRefused
from billing.stripe_link import StripeLink
from models.database import connection

FAILED: Final = frozenset({"failed", "canceled"})
"""States of a refund whose money did not reach the customer."""

_OBJECT: Final = "SELECT stripe_object_id FROM payments WHERE id = $1"


async def refund_up_to(link: StripeLink, payment_id: UUID, total_usd_micro: int, reason: str) -> int:
    """Give back so much in all; what has gone back in all then, in micro-dollars.

    What has gone back before is asked for first, and the key names the total: a repeat gives back nothing more. A refund
    that failed can be tried again: the key counts those, and an invoice was corrected by the first. Raises
    UnknownPayment, PaymentRefused where there is nothing to give back or Stripe cannot, StripeAway.
    """
    async with connection(link.database) as conn:
        row = await conn.fetchrow(_OBJECT, payment_id)
    if row is None:
        raise UnknownPayment
    try:
        return await _refund(link, row["stripe_object_id"], total_usd_micro, reason)
    except StripeRefused as refused:
        raise PaymentRefused(f"Stripe gives nothing back of this payment: {refused}") from refused


async def _refund(link: StripeLink, object_id: str | None, total_usd_micro: int, reason: str) -> int:
    if object_id is None:
        raise PaymentRefused("nothing was charged for this payment")
    if object_id.startswith("in_"):
        invoice_id, intent_id = object_id, await _intent_of(link, object_id)
    else:
        invoice_id, intent_id = await invoice_of_intent(link, object_id), object_id
    intent = await read_intent(link, intent_id)
    before, charged = (number(intent, "latest_charge", name) or 0 for name in ("amount_refunded", "amount"))
    wanted = min(cents_of(total_usd_micro), charged) - before
    if wanted <= 0:
        return before * CENT_MICRO
    made = await link.stripe.pages(lambda v1: v1.refunds.list_async({"payment_intent": intent_id, "limit": 100}))
    failed = sum(text(refund, "status") in FAILED for refund in made)
    key = f"refund:{object_id}:{before + wanted}" + (f":{failed}" if failed else "")
    if invoice_id is None or failed:
        await link.stripe.call(
            lambda v1: v1.refunds.create_async(
                {"payment_intent": intent_id, "amount": wanted, "metadata": {"reason": reason[:200]}},
                {"idempotency_key": key},
            )
        )
    else:
        await link.stripe.call(
            lambda v1: v1.credit_notes.create_async(
                {"invoice": invoice_id, "amount": wanted, "refund_amount": wanted, "memo": reason[:200]},
                {"idempotency_key": key},
            )
        )
    return (before + wanted) * CENT_MICRO


async def _intent_of(link: StripeLink, invoice_id: str) -> str:
    invoice = await link.stripe.call(lambda v1: v1.invoices.retrieve_async(invoice_id, {"expand": ["payments"]}))
    found = intent_of(invoice) or id_of(invoice, "payment_intent")
    if found is None:
        raise PaymentRefused("nothing was charged for this invoice")
    return found
