"""Customers, their tax ids and the balance that invoices draw on."""

from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import invalid, missing, require_email
from stripe_double.values import LIVEMODE, Json, listed, part
from stripe_double.world import World

_SIMPLE = (
    "name",
    "email",
    "phone",
    "description",
    "address",
    "shipping",
    "tax_exempt",
    "preferred_locales",
    "individual_name",
    "business_name",
    "next_invoice_sequence",
)


def get_customer(world: World, key: str, *, param: str | None = "customer") -> Json:
    """A customer that is not deleted."""
    customer = world.get("customer", key, param=param)
    if customer.get("deleted"):
        raise missing("customer", key, param=param or "id", status=404 if param is None else 400)
    return customer


def make_customer(world: World, params: Json) -> Json:
    """A new customer; also for a Checkout session that makes one."""
    require_email(params)
    key = world.new_id("cus")
    customer: Json = {
        "id": key,
        "object": "customer",
        "address": None,
        "balance": params.get("balance", 0),
        "created": world.now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": key[-8:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": LIVEMODE,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
        "subscriptions": listed(f"/v1/customers/{key}/subscriptions", []),
        "tax_ids": listed(f"/v1/customers/{key}/tax_ids", []),
    }
    copied(customer, params, *_SIMPLE)
    customer["tax_exempt"] = customer["tax_exempt"] or "none"
    world.add(customer)
    world.emit("customer.created", customer)
    for wanted in params.get("tax_id_data", []):
        add_tax_id(world, customer, wanted)
    return customer


def change_balance(world: World, customer: Json, amount: int, kind: str, *, invoice: str | None = None) -> Json:
    """Add to a customer's balance (negative: credit towards the next invoice) with its transaction."""
    with world.changing(customer, "customer.updated"):
        customer["balance"] += amount
    return world.add(
        {
            "id": world.new_id("cbtxn"),
            "object": "customer_balance_transaction",
            "amount": amount,
            "created": world.now,
            "credit_note": None,
            "currency": customer["currency"] or "usd",
            "customer": customer["id"],
            "customer_account": None,
            "description": None,
            "ending_balance": customer["balance"],
            "invoice": invoice,
            "checkout_session": None,
            "livemode": LIVEMODE,
            "metadata": {},
            "type": kind,
        }
    )


def _create(call: Call) -> Json:
    customer = make_customer(call.world, call.params)
    if "payment_method" in call.params or "invoice_settings" in call.params:
        _take_payment_settings(call.world, customer, call.params)
    return customer


def _take_payment_settings(world: World, customer: Json, params: Json) -> None:
    settings = dict(customer["invoice_settings"])
    for name, value in part(params, "invoice_settings").items():
        settings[name] = None if value == "" else value
    default = settings["default_payment_method"]
    if default is not None:
        method = world.get("payment_method", default, param="invoice_settings[default_payment_method]")
        if method["customer"] != customer["id"]:
            raise invalid(
                f"The customer does not have a payment method with the ID {default}. The payment method must be attached"
                " to the customer.",
                code="resource_missing",
                param="invoice_settings[default_payment_method]",
            )
    customer["invoice_settings"] = settings


def _update(call: Call) -> Json:
    customer = get_customer(call.world, call.id, param=None)
    require_email(call.params)
    with call.world.changing(customer, "customer.updated"):
        copied(customer, call.params, *_SIMPLE)
        customer["tax_exempt"] = customer["tax_exempt"] or "none"
        if "balance" in call.params:
            customer["balance"] = call.params["balance"]
        _take_payment_settings(call.world, customer, call.params)
    return customer


def _retrieve(call: Call) -> Json:
    customer = call.world.get("customer", call.id)
    return {"id": call.id, "object": "customer", "deleted": True} if customer.get("deleted") else customer


def _list(call: Call) -> Json:
    living = [c for c in call.world.all("customer") if not c.get("deleted")]
    return page(call, matching(living, call.params, "email"))


