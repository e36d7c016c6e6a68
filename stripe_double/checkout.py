"""The endpoints of Checkout sessions: pages on which a customer pays, subscribes or saves a method."""

from stripe_double.checkout_end import expire
from stripe_double.checkout_session import make_session
from stripe_double.customers import get_customer
from stripe_double.endpoint import PAGE, Call, Endpoint, matching, page
from stripe_double.errors import invalid, require_url
from stripe_double.offered import only_offered
from stripe_double.products import price_given, product_name
from stripe_double.setup_intents import make_setup
from stripe_double.subscription_creation import OFFERED
from stripe_double.values import Json, part
from stripe_double.world import World

_OFFERED = (
    "mode",
    "line_items",
    "success_url",
    "cancel_url",
    "customer",
    "customer_email",
    "client_reference_id",
    "metadata",
    "payment_intent_data",
    "subscription_data",
    "setup_intent_data",
    "invoice_creation",
    "expires_at",
    "ui_mode",
    "currency",
    "customer_creation",
    "payment_method_collection",
    "payment_method_options",
    "customer_update",
    "tax_id_collection",
    "locale",
    "allowed_payment_method_types",
    "excluded_payment_method_types",
    "billing_address_collection",
    "submit_type",
)
_WITHIN: dict[str, tuple[str, ...]] = {
    "payment_intent_data": (
        "description",
        "metadata",
        "receipt_email",
        "setup_future_usage",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_group",
    ),
    "payment_method_options": ("card",),
    "setup_intent_data": ("description", "metadata"),
    "subscription_data": tuple(
        n for n in OFFERED if n not in {"customer", "items", "add_invoice_items", "payment_behavior"}
    ),
}


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise invalid("The double offers ui_mode=hosted_page only.", code="double_not_offered", param="ui_mode")
    if "mode" not in params:
        raise invalid("Missing required param: mode.", code="parameter_missing", param="mode")
    if "success_url" not in params:
        raise invalid("Missing required param: success_url.", code="parameter_missing", param="success_url")
    if "customer" in params and "customer_email" in params:
        raise invalid("You may only specify one of these parameters: customer, customer_email.", param="customer")
    if "customer" in params:
        get_customer(world, params["customer"])
    _check_mode(params)
    lines = _line_items(world, params)
    session = make_session(world, params, lines)
    world.note(session["id"])["params"] = params
    world.add(session)
    world.plan(session["expires_at"], "checkout.expire", session["id"])
    if params["mode"] == "setup":
        data: Json = part(params, "setup_intent_data")
        setup = make_setup(world, {**data, "customer": params.get("customer")})
        world.note(setup["id"])["session"] = session["id"]
        session["setup_intent"] = setup["id"]
    return session


def _check_mode(params: Json) -> None:
    own = {"payment": "payment_intent_data", "subscription": "subscription_data", "setup": "setup_intent_data"}
    for mode, name in own.items():
        if name in params and params["mode"] != mode:
            raise invalid(f"You can not pass `{name}` in `{params['mode']}` mode.", param=name)
    if "invoice_creation" in params and params["mode"] != "payment":
        raise invalid("You can only enable invoice creation when `mode` is set to `payment`.", param="invoice_creation")
    for name, honoured in _WITHIN.items():
        only_offered(part(params, name), *honoured, where=name)
    card = part(part(params, "payment_method_options"), "card")
    only_offered(card, "setup_future_usage", where="payment_method_options[card]")
    if card and params["mode"] != "payment":
        raise invalid(
            "The double saves by kind of method in payment mode only.",
            code="double_not_offered",
            param="payment_method_options",
        )
    invoice_data = part(part(params, "invoice_creation"), "invoice_data")
    only_offered(
        invoice_data, "description", "metadata", "footer", "custom_fields", where="invoice_creation[invoice_data]"
    )
    for name in ("success_url", "cancel_url"):
        require_url(params, name)
    if params.get("payment_method_collection", "always") != "always":
        raise invalid(
            "The double always collects a method.", code="double_not_offered", param="payment_method_collection"
        )
    if params["mode"] == "setup" and "currency" not in params and "allowed_payment_method_types" not in params:
        raise invalid("Missing required param: currency.", code="parameter_missing", param="currency")
    if params["mode"] == "setup" and "line_items" in params:
        raise invalid("You can not pass `line_items` in `setup` mode.", param="line_items")
    if params["mode"] != "setup" and not params.get("line_items"):
        raise invalid("Missing required param: line_items.", code="parameter_missing", param="line_items")


def _line_items(world: World, params: Json) -> list[Json]:
    lines: list[Json] = []
    for position, wanted in enumerate(params.get("line_items") or []):
        where = f"line_items[{position}]"
        only_offered(wanted, "price", "price_data", "quantity", where=where)
        price = price_given(world, wanted, where=where)
        if price is None:
            raise invalid("You must specify a price or price_data.", code="parameter_missing", param=f"{where}[price]")
        if price["type"] == "recurring" and params["mode"] == "payment":
            raise invalid("You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or"
                          " use only one-time prices.", param=where)  # fmt: skip
        quantity = wanted.get("quantity")
        if quantity is None:
            raise invalid("Quantity is required. Add `quantity` to `" + where + "`", param=f"{where}[quantity]")
        amount = price["unit_amount"] * quantity
        lines.append(
            {
                "id": world.new_id("li"),
                "object": "item",
                "adjustable_quantity": None,
                "amount_discount": 0,
                "amount_subtotal": amount,
                "amount_tax": 0,
                "amount_total": amount,
                "currency": price["currency"],
                "description": product_name(world, price),
                "metadata": {},
                "price": price,
                "quantity": quantity,
            }
        )
    if params["mode"] == "subscription" and not any(line["price"]["type"] == "recurring" for line in lines):
        raise invalid("You must provide at least one recurring price in `subscription` mode.", param="line_items")
    return lines


def _expire(call: Call) -> Json:
    session = call.world.get("checkout.session", call.id)
    expire(call.world, session)
    return session


def _list(call: Call) -> Json:
    sessions = matching(
        call.world.all("checkout.session"), call.params, "customer", "payment_intent", "status", "subscription"
    )
    return page(call, sessions)


def _list_lines(call: Call) -> Json:
    lines: list[Json] = call.world.get("checkout.session", call.id)["line_items"]["data"]
    return page(call, list(reversed(lines)))


_PATH = "/v1/checkout/sessions"
ENDPOINTS = (
    Endpoint("POST", _PATH, "checkout.SessionCreateParams", _create, _OFFERED),
    Endpoint(
        "GET",
        _PATH,
        "checkout.SessionListParams",
        _list,
        (*PAGE, "customer", "payment_intent", "status", "subscription"),
    ),
    Endpoint(
        "GET",
        f"{_PATH}/{{id}}",
        "checkout.SessionRetrieveParams",
        lambda call: call.world.get("checkout.session", call.id),
        (),
    ),
    Endpoint("POST", f"{_PATH}/{{id}}/expire", "checkout.SessionExpireParams", _expire, ()),
    Endpoint("GET", f"{_PATH}/{{id}}/line_items", "checkout.SessionLineItemListParams", _list_lines, PAGE),
)
