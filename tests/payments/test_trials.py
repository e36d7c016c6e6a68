"""Trials whose page is completed when nothing waits for it any more: ended at Stripe, so that nothing is ever charged."""

import itertools

import pytest

from billing.stripe_inbox import receive, work_inbox
from tests.payments.house import House, open_house, session_of
from tests.payments.test_deliveries import events_of, signed
from tests.stripe_shop import WEBHOOK_SECRET


async def told(house: House, order: tuple[int, ...]) -> None:
    """The page's news and its subscription's and invoice's, in this order, each alone."""
    events = await events_of(house)
    kinds = ("checkout.session.completed", "customer.subscription.created", "invoice.paid")
    found = [next(event for event in events if event["type"] == kind) for kind in kinds]
    for index in order:
        await receive(house.billing.database, *signed(found[index]), WEBHOOK_SECRET)
        await work_inbox(house.billing, house.link)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("why", ["replaced", "deleted"])
async def test_a_trial_that_has_no_place_any_more_is_ended_and_never_charged(database, pg, double, why, order):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        price = next(
            (plan.code, price.code)
            for plan in house.billing.catalog.current.plans_by_code.values()
            for price in plan.prices
            if price.trial_days
        )
        tried = await guest.page(*price)
        charged = 0
        if why == "replaced":
            row = await guest.subscribe_and_pay("studio")
            charged = house.price("studio").amount_usd_micro // 10_000
        else:
            await pg.execute("UPDATE workspaces SET deleted_at = $1", house.now)
        await pg.execute("DELETE FROM inbox_events")
        await double.pay(session_of(tried.checkout_url), card="pm_card_mastercard")
        await told(house, order)
        await house.work()
        books = await double.books()
        assert [one["status"] for one in books["subscriptions"]].count("trialing") == 0
        assert await pg.fetchval("SELECT count(*) FROM inbox_events WHERE completed_at IS NULL") == 0
        await house.go(days=20)
        assert (await double.books())["charged"] == charged
        if why == "replaced":
            after = await guest.subscription()
            assert (after["id"], after["status"], after["trial_ends_at"]) == (row["id"], "ACTIVE", None)
        await house.agree()
