"""Raises a subscription's price at Stripe now, for the prorated difference, and tells beforehand what that will be."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from billing.payment_port import ActionNeeded, Charge, Charged, ChargeResult, Declined, Pending, PriceChange
from billing.rules.stripe_values import entries, id_of, instant, number, part, required_id, text, usd_micro
from billing.stripe_charges import charge, failure_of, is_old, read_intent
from billing.stripe_client import StripeAway, StripeDeclined, StripeJson, StripeRefused
from billing.stripe_customers import customer_of, known_customer, was_deleted
from billing.stripe_link import StripeLink
from billing.stripe_prices import price_id_of
from billing.stripe_tell import item_of, release_schedule, tell_subscription
from kit import clock
from models.database import connection
from models.enums import PaymentPurpose

_CLOCKS_DIFFER: Final = timedelta(minutes=10)
"""By so much at most a period begins later at Stripe than here; one that begins later still is another one."""

_AT_STRIPE: Final = "SELECT stripe_subscription_id, current_period_start FROM subscriptions WHERE id = $1"
_PRICE: Final = "SELECT price_id FROM subscriptions WHERE id = $1"
_OF_ANOTHER: Final = "SELECT EXISTS (SELECT FROM payments WHERE stripe_object_id = $1 AND id <> $2)"
_AMOUNT: Final = "UPDATE payments SET amount_usd_micro = $2 WHERE id = $1 AND applied_at IS NULL"
_MOMENT: Final = "UPDATE payments SET created_at = $2 WHERE id = $1 AND applied_at IS NULL"
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
        stripe_id, begun_at = await _at_stripe(link, order.subscription_id)
        if stripe_id is None:
            return await charge(link, _as_charge(order, order.payment_id))
        return await _raise(link, order, order.payment_id, stripe_id, begun_at)
    except StripeAway:
        return Pending()
    except StripeDeclined as declined:
        return Declined(declined.failure_code)
    except StripeRefused as refused:
        await _note_customer(link, order.workspace_id, refused)
        return Declined(refused.code)


async def preview_change(link: StripeLink, order: PriceChange) -> int:
    """What `change_price` would charge for the same order, in micro-dollars. Raises StripeAway, StripeRefused.

    The customer's balance at Stripe counts in.
    """
    stripe_id, begun_at = await _at_stripe(link, order.subscription_id)
    if stripe_id is None:
        return order.amount_usd_micro
    customer = await customer_of(link, order.workspace_id)
    price = await price_id_of(link, order.price_id)
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    item = item_of(found)
    if id_of(item, "price") == price:
        return order.amount_usd_micro  # Stripe has not been told yet that an upgrade to this price was undone
    item_id, moment = required_id(item), _moment(order, begun_at, item)
    preview = await link.stripe.call(
        lambda v1: v1.invoices.create_preview_async(
            {
                "customer": customer,
                "subscription": stripe_id,
                "subscription_details": {
                    "items": [{"id": item_id, "price": price}],
                    "proration_behavior": "always_invoice",
                    "proration_date": moment,
                },
            }
        )
    )
    return usd_micro(preview, "amount_due") or 0


async def result_of_change(link: StripeLink, payment_id: UUID, invoice: StripeJson) -> ChargeResult:
    """How the invoice of a change stands. Raises StripeAway, StripeRefused."""
    invoice_id = required_id(invoice)
    await keep_amount_due(link, payment_id, invoice)
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


async def keep_amount_due(link: StripeLink, payment_id: UUID, invoice: StripeJson) -> None:
    """What is due of an invoice is what its payment is of: the customer's balance at Stripe counts in."""
    async with connection(link.database) as conn:
        await conn.execute(_AMOUNT, payment_id, usd_micro(invoice, "amount_due") or 0)


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


async def _note_customer(link: StripeLink, workspace_id: UUID, refused: StripeRefused) -> None:
    """A subscription that is gone may have gone with its customer, of which nothing else may have told yet."""
    try:
        await was_deleted(link, workspace_id, await known_customer(link, workspace_id), refused)
    except StripeAway:
        return  # its event tells


async def _raise(
    link: StripeLink, order: PriceChange, payment_id: UUID, stripe_id: str, begun_at: datetime
) -> ChargeResult:
    if await is_old(link, payment_id):
        return Pending()  # the reconciler finds out what became of it
    price = await price_id_of(link, order.price_id)
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    await release_schedule(link, found)
    item = item_of(found)
    item_id, moment = required_id(item), _moment(order, begun_at, item)
    if id_of(item, "price") == price and await _was_undone(link, payment_id, id_of(found, "latest_invoice")):
        await _tell_undone(link, order.subscription_id, stripe_id, item_id)
    if moment > int(order.at.timestamp()):  # before it is asked for: its invoice is found by this instant
        async with connection(link.database) as conn:
            await conn.execute(_MOMENT, payment_id, datetime.fromtimestamp(moment, UTC))
    changed = await link.stripe.call(
        lambda v1: v1.subscriptions.update_async(
            stripe_id,
            {
                "items": [{"id": item_id, "price": price}],
                "proration_behavior": "always_invoice",
                "payment_behavior": "pending_if_incomplete",
                "proration_date": moment,
                "expand": _EXPAND,
            },
            {"idempotency_key": order.key},
        )
    )
    return await result_of_change(link, payment_id, part(changed, "latest_invoice"))


async def _was_undone(link: StripeLink, payment_id: UUID, invoice_id: str | None) -> bool:
    """Whether Stripe has the price of a change by another payment, rather than by this one, whose answer was lost."""
    async with connection(link.database) as conn:
        return bool(await conn.fetchval(_OF_ANOTHER, invoice_id, payment_id))


async def _tell_undone(link: StripeLink, subscription_id: UUID, stripe_id: str, item_id: str) -> None:
    """Back to the price here first, without a charge: there would be no difference to pay."""
    async with connection(link.database) as conn:
        price_id: UUID = await conn.fetchval(_PRICE, subscription_id)
    price = await price_id_of(link, price_id)
    await link.stripe.call(
        lambda v1: v1.subscriptions.update_async(
            stripe_id, {"items": [{"id": item_id, "price": price}], "proration_behavior": "none"}
        )
    )


def _moment(order: PriceChange, begun_at: datetime, item: StripeJson) -> int:
    """Of the proration: the order's; where our clock is behind Stripe's, the beginning of the same period there.

    For another period, which has begun meanwhile, the order stays as it was agreed to, and Stripe refuses it.
    """
    at, begun = int(order.at.timestamp()), int(begun_at.timestamp())
    start = number(item, "current_period_start") or 0
    same = begun <= at and start - begun <= _CLOCKS_DIFFER.total_seconds()
    return max(at, start) if same else at


def _as_charge(order: PriceChange, payment_id: UUID) -> Charge:
    return Charge(
        key=order.key,
        workspace_id=order.workspace_id,
        purpose=PaymentPurpose.PLAN_CHANGE,
        payment_id=payment_id,
        amount_usd_micro=order.amount_usd_micro,
        off_session=False,
    )


async def _at_stripe(link: StripeLink, subscription_id: UUID) -> tuple[str | None, datetime]:
    """Its id there, if Stripe renews it, and since when the period under way is ours."""
    async with connection(link.database) as conn:
        row = await conn.fetchrow(_AT_STRIPE, subscription_id)
    assert row is not None, "subscriptions are never deleted"
    return row["stripe_subscription_id"], row["current_period_start"]
