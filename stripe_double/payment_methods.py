"""Payment methods: made from Stripe's test tokens, attached to customers, detached."""

from stripe_double.cards import BY_NUMBER, BY_TOKEN, TestMethod, message_of
from stripe_double.customers import get_customer
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import card_error, invalid
from stripe_double.values import LIVEMODE, Json, part
from stripe_double.world import World

_EXPIRY_YEARS = 4
_YEAR_S = 31_557_600


def make_method(world: World, token: str, *, billing: Json | None = None, metadata: Json | None = None) -> Json:
    """A payment method that looks and behaves as the test token says."""
    behaviour = BY_TOKEN[token]
    method: Json = {
        "id": world.new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {
            "address": None,
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
            **(billing or {}),
        },
        "created": world.now,
        "customer": None,
        "customer_account": None,
        "livemode": LIVEMODE,
        "metadata": metadata or {},
        "type": behaviour.kind,
        behaviour.kind: _details(world, behaviour),
    }
    world.note(method["id"])["token"] = token
    return world.add(method)


def behaviour_of(world: World, method: Json) -> TestMethod:
    """How it behaves now; the control endpoint can change that."""
    return BY_TOKEN[world.note(method["id"])["token"]]


def behave_like(world: World, method: Json, token: str) -> None:
    """From now on charges go as with this test token; what it looks like stays."""
    world.note(method["id"])["token"] = token


def renew_card(world: World, method: Json) -> None:
    """The bank sends its holder a new card, of which Stripe learns by itself."""
    if method["type"] != "card":
        raise invalid("Only cards are renewed.")
    with world.changing(method, "payment_method.automatically_updated"):
        method["card"] = {**method["card"], "exp_year": method["card"]["exp_year"] + _EXPIRY_YEARS}


