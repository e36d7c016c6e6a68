"""The product's scenarios, the same before the double and, where STRIPE_API_KEY is a test key, before Stripe itself.

They run three times: with the double's pages and clock; with the double as if it were Stripe, reached by nothing but the API,
which is how the third runs; and at Stripe, in an account of test mode. See docs/payments.md, "At a test account".
"""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from billing.auto_recharge import auto_recharge_of
from billing.errors import PaymentMethodRequired
from billing.packs import buy_pack
from billing.previews import preview_change
from billing.refunds import refund_payment
from billing.rules.auto_recharge import RechargeState
from billing.stripe_charges import PREPAID
from billing.stripe_customers import customer_of
from billing.stripe_inbox import sweep
from billing.stripe_prices import difference, tell_catalog
from billing.subscribing import subscribe
from billing.subscriptions import cancel, change_plan, resume
from kit.ids import uuid7
from tests.billing.shop import MICRO
from tests.payments.house import CENT
from tests.payments.places import Place, open_place_at_stripe, open_place_of_the_double

CATALOG = "usd-balance"
DECLINES_WHEN_CHARGED = "pm_card_chargeCustomerFail"
ASKS_ITS_HOLDER = "pm_card_authenticationRequired"
PLACES = [
    "double",
    "double-as-stripe",
    pytest.param("stripe", marks=[pytest.mark.stripe_live, pytest.mark.timeout(600)]),
]

Open = Callable[[str], AbstractAsyncContextManager[Place]]


@pytest.fixture(params=PLACES)
async def open_place(request: pytest.FixtureRequest, database, pg, running_double) -> Open:
    """Opens the place with a shipped catalog."""
    if request.param == "stripe":
        api_key = os.environ.get("STRIPE_API_KEY", "")
        if not api_key.startswith(("sk_test_", "rk_test_")):
            pytest.skip("STRIPE_API_KEY is no key of a test account")
        return partial(open_place_at_stripe, database, pg, api_key)
    if request.param == "double":
        return partial(open_place_of_the_double, database, pg, running_double)
    await running_double.reset()
    return partial(
        open_place_at_stripe, database, pg, "sk_test_double", base=running_double.url, patience_s=20, pause_s=0.05
    )


def key() -> str:
    return uuid7().hex


def is_so(guest, **wanted) -> Callable:
    """Whether the workspace's last payment is like this."""

    async def ask():
        rows = await guest.payments()
        return rows and all(rows[-1][name] == value for name, value in wanted.items())

    return ask


