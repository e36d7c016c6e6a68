"""Whatever order webhooks come in, repeated or lost, and whoever works them off: the same books (and a short soak)."""

import asyncio
import random
import time

import orjson
import pytest
import stripe

from billing.auto_recharge import update_auto_recharge
from billing.giving_back import give_back_unapplied
from billing.stripe_client import BadSignature
from billing.stripe_inbox import receive, sweep, work_inbox
from billing.stripe_tell import tell_due
from metering.reconcile import reconcile
from tests.billing.shop import MICRO
from tests.payments.house import House, open_house, session_of
from tests.payments.soak import CATALOG, Soak
from tests.stripe_double.shapes import problems_of
from tests.stripe_shop import WEBHOOK_SECRET


def signed(event: dict, *, secret: str = WEBHOOK_SECRET, at: int | None = None) -> tuple[bytes, str]:
    body = orjson.dumps(event)
    stamp = int(time.time()) if at is None else at
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, timestamp=stamp)
    return body, header


async def busy_day(house: House):
    """Cards, plans, top-ups, a refund, a dispute: everything that Stripe tells of, and nothing heard of it yet."""
    guest = await house.workspace()
    await guest.save_card()
    await guest.top_up(25)
    made = await guest.page("pro")
    await house.double.pay(session_of(made.checkout_url))
    [first, *_] = await guest.payments()
    await house.double.v1.refunds.create_async({"payment_intent": first["stripe_object_id"], "amount": 500})
    await guest.top_up(40)
    [_, _, last] = await guest.payments()
    opened = await house.double.ask("POST", "disputes", payment_intent=last["stripe_object_id"])
    await house.double.ask("POST", "disputes", dispute=opened["id"], outcome="won")
    return guest


async def events_of(house: House) -> list[dict]:
    found = []
    async for event in (await house.double.v1.events.list_async({"limit": 100})).auto_paging_iter():
        found.append(event.to_dict(for_json=True))
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_shuffled_repeated_and_dropped_webhooks_end_in_the_same_books(database, pg, double, seed):
    chance = random.Random(seed)
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await busy_day(house)
        events = await events_of(house)
        sent = [event for event in events if chance.random() > 0.3] + chance.sample(events, len(events) // 3)
        chance.shuffle(sent)
        for event in sent:
            await receive(database, *signed(event), WEBHOOK_SECRET)
            if chance.random() < 0.3:  # two workers at once
                await asyncio.gather(*(work_inbox(house.billing, house.link, limit=3) for _ in range(2)))
        await house.go(hours=1)
        await house.work()  # which hears of the invoices that it wrote before
        assert await sweep(house.link, force=True) == 0
        row = await guest.subscription()
        assert (row["status"], row["period_number"]) == ("ACTIVE", 1)
        assert row["stripe_subscription_id"] is not None
        statuses = [(each["purpose"], each["status"]) for each in await guest.payments()]
        assert statuses == [("TOP_UP", "SUCCEEDED"), ("SUBSCRIPTION", "SUCCEEDED"), ("TOP_UP", "SUCCEEDED")]
        assert sum(amount for amount, *_ in await guest.grants("TOP_UP")) == 65
        assert (await guest.wallet()).balance_micro >= 60 * MICRO
        await house.agree()


@pytest.mark.parametrize("seed", range(3))
async def test_a_plan_paid_twice_is_given_back_once_however_it_is_told(database, pg, double, seed):
    chance = random.Random(seed)
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.pay_twice("pro")
        events = await events_of(house)
        for event in chance.sample(events * 2, len(events) * 2):
            if chance.random() > 0.3:
                await receive(database, *signed(event), WEBHOOK_SECRET)
            if chance.random() < 0.3:
                await asyncio.gather(*(work_inbox(house.billing, house.link, limit=3) for _ in range(2)))
            if chance.random() < 0.3:
                await asyncio.gather(*(give_back_unapplied(house.billing) for _ in range(2)))
        await house.go(hours=1)
        await house.go(hours=1)
        payments = await guest.payments()
        assert sorted(payment["status"] for payment in payments) == ["REFUNDED", "SUCCEEDED"]
        assert (await guest.subscription())["period_number"] == 1
        books = await double.books()
        assert (books["charged"], books["refunded"]) == (4_000, 2_000)
        assert [one["status"] for one in books["subscriptions"]].count("active") == 1
        assert await guest.told() == ["payment.give_back", "payment.given_back", "payment.unapplied"]
        await house.agree()


async def test_an_event_is_stored_once_and_a_forged_or_old_one_not_at_all(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        await busy_day(house)
        [event, *_] = await events_of(house)
        before = await pg.fetchval("SELECT count(*) FROM inbox_events")
        assert await receive(database, *signed(event), WEBHOOK_SECRET) is True
        assert await receive(database, *signed(event), WEBHOOK_SECRET) is False
        for body, header in (
            signed(event, secret="whsec_of_somebody_else"),
            signed(event, at=int(time.time()) - 3_600),
            (b"[]", signed(event)[1]),
            (b"\xff", "t=1,v1=00"),
        ):
            with pytest.raises(BadSignature):
                await receive(database, body, header, WEBHOOK_SECRET)
        assert await pg.fetchval("SELECT count(*) FROM inbox_events") == before + 1


async def test_two_workers_race_on_everything(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await busy_day(house)
        await update_auto_recharge(
            house.billing, guest.id, enabled=True, threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO
        )
        await sweep(house.link, force=True)
        for _ in range(6):
            await asyncio.gather(
                *(work_inbox(house.billing, house.link, limit=5) for _ in range(3)),
                *(tell_due(house.link) for _ in range(2)),
            )
        await house.work()
        assert sum(amount for amount, *_ in await guest.grants("TOP_UP")) == 65
        await house.agree()


@pytest.mark.timeout(240)
async def test_a_short_soak_leaves_both_books_in_agreement(database, pg, double, database_url):
    async with open_house(database, pg, double, CATALOG) as house:
        soak = Soak(house, database_url, random.Random(11))
        await soak.live(5, 3)
        assert sum(soak.done.values()) > 20
        report = await reconcile(database)
        assert report.agrees, report
        objects = await double.ask("GET", "objects")
        assert len(objects) > 10
        assert {problem for kind in objects.values() for one in kind for problem in problems_of(one)} == set()
