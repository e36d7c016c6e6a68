"""How an invoice is paid: its payment intent, attempts, the dunning of failed ones."""

from typing import Literal

from stripe_double.endpoint import PAGE, Call, Endpoint, matching, page
from stripe_double.errors import ApiError, invalid
from stripe_double.invoices import mark_paid, subscription_of
from stripe_double.payment_intents import attempt, cancel, make_intent
from stripe_double.values import LIVEMODE, Json
from stripe_double.world import World

Collected = Literal["paid", "failed", "action", "processing"]

RETRY_AFTER_S = (3 * 86_400, 5 * 86_400, 7 * 86_400)
"""When a failed renewal is tried again, each counted from the attempt before."""


def open_payment(world: World, invoice: Json) -> Json:
    """The payment intent of an open invoice, made where it has none."""
    for payment in invoice["payments"]["data"]:
        if payment["status"] == "open":
            return world.get("payment_intent", payment["payment"]["payment_intent"])
    intent = make_intent(
        world,
        {
            "amount": invoice["amount_due"],
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "description": "Subscription update" if invoice["parent"] else f"Payment for Invoice {invoice['number']}",
            "setup_future_usage": "off_session",
            "automatic_payment_methods": None,
        },
    )
    link_payment(world, invoice, intent)
    invoice["confirmation_secret"] = {"client_secret": intent["client_secret"], "type": "payment_intent"}
    return intent


def link_payment(world: World, invoice: Json, intent: Json, *, is_default: bool = True) -> Json:
    """The open payment of an invoice by an intent."""
    world.note(intent["id"])["invoice"] = invoice["id"]
    payment: Json = {
        "id": world.new_id("inpay"),
        "object": "invoice_payment",
        "amount_paid": None,
        "amount_requested": invoice["amount_due"],
        "created": world.now,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": is_default,
        "livemode": LIVEMODE,
        "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
        "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }
    world.add(payment)
    invoice["payments"]["data"].append(payment)
    return payment


def credit_payment(world: World, invoice: Json, intent: Json, *, is_default: bool = True) -> None:
    """The invoice is paid by a payment that has been made."""
    link_payment(world, invoice, intent, is_default=is_default)
    _paid(world, invoice, intent)


def method_of(world: World, invoice: Json) -> Json | None:
    """The method that pays it without a word: the invoice's, the subscription's, else the customer's."""
    keys: list[str | None] = [invoice["default_payment_method"]]
    if (subscription := subscription_of(invoice)) is not None:
        keys.append(world.get("subscription", subscription)["default_payment_method"])
    keys.append(world.get("customer", invoice["customer"])["invoice_settings"]["default_payment_method"])
    for key in keys:
        if key is not None:
            return world.get("payment_method", key)
    return None


def collect(
    world: World, invoice: Json, *, method: Json | None = None, off_session: bool = True, authenticated: bool = False
) -> tuple[Collected, ApiError | None]:
    """Try to have an open invoice paid now; with the refusal where it failed."""
    if invoice["amount_due"] == 0:
        mark_paid(world, invoice)
        return "paid", None
    intent = open_payment(world, invoice)
    method = method or method_of(world, invoice)
    invoice["attempted"] = True
    invoice["attempt_count"] += 1
    if method is None:
        failure = invalid("There is no default_payment_method set on this Customer or Invoice.", code="missing")
        return attempted(world, invoice, intent, failure)
    failure = attempt(world, intent, method, off_session=off_session, keep_asking=True, authenticated=authenticated)
    return attempted(world, invoice, intent, failure)


def attempted(world: World, invoice: Json, intent: Json, failure: ApiError | None) -> tuple[Collected, ApiError | None]:
    """What an attempt of the invoice's intent means for the invoice."""
    if intent["status"] == "succeeded":
        _paid(world, invoice, intent)
        return "paid", None
    if intent["status"] == "requires_action":
        _plan_retry(world, invoice)
        world.emit("invoice.payment_action_required", invoice)
        world.emit("invoice.payment_failed", invoice)
        return "action", None
    if intent["status"] == "processing":
        return "processing", None
    _plan_retry(world, invoice)
    world.emit("invoice.payment_failed", invoice)
    return "failed", failure


def _paid(world: World, invoice: Json, intent: Json) -> None:
    payment = next(p for p in invoice["payments"]["data"] if p["payment"]["payment_intent"] == intent["id"])
    payment["status"], payment["amount_paid"] = "paid", intent["amount_received"]
    payment["status_transitions"] = {"canceled_at": None, "paid_at": world.now}
    mark_paid(world, invoice)
    world.emit("invoice_payment.paid", payment)


def _plan_retry(world: World, invoice: Json) -> None:
    """Only renewals are tried again by themselves; a first or upgrade invoice waits for the customer."""
    number: int = invoice["attempt_count"] - 1
    if invoice["billing_reason"] != "subscription_cycle" or not invoice["auto_advance"]:
        return
    if number < len(RETRY_AFTER_S):
        again_at = world.now + RETRY_AFTER_S[number]
        invoice["next_payment_attempt"] = again_at
        world.plan(again_at, "invoice.retry", invoice["id"])
    else:
        invoice["next_payment_attempt"] = None


def give_up_payment(world: World, invoice: Json, reason: str) -> None:
    """Cancel the open intent of an invoice that will not be paid."""
    for payment in invoice["payments"]["data"]:
        if payment["status"] == "open":
            payment["status"] = "canceled"
            payment["status_transitions"] = {"canceled_at": world.now, "paid_at": None}
            intent = world.get("payment_intent", payment["payment"]["payment_intent"])
            if intent["status"] not in {"succeeded", "canceled", "processing"}:
                cancel(world, intent, reason)


def _list(call: Call) -> Json:
    payments = matching(call.world.all("invoice_payment"), call.params, "invoice", "status")
    if (wanted := call.params.get("payment")) is not None:
        intent = wanted.get("payment_intent")
        payments = [p for p in payments if p["payment"].get("payment_intent") == intent]
    return page(call, payments)


ENDPOINTS = (
    Endpoint("GET", "/v1/invoice_payments", "InvoicePaymentListParams", _list, (*PAGE, "invoice", "status", "payment")),
    Endpoint(
        "GET",
        "/v1/invoice_payments/{id}",
        "InvoicePaymentRetrieveParams",
        lambda call: call.world.get("invoice_payment", call.id),
        (),
    ),
)
