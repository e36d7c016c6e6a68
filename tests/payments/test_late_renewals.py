"""The invoice of a renewal that was never paid stays open at Stripe after the plan: paid by its link, it buys or comes back.

After dunning (EXPIRED) it brings the plan back for a period of its own; where another plan lives by then, or the plan was
cancelled while it was past due, the money had no place and is given back whole, once. So nothing is voided: what a customer
pays is never kept for nothing, and the link in the mails goes on working.
"""

import asyncio
import random

import pytest

from billing.advance import advance_due
from billing.giving_back import give_back_unapplied
from billing.stripe_inbox import receive, work_inbox
from billing.subscriptions import cancel
from kit.ids import uuid7
from tests.payments.house import Guest, House, open_house
from tests.payments.test_deliveries import events_of, signed
from tests.stripe_shop import WEBHOOK_SECRET


async def past_due(house: House, *, days: int) -> tuple[Guest, str]:
    """A plan whose card declines from its second period on, so many days after it began; and the open invoice."""
    guest = await house.workspace()
    await guest.subscribe_and_pay("studio")
    [method] = await guest.methods()
    await house.double.behave(method["stripe_payment_method_id"], "pm_card_chargeDeclined")
    await house.go(days=days)
    [unpaid] = [one for one in await guest.invoices_at_stripe() if one.status == "open"]
    return guest, unpaid.id


async def pay(house: House, invoice: str) -> None:
    """On its hosted page, with a card that pays."""
    await house.double.v1.invoices.pay_async(invoice, {"payment_method": "pm_card_visa"})


async def hear(house: House, chance: random.Random, before: set[str]) -> None:
    """What was told since, shuffled, repeated, some of it lost, by two workers at once while time does its work."""
    events = [event for event in await events_of(house) if event["id"] not in before]
    assert {"invoice.paid", "payment_intent.succeeded"} <= {event["type"] for event in events}
    for event in chance.sample(events * 2, len(events) * 2):
        if chance.random() > 0.3:
            await receive(house.billing.database, *signed(event), WEBHOOK_SECRET)
        if chance.random() < 0.3:
            await asyncio.gather(
                *(work_inbox(house.billing, house.link, limit=3) for _ in range(2)),
                *(give_back_unapplied(house.billing) for _ in range(2)),
                advance_due(house.billing),
            )
    for _ in range(2):
        await house.go(hours=1)


async def is_given_back(house: House, guest: Guest, cents: int) -> None:
    told = await guest.told()
    assert [told.count(f"payment.{kind}") for kind in ("unapplied", "given_back", "give_back")] == [1, 1, 1]
    [payment] = [row for row in await guest.payments() if row["status"] == "REFUNDED"]
    assert payment["applied_at"] is None
    customers = (await house.double.books())["customers"].values()
    [mine] = [one for one in customers if one["metadata"]["workspace_id"] == str(guest.id)]
    assert mine["refunded"] == cents
    await house.agree()


@pytest.mark.parametrize("seed", range(3))
async def test_paid_after_dunning_it_buys_one_period_however_it_is_told(database, pg, double, seed):
    async with open_house(database, pg, double) as house:
        guest, unpaid = await past_due(house, days=40)
        assert (await guest.subscription())["status"] == "EXPIRED"
        before = {event["id"] for event in await events_of(house)}
        await pay(house, unpaid)
        await hear(house, random.Random(seed), before)
        row = await guest.subscription()
        assert (row["status"], row["cancel_at_period_end"]) == ("ACTIVE", True)
        assert await guest.available() == 8000
        assert (await double.books())["refunded"] == 0
        await house.agree()


