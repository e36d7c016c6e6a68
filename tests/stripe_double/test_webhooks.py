"""Deliveries: signed as the SDK verifies, in order, tried again, and disordered only where told."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import stripe
from aiohttp import web

from tests.stripe_shop import WEBHOOK_SECRET, Shop


@dataclass
class Inbox:
    """Takes deliveries and verifies them with the SDK."""

    url: str = ""
    kinds: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Statuses to answer before 200s."""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        event = stripe.Webhook.construct_event(body, request.headers["stripe-signature"], WEBHOOK_SECRET)
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        self.kinds.append(event.type)
        self.ids.append(event.id)
        return web.Response()


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    box = Inbox()
    app = web.Application()
    app.router.add_post("/webhooks/stripe", box.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    box.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/stripe"
    yield box
    await runner.cleanup()


async def two_subscriptions(shop: Shop) -> list[str]:
    """Two subscriptions; answers the ids of its events, oldest first."""
    await shop.subscription(await shop.customer(), await shop.price(2000))
    await shop.pass_time(days=29)
    await shop.subscription(await shop.customer(), await shop.price(500))
    return [e.id async for e in (await shop.v1.events.list_async({"limit": 100})).auto_paging_iter()][::-1]


async def test_events_arrive_signed_and_in_order(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url)
    await shop.customer()
    state = await shop.flush()
    assert inbox.kinds == ["customer.created", "payment_method.attached", "customer.updated"] == await shop.events()
    assert (state["delivered"], state["failed"], state["waiting"]) == (3, 0, [])


async def test_a_wrong_secret_is_noticed(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url, secret="whsec_other", retries=0)
    await shop.customer(None)
    assert (await shop.flush())["failed"] == 1
    assert inbox.kinds == []


async def test_what_is_not_taken_comes_again(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url)
    inbox.answers = [500, 503]
    await shop.customer(None)
    state = await shop.flush()
    assert (inbox.kinds, state["delivered"]) == (["customer.created"], 1)


async def test_a_pause_keeps_events_for_the_flush(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url, paused=True)
    await shop.customer(None)
    assert [e["type"] for e in await shop.waiting()] == ["customer.created"]
    assert inbox.kinds == []
    await shop.flush()
    assert inbox.kinds == ["customer.created"]


async def test_shuffled_repeated_and_dropped_by_seed(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url, paused=True, shuffle=True, repeat=0.5, drop=0.3, seed=7)
    made = await two_subscriptions(shop)
    state = await shop.flush()
    assert state["dropped"] > 0 and state["repeated"] > 0
    assert len(inbox.ids) == state["delivered"] > len(set(inbox.ids))
    first_times = list(dict.fromkeys(inbox.ids))
    in_order = [event for event in made if event in first_times]
    assert set(in_order) < set(made)
    assert in_order != first_times


async def test_any_order_can_be_dictated(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url, paused=True)
    await shop.customer()
    first, second, third = [e["id"] for e in await shop.waiting()]
    await shop.flush([third, first, third])
    assert inbox.ids == [third, first, third]
    assert [e["id"] for e in await shop.waiting()] == [second]
    assert (await shop.try_ask("POST", "webhooks/flush", order=["evt_none"]))[0] == 400


async def test_the_list_tells_what_was_not_delivered(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url, drop=0.5, seed=5)
    for _ in range(12):
        await shop.customer(None)
    await shop.flush()
    lost = [e.id for e in (await shop.v1.events.list_async({"delivery_success": False, "limit": 100})).data]
    taken = [e.id for e in (await shop.v1.events.list_async({"delivery_success": True, "limit": 100})).data]
    assert (len(lost) + len(taken), set(taken)) == (12, set(inbox.ids))
    assert lost


async def test_delays_let_later_events_overtake(shop: Shop, inbox: Inbox) -> None:
    await shop.deliver_to(inbox.url, delay_ms=200, seed=3)
    for _ in range(8):
        await shop.customer(None)
    await shop.flush()
    made = [e.id for e in (await shop.v1.events.list_async({"limit": 100})).data][::-1]
    assert sorted(inbox.ids) == sorted(made) and inbox.ids != made


async def test_an_event_shows_its_object_as_it_was(shop: Shop) -> None:
    customer = await shop.v1.customers.create_async({"name": "before"})
    await shop.v1.customers.update_async(customer.id, {"name": "after"})
    updated, created = (await shop.v1.events.list_async()).data
    assert (created.data.object.name, updated.data.object.name) == ("before", "after")
    assert updated.data.previous_attributes.to_dict() == {"name": "before"}
    assert (await shop.v1.events.retrieve_async(created.id)).type == "customer.created"
    only = await shop.v1.events.list_async({"types": ["customer.updated"]})
    assert [e.id for e in only.data] == [updated.id]


async def test_an_endpoint_made_over_the_api_gets_what_it_asked_for(shop: Shop, inbox: Inbox) -> None:
    made = await shop.v1.webhook_endpoints.create_async({"url": inbox.url, "enabled_events": ["customer.updated"]})
    assert made.secret.startswith("whsec_")
    customer = await shop.v1.customers.create_async({})
    assert (await shop.flush())["delivered"] == 0
    with pytest.raises(AssertionError):
        await shop.ask("POST", "webhooks", policy={"nonsense": 1})
    await shop.v1.webhook_endpoints.delete_async(made.id)
    await shop.v1.customers.update_async(customer.id, {"name": "x"})
    assert (await shop.flush())["delivered"] == 0
