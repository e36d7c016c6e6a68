"""Writes invoices of what was charged to a saved method, since such a payment brings none by itself (D7).

The charge comes first and gives the credits; its invoice is written later, and credited with that very payment, so nothing
here can charge. What is due is a row of the outbox, written in the transaction that gave what was bought.
"""

import logging
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.payment_rows import INVOICE_DUE
from billing.rules.stripe_values import cents_of, entries, id_of, number, our_id, required_id, text
from billing.services import Billing
from billing.stripe_changes import invoice_of_intent
from billing.stripe_charges import read_intent
from billing.stripe_client import StripeAway, StripeJson, StripeRefused
from billing.stripe_customers import customers_of, known_customer, was_deleted
from billing.stripe_invoices import invoice_changed, keep_receipt
from billing.stripe_link import StripeLink
from kit import clock
from models.database import connection
from models.enums import PaymentPurpose

LEASE: Final = timedelta(minutes=3)
"""Longer than the requests of one invoice take; then another worker goes on with it."""

PAUSES: Final = (timedelta(minutes=10), timedelta(hours=6), timedelta(hours=24))
"""After a refusal; the last one for all later tries."""

_SEARCH_BACK: Final = timedelta(minutes=10)
"""Clocks differ: an invoice is looked for from so long before its payment had its effect."""

_CLAIM: Final = """UPDATE outbox_events o SET due_at = $2, attempts = attempts + 1 FROM (SELECT id FROM outbox_events
        WHERE kind = $3 AND completed_at IS NULL AND due_at <= $1 ORDER BY due_at, id LIMIT $4 FOR UPDATE SKIP LOCKED) AS due
    WHERE o.id = due.id RETURNING o.id, o.attempts, o.dedupe_key"""
_PAYMENT: Final = """SELECT p.*, k.name AS pack_name, l.name AS plan_name FROM payments p
    LEFT JOIN credit_packs k ON k.id = p.pack_id LEFT JOIN prices r ON r.id = p.price_id LEFT JOIN plans l ON l.id = r.plan_id
    WHERE p.id = $1"""
_DONE: Final = "UPDATE outbox_events SET completed_at = $2, last_error = NULL WHERE id = $1"
_AGAIN: Final = "UPDATE outbox_events SET due_at = $2, last_error = $3 WHERE id = $1"
logger = logging.getLogger(__name__)


async def write_invoices(billing: Billing, link: StripeLink, *, limit: int = 20) -> int:
    """Write the invoices that are due; how many are done with. Repeatable, and safe beside itself."""
    now = clock.now()
    async with connection(link.database) as conn:
        rows = await conn.fetch(_CLAIM, now, now + LEASE, INVOICE_DUE, limit)
    return sum([await _write(billing, link, row) for row in rows])


async def _write(billing: Billing, link: StripeLink, due: Record) -> bool:
    try:
        async with connection(link.database) as conn:
            payment = await conn.fetchrow(_PAYMENT, UUID(due["dedupe_key"]))
        assert payment is not None, "payments are never deleted"
        if _wants_invoice(payment):
            await _invoice_or_receipt(billing, link, payment, again=due["attempts"] > 1)
    except (StripeAway, StripeRefused) as problem:
        tries: int = due["attempts"]
        pause = PAUSES[min(tries, len(PAUSES)) - 1] if isinstance(problem, StripeRefused) else LEASE
        logger.warning("the invoice of payment %s is written later: %s", due["dedupe_key"], problem)
        async with connection(link.database) as conn:
            await conn.execute(_AGAIN, due["id"], clock.now() + pause, str(problem)[:500])
        return False
    async with connection(link.database) as conn:
        await conn.execute(_DONE, due["id"], clock.now())
    return True


def _wants_invoice(payment: Record) -> bool:
    """Pages write their own, and so do subscriptions; what was given back meanwhile needs none."""
    object_id: str | None = payment["stripe_object_id"]
    by_itself = object_id is not None and object_id.startswith("pi_") and payment["stripe_checkout_id"] is None
    return by_itself and not payment["refunded_usd_micro"]


