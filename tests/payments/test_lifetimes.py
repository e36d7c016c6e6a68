"""A first lifetime, charged to the saved method: once, confirmed, declined, lost on the way, in the place of another plan."""

import asyncio

import pytest

from billing.disputes import close_dispute, dispute_payment
from billing.errors import AlreadySubscribed, ChangeRefused, PaymentMethodRequired
from billing.refunds import refund_payment
from billing.subscribing import subscribe
from billing.subscriptions import cancel, change_plan
from kit.errors import InvalidInput
from kit.ids import uuid7
from tests.billing.shop import MICRO
from tests.payments.house import CENT, open_house, session_of

DECLINES_WHEN_CHARGED = "pm_card_chargeCustomerFail"
ASKS_ITS_HOLDER = "pm_card_authenticationRequired"


async def buy(guest, *, plan: str = "team", key: str | None = None):
    """With the saved method: over what the workspace has, or as its first plan."""
    house = guest.house
    live = await house.pg.fetchval(
        "SELECT true FROM subscriptions WHERE workspace_id = $1 AND ended_at IS NULL AND status <> 'INCOMPLETE'",
        guest.id,
    )
    way = change_plan if live else subscribe
    price = house.price(plan, "lifetime")
    return await way(house.billing, guest.id, price.id, idempotency_key=key or uuid7().hex, saved_method=True)


async def with_card(house, behaving: str | None = None):
    guest = await house.workspace()
    await guest.save_card()
    if behaving is not None:
        await turn(house, guest, behaving)
    return guest


async def turn(house, guest, behaving: str) -> None:
    [method] = await guest.methods()
    await house.double.behave(method["stripe_payment_method_id"], behaving)


async def charged_micro(house) -> int:
    return (await house.double.books())["charged"] * CENT