def add_tax_id(world: World, customer: Json, params: Json) -> Json:
    """A new tax id of a customer; ApiError 400 where its value cannot be right."""
    tax_id: Json = {
        "id": world.new_id("txi"),
        "object": "tax_id",
        "country": str(params["type"])[:2].upper(),
        "created": world.now,
        "customer": customer["id"],
        "customer_account": None,
        "livemode": LIVEMODE,
        "owner": {"type": "customer", "customer": customer["id"]},
        "type": params["type"],
        "value": params["value"],
        "verification": {"status": "pending", "verified_address": None, "verified_name": None},
    }
    if params["type"] == "eu_vat":
        tax_id["country"] = str(params["value"])[:2].upper()
        if not tax_id["country"].isalpha():
            raise invalid("Invalid value for eu_vat.", code="tax_id_invalid", param="value")
    world.add(tax_id)
    customer["tax_ids"]["data"].insert(0, tax_id)
    world.emit("customer.tax_id.created", tax_id)
    return tax_id


def _create_tax_id(call: Call) -> Json:
    return add_tax_id(call.world, get_customer(call.world, call.id, param=None), call.params)


def _own_tax_id(call: Call) -> Json:
    tax_id = call.world.get("tax_id", call.ids["tax_id"])
    if tax_id["customer"] != call.id:
        raise invalid(f"No such tax id: '{tax_id['id']}'", code="resource_missing", param="id")
    return tax_id


def _delete_tax_id(call: Call) -> Json:
    tax_id = _own_tax_id(call)
    call.world.get("customer", call.id)["tax_ids"]["data"].remove(tax_id)
    call.world.forget(tax_id["id"])
    call.world.emit("customer.tax_id.deleted", tax_id)
    return {"id": tax_id["id"], "object": "tax_id", "deleted": True}


def _list_tax_ids(call: Call) -> Json:
    customer = get_customer(call.world, call.id, param=None)
    return page(call, list(reversed(customer["tax_ids"]["data"])))


def _create_balance_transaction(call: Call) -> Json:
    customer = get_customer(call.world, call.id, param=None)
    made = change_balance(call.world, customer, call.params["amount"], "adjustment")
    copied(made, call.params, "description")
    return made


def _list_balance_transactions(call: Call) -> Json:
    return page(call, [t for t in call.world.all("customer_balance_transaction") if t["customer"] == call.id])


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/customers",
        "CustomerCreateParams",
        _create,
        (*_SIMPLE, "metadata", "balance", "tax_id_data", "payment_method", "invoice_settings"),
    ),
    Endpoint("GET", "/v1/customers", "CustomerListParams", _list, (*PAGE, "email")),
    Endpoint("GET", "/v1/customers/{id}", "CustomerRetrieveParams", _retrieve, ()),
    Endpoint(
        "POST",
        "/v1/customers/{id}",
        "CustomerUpdateParams",
        _update,
        (*_SIMPLE, "metadata", "balance", "invoice_settings"),
    ),
    Endpoint("POST", "/v1/customers/{id}/tax_ids", "CustomerTaxIdCreateParams", _create_tax_id, ("type", "value")),
    Endpoint("GET", "/v1/customers/{id}/tax_ids", "CustomerTaxIdListParams", _list_tax_ids, PAGE),
    Endpoint("GET", "/v1/customers/{id}/tax_ids/{tax_id}", "CustomerTaxIdRetrieveParams", _own_tax_id, ()),
    Endpoint("DELETE", "/v1/customers/{id}/tax_ids/{tax_id}", "CustomerTaxIdDeleteParams", _delete_tax_id, ()),
    Endpoint(
        "POST",
        "/v1/customers/{id}/balance_transactions",
        "CustomerBalanceTransactionCreateParams",
        _create_balance_transaction,
        ("amount", "currency", "description", "metadata"),
    ),
    Endpoint(
        "GET",
        "/v1/customers/{id}/balance_transactions",
        "CustomerBalanceTransactionListParams",
        _list_balance_transactions,
        PAGE,
    ),
)