async def _invoice_or_receipt(billing: Billing, link: StripeLink, payment: Record, *, again: bool) -> None:
    customer = await known_customer(link, payment["workspace_id"])
    try:
        await _invoice(billing, link, payment, again=again)
    except StripeRefused as refused:
        if not await was_deleted(link, payment["workspace_id"], customer, refused):
            raise
        await _receipt(link, payment)


async def _invoice(billing: Billing, link: StripeLink, payment: Record, *, again: bool) -> None:
    intent_id: str = payment["stripe_object_id"]
    written = await invoice_of_intent(link, intent_id) if again else None
    if written is None:
        customer = await _customer_of(link, payment)
        if customer is None:
            await _receipt(link, payment)
            return
        draft = await _begun(link, customer, payment) if again else None
        if draft is None:
            draft = await _begin(link, customer, payment)
        written = required_id(draft)
        if not await _credited(link, customer, payment, written):
            await _receipt(link, payment)
            return
    await invoice_changed(billing, link, written)


async def _customer_of(link: StripeLink, payment: Record) -> str | None:
    """Who paid; None where that customer was deleted since: an invoice of another one cannot be credited with it."""
    current = await known_customer(link, payment["workspace_id"])
    if await customers_of(link, payment["workspace_id"]) == [current]:
        return current
    payer = id_of(await read_intent(link, payment["stripe_object_id"]), "customer")
    return current if payer == current else None


async def _receipt(link: StripeLink, payment: Record) -> None:
    await keep_receipt(link, payment["workspace_id"], await read_intent(link, payment["stripe_object_id"]))


async def _begun(link: StripeLink, customer: str, payment: Record) -> StripeJson | None:
    """The one that was begun before, which its key may not find any more."""
    applied: datetime = payment["applied_at"]
    since = int((applied - _SEARCH_BACK).timestamp())
    made = await link.stripe.pages(
        lambda v1: v1.invoices.list_async({"customer": customer, "created": {"gte": since}, "limit": 100})
    )
    mine = [one for one in made if our_id(one, "payment_id") == payment["id"] and text(one, "status") != "void"]
    return mine[0] if mine else None


async def _begin(link: StripeLink, customer: str, payment: Record) -> StripeJson:
    metadata = {"payment_id": str(payment["id"]), "workspace_id": str(payment["workspace_id"])}
    return await link.stripe.call(
        lambda v1: v1.invoices.create_async(
            {
                "customer": customer,
                "auto_advance": False,
                "pending_invoice_items_behavior": "exclude",
                "metadata": metadata,
            },
            {"idempotency_key": f"invoice:{payment['id']}"},
        )
    )


async def _credited(link: StripeLink, customer: str, payment: Record, invoice_id: str) -> bool:
    """From draft to paid, step by step from where it stands. False where it does not come to what was paid, as the
    customer's balance at Stripe counts in: then it is void, and a receipt has to do.
    """
    cents = cents_of(payment["amount_usd_micro"])
    invoice = await link.stripe.call(lambda v1: v1.invoices.retrieve_async(invoice_id))
    if text(invoice, "status") == "draft":
        if not entries(invoice, "lines"):
            await _add_line(link, customer, payment, invoice_id, cents)
        invoice = await link.stripe.call(lambda v1: v1.invoices.finalize_invoice_async(invoice_id))
    if text(invoice, "status") == "open" and number(invoice, "amount_due") == cents:
        intent_id: str = payment["stripe_object_id"]
        invoice = await link.stripe.call(
            lambda v1: v1.invoices.attach_payment_async(invoice_id, {"payment_intent": intent_id})
        )
    elif text(invoice, "status") == "open":
        invoice = await link.stripe.call(lambda v1: v1.invoices.void_invoice_async(invoice_id))
    return text(invoice, "status") != "void"


async def _add_line(link: StripeLink, customer: str, payment: Record, invoice_id: str, cents: int) -> None:
    words: str = payment["pack_name"] or payment["plan_name"] or "Credits"
    if payment["purpose"] == PaymentPurpose.AUTO_RECHARGE:
        words = "Credits (auto-recharge)"
    await link.stripe.call(
        lambda v1: v1.invoice_items.create_async(
            {"customer": customer, "invoice": invoice_id, "amount": cents, "currency": "usd", "description": words},
            {"idempotency_key": f"invoice:{payment['id']}:line"},
        )
    )
