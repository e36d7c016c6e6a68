"""Invoice previews: the same computation as the deed, without the deed."""

from stripe_double.customers import get_customer
from stripe_double.endpoint import Call, Endpoint
from stripe_double.errors import invalid
from stripe_double.invoice_lines import Line, period_line
from stripe_double.invoices import draft
from stripe_double.offered import only_offered
from stripe_double.pending_items import line_of, waiting
from stripe_double.periods import after, prorated
from stripe_double.products import get_price
from stripe_double.subscription_changes import Change, compute
from stripe_double.subscription_objects import items_of, next_period, period_of
from stripe_double.values import Json, part
from stripe_double.world import World

_DETAILS = (
    "items",
    "proration_behavior",
    "proration_date",
    "billing_cycle_anchor",
    "trial_end",
    "cancel_now",
    "cancel_at_period_end",
    "metadata",
)


def _preview(call: Call) -> Json:
    world, params = call.world, call.params
    details: Json = part(params, "subscription_details")
    only_offered(details, *_DETAILS, where="subscription_details")
    key = params.get("subscription")
    if key is None and "schedule" in params:
        key = world.get("subscription_schedule", params["schedule"], param="schedule")["subscription"]
    if key is None:
        return _of_new(world, params, details)
    subscription = world.get("subscription", key, param="subscription")
    customer = world.get("customer", subscription["customer"])
    if params.get("customer", customer["id"]) != customer["id"]:
        raise invalid("The subscription does not belong to the customer.", param="customer")
    if subscription["status"] in {"canceled", "incomplete_expired"}:
        raise invalid(f"No upcoming invoices for customer: {customer['id']}", code="invoice_upcoming_none")
    if details.get("cancel_now"):
        lines = _unused(world, subscription, details) if details.get("proration_behavior") != "none" else []
        return _invoice(world, customer, subscription, lines, (world.now, world.now), "upcoming")
    change = compute(world, subscription, details)
    immediate = change.period is not None or details.get("proration_behavior") == "always_invoice"
    if immediate and (change.prorations or change.period_lines):
        lines = [*change.prorations, *change.period_lines]
        made = _invoice(world, customer, subscription, lines, period_of(subscription), "subscription_update")
        made["parent"]["subscription_details"]["subscription_proration_date"] = change.at
        return made
    return _upcoming(world, customer, subscription, change)


def _upcoming(world: World, customer: Json, subscription: Json, change: Change) -> Json:
    """The next renewal, with what waits for it."""
    if subscription["cancel_at_period_end"]:
        raise invalid(f"No upcoming invoices for customer: {customer['id']}", code="invoice_upcoming_none")
    start, end = next_period(subscription)
    scheduled = _scheduled(world, subscription, start)
    items = scheduled or [(item.price, item.quantity, item.id or "") for item in change.items]
    if scheduled is not None:
        end = after(start, scheduled[0][0]["recurring"], 1)
    pending = [line_of(world, item) for item in waiting(world, customer["id"], subscription["id"])]
    whole = [
        period_line(world, price, quantity, start, end, subscription=subscription["id"], item=item)
        for price, quantity, item in items
    ]
    lines = [*pending, *change.prorations, *whole]
    made = _invoice(world, customer, subscription, lines, (start, start), "upcoming")
    made["created"] = made["next_payment_attempt"] = start
    return made


def _scheduled(world: World, subscription: Json, at: int) -> list[tuple[Json, int, str]] | None:
    """The items of the schedule's phase that begins with the next period, where they differ."""
    if subscription["schedule"] is None:
        return None
    schedule = world.get("subscription_schedule", subscription["schedule"])
    for phase in schedule["phases"]:
        if phase["start_date"] == at:
            old = items_of(subscription)
            return [
                (world.get("price", item["price"]), item["quantity"], old[min(n, len(old) - 1)]["id"])
                for n, item in enumerate(phase["items"])
            ]
    return None


def _unused(world: World, subscription: Json, details: Json) -> list[Line]:
    start, end = period_of(subscription)
    at: int = details.get("proration_date", world.now)
    return [
        Line(-prorated(i["price"]["unit_amount"] * i["quantity"], start, end, at), "Unused time", at, end, i["price"],
             i["quantity"], proration=True, subscription=subscription["id"], item=i["id"])
        for i in items_of(subscription)
    ]  # fmt: skip


def _of_new(world: World, params: Json, details: Json) -> Json:
    """The first invoice of a subscription that does not exist yet."""
    if "customer" not in params or not details.get("items"):
        raise invalid("You must provide a subscription, or a customer and subscription_details[items].",
                      code="parameter_missing", param="subscription")  # fmt: skip
    customer = get_customer(world, params["customer"])
    lines: list[Line] = []
    for position, item in enumerate(details["items"]):
        price = get_price(world, item["price"], param=f"subscription_details[items][{position}][price]")
        end = after(world.now, price["recurring"], 1)
        lines.append(period_line(world, price, item.get("quantity", 1), world.now, end, subscription="", item=""))
    return _invoice(world, customer, None, lines, (world.now, world.now), "upcoming")


def _invoice(
    world: World, customer: Json, subscription: Json | None, lines: list[Line], period: tuple[int, int], reason: str
) -> Json:
    return draft(world, customer, lines, reason=reason, subscription=subscription, period=period, preview=True)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/invoices/create_preview",
        "InvoiceCreatePreviewParams",
        _preview,
        ("customer", "subscription", "subscription_details", "preview_mode", "currency", "schedule"),
    ),
)
