"""The endpoints of invoices, but the preview."""

from stripe_double.consequences import after_invoice, after_void
from stripe_double.customers import get_customer
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import ApiError, invalid
from stripe_double.invoice_payments import collect, credit_payment, give_up_payment
from stripe_double.invoices import draft, finalize, mark_paid, subscription_of, void
from stripe_double.payment_methods import resolve
from stripe_double.pending_items import line_of, waiting
from stripe_double.values import Json

_OFFERED = (
    "customer",
    "auto_advance",
    "description",
    "metadata",
    "footer",
    "default_payment_method",
    "pending_invoice_items_behavior",
)


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    if "customer" not in params:
        raise invalid("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = get_customer(world, params["customer"])
    pending = waiting(world, customer["id"], None) if params.get("pending_invoice_items_behavior") == "include" else []
    invoice = draft(world, customer, [line_of(world, item) for item in pending], reason="manual")
    for item in pending:
        item["invoice"] = invoice["id"]
    invoice["auto_advance"] = params.get("auto_advance", False)
    copied(invoice, params, "description", "footer", "default_payment_method")
    return invoice


def _update(call: Call) -> Json:
    invoice = call.world.get("invoice", call.id)
    with call.world.changing(invoice, "invoice.updated"):
        copied(invoice, call.params, "description", "footer", "default_payment_method", "auto_advance")
    return invoice


def _finalize(call: Call) -> Json:
    invoice = call.world.get("invoice", call.id)
    finalize(call.world, invoice)
    if invoice["amount_due"] == 0:
        mark_paid(call.world, invoice)
        after_invoice(call.world, invoice, "paid")
    return invoice


def _pay(call: Call) -> Json:
    world, params = call.world, call.params
    invoice = call.world.get("invoice", call.id)
    if invoice["status"] == "draft":
        finalize(world, invoice)
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] not in {"open", "uncollectible"}:
        raise invalid(f"This invoice can no longer be paid: it is {invoice['status']}.", code="invoice_not_editable")
    if params.get("paid_out_of_band"):
        give_up_payment(world, invoice, "void_invoice")
        mark_paid(world, invoice)
        after_invoice(world, invoice, "paid")
        return invoice
    method = resolve(world, params["payment_method"]) if "payment_method" in params else None
    outcome, failure = collect(world, invoice, method=method, off_session=params.get("off_session", False))
    after_invoice(world, invoice, outcome)
    if outcome == "action":
        raise ApiError(
            402,
            "card_error",
            "Payment for this invoice requires additional user action before it can be completed successfully.",
            code="invoice_payment_intent_requires_action",
        )
    if failure is not None:
        raise failure
    return invoice


def _attach(call: Call) -> Json:
    """A payment that was made by itself is credited to the invoice; in Stripe's way it may also be one still under way."""
    world, params = call.world, call.params
    invoice = world.get("invoice", call.id)
    if "payment_intent" not in params:
        raise invalid("Missing required param: payment_intent.", code="parameter_missing", param="payment_intent")
    intent = world.get("payment_intent", params["payment_intent"], param="payment_intent")
    if invoice["status"] != "open":
        raise invalid(f"Payments can only be attached to open invoices. This invoice is {invoice['status']}.",
                      code="invoice_not_editable")  # fmt: skip
    if world.note(intent["id"]).get("invoice") is not None:
        raise invalid("This PaymentIntent is already attached to an invoice.", param="payment_intent")
    if (intent["customer"], intent["currency"]) != (invoice["customer"], invoice["currency"]):
        raise invalid("The PaymentIntent's customer and currency must be the invoice's.", param="payment_intent")
    if intent["status"] != "succeeded" or intent["amount"] != invoice["amount_due"]:
        raise invalid("The double attaches payments that have succeeded and pay the whole invoice.",
                      code="double_not_offered", param="payment_intent")  # fmt: skip
    give_up_payment(world, invoice, "void_invoice")
    credit_payment(world, invoice, intent, is_default=False)
    after_invoice(world, invoice, "paid")
    return invoice


def _void(call: Call) -> Json:
    world = call.world
    invoice = world.get("invoice", call.id)
    if invoice["status"] in {"open", "uncollectible"}:
        give_up_payment(world, invoice, "void_invoice")
    void(world, invoice)
    after_void(world, invoice)
    return invoice


def _mark_uncollectible(call: Call) -> Json:
    invoice = call.world.get("invoice", call.id)
    if invoice["status"] != "open":
        raise invalid(f"You can only mark open invoices as uncollectible. This invoice is {invoice['status']}.")
    invoice["status"], invoice["auto_advance"], invoice["next_payment_attempt"] = "uncollectible", False, None
    invoice["status_transitions"] = {**invoice["status_transitions"], "marked_uncollectible_at": call.world.now}
    call.world.emit("invoice.marked_uncollectible", invoice)
    return invoice


def _delete(call: Call) -> Json:
    invoice = call.world.get("invoice", call.id)
    if invoice["status"] != "draft":
        raise invalid("You can only delete draft invoices.")
    call.world.forget(call.id)
    call.world.emit("invoice.deleted", invoice)
    return {"id": call.id, "object": "invoice", "deleted": True}


def _list(call: Call) -> Json:
    invoices = matching(call.world.all("invoice"), call.params, "customer", "status", "collection_method")
    if (subscription := call.params.get("subscription")) is not None:
        invoices = [i for i in invoices if subscription_of(i) == subscription]
    return page(call, invoices)


def _list_lines(call: Call) -> Json:
    lines: list[Json] = call.world.get("invoice", call.id)["lines"]["data"]
    return page(call, list(reversed(lines)))


ENDPOINTS = (
    Endpoint("POST", "/v1/invoices", "InvoiceCreateParams", _create, _OFFERED),
    Endpoint(
        "GET",
        "/v1/invoices",
        "InvoiceListParams",
        _list,
        (*PAGE, "customer", "status", "collection_method", "subscription"),
    ),
    Endpoint("GET", "/v1/invoices/{id}", "InvoiceRetrieveParams", lambda call: call.world.get("invoice", call.id), ()),
    Endpoint(
        "POST",
        "/v1/invoices/{id}",
        "InvoiceUpdateParams",
        _update,
        ("description", "footer", "default_payment_method", "auto_advance", "metadata"),
    ),
    Endpoint("DELETE", "/v1/invoices/{id}", "InvoiceDeleteParams", _delete, ()),
    Endpoint("POST", "/v1/invoices/{id}/finalize", "InvoiceFinalizeInvoiceParams", _finalize, ()),
    Endpoint(
        "POST", "/v1/invoices/{id}/pay", "InvoicePayParams", _pay, ("payment_method", "off_session", "paid_out_of_band")
    ),
    Endpoint("POST", "/v1/invoices/{id}/attach_payment", "InvoiceAttachPaymentParams", _attach, ("payment_intent",)),
    Endpoint("POST", "/v1/invoices/{id}/void", "InvoiceVoidInvoiceParams", _void, ()),
    Endpoint("POST", "/v1/invoices/{id}/mark_uncollectible", "InvoiceMarkUncollectibleParams", _mark_uncollectible, ()),
    Endpoint("GET", "/v1/invoices/{id}/lines", "InvoiceLineItemListParams", _list_lines, PAGE),
)
