"""Invoice items: amounts that wait for the customer's next invoice."""

from stripe_double.customers import get_customer
from stripe_double.endpoint import PAGE, Call, Endpoint, matching, page
from stripe_double.errors import invalid
from stripe_double.invoice_lines import Line, line_object
from stripe_double.invoices import add_lines
from stripe_double.products import get_price
from stripe_double.values import LIVEMODE, Json, part
from stripe_double.world import World


def add_item(world: World, customer: Json, line: Line, *, invoice: str | None = None) -> Json:
    """Keep an amount for an invoice, by default the next one of the line's subscription."""
    price = line.price
    item: Json = {
        "id": world.new_id("ii"),
        "object": "invoiceitem",
        "amount": line.amount,
        "currency": customer["currency"] or "usd",
        "customer": customer["id"],
        "customer_account": None,
        "date": world.now,
        "description": line.description,
        "discountable": not line.proration,
        "discounts": [],
        "invoice": invoice,
        "livemode": LIVEMODE,
        "metadata": {},
        "net_amount": line.amount,
        "parent": None,
        "period": {"start": line.start, "end": line.end},
        "pricing": None,
        "proration": line.proration,
        "quantity": line.quantity,
        "quantity_decimal": str(line.quantity),
        "tax_rates": [],
        "test_clock": None,
    }
    if line.subscription is not None:
        details = {"subscription": line.subscription, "subscription_item": line.item}
        item["parent"] = {"subscription_details": details, "type": "subscription_details"}
    if price is not None:
        item["pricing"] = {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        }
    world.add(item)
    world.note(item["id"])["line"] = line
    world.emit("invoiceitem.created", item)
    return item


def waiting(world: World, customer: str, subscription: str | None) -> list[Json]:
    """The items that no invoice has taken, of one subscription or of none."""
    return [
        item
        for item in world.all("invoiceitem")
        if item["customer"] == customer and item["invoice"] is None and _subscription(item) == subscription
    ]


def line_of(world: World, item: Json) -> Line:
    """The line that the item becomes."""
    line: Line = world.note(item["id"])["line"]
    return line


def _subscription(item: Json) -> str | None:
    return item["parent"]["subscription_details"]["subscription"] if item["parent"] else None


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    if "customer" not in params:
        raise invalid("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = get_customer(world, params["customer"])
    period = params.get("period") or {"start": world.now, "end": world.now}
    quantity: int = params.get("quantity", 1)
    text: str = params.get("description", "")
    billed: str | None = params.get("subscription")
    if billed is not None:
        world.get("subscription", billed, param="subscription")
    priced: str | None = part(params, "pricing").get("price")
    if priced is not None:
        price = get_price(world, priced, param="pricing[price]")
        line = Line(
            price["unit_amount"] * quantity, text, period["start"], period["end"], price, quantity, subscription=billed
        )
    else:
        line = Line(params.get("amount", 0), text, period["start"], period["end"], subscription=billed)
    invoice = world.get("invoice", params["invoice"], param="invoice") if "invoice" in params else None
    item = add_item(world, customer, line, invoice=params.get("invoice"))
    if invoice is not None:
        if invoice["status"] != "draft":
            raise invalid("This invoice is no longer a draft.", code="invoice_not_editable", param="invoice")
        add_lines(world, invoice, [line_object(world, line, invoice["id"], invoice["currency"])])
    return item


def _list(call: Call) -> Json:
    items = [{**item, "created": item["date"]} for item in call.world.all("invoiceitem")]
    found = page(call, matching(items, call.params, "customer", "invoice"))
    return {**found, "data": [call.world.get("invoiceitem", item["id"]) for item in found["data"]]}


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/invoiceitems",
        "InvoiceItemCreateParams",
        _create,
        (
            "customer",
            "amount",
            "currency",
            "description",
            "invoice",
            "metadata",
            "period",
            "pricing",
            "quantity",
            "subscription",
        ),
    ),
    Endpoint("GET", "/v1/invoiceitems", "InvoiceItemListParams", _list, (*PAGE, "customer", "invoice")),
    Endpoint(
        "GET",
        "/v1/invoiceitems/{id}",
        "InvoiceItemRetrieveParams",
        lambda call: call.world.get("invoiceitem", call.id),
        (),
    ),
)
