"""The endpoints of payment intents."""

from stripe_double.consequences import after_intent, after_void
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import invalid, require_url
from stripe_double.invoices import void
from stripe_double.payment_intents import attempt, cancel, make_intent, unexpected_state
from stripe_double.payment_methods import resolve
from stripe_double.values import Json, part

_OFFERED = (
    "amount",
    "currency",
    "customer",
    "payment_method",
    "confirm",
    "off_session",
    "error_on_requires_action",
    "metadata",
    "description",
    "receipt_email",
    "setup_future_usage",
    "return_url",
    "automatic_payment_methods",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
    "allowed_payment_method_types",
    "capture_method",
    "confirmation_method",
)


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    confirms = params.get("confirm", False)
    for name in ("off_session", "error_on_requires_action", "return_url"):
        if name in params and not confirms:
            raise invalid(f"You can only pass {name} when `confirm=true`.", param=name)
    if confirms and "payment_method" not in params:
        raise invalid("You cannot confirm this PaymentIntent because it's missing a payment method.",
                      code="payment_intent_unexpected_state")  # fmt: skip
    method = resolve(world, params["payment_method"]) if "payment_method" in params else None
    allowed = params.get("allowed_payment_method_types")
    if method is not None and allowed is not None and method["type"] not in allowed:
        raise invalid(f"The PaymentMethod provided ({method['type']}) is not allowed for this PaymentIntent.",
                      code="payment_intent_incompatible_payment_method", param="payment_method")  # fmt: skip
    if confirms:
        _require_return_url(params)
    intent = make_intent(world, {**params, "payment_method": method["id"] if method else None})
    return _attempted(call, intent, method) if confirms and method is not None else intent


def _require_return_url(params: Json) -> None:
    require_url(params, "return_url")
    automatic = part(params, "automatic_payment_methods")
    needed = automatic.get("allow_redirects", "always") == "always" and "allowed_payment_method_types" not in params
    if needed and not (params.get("off_session") or params.get("error_on_requires_action") or params.get("return_url")):
        raise invalid(
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some of these"
            " payment methods might redirect your customer off of your page, you must provide a `return_url`. If you don't"
            " want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` and"
            " `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment Intents.",
        )


def _attempted(call: Call, intent: Json, method: Json) -> Json:
    world, params = call.world, call.params
    failure = attempt(
        world,
        intent,
        method,
        off_session=bool(params.get("off_session")),
        no_action=bool(params.get("error_on_requires_action")),
        return_url=params.get("return_url"),
    )
    after_intent(world, intent, failure)
    if failure is not None:
        raise failure
    return intent


def _confirm(call: Call) -> Json:
    intent = call.world.get("payment_intent", call.id)
    if intent["status"] not in {"requires_payment_method", "requires_confirmation", "requires_action"}:
        raise unexpected_state(intent, "confirm")
    key = call.params.get("payment_method") or intent["payment_method"]
    if key is None:
        raise invalid("You cannot confirm this PaymentIntent because it's missing a payment method.",
                      code="payment_intent_unexpected_state", payment_intent=intent)  # fmt: skip
    if "setup_future_usage" in call.params:
        intent["setup_future_usage"] = call.params["setup_future_usage"] or None
    return _attempted(call, intent, resolve(call.world, key))


def _cancel(call: Call) -> Json:
    world = call.world
    intent = world.get("payment_intent", call.id)
    if world.note(intent["id"]).get("session") is not None:
        raise invalid("You cannot cancel this PaymentIntent because it was created by a Checkout Session. Expire the session"
                      " instead.", code="payment_intent_unexpected_state")  # fmt: skip
    cancel(world, intent, call.params.get("cancellation_reason"))
    invoice_id = world.note(intent["id"]).get("invoice")
    if invoice_id is not None:
        invoice = world.get("invoice", invoice_id)
        if invoice["status"] == "open":
            void(world, invoice)
            after_void(world, invoice)
    return intent


def _update(call: Call) -> Json:
    intent = call.world.get("payment_intent", call.id)
    copied(intent, call.params, "description", "receipt_email", "setup_future_usage", "transfer_group")
    if "amount" in call.params:
        if intent["status"] not in {"requires_payment_method", "requires_confirmation"}:
            raise unexpected_state(intent, "update")
        intent["amount"] = call.params["amount"]
    if "payment_method" in call.params:
        intent["payment_method"] = resolve(call.world, call.params["payment_method"])["id"]
    return intent


def _list(call: Call) -> Json:
    return page(call, matching(call.world.all("payment_intent"), call.params, "customer"))


ENDPOINTS = (
    Endpoint("POST", "/v1/payment_intents", "PaymentIntentCreateParams", _create, _OFFERED),
    Endpoint("GET", "/v1/payment_intents", "PaymentIntentListParams", _list, (*PAGE, "customer")),
    Endpoint(
        "GET",
        "/v1/payment_intents/{id}",
        "PaymentIntentRetrieveParams",
        lambda call: call.world.get("payment_intent", call.id),
        (),
    ),
    Endpoint(
        "POST",
        "/v1/payment_intents/{id}",
        "PaymentIntentUpdateParams",
        _update,
        (
            "amount",
            "description",
            "receipt_email",
            "setup_future_usage",
            "transfer_group",
            "payment_method",
            "metadata",
        ),
    ),
    Endpoint(
        "POST",
        "/v1/payment_intents/{id}/confirm",
        "PaymentIntentConfirmParams",
        _confirm,
        ("payment_method", "off_session", "error_on_requires_action", "return_url", "setup_future_usage"),
    ),
    Endpoint("POST", "/v1/payment_intents/{id}/cancel", "PaymentIntentCancelParams", _cancel, ("cancellation_reason",)),
)