async def test_A7_a_first_lifetime_is_charged_to_the_saved_method_once_and_granted_each_month(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, price = await with_card(house), house.price("team", "lifetime")
        made = await buy(guest, key="once")
        assert (made.payment.status, made.checkout_url) == ("SUCCEEDED", None)
        assert made.subscription.status == "ACTIVE"
        again = await subscribe(house.billing, guest.id, price.id, idempotency_key="once", saved_method=True)
        assert again.payment.id == made.payment.id
        await house.go(days=65)
        assert await charged_micro(house) == price.amount_usd_micro
        assert [row["status"] for row in await guest.payments()] == ["SUCCEEDED"]
        assert len(await guest.grants("CYCLE")) == 3
        await house.agree()


async def test_D7_a_lifetime_that_a_saved_method_paid_has_one_invoice_as_one_that_a_page_took(database, pg, double):
    async with open_house(database, pg, double) as house:
        saved, paged = await with_card(house), await house.workspace()
        await buy(saved)
        await paged.subscribe_and_pay("team", "lifetime")
        await house.go(hours=2)
        for guest in (saved, paged):
            [invoice] = await guest.invoices()
            assert (invoice["status"], invoice["total_usd_micro"]) == (
                "paid",
                house.price("team", "lifetime").amount_usd_micro,
            )
            assert invoice["pdf_url"]
        await house.agree()


async def test_a_lifetime_needs_a_saved_method_and_other_prices_a_page(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        with pytest.raises(PaymentMethodRequired):
            await buy(guest)
        assert await guest.subscription() is None
        await guest.save_card()
        for way in (subscribe, change_plan):
            with pytest.raises(InvalidInput):
                await way(
                    house.billing, guest.id, house.price("team").id, idempotency_key=uuid7().hex, saved_method=True
                )
        assert await charged_micro(house) == 0


@pytest.mark.parametrize("over", [False, True])
async def test_a_declined_lifetime_says_why_and_leaves_what_was_and_another_card_may_pay(database, pg, double, over):
    async with open_house(database, pg, double) as house:
        if over:
            guest = await house.workspace()
            await guest.subscribe_and_pay("studio")
            await turn(house, guest, DECLINES_WHEN_CHARGED)
        else:
            guest = await with_card(house, DECLINES_WHEN_CHARGED)
        before = await guest.available()
        made = await buy(guest, plan="studio")
        assert (made.payment.status, made.payment.failure_code) == ("FAILED", "generic_decline")
        await house.work()
        assert await guest.available() == before
        assert (await guest.subscription())["status"] == ("ACTIVE" if over else "INCOMPLETE")
        await turn(house, guest, "pm_card_visa")
        assert (await buy(guest, plan="studio")).payment.status == "SUCCEEDED"
        await house.work()
        row = await guest.subscription()
        assert (row["status"], row["price_id"]) == ("ACTIVE", house.price("studio", "lifetime").id)
        await house.agree()


@pytest.mark.parametrize("over", [False, True])
async def test_a_lifetime_that_the_bank_wants_confirmed_finishes_by_itself(database, pg, double, over):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        if over:
            row = await guest.subscribe_and_pay("studio")
        else:
            await guest.save_card()
        await turn(house, guest, ASKS_ITS_HOLDER)
        made = await buy(guest, plan="studio", key="k")
        assert made.payment.status == "ACTION_REQUIRED"
        assert made.checkout_url == made.payment.action_url
        assert made.checkout_url.startswith("http")
        intent = (await guest.payments())[-1]["stripe_object_id"]
        await double.ask("POST", f"payment_intents/{intent}/authenticate")
        await house.work()
        after = await guest.subscription()
        assert (after["status"], after["price_id"]) == ("ACTIVE", house.price("studio", "lifetime").id)
        assert (await guest.payments())[-1]["status"] == "SUCCEEDED"
        if over:
            found = await double.v1.subscriptions.retrieve_async(row["stripe_subscription_id"])
            assert found.status == "canceled"
        await house.agree()


async def test_a_lifetime_over_a_monthly_plan_ends_its_charges_as_one_bought_on_a_page(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio")
        made = await buy(guest, plan="studio")
        assert made.payment.status == "SUCCEEDED"
        after = await guest.subscription()
        assert (after["id"], after["current_period_end"]) == (row["id"], None)
        await house.work()
        found = await double.v1.subscriptions.retrieve_async(row["stripe_subscription_id"])
        assert found.status == "canceled"
        await house.go(days=65)
        assert len(await guest.payments()) == 2
        assert (await guest.subscription())["stripe_subscription_id"] is None
        await house.agree()


@pytest.mark.parametrize(("kind", "times"), [("drop_after", 3), ("error_before", 3), ("lock_timeout_before", 1)])
async def test_a_lost_answer_charges_a_lifetime_once(database, pg, double, kind, times):
    async with open_house(database, pg, double) as house:
        guest, price = await with_card(house), house.price("team", "lifetime")
        await double.fault(kind, "/v1/payment_intents$", method="POST", times=times)
        await buy(guest, key="k")
        again = await subscribe(house.billing, guest.id, price.id, idempotency_key="k", saved_method=True)
        assert again.payment.status == "SUCCEEDED"
        await house.work()
        assert await charged_micro(house) == price.amount_usd_micro
        await house.agree()


async def test_a_lost_answer_is_found_by_the_reconciler_and_nothing_else_is_charged_meanwhile(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await with_card(house)
        await double.fault("drop_after", "/v1/payment_intents$", method="POST", times=3)
        assert (await buy(guest)).payment.status == "PENDING"
        with pytest.raises(ChangeRefused):
            await buy(guest)
        await house.go(minutes=10)
        assert (await guest.subscription())["status"] == "ACTIVE"
        assert await charged_micro(house) == house.price("team", "lifetime").amount_usd_micro
        await house.agree()


async def test_a_lifetime_that_was_never_sent_fails_after_a_day_and_is_not_sent_later(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, price = await with_card(house), house.price("team", "lifetime")
        await double.fault("error_before", "/v1/payment_intents$", method="POST", times=3)
        assert (await buy(guest, key="k")).payment.status == "PENDING"
        await house.go(hours=26)
        again = await subscribe(house.billing, guest.id, price.id, idempotency_key="k", saved_method=True)
        assert again.payment.failure_code == "never_sent"
        assert await charged_micro(house) == 0
        await house.agree()


async def test_what_was_given_up_meanwhile_is_not_charged_when_it_is_sent_again(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, price = await with_card(house), house.price("team", "lifetime")
        await double.fault("error_before", "/v1/payment_intents$", method="POST", times=3)
        await buy(guest, key="k")
        await cancel(house.billing, guest.id, idempotency_key="c")
        again = await subscribe(house.billing, guest.id, price.id, idempotency_key="k", saved_method=True)
        assert (again.payment.status, again.subscription.status) == ("PENDING", "CANCELED")
        assert await charged_micro(house) == 0


async def test_a_page_closes_the_charge_that_waits_for_its_customer_and_the_other_way_round(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await with_card(house, ASKS_ITS_HOLDER)
        await buy(guest)
        page = await guest.page("team", "lifetime")
        [waiting, _] = await guest.payments()
        found = await double.v1.payment_intents.retrieve_async(waiting["stripe_object_id"])
        assert found.status == "canceled"
        await buy(guest)
        session = await double.v1.checkout.sessions.retrieve_async(session_of(page.checkout_url))
        assert session.status == "expired"
        await turn(house, guest, "pm_card_visa")
        assert (await buy(guest)).payment.status == "SUCCEEDED"
        await house.work()
        assert [row["status"] for row in await guest.payments()] == ["FAILED", "FAILED", "FAILED", "SUCCEEDED"]
        await house.agree()


async def test_five_who_buy_a_lifetime_at_once_charge_it_once(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, price = await with_card(house), house.price("team", "lifetime")
        wanted = [
            subscribe(house.billing, guest.id, price.id, idempotency_key=f"k{number}", saved_method=True)
            for number in range(5)
        ]
        results = await asyncio.gather(*wanted, return_exceptions=True)
        refused = [result for result in results if isinstance(result, AlreadySubscribed | ChangeRefused)]
        assert len(refused) == 4, results
        await house.work()
        assert await charged_micro(house) == price.amount_usd_micro
        await house.agree()


async def test_D5_a_refund_of_a_lifetime_takes_the_same_part_of_its_credits(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, price = await with_card(house), house.price("team", "lifetime")
        made = await buy(guest)
        await house.work()
        before = await guest.available()
        total = await house.billing.payments.refund(made.payment.id, price.amount_usd_micro // 2, "sorry")
        await refund_payment(house.billing, made.payment.id, total)
        assert await guest.available() * MICRO == before * MICRO / 2
        await house.agree()


@pytest.mark.parametrize("period", ["lifetime", "yearly", "monthly"])
async def test_A7_D5_a_plan_refunded_whole_ends_at_once_and_grants_no_more(database, pg, double, period):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio", period)
        [payment] = await guest.payments()
        await guest.spend(100 * MICRO)
        total = await house.billing.payments.refund(payment["id"], payment["amount_usd_micro"], "sorry")
        for _ in range(2):
            view = await refund_payment(house.billing, payment["id"], total)
        assert view.status == "REFUNDED"
        assert (await guest.subscription())["status"] == "CANCELED"
        await house.go(days=65)
        assert (await guest.available(), len(await guest.grants("CYCLE"))) == (0, 1)
        if row["stripe_subscription_id"] is not None:
            at_stripe = await double.v1.subscriptions.retrieve_async(row["stripe_subscription_id"])
            assert at_stripe.status == "canceled"
        assert len(await guest.payments()) == 1
        await house.agree()


async def test_A6_D5_a_lost_dispute_of_a_whole_year_ends_the_plan_and_one_of_a_part_does_not(database, pg, double):
    async with open_house(database, pg, double) as house:
        for part, status in ((1, "CANCELED"), (2, "ACTIVE")):
            guest = await house.workspace()
            await guest.subscribe_and_pay("studio", "yearly")
            [payment] = await guest.payments()
            disputed = payment["amount_usd_micro"] // part
            await dispute_payment(house.billing, payment["id"], "dp_1", disputed)
            assert (await guest.subscription())["status"] == "ACTIVE"
            await close_dispute(house.billing, payment["id"], "dp_1", disputed_usd_micro=disputed, won=False)
            assert (await guest.subscription())["status"] == status
        await house.go(days=65)
        assert (await guest.subscription())["status"] == "ACTIVE"


async def test_D5_a_refund_of_an_older_period_or_of_a_part_leaves_the_plan(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await house.go(days=31)
        first, second = await guest.payments()
        await refund_payment(house.billing, first["id"], first["amount_usd_micro"])
        await refund_payment(house.billing, second["id"], second["amount_usd_micro"] // 2)
        assert (await guest.subscription())["status"] == "ACTIVE"
        assert await guest.available() == 4000