@pytest.mark.parametrize("seed", range(3))
async def test_paid_while_another_plan_lives_it_is_given_back_once_however_it_is_told(database, pg, double, seed):
    async with open_house(database, pg, double) as house:
        guest, unpaid = await past_due(house, days=40)
        row = await guest.subscribe_and_pay("studio", card="pm_card_mastercard")
        before = {event["id"] for event in await events_of(house)}
        await pay(house, unpaid)
        await hear(house, random.Random(seed), before)
        after = await guest.subscription()
        assert (after["id"], after["status"], after["period_number"]) == (row["id"], "ACTIVE", 1)
        await is_given_back(house, guest, house.price("studio").amount_usd_micro // 10_000)


@pytest.mark.parametrize("seed", range(3))
async def test_paid_after_it_was_cancelled_past_due_it_is_given_back_once_however_it_is_told(
    database, pg, double, seed
):
    async with open_house(database, pg, double) as house:
        guest, unpaid = await past_due(house, days=33)
        await cancel(house.billing, guest.id, idempotency_key=uuid7().hex)
        await house.work()
        assert (await guest.subscription())["status"] == "CANCELED"
        before = {event["id"] for event in await events_of(house)}
        await pay(house, unpaid)
        await hear(house, random.Random(seed), before)
        assert (await guest.subscription())["status"] == "CANCELED"
        assert await guest.available() == 0
        await is_given_back(house, guest, house.price("studio").amount_usd_micro // 10_000)


@pytest.mark.parametrize("seed", range(3))
async def test_paid_at_the_moment_the_grace_ends_it_is_had_once(database, pg, double, seed):
    """Whichever comes first, the end or the money: one period, charged once, and nothing given back."""
    chance = random.Random(seed)
    async with open_house(database, pg, double) as house:
        guest, unpaid = await past_due(house, days=31)
        row = await guest.subscription()
        await house.go(days=(row["grace_ends_at"] - house.now).days, work=False)
        await house.double.advance(int(row["grace_ends_at"].timestamp()))
        house.counter.go(to=row["grace_ends_at"])
        before = {event["id"] for event in await events_of(house)}
        await asyncio.gather(pay(house, unpaid), advance_due(house.billing))
        await hear(house, chance, before)
        assert (await guest.subscription())["status"] == "ACTIVE"
        assert await guest.available() == 8000
        books = await double.books()
        assert (books["charged"], books["refunded"]) == (2 * house.price("studio").amount_usd_micro // 10_000, 0)
        await house.agree()


@pytest.mark.parametrize("seed", range(2))
async def test_paid_for_a_workspace_that_was_deleted_it_is_given_back(database, pg, double, seed):
    async with open_house(database, pg, double) as house:
        guest, unpaid = await past_due(house, days=40)
        await pg.execute("UPDATE workspaces SET deleted_at = $2 WHERE id = $1", guest.id, house.now)
        before = {event["id"] for event in await events_of(house)}
        await pay(house, unpaid)
        await hear(house, random.Random(seed), before)
        assert (await pg.fetchval("SELECT count(*) FROM inbox_events WHERE completed_at IS NULL")) == 0
        await is_given_back(house, guest, house.price("studio").amount_usd_micro // 10_000)


async def test_the_subscription_of_a_deleted_workspace_ends_at_stripe_and_is_never_charged_again(database, pg, double):
    """It was cancelled, as a deletion wants it; then somebody resumes it in the portal that is still open."""
    async with open_house(database, pg, double) as house:
        ending, resumed = await house.workspace(), await house.workspace()
        for guest in (ending, resumed):
            await guest.subscribe_and_pay("studio")
            await cancel(house.billing, guest.id, idempotency_key=uuid7().hex)
        await house.work()
        await pg.execute("UPDATE workspaces SET deleted_at = $1", house.now)
        stripe_id = (await resumed.subscription())["stripe_subscription_id"]
        await double.v1.subscriptions.update_async(stripe_id, {"cancel_at_period_end": False})
        await house.work()
        assert (await double.v1.subscriptions.retrieve_async(stripe_id)).status == "canceled"
        await house.go(days=40)
        assert await pg.fetchval("SELECT count(*) FROM inbox_events WHERE completed_at IS NULL") == 0
        assert (await double.books())["charged"] == 2 * house.price("studio").amount_usd_micro // 10_000
        assert (await ending.subscription())["stripe_subscription_id"] is None
        await house.agree()
