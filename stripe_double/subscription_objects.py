"""Subscriptions as objects: their items and periods, and the few ways in which their state changes."""

from stripe_double.periods import period_at
from stripe_double.products import plan_of
from stripe_double.values import LIVEMODE, Json, listed, part
from stripe_double.world import World

UPDATED = "customer.subscription.updated"
LIVING = ("active", "trialing", "past_due", "incomplete", "unpaid", "paused")
TRIAL_WARNING_S = 3 * 86_400


def make_item(world: World, subscription: str, price: Json, quantity: int, period: tuple[int, int]) -> Json:
    """A new item."""
    item: Json = {
        "id": world.new_id("si"),
        "object": "subscription_item",
        "billed_until": period[1],
        "billing_thresholds": None,
        "created": world.now,
        "current_period_start": period[0],
        "current_period_end": period[1],
        "discounts": [],
        "metadata": {},
        "plan": plan_of(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
    }
    return world.add(item)


_EMPTY = [
    "application",
    "application_fee_percent",
    "billing_cycle_anchor_config",
    "billing_thresholds",
    "cancel_at",
    "canceled_at",
    "customer_account",
    "days_until_due",
    "default_payment_method",
    "default_source",
    "description",
    "ended_at",
    "latest_invoice",
    "next_pending_invoice_item_invoice",
    "on_behalf_of",
    "pause_collection",
    "pending_invoice_item_interval",
    "pending_setup_intent",
    "pending_update",
    "schedule",
    "status_details",
    "test_clock",
    "transfer_data",
    "trial_end",
    "trial_start",
]
"""Fields that are null in a new one."""


def blank(world: World, customer: Json, currency: str) -> Json:
    """A subscription that has no items yet; not kept yet."""
    key = world.new_id("sub")
    return {
        "id": key,
        "object": "subscription",
        **dict.fromkeys(_EMPTY),
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": world.now,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": world.now},
        "billing_schedules": [],
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": world.now,
        "currency": currency,
        "customer": customer["id"],
        "default_tax_rates": [],
        "discounts": [],
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": listed(f"/v1/subscription_items?subscription={key}", []),
        "livemode": LIVEMODE,
        "metadata": {},
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "start_date": world.now,
        "status": "active",
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    }


def items_of(subscription: Json) -> list[Json]:
    """Its items."""
    items: list[Json] = subscription["items"]["data"]
    return items


def period_of(subscription: Json) -> tuple[int, int]:
    """The current period; all items of a subscription have one interval here."""
    first = items_of(subscription)[0]
    return first["current_period_start"], first["current_period_end"]


def recurring_of(subscription: Json) -> Json:
    """The interval of its prices."""
    recurring: Json = items_of(subscription)[0]["price"]["recurring"]
    return recurring


def set_period(world: World, subscription: Json, start: int, end: int) -> None:
    """Move to a period and plan its end."""
    for item in items_of(subscription):
        item["current_period_start"], item["current_period_end"], item["billed_until"] = start, end, end
    if subscription["cancel_at_period_end"]:
        subscription["cancel_at"] = end
    world.plan(end, "subscription.period_end", subscription["id"])


def next_period(subscription: Json) -> tuple[int, int]:
    """The period after the current one, by the anchor."""
    _, end = period_of(subscription)
    return end, period_at(subscription["billing_cycle_anchor"], recurring_of(subscription), end)[1]


def to_status(world: World, subscription: Json, status: str) -> None:
    """Change the status, with its event."""
    with world.changing(subscription, UPDATED):
        subscription["status"] = status


def end(world: World, subscription: Json, *, reason: str | None, status: str = "canceled") -> None:
    """It is over now."""
    schedule = subscription["schedule"]
    subscription["status"], subscription["ended_at"] = status, world.now
    subscription["canceled_at"] = subscription["canceled_at"] or world.now
    subscription["pending_update"] = None
    if reason is not None:
        subscription["cancellation_details"] = {**subscription["cancellation_details"], "reason": reason}
    _stop_collecting(world, subscription["id"])
    listing = world.get("customer", subscription["customer"])["subscriptions"]["data"]
    if subscription in listing:
        listing.remove(subscription)
    if status == "incomplete_expired":
        world.emit(UPDATED, subscription, previous={"status": "incomplete"})
    else:
        world.emit("customer.subscription.deleted", subscription)
    if schedule is not None:
        plan = world.get("subscription_schedule", schedule)
        if plan["status"] in {"active", "not_started"}:
            plan["status"], plan["canceled_at"], plan["current_phase"] = "canceled", world.now, None
            world.emit("subscription_schedule.canceled", plan)


def _stop_collecting(world: World, key: str) -> None:
    """What is not paid by then is not tried again by itself, and a draft stays one."""
    for invoice in world.all("invoice"):
        details = part(part(invoice, "parent"), "subscription_details")
        if invoice["status"] in {"draft", "open"} and details.get("subscription") == key:
            invoice.update(auto_advance=False, next_payment_attempt=None, automatically_finalizes_at=None)


def living_of(world: World, customer: str) -> list[Json]:
    """A customer's subscriptions that are not over."""
    return [s for s in world.all("subscription") if s["customer"] == customer and s["status"] in LIVING]
