"""Subscription schedules as objects."""

from stripe_double.subscription_objects import items_of, period_of
from stripe_double.values import LIVEMODE, Json, part
from stripe_double.world import World


def make_schedule(world: World, subscription: Json, metadata: Json) -> Json:
    """A schedule whose only phase is the subscription's current period; not kept yet."""
    items = [{"price": item["price"]["id"], "quantity": item["quantity"]} for item in items_of(subscription)]
    start, finish = period_of(subscription)
    return {
        "id": world.new_id("sub_sched"),
        "object": "subscription_schedule",
        "application": None,
        "billing_mode": subscription["billing_mode"],
        "canceled_at": None,
        "completed_at": None,
        "created": world.now,
        "current_phase": {"start_date": start, "end_date": finish},
        "customer": subscription["customer"],
        "customer_account": None,
        "default_settings": _default_settings(subscription),
        "end_behavior": "cancel" if subscription["cancel_at_period_end"] else "release",
        "livemode": LIVEMODE,
        "metadata": metadata,
        "pause_schedules": [],
        "phases": [make_phase({"items": items}, start, finish)],
        "released_at": None,
        "released_subscription": None,
        "status": "active",
        "subscription": subscription["id"],
        "test_clock": None,
    }


def _default_settings(subscription: Json) -> Json:
    empty = ("application_fee_percent", "billing_thresholds", "description", "on_behalf_of", "transfer_data")
    return {
        **dict.fromkeys(empty),
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": "automatic",
        "collection_method": "charge_automatically",
        "default_payment_method": subscription["default_payment_method"],
        "invoice_settings": {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
    }


_EMPTY_PHASE = [
    "application_fee_percent",
    "billing_cycle_anchor",
    "billing_thresholds",
    "collection_method",
    "description",
    "default_payment_method",
    "invoice_settings",
    "on_behalf_of",
    "transfer_data",
    "trial_end",
    "default_tax_rates",
]
"""Fields that are null in a new one."""


def make_phase(wanted: Json, start: int, finish: int) -> Json:
    """A phase from the API's words: items, metadata, proration_behavior; from one instant to another."""
    return {
        **dict.fromkeys(_EMPTY_PHASE),
        "add_invoice_items": [],
        "currency": "usd",
        "default_tax_rates": [],
        "discounts": [],
        "start_date": start,
        "end_date": finish,
        "items": [
            {
                "billing_thresholds": None,
                "discounts": [],
                "metadata": item.get("metadata", {}),
                "plan": item["price"],
                "price": item["price"],
                "quantity": item.get("quantity", 1),
                "tax_rates": [],
            }
            for item in wanted["items"]
        ],
        "metadata": part(wanted, "metadata"),
        "proration_behavior": wanted.get("proration_behavior", "create_prorations"),
    }
