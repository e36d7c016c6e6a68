"""Raises a subscription's price at Stripe now, for the prorated difference, and tells beforehand what that will be."""

from typing import Final
from uuid import UUID

from billing.payment_port import ActionNeeded, Charge, Charged, ChargeResult, Declined, Pending, PriceChange
from billing.rules.stripe_values import entries, id_of, instant, part, required_id, text, usd_micro
from billing.stripe_charges import charge, failure_of, is_old, read_intent
from billing.stripe_client import StripeAway, StripeDeclined, StripeJson, StripeRefused
from billing.stripe_link import StripeLink, customer_of
from billing.stripe_prices import price_id_of
from billing.stripe_tell import item_of, release_schedule, tell_subscription
from kit import clock
from models.database import connection
from models.enums import PaymentPurpose

_STRIPE_ID: Final = "SELECT stripe_subscription_id FROM subscriptions WHERE id = $1"
_AMOUNT: Final = "UPDATE payments SET amount_usd_micro = $2 WHERE id = $1 AND applied_at IS NULL AND $2 > 0"
_EXPAND: Final = ["latest_invoice.payments"]


async def change_price(link: StripeLink, order: PriceChange) -> ChargeResult:
    """Move the subscription to a higher price and charge the difference (B8); a decline leaves the old price.

    Nothing to pay (`payment_id` None): Stripe only learns of the price. A subscription that Stripe does not renew, a
    lifetime, is charged the difference by itself.
    """
    try:
        if order.payment_id is None:
            await tell_subscription(link, order.subscription_id)
            return Pending()
        stripe_id = await _stripe_id(link, order.subscription_id)
        if stripe_id is None:
            return await charge(link, _as_charge(order, order.payment_id))
        return await _raise(link, order, order.payment_id, stripe_id)
    except StripeAway:
        return Pending()
    except StripeDeclined as declined:
        return Declined(declined.failure_code)
    except StripeRefused as refused:
        return Declined(refused.code)


async def preview_change(link: StripeLink, order: PriceChange) -> int:
    """What `change_price` would charge for the same order, in micro-dollars. Raises StripeAway, StripeRefused."""
    stripe_id = await _stripe_id(link, order.subscription_id)
    if stripe_id is None:
        return order.amount_usd_micro
    customer = await customer_of(link, order.workspace_id)
    price = await price_id_of(link, order.price_id)
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    item_id = required_id(item_of(found))
    preview = await link.stripe.call(
        lambda v1: v1.invoices.create_preview_async(
            {
                "customer": customer,
                "subscription": stripe_id,
                "subscription_details": {
                    "items": [{"id": item_id, "price": price}],
                    "proration_behavior": "always_invoice",
                    "proration_date": int(order.at.timestamp()),
                },
            }
        )
    )
    return max(0, usd_micro(preview, "total") or 0)


async def result_of_change(link: StripeLink, payment_id: UUID, invoice: StripeJson) -> ChargeResult:
    """How the invoice of a change stands; its total is what the payment is of. Raises StripeAway, StripeRefused."""
    invoice_id = required_id(invoice)
    total = usd_micro(invoice, "total")
    async with connection(link.database) as conn:
        await conn.execute(_AMOUNT, payment_id, total or 0)
    status = text(invoice, "status")
    if status == "paid":
        return Charged(instant(invoice, "status_transitions", "paid_at") or clock.now(), invoice_id)
    if status in {"void", "uncollectible"}:
        return Declined("payment_not_made", invoice_id)
    intent_id = intent_of(invoice)
    intent = None if intent_id is None else await read_intent(link, intent_id)
    match None if intent is None else text(intent, "status"):
        case "requires_action":
            url = text(invoice, "hosted_invoice_url")
            return Pending(invoice_id) if url is None else ActionNeeded(url, invoice_id)
        case "requires_payment_method" | "canceled":
            await link.stripe.call(lambda v1: v1.invoices.void_invoice_async(invoice_id))
            return Declined(failure_of(part(intent)), invoice_id)
        case _:
            return Pending(invoice_id)


async def invoice_of_intent(link: StripeLink, intent_id: str) -> str | None:
    """The invoice that a payment intent pays or has paid. Raises StripeAway, StripeRefused."""
    made = await link.stripe.pages(
        lambda v1: v1.invoice_payments.list_async({"payment": {"type": "payment_intent", "payment_intent": intent_id}})
    )
    return next((id_of(payment, "invoice") for payment in made), None)


def intent_of(invoice: StripeJson) -> str | None:
    """The payment intent that pays an invoice, whose `payments` are expanded."""
    for payment in entries(invoice, "payments"):
        found = id_of(payment, "payment", "payment_intent")
        if found is not None:
            return found
    return None


async def _raise(link: StripeLink, order: PriceChange, payment_id: UUID, stripe_id: str) -> ChargeResult:
    if await is_old(link, payment_id):
        return Pending()  # the reconciler finds out what became of it
    price = await price_id_of(link, order.price_id)
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    await release_schedule(link, found)
    item_id = required_id(item_of(found))
    changed = await link.stripe.call(
        lambda v1: v1.subscriptions.update_async(
            stripe_id,
            {
                "items": [{"id": item_id, "price": price}],
                "proration_behavior": "always_invoice",
                "payment_behavior": "pending_if_incomplete",
                "proration_date": int(order.at.timestamp()),
                "expand": _EXPAND,
            },
            {"idempotency_key": order.key},
        )
    )
    return await result_of_change(link, payment_id, part(changed, "latest_invoice"))


def _as_charge(order: PriceChange, payment_id: UUID) -> Charge:
    return Charge(
        key=order.key,
        workspace_id=order.workspace_id,
        purpose=PaymentPurpose.PLAN_CHANGE,
        payment_id=payment_id,
        amount_usd_micro=order.amount_usd_micro,
        off_session=False,
    )


async def _stripe_id(link: StripeLink, subscription_id: UUID) -> str | None:
    async with connection(link.database) as conn:
        return await conn.fetchval(_STRIPE_ID, subscription_id)
