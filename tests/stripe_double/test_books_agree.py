"""Random lives of subscriptions: whatever is bought, declined, changed and waited for, money, invoices and balance agree."""

import random

import pytest

from stripe_double.books import books
from stripe_double.customers import make_customer
from stripe_double.due import advance
from stripe_double.endpoint import Call
from stripe_double.errors import ApiError
from stripe_double.invoice_preview import ENDPOINTS as PREVIEW
from stripe_double.payment_methods import attach, behave_like, make_method
from stripe_double.products import make_price
from stripe_double.subscription_creation import create
from stripe_double.subscription_updates import update
from stripe_double.values import Json
from stripe_double.world import World

STEPS = 40
CARDS = ("pm_card_visa",) * 4 + ("pm_card_chargeDeclined", "pm_card_authenticationRequired")
BEHAVIORS = ("pending_if_incomplete", "allow_incomplete", "error_if_incomplete")
PRICES = ((0, "month"), (2000, "month"), (10_000, "month"), (777, "month"), (20_000, "year"), (2000, "day"))


def a_world(chance: random.Random) -> tuple[World, Json, list[Json]]:
    world = World(base_url="http://double.test", invoice_delay_s=chance.choice((0, 3600)))
    world.clock.set(1_800_000_000 + chance.randrange(10_000_000), frozen=True)
    customer = make_customer(world, {})
    method = make_method(world, "pm_card_visa")
    attach(world, method, customer)
    customer["invoice_settings"] = {**customer["invoice_settings"], "default_payment_method": method["id"]}
    prices = [
        make_price(
            world,
            {
                "currency": "usd",
                "unit_amount": cents,
                "product_data": {"name": "plan"},
                "recurring": {"interval": interval, "interval_count": 30 if interval == "day" else 1},
            },
        )
        for cents, interval in PRICES
    ]
    return world, customer, prices


def preview(world: World, subscription: Json, details: Json) -> Json | None:
    """None: there is nothing to come, now or later."""
    wanted = {"subscription": subscription["id"], "subscription_details": details}
    try:
        return PREVIEW[0].answer(Call(world, {}, wanted, None, ""))
    except ApiError as refusal:
        if refusal.facts["code"] == "invoice_upcoming_none":
            return None
        raise


def change(world: World, chance: random.Random, subscription: Json, prices: list[Json]) -> None:
    """Another price at once, first previewed: what is invoiced is what the preview said."""
    item, price = subscription["items"]["data"][0], chance.choice(prices)
    details: Json = {
        "items": [{"id": item["id"], "price": price["id"]}],
        "proration_behavior": "always_invoice",
        "proration_date": world.now,
    }
    said = preview(world, subscription, details)
    before, waits = subscription["latest_invoice"], subscription["pending_update"] is not None
    try:
        update(world, subscription, {**details, "payment_behavior": chance.choice(BEHAVIORS)})
    except ApiError as refusal:
        if refusal.status != 402:
            raise
    if subscription["latest_invoice"] == before:
        return
    assert said is not None
    made = world.get("invoice", subscription["latest_invoice"])
    assert [line["amount"] for line in made["lines"]["data"]] == [line["amount"] for line in said["lines"]["data"]]
    assert made["amount_due"] == said["amount_due"] or waits, "a change that waited gives its credit back first"


def check(world: World, customer: Json) -> None:
    invoices = [i for i in world.all("invoice") if i["status"] not in {"draft", "void"}]
    paid = sum(i["amount_paid"] for i in invoices)
    charged = sum(c["amount"] for c in world.all("charge") if c["status"] == "succeeded")
    assert charged == paid == books(world)["charged"]
    outstanding = sum(i["amount_remaining"] for i in invoices)
    assert sum(i["total"] for i in invoices) == paid + outstanding + customer["balance"]
    for invoice in invoices:
        assert invoice["amount_due"] == invoice["amount_paid"] + invoice["amount_remaining"]
        assert (invoice["status"] == "paid") == (invoice["amount_remaining"] == 0)
    for subscription in world.all("subscription"):
        start, end = (subscription["items"]["data"][0][f"current_period_{side}"] for side in ("start", "end"))
        living = subscription["status"] in {"active", "trialing", "past_due"}
        assert not living or start <= world.now < end
    assert len({e.id for e in world.events}) == len(world.events)


@pytest.mark.parametrize("seed", range(60))
def test_money_invoices_and_balance_agree(seed: int) -> None:
    chance = random.Random(seed)
    world, customer, prices = a_world(chance)
    method = world.get("payment_method", customer["invoice_settings"]["default_payment_method"])
    subscription = create(world, {"customer": customer["id"], "items": [{"price": chance.choice(prices)["id"]}]})
    for _ in range(STEPS):
        behave_like(world, method, chance.choice(CARDS))
        if subscription["status"] not in {"active", "trialing", "past_due"}:
            more = {"trial_period_days": 9} if chance.random() < 0.3 else {}
            wanted = {"customer": customer["id"], "items": [{"price": chance.choice(prices)["id"]}], **more}
            subscription = create(world, wanted)
        match chance.randrange(4):
            case 0:
                change(world, chance, subscription, prices)
            case 1:
                update(world, subscription, {"cancel_at_period_end": chance.random() < 0.3})
            case 2:
                item = subscription["items"]["data"][0]
                wanted = {"items": [{"id": item["id"], "price": chance.choice(prices)["id"]}]}
                update(world, subscription, wanted)
            case _:
                advance(world, world.now + chance.randrange(40 * 86_400), frozen=True)
        check(world, customer)
