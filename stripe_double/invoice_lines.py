"""The lines of an invoice: a period of a price, a proration, or a single amount."""

from dataclasses import dataclass
from datetime import UTC, datetime

from stripe_double.products import get_price, product_name
from stripe_double.values import LIVEMODE, Json
from stripe_double.world import World


@dataclass(frozen=True, slots=True)
class Line:
    """What will be a line. `amount` in cents, negative for credit."""

    amount: int
    description: str
    start: int
    end: int
    price: Json | None = None
    quantity: int = 1
    proration: bool = False
    subscription: str | None = None
    item: str | None = None
    invoice_item: str | None = None


def period_line(
    world: World, price: Json, quantity: int, start: int, end: int, *, subscription: str, item: str
) -> Line:
    """A whole period of a price."""
    recurring = price["recurring"]
    count = recurring["interval_count"]
    every = recurring["interval"] if count == 1 else f"{count} {recurring['interval']}s"
    amount = price["unit_amount"] * quantity
    text = f"{quantity} × {product_name(world, price)} (at ${price['unit_amount'] / 100:.2f} / {every})"
    return Line(amount, text, start, end, price, quantity, subscription=subscription, item=item)


def one_time_line(world: World, price: Json, quantity: int) -> Line:
    """A price paid once."""
    return Line(price["unit_amount"] * quantity, product_name(world, price), world.now, world.now, price, quantity)


def date_text(at: int) -> str:
    """A day, as Stripe writes it in prorations."""
    return datetime.fromtimestamp(at, UTC).strftime("%-d %b %Y")


def line_object(world: World, line: Line, invoice: str, currency: str) -> Json:
    """The line as the API shows it."""
    made: Json = {
        "id": world.new_id("il"),
        "object": "line_item",
        "amount": line.amount,
        "currency": currency,
        "description": line.description,
        "discount_amounts": [],
        "discountable": not line.proration,
        "discounts": [],
        "invoice": invoice,
        "livemode": LIVEMODE,
        "metadata": {},
        "parent": _parent(line),
        "period": {"start": line.start, "end": line.end},
        "pretax_credit_amounts": [],
        "pricing": None,
        "quantity": line.quantity,
        "subscription": line.subscription,
        "subtotal": line.amount,
        "taxes": [],
    }
    if line.price is not None:
        made["pricing"] = {
            "price_details": {"price": line.price["id"], "product": line.price["product"]},
            "type": "price_details",
            "unit_amount_decimal": line.price["unit_amount_decimal"],
        }
    return made


def _parent(line: Line) -> Json:
    credited = {"credited_items": None}
    if line.item is not None:
        return {
            "type": "subscription_item_details",
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": line.invoice_item,
                "proration": line.proration,
                "proration_details": credited,
                "subscription": line.subscription,
                "subscription_item": line.item,
            },
        }
    return {
        "type": "invoice_item_details",
        "subscription_item_details": None,
        "invoice_item_details": {
            "invoice_item": line.invoice_item or "",
            "proration": line.proration,
            "proration_details": credited,
            "subscription": line.subscription,
        },
    }


def sold(world: World, wanted: Json, *, param: str) -> tuple[Json, int]:
    """Price and quantity of an item of a request."""
    return get_price(world, wanted["price"], param=f"{param}[price]"), wanted.get("quantity", 1)
