"""What follows when a payment or setup intent has come to an end outside the request that began it."""

from stripe_double.checkout_end import session_of, session_paid
from stripe_double.errors import ApiError
from stripe_double.invoice_payments import attempted
from stripe_double.invoices import subscription_of
from stripe_double.subscription_billing import after_failed, after_paid, drop_pending
from stripe_double.values import Json
from stripe_double.world import World


def after_intent(world: World, intent: Json, failure: ApiError | None) -> None:
    """An attempt of a payment intent ended: its invoice, subscription and Checkout session learn of it."""
    invoice_id = world.note(intent["id"]).get("invoice")
    if invoice_id is not None:
        invoice = world.get("invoice", invoice_id)
        if invoice["status"] != "open":
            return
        outcome, _ = attempted(world, invoice, intent, failure)
        after_invoice(world, invoice, outcome)
    session = session_of(world, intent["id"])
    if session is not None:
        session_paid(world, session, intent)


def after_void(world: World, invoice: Json) -> None:
    """An invoice will not be paid: a change that waited for it is dropped."""
    subscription = world.find(subscription_of(invoice) or "")
    if subscription is None or subscription["pending_update"] is None:
        return
    _, waited_for = world.note(subscription["id"]).get("pending") or (None, None)
    if waited_for == invoice["id"]:
        drop_pending(world, subscription)


def after_invoice(world: World, invoice: Json, outcome: str) -> None:
    """An attempt to pay an invoice ended: its subscription learns of it."""
    key = subscription_of(invoice)
    subscription = world.find(key) if key is not None else None
    if subscription is None:
        return
    if outcome == "paid":
        after_paid(world, subscription, invoice)
    elif outcome == "failed" and subscription["status"] != "incomplete":
        after_failed(world, subscription, invoice)