def _details(world: World, behaviour: TestMethod) -> Json:
    if behaviour.kind == "card":
        return {
            "brand": behaviour.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": behaviour.country,
            "display_brand": behaviour.brand,
            "exp_month": 12,
            "exp_year": 1970 + world.now // _YEAR_S + _EXPIRY_YEARS,
            "fingerprint": f"double{behaviour.number}",
            "funding": behaviour.funding,
            "generated_from": None,
            "last4": behaviour.last4,
            "networks": {"available": [behaviour.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        }
    if behaviour.kind == "paypal":
        return {"country": "US", "payer_email": "payer@example.com", "payer_id": "PAYERDOUBLE"}
    if behaviour.kind == "us_bank_account":
        return {
            "account_holder_type": "individual",
            "account_type": "checking",
            "bank_name": "TEST BANK",
            "financial_connections_account": None,
            "fingerprint": f"double{behaviour.number}",
            "last4": behaviour.last4,
            "networks": None,
            "routing_number": "110000000",
            "status_details": None,
        }
    return {}


def resolve(world: World, key: str, *, param: str = "payment_method") -> Json:
    """A payment method by its id, or a new one by a test token."""
    if key in BY_TOKEN:
        return make_method(world, key)
    return world.get("payment_method", key, param=param)


def attach(world: World, method: Json, customer: Json) -> None:
    """Save it for the customer; ApiError 402 where the card refuses that, 400 where it belongs to another."""
    if method["customer"] == customer["id"]:
        return
    if method["customer"] is not None:
        raise invalid("The payment method you provided has already been attached to a customer.")
    if world.note(method["id"]).get("detached"):
        raise invalid("This PaymentMethod was previously used or detached. It may not be used again.")
    behaviour = behaviour_of(world, method)
    if not behaviour.attaches:
        raise card_error(
            message_of(behaviour), code=behaviour.code or "card_declined", decline_code=behaviour.decline_code
        )
    method["customer"] = customer["id"]
    world.emit("payment_method.attached", method)


def _create(call: Call) -> Json:
    params = call.params
    kind = params.get("type")
    if kind is None:
        raise invalid("Missing required param: type.", code="parameter_missing", param="type")
    token = _token(kind, params.get(kind) or {})
    made = make_method(call.world, token, billing=params.get("billing_details"), metadata=params.get("metadata"))
    copied(made, params, "allow_redisplay")
    return made


def _token(kind: str, details: Json) -> str:
    if kind == "card":
        named = str(details.get("token", "")).replace("tok_", "pm_card_", 1)
        known = BY_TOKEN.get(named) or BY_NUMBER.get(str(details.get("number", "")))
        if known is None:
            raise invalid(
                "The double knows Stripe's test cards only: card[token]=tok_visa or card[number].", param="card"
            )
        return known.token
    for token, method in BY_TOKEN.items():
        if method.kind == kind:
            return token
    raise invalid(f"The double does not offer the payment method type {kind}.", param="type")


def _retrieve(call: Call) -> Json:
    return call.world.get("payment_method", call.id)


def _update(call: Call) -> Json:
    method = call.world.get("payment_method", call.id)
    with call.world.changing(method, "payment_method.updated"):
        copied(method, call.params, "allow_redisplay")
        method["billing_details"] = {**method["billing_details"], **part(call.params, "billing_details")}
        for name, value in part(call.params, "card").items():
            method["card"] = {**method["card"], name: value}
    return method


def _attach(call: Call) -> Json:
    if call.id not in BY_TOKEN:
        call.world.get("payment_method", call.id)
    customer = get_customer(call.world, call.params["customer"])
    method = resolve(call.world, call.id, param="id")
    attach(call.world, method, customer)
    return method


def detach(world: World, method: Json) -> None:
    """Take it from its customer, for ever; it stops being a default."""
    if method["customer"] is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    customer = world.get("customer", method["customer"])
    settings = customer["invoice_settings"]
    if settings["default_payment_method"] == method["id"]:
        with world.changing(customer, "customer.updated"):
            customer["invoice_settings"] = {**settings, "default_payment_method": None}
    for subscription in world.all("subscription"):
        if subscription["default_payment_method"] == method["id"]:
            subscription["default_payment_method"] = None
    previous = {"customer": method["customer"]}
    method["customer"] = None
    world.note(method["id"])["detached"] = True
    world.emit("payment_method.detached", method, previous=previous)


def _detach(call: Call) -> Json:
    method = call.world.get("payment_method", call.id)
    detach(call.world, method)
    return method


def require_attached(world: World, key: str, customer: str, *, param: str) -> None:
    """ApiError 400 where the method is not this customer's."""
    if world.get("payment_method", key, param=param)["customer"] != customer:
        raise invalid(
            f"The customer does not have a payment method with the ID {key}. The payment method must be attached to the"
            " customer.",
            code="resource_missing",
            param=param,
        )


def saved_methods(world: World, customer: str) -> list[Json]:
    """The customer's methods, oldest first."""
    return [m for m in world.all("payment_method") if m["customer"] == customer]


def _list(call: Call) -> Json:
    if "customer" not in call.params:
        return page(call, [])
    return page(call, matching(saved_methods(call.world, call.params["customer"]), call.params, "type"))


def _list_of_customer(call: Call) -> Json:
    get_customer(call.world, call.id, param=None)
    return page(call, matching(saved_methods(call.world, call.id), call.params, "type"))


def _retrieve_of_customer(call: Call) -> Json:
    method = call.world.get("payment_method", call.ids["method"])
    if method["customer"] != call.id:
        raise invalid(f"No such PaymentMethod: '{method['id']}'", code="resource_missing", param="payment_method")
    return method


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/payment_methods",
        "PaymentMethodCreateParams",
        _create,
        ("type", "card", "billing_details", "metadata", "allow_redisplay", "paypal", "crypto", "us_bank_account"),
    ),
    Endpoint("GET", "/v1/payment_methods", "PaymentMethodListParams", _list, (*PAGE, "customer", "type")),
    Endpoint("GET", "/v1/payment_methods/{id}", "PaymentMethodRetrieveParams", _retrieve, ()),
    Endpoint(
        "POST",
        "/v1/payment_methods/{id}",
        "PaymentMethodUpdateParams",
        _update,
        ("metadata", "allow_redisplay", "billing_details", "card"),
    ),
    Endpoint("POST", "/v1/payment_methods/{id}/attach", "PaymentMethodAttachParams", _attach, ("customer",)),
    Endpoint("POST", "/v1/payment_methods/{id}/detach", "PaymentMethodDetachParams", _detach, ()),
    Endpoint(
        "GET",
        "/v1/customers/{id}/payment_methods",
        "CustomerPaymentMethodListParams",
        _list_of_customer,
        (*PAGE, "type"),
    ),
    Endpoint(
        "GET",
        "/v1/customers/{id}/payment_methods/{method}",
        "CustomerPaymentMethodRetrieveParams",
        _retrieve_of_customer,
        (),
    ),
)
