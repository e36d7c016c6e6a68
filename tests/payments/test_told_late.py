"""What is to be told of a subscription before it is known which one it is at Stripe, and after it is over there."""

import itertools

import pytest

from billing.stripe_inbox import receive, work_inbox
from billing.stripe_tell import tell_due
from billing.subscriptions import cancel, change_plan
from kit.ids import uuid7
from tests.payments.house import House, open_house, session_of
from tests.payments.test_deliveries import events_of, signed
from tests.stripe_shop import WEBHOOK_SECRET

CATALOG = "usd-balance"
LATE = ("checkout.session.completed", "customer.subscription.created", "customer.subscription.updated")


async def hear(house: House, kind: str) -> None:
    for event in await events_of(house):
        if event["type"] == kind:
            await receive(house.billing.database, *signed(event), WEBHOOK_SECRET)
    await work_inbox(house.billing, house.link)


@pytest.mark.parametrize("order", list(itertools.permutations(LATE)), ids=lambda order: ",".join(order))
async def test_a_plan_cancelled_before_its_page_was_heard_of_ends_with_its_period(database, pg, double, order):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        made = await guest.page("pro")
        await double.pay(session_of(made.checkout_url))
        await hear(house, "invoice.paid")
        row = await guest.subscription()
        assert (row["status"], row["stripe_subscription_id"]) == ("ACTIVE", None)
        await cancel(house.billing, guest.id, idempotency_key=uuid7().hex)
        for kind in order:
            await hear(house, kind)
        await house.work()
        assert (await guest.subscription())["cancel_at_period_end"]
        assert (await guest.stripe_subscription())["cancel_at_period_end"]
        await house.go(days=40)
        assert (await double.books())["charged"] == 2_000
        assert (await guest.subscription())["status"] != "PAST_DUE"
        await house.agree()


@pytest.mark.parametrize("end", ["subscription", "customer"])
async def test_what_is_over_at_stripe_is_told_no_more(database, pg, double, end):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("pro")
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        await change_plan(house.billing, guest.id, house.price("business").id, idempotency_key=uuid7().hex)
        if end == "subscription":
            await double.v1.subscriptions.cancel_async(row["stripe_subscription_id"])
        else:
            customer = await pg.fetchval("SELECT stripe_customer_id FROM workspaces")
            await double.v1.customers.delete_async(customer)
        await house.go(days=1)
        assert await tell_due(house.link) == 0
        await pg.execute(
            "UPDATE subscriptions SET tell_due_at = now() - interval '9 years'"
        )  # as an older version left it
        assert [await tell_due(house.link) for _ in range(2)] == [1, 0]
        assert (await guest.payments())[-1]["status"] == "FAILED"
        await house.agree()