async def test_B5_a_saved_method_pays_for_credits_once(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        with pytest.raises(PaymentMethodRequired):
            await guest.top_up(25)
        await place.save(guest)
        [method] = await guest.methods()
        assert (method["brand"], method["last4"], method["is_default"]) == ("visa", "4242", True)
        made = await guest.top_up(25, key="once")
        assert (made.payment.status, made.grant_id is None) == ("SUCCEEDED", False)
        assert (await guest.top_up(25, key="once")).payment.id == made.payment.id
        [invoice] = await place.until(guest.invoices)
        assert (invoice["status"], invoice["total_usd_micro"]) == ("paid", 25 * MICRO)
        assert invoice["hosted_url"].startswith("http")
        assert invoice["pdf_url"].startswith("http")
        assert await guest.available() == 25
        await place.agree()


async def test_D8_a_prepaid_card_is_not_kept(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        await place.set_up(guest, "pm_card_mastercard_prepaid")
        told = "SELECT payload->>'last4' FROM outbox_events WHERE kind = 'payment_method.refused'"
        assert await place.until(lambda: place.pg.fetchval(told)) == "5100"
        assert await guest.methods() == []
        with pytest.raises(PaymentMethodRequired):
            await guest.top_up(25)


async def test_D8_a_plan_paid_with_a_prepaid_card_is_given_back_and_not_charged_again(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        made = await guest.page("pro")
        await place.pay_page(made.checkout_url, "pm_card_mastercard_prepaid")
        await place.until(is_so(guest, failure_code=PREPAID))
        [of] = (await place.customers()).values()
        assert of["charged"] == of["refunded"] == 2_000
        assert await guest.methods() == []
        assert (await guest.subscription())["status"] != "ACTIVE"
        await place.agree()


async def test_a_decline_gives_nothing_and_says_why(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        await place.turn_to(guest, DECLINES_WHEN_CHARGED)
        made = await guest.top_up(25)
        assert (made.payment.status, made.payment.failure_code) == ("FAILED", "generic_decline")
        await place.work()
        assert await guest.available() == 0
        await place.agree()


async def test_a_payment_to_be_confirmed_has_a_page_and_gives_nothing_when_it_is_given_up(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        await place.turn_to(guest, ASKS_ITS_HOLDER)
        made = await guest.top_up(25)
        assert made.payment.status == "ACTION_REQUIRED"
        assert made.payment.action_url.startswith("http")
        [payment] = await guest.payments()
        await place.v1.payment_intents.cancel_async(payment["stripe_object_id"])
        await place.until(is_so(guest, status="FAILED"))
        assert await guest.available() == 0
        await place.agree()


async def test_C3_a_pack_is_bought_with_the_saved_method(open_place):
    async with open_place("creator-tiers") as place:
        guest = await place.workspace()
        await place.subscribe(guest, "pro")
        made = await buy_pack(place.billing, guest.id, "small", idempotency_key=key())
        assert made.payment.status == "SUCCEEDED"
        await place.work()
        assert await guest.available() == 4_000 + 1_000
        await place.agree()


async def test_A7_a_lifetime_is_charged_to_the_saved_method_and_ends_the_monthly_plan(open_place):
    async with open_place("team-workspaces") as place:
        guest = await place.workspace()
        before = await place.subscribe(guest, "studio")
        await place.turn_to(guest, "pm_card_visa")
        price = place.price("studio", "lifetime")
        for _ in range(2):
            made = await change_plan(place.billing, guest.id, price.id, idempotency_key="once", saved_method=True)
            assert (made.payment.status, made.payment.amount_usd_micro) == ("SUCCEEDED", price.amount_usd_micro)

        async def ended():
            found = await place.v1.subscriptions.retrieve_async(before["stripe_subscription_id"])
            return found.status == "canceled"

        await place.until(ended)
        row = await guest.subscription()
        assert (row["status"], row["price_id"], row["current_period_end"]) == ("ACTIVE", price.id, None)
        assert len(await guest.payments()) == 2
        await place.agree()


async def test_a_lifetime_to_be_confirmed_is_given_up_at_stripe_when_a_page_is_opened(open_place):
    async with open_place("team-workspaces") as place:
        guest = await place.workspace()
        await place.turn_to(guest, ASKS_ITS_HOLDER)
        price = place.price("team", "lifetime")
        made = await subscribe(place.billing, guest.id, price.id, idempotency_key=key(), saved_method=True)
        assert made.payment.status == "ACTION_REQUIRED"
        assert made.checkout_url.startswith("http")
        page = await guest.page("team", "lifetime")
        [waiting, _] = await guest.payments()
        assert (await place.v1.payment_intents.retrieve_async(waiting["stripe_object_id"])).status == "canceled"
        await place.pay_page(page.checkout_url)
        await place.until(is_so(guest, status="SUCCEEDED"))
        assert [row["status"] for row in await guest.payments()] == ["FAILED", "SUCCEEDED"]
        assert (await guest.subscription())["status"] == "ACTIVE"
        await place.agree()


async def test_a_plan_that_was_paid_has_begun_once_and_cannot_be_told_twice(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        row = await place.subscribe(guest, "pro")
        assert row["period_number"] == 1
        found = await place.v1.subscriptions.retrieve_async(row["stripe_subscription_id"])
        assert found.status == "active"
        assert found["items"].data[0].price.unit_amount == 2_000
        await place.pg.execute("UPDATE inbox_events SET completed_at = NULL WHERE object_id IS NOT NULL")
        await place.work()
        assert (await guest.subscription())["period_number"] == 1
        assert [row["status"] for row in await guest.payments()] == ["SUCCEEDED"]
        await place.agree()


async def test_B8_an_upgrade_is_charged_as_previewed(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        await place.subscribe(guest, "pro")
        price = place.price("business")
        preview = await preview_change(place.billing, guest.id, price.id)
        made = await change_plan(place.billing, guest.id, price.id, idempotency_key=key(), prorated_at=preview.at)
        assert (made.payment.status, made.payment.amount_usd_micro) == ("SUCCEEDED", preview.due_usd_micro)
        assert 79 * MICRO < preview.due_usd_micro <= 80 * MICRO
        assert (await guest.subscription())["price_id"] == price.id
        await place.work()
        await place.agree()


async def test_an_upgrade_that_is_declined_leaves_the_plan(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        before = await place.subscribe(guest, "pro")
        await place.turn_to(guest, DECLINES_WHEN_CHARGED)
        made = await change_plan(place.billing, guest.id, place.price("business").id, idempotency_key=key())
        assert (made.payment.status, made.payment.failure_code) == ("FAILED", "generic_decline")
        await place.work()
        assert (await guest.subscription())["price_id"] == before["price_id"]
        found = await guest.stripe_subscription()
        assert found["pending_update"] is None
        assert found["items"]["data"][0]["price"]["unit_amount"] == 2_000
        await place.agree()


async def test_a_downgrade_is_scheduled_and_taken_back_a_cancellation_resumed(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        await place.subscribe(guest, "business")
        await change_plan(place.billing, guest.id, place.price("pro").id, idempotency_key=key())
        found = await guest.stripe_subscription()
        schedule = await place.v1.subscription_schedules.retrieve_async(found["schedule"])
        prices = [await place.v1.prices.retrieve_async(phase["items"][0].price) for phase in schedule.phases]
        assert [price.unit_amount for price in prices] == [10_000, 2_000]
        await change_plan(place.billing, guest.id, place.price("business").id, idempotency_key=key())
        assert (await guest.stripe_subscription())["schedule"] is None
        await cancel(place.billing, guest.id, idempotency_key=key())
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is True
        await resume(place.billing, guest.id, idempotency_key=key())
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is False
        await place.work()
        assert (await guest.subscription())["cancel_at_period_end"] is False
        await place.agree()


async def test_what_is_cancelled_and_ended_at_stripe_is_so_here(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        row = await place.subscribe(guest, "pro")

        async def now_is(**wanted):
            found = await guest.subscription()
            return all(found[name] == value for name, value in wanted.items())

        stripe_id = row["stripe_subscription_id"]
        await place.v1.subscriptions.update_async(stripe_id, {"cancel_at_period_end": True})
        await place.until(lambda: now_is(cancel_at_period_end=True))
        await place.v1.subscriptions.update_async(stripe_id, {"cancel_at_period_end": False})
        await place.until(lambda: now_is(cancel_at_period_end=False))
        await place.v1.subscriptions.cancel_async(stripe_id)
        await place.until(lambda: now_is(status="CANCELED"))
        await place.agree()


async def test_D5_a_refund_by_the_operator_and_one_made_at_stripe_take_the_credits(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        await place.save(guest)
        made = await guest.top_up(20)
        await guest.spend(5 * MICRO)
        for _ in range(2):
            total = await place.billing.payments.refund(made.payment.id, 5 * MICRO, "sorry")
            await refund_payment(place.billing, made.payment.id, total)
        assert await guest.available() == 10
        [payment] = await guest.payments()
        await place.v1.refunds.create_async({"payment_intent": payment["stripe_object_id"], "amount": 1_000})
        await place.until(is_so(guest, refunded_usd_micro=15 * MICRO))
        assert await guest.available() == 0
        await place.agree()


async def test_D5_a_dispute_takes_what_is_unspent(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        await place.turn_to(guest, "pm_card_createDispute")
        await guest.top_up(20)
        await place.until(is_so(guest, status="DISPUTED"))
        assert await guest.available() == 0
        await place.agree()


async def test_B4_few_credits_left_are_filled_up_off_session(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.with_recharge()
        await guest.spend(10 * MICRO)
        await place.until(is_so(guest, purpose="AUTO_RECHARGE", status="SUCCEEDED"))
        await place.work()
        assert await guest.available() == 25
        await place.agree()


async def test_a_recharge_that_is_declined_is_counted_and_not_repeated(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.with_recharge()
        await place.turn_to(guest, DECLINES_WHEN_CHARGED)
        await guest.spend(10 * MICRO)
        await place.until(is_so(guest, purpose="AUTO_RECHARGE", status="FAILED"))
        await place.work()
        await place.work()
        assert len(await guest.payments()) == 2
        failures = "SELECT consecutive_failures FROM auto_recharges WHERE workspace_id = $1"
        assert await place.pg.fetchval(failures, guest.id) == 1
        await place.agree()


async def test_a_recharge_that_needs_the_customer_stands_still_and_has_a_link(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.with_recharge()
        await place.turn_to(guest, ASKS_ITS_HOLDER)
        await guest.spend(10 * MICRO)
        await place.until(is_so(guest, purpose="AUTO_RECHARGE", status="ACTION_REQUIRED"))
        told = "SELECT payload->>'actionUrl' FROM outbox_events WHERE kind = 'auto_recharge.action_required'"
        assert await place.pg.fetchval(told) == (await guest.payments())[-1]["action_url"]
        assert (await auto_recharge_of(place.billing, guest.id)).state is RechargeState.SUSPENDED
        await place.agree()


async def test_the_catalog_is_made_at_stripe_once_and_renamed(open_place):
    async with open_place("creator-tiers") as place:
        shown = await difference(place.link)
        assert {line.sign for line in shown} == {"+"}
        assert await tell_catalog(place.link) == shown
        assert len(shown) >= 6
        assert await tell_catalog(place.link) == []
        snapshot = await place.billing.catalog.reload()
        for line in [*snapshot.packs_by_code.values(), *snapshot.plans_by_code["pro"].prices]:
            amount = getattr(line, "price_usd_micro", None) or line.amount_usd_micro
            price = await place.v1.prices.retrieve_async(line.stripe_price_id)
            assert (price.unit_amount * CENT, price.lookup_key) == (amount, str(line.id))
        product = snapshot.plans_by_code["pro"].stripe_product_id
        await place.v1.products.update_async(product, {"name": "Another name"})
        await tell_catalog(place.link)
        assert (await place.v1.products.retrieve_async(product)).name == "Pro"


async def test_what_no_webhook_told_is_found_in_the_list_of_events_and_given_once(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        made = await guest.top_up(25, checkout=True)
        assert made.payment.status == "PENDING"
        await place.pay_page(made.payment.action_url)
        await place.until(is_so(guest, status="SUCCEEDED"))
        assert await guest.available() == 25
        await sweep(place.link, force=True)
        assert await sweep(place.link, force=True) == 0
        await place.work()
        assert await guest.available() == 25
        await place.agree()


async def test_D7_tax_ids_are_kept_on_the_customer(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        made = await place.billing.payments.add_tax_id(guest.id, "eu_vat", "DE123456789")
        assert [(one.kind, one.value) for one in await place.billing.payments.tax_ids(guest.id)] == [
            ("eu_vat", "DE123456789")
        ]
        await place.billing.payments.remove_tax_id(guest.id, made.id)
        assert list(await place.billing.payments.tax_ids(guest.id)) == []


async def test_a_plan_paid_twice_is_given_back_once(open_place):
    async with open_place(CATALOG) as place:
        guest = await place.workspace()
        first = await guest.page("pro")
        await place.pay_page(first.checkout_url)
        second = await guest.page("pro")
        await place.pay_page(second.checkout_url)
        await place.until(lambda: place.pg.fetchval("SELECT true FROM payments WHERE status = 'REFUNDED'"))
        assert sorted(payment["status"] for payment in await guest.payments()) == ["REFUNDED", "SUCCEEDED"]
        [of] = (await place.customers()).values()
        assert (of["charged"], of["refunded"]) == (4_000, 2_000)
        await place.work()
        row = await guest.subscription()
        living = await place.v1.subscriptions.list_async({"customer": await customer_of(place.link, guest.id)})
        assert [one.id for one in living.data] == [row["stripe_subscription_id"]]
        await place.agree()
