"""Subscriptions that Stripe charges: begun, renewed, declined, raised, lowered, cancelled."""

from datetime import timedelta

import pytest

from billing.errors import NothingToResume, PaymentRefused
from billing.payment_port import PriceChange
from billing.previews import preview_change
from billing.refunds import refund_payment
from billing.stripe_charges import PREPAID
from billing.stripe_client import Stripe
from billing.stripe_customers import customer_of
from billing.stripe_inbox import sweep, work_inbox
from billing.stripe_invoices import invoice_changed
from billing.stripe_objects import charge_changed, dispute_changed, intent_changed, session_changed
from billing.stripe_prices import price_id_of
from billing.subscribing import subscribe
from billing.subscriptions import cancel, change_plan, resume
from kit.errors import Unavailable
from kit.ids import uuid7
from tests.payments.house import CENT, open_house, session_of


def key() -> str:
    return uuid7().hex


async def test_a_checkout_that_is_paid_begins_the_plan_and_each_charge_a_cycle(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio")
        assert (row["status"], row["period_number"]) == ("ACTIVE", 1)
        assert row["stripe_subscription_id"]
        first = await guest.available()
        assert first == 8000
        await house.go(days=31)
        row = await guest.subscription()
        assert (row["status"], row["period_number"]) == ("ACTIVE", 2)
        assert await guest.available() == first
        assert [payment["status"] for payment in await guest.payments()] == ["SUCCEEDED", "SUCCEEDED"]
        await house.agree()


async def test_D5_a_refund_that_is_told_before_the_renewal_it_is_of_takes_the_credits_all_the_same(
    database, pg, double
):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await house.go(work=False, days=30, hours=2)
        renewal = (await guest.invoices_at_stripe())[0]
        intent = renewal.payments.data[0].payment.payment_intent
        await double.v1.refunds.create_async({"payment_intent": intent})
        charge = (await double.v1.payment_intents.retrieve_async(intent)).latest_charge
        await charge_changed(house.billing, house.link, charge)  # no payment of ours yet
        for _ in range(2):
            await invoice_changed(house.billing, house.link, renewal.id)
            payment = (await guest.payments())[-1]
            assert (payment["status"], payment["refunded_usd_micro"]) == ("REFUNDED", 10_000 * CENT)
            assert await guest.available() == 0
        await house.work()
        await house.agree()


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_D5_a_dispute_that_is_told_before_the_renewal_it_is_of_is_heard(database, pg, double, outcome: str):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await house.go(work=False, days=30, hours=2)
        intent = (await guest.invoices_at_stripe())[0].payments.data[0].payment.payment_intent
        opened = await double.ask("POST", "disputes", payment_intent=intent)
        await dispute_changed(house.billing, house.link, opened["id"])  # no payment of ours yet
        assert (await guest.payments())[-1]["status"] == "DISPUTED"
        assert await guest.available() == 0
        await double.ask("POST", "disputes", dispute=opened["id"], outcome=outcome)
        await house.work()
        assert await guest.available() == (8_000 if outcome == "won" else 0)
        await house.agree()


async def test_a_first_period_that_costs_nothing_is_bought_and_no_trial(database, pg, double, monkeypatch):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        page = await guest.page("studio")
        await double.pay(session_of(page.checkout_url))
        [first] = await guest.invoices_at_stripe()
        given = {**first.to_dict(), "total": 0, "amount_due": 0, "amount_paid": 0, "payments": {"data": []}}

        async def answer(*_):
            return given

        with monkeypatch.context() as patched:
            patched.setattr(Stripe, "call", answer)
            await invoice_changed(house.billing, house.link, first.id)
        row = await guest.subscription()
        assert (row["status"], row["period_number"], row["trial_ends_at"]) == ("ACTIVE", 1, None)
        assert await guest.available() == 8000


async def test_an_invoice_written_by_hand_buys_no_period(database, pg, double, monkeypatch):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        before = await guest.subscribe_and_pay("studio")
        [first] = await guest.invoices_at_stripe()
        by_hand = {**first.to_dict(), "id": "in_by_hand", "billing_reason": "manual", "total": 500}

        async def answer(*_):
            return by_hand

        with monkeypatch.context() as patched:
            patched.setattr(Stripe, "call", answer)
            await invoice_changed(house.billing, house.link, "in_by_hand")
        after = await guest.subscription()
        assert (after["period_number"], after["current_period_end"]) == (1, before["current_period_end"])
        assert len(await guest.payments()) == 1
        assert {one["total_usd_micro"] for one in await guest.invoices()} == {500 * CENT, 10_000 * CENT}


async def test_a_trial_asks_for_a_card_and_charges_when_it_ends(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("team")
        assert row["status"] == "TRIALING"
        assert await guest.payments() == []
        assert len(await guest.methods()) == 1
        await house.go(days=8)
        row = await guest.subscription()
        assert (row["status"], row["period_number"]) == ("ACTIVE", 1)
        [payment] = await guest.payments()
        assert payment["amount_usd_micro"] == 30_000_000
        await house.agree()


async def test_A7_a_lifetime_is_paid_once_and_grants_each_month(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("team", "lifetime")
        assert (row["status"], row["stripe_subscription_id"]) == ("ACTIVE", None)
        await house.go(days=65)
        assert len(await guest.payments()) == 1
        assert len(await guest.grants("CYCLE")) == 3
        await house.agree()


async def test_a_page_that_nobody_pays_lapses_and_leaves_nothing(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await subscribe(house.billing, guest.id, house.price("studio").id, idempotency_key=key())
        await house.go(days=3)
        assert (await guest.subscription())["status"] == "EXPIRED"
        assert [payment["status"] for payment in await guest.payments()] == ["FAILED"]
        await house.agree()


async def test_a_second_page_closes_the_first(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        first = await subscribe(house.billing, guest.id, house.price("studio").id, idempotency_key=key())
        await subscribe(house.billing, guest.id, house.price("studio", "yearly").id, idempotency_key=key())
        session = await double.v1.checkout.sessions.retrieve_async(session_of(first.checkout_url))
        assert session.status == "expired"


async def test_D8_a_prepaid_card_on_a_hosted_page_is_given_back_and_gives_nothing(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio", card="pm_card_mastercard_prepaid")
        [payment] = await guest.payments()
        assert (payment["status"], payment["failure_code"]) == ("FAILED", PREPAID)
        assert await guest.available() == 0
        books = await double.books()
        assert books["charged"] == books["refunded"] == 10_000
        assert await guest.methods() == []
        await house.go(days=40)
        assert (await double.books())["charged"] == 10_000
        await house.agree()


async def test_D8_a_prepaid_payment_that_is_given_back_stays_so_whenever_it_is_heard_of(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        page = await guest.page("studio", "lifetime")
        await double.pay(session_of(page.checkout_url), card="pm_card_mastercard_prepaid")
        await house.work()
        [payment] = await guest.payments()
        await house.go(days=2)  # Stripe has forgotten the key of the refund
        await intent_changed(house.billing, house.link, payment["stripe_object_id"])
        books = await double.books()
        assert books["charged"] == books["refunded"] > 0
        assert (await guest.payments())[-1]["failure_code"] == PREPAID
        await house.agree()


async def test_D8_a_renewal_paid_with_a_prepaid_card_on_its_page_is_given_back_and_stays_unpaid(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_chargeDeclined")
        await house.go(days=31)
        [invoice] = [one for one in await guest.invoices() if one["status"] == "open"]
        await double.v1.invoices.pay_async(
            invoice["stripe_invoice_id"], {"payment_method": "pm_card_mastercard_prepaid"}
        )
        for _ in range(2):
            await house.work()
        assert (await guest.subscription())["status"] == "PAST_DUE"
        assert (await guest.payments())[-1]["failure_code"] == PREPAID
        assert await guest.available() == 0
        books = await double.books()
        assert (books["charged"], books["refunded"]) == (20_000, 10_000)
        await house.go(days=40)
        assert (await guest.subscription())["status"] == "EXPIRED"
        assert (await double.books())["charged"] == 20_000
        await house.agree()


async def test_D8_an_upgrade_paid_with_a_prepaid_card_is_given_back_and_taken_back_at_stripe(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        before = await guest.subscribe_and_pay("team", "yearly")
        [method] = await guest.methods()
        price = (await guest.stripe_subscription())["items"]["data"][0]["price"]["id"]
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        given = await guest.available()
        await change_plan(house.billing, guest.id, house.price("studio", "yearly").id, idempotency_key=key())
        [invoice] = [one for one in await guest.invoices_at_stripe() if one.status == "open"]
        await double.v1.invoices.pay_async(invoice.id, {"payment_method": "pm_card_mastercard_prepaid"})
        for _ in range(2):
            await house.work()
        assert (await guest.subscription())["price_id"] == before["price_id"]
        assert (await guest.payments())[-1]["failure_code"] == PREPAID
        assert await guest.available() == given
        assert (await guest.stripe_subscription())["items"]["data"][0]["price"]["id"] == price
        await house.agree()


async def nothing_to_pay_by_coupon(house, guest):
    """An operator gives the plan away at Stripe."""
    made = await house.double.v1.coupons.create_async({"percent_off": 100, "duration": "forever"})
    at_stripe = (await guest.subscription())["stripe_subscription_id"]
    await house.double.v1.subscriptions.update_async(at_stripe, {"discounts": [{"coupon": made.id}]})


async def nothing_to_pay_by_balance(house, guest):
    """The customer has credit at Stripe for a few periods."""
    customer = await house.pg.fetchval("SELECT stripe_customer_id FROM workspaces WHERE id = $1", guest.id)
    wanted = {"amount": -5_000_000, "currency": "usd"}
    await house.double.v1.customers.balance_transactions.create_async(customer, wanted)


async def nothing_to_pay_by_credit(house, guest):
    """More is credited with the next invoice than it is of: the rest goes to the customer's balance at Stripe."""
    at_stripe = await guest.stripe_subscription()
    wanted = {
        "customer": at_stripe["customer"],
        "subscription": at_stripe["id"],
        "amount": -1_000_001,
        "currency": "usd",
    }
    await house.double.v1.invoice_items.create_async(wanted)


@pytest.mark.parametrize(
    "arranged",
    [nothing_to_pay_by_coupon, nothing_to_pay_by_balance, nothing_to_pay_by_credit],
    ids=lambda way: way.__name__,
)
async def test_C10_a_renewal_that_costs_nothing_renews_the_plan_like_a_paid_one(database, pg, double, arranged):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await guest.spend(1000)
        await arranged(house, guest)
        await house.go(days=32)  # the day that a renewal's payment may take to arrive is over
        row = await guest.subscription()
        assert (row["status"], row["period_number"]) == ("ACTIVE", 2)
        assert await guest.available() == 8000
        [bought, renewed] = await guest.payments()
        assert (renewed["status"], renewed["amount_usd_micro"]) == ("SUCCEEDED", 0)
        for _ in range(2):
            await invoice_changed(house.billing, house.link, renewed["stripe_object_id"])
        assert (await guest.subscription())["period_number"] == 2
        with pytest.raises(PaymentRefused):
            await house.billing.payments.refund(renewed["id"], 0, "there is nothing")
        await refund_payment(house.billing, bought["id"], bought["amount_usd_micro"])
        assert (await guest.subscription())["status"] == "ACTIVE"
        assert await guest.available() == 8000
        await house.go(days=30)
        assert (await guest.subscription())["period_number"] == 3


async def test_a_renewal_is_of_its_own_period_though_prorations_stand_before_it(database, pg, double):
    async with open_house(database, pg, double, "creator-tiers") as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("starter")
        at_stripe = await guest.stripe_subscription()
        higher = await price_id_of(house.link, house.price("pro").id)
        wanted = {
            "items": [{"id": at_stripe["items"]["data"][0]["id"], "price": higher}],
            "proration_behavior": "create_prorations",
        }
        await double.v1.subscriptions.update_async(at_stripe["id"], wanted)
        await house.go(days=32)
        row = await guest.subscription()
        assert (row["price_id"], row["period_number"]) == (house.price("pro").id, 2)
        await house.agree()


async def test_a_renewal_that_is_declined_is_past_due_and_recovers_with_another_card(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_chargeDeclined")
        await house.go(days=31)
        row = await guest.subscription()
        assert row["status"] == "PAST_DUE"
        told = await pg.fetch("SELECT kind FROM outbox_events WHERE workspace_id = $1", guest.id)
        assert {"payment.failed", "subscription.past_due"} <= {row["kind"] for row in told}
        await guest.save_card("pm_card_mastercard")
        [_, newest] = await guest.methods()
        await house.billing.payments.make_default(newest["id"])
        await house.go(days=4)
        row = await guest.subscription()
        assert (row["status"], row["period_number"]) == ("ACTIVE", 2)
        await house.agree()


async def test_a_renewal_that_is_never_paid_ends_after_the_grace_and_at_stripe_too(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio")
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_chargeDeclined")
        await house.go(days=40)
        assert (await guest.subscription())["status"] == "EXPIRED"
        found = await double.v1.subscriptions.retrieve_async(row["stripe_subscription_id"])
        assert found.status == "canceled"
        await house.agree()


async def test_a_plan_paid_after_its_end_lives_for_that_period_and_says_that_it_ends(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_chargeDeclined")
        await house.go(days=40)
        [unpaid] = [one for one in await guest.invoices_at_stripe() if one.status == "open"]
        await double.v1.invoices.pay_async(unpaid.id, {"payment_method": "pm_card_visa"})
        for _ in range(2):
            await house.work()
            await invoice_changed(house.billing, house.link, unpaid.id)
        row = await guest.subscription()
        assert (row["status"], row["cancel_at_period_end"], row["stripe_subscription_id"]) == ("ACTIVE", True, None)
        assert await guest.available() == 8000
        past_due = (await guest.told()).count("subscription.past_due")
        await house.go(days=31)
        assert (await guest.subscription())["status"] == "CANCELED"
        assert (await guest.told()).count("subscription.past_due") == past_due
        row = await guest.subscribe_and_pay("studio", card="pm_card_mastercard")
        assert row["status"] == "ACTIVE"
        await house.agree()


async def test_B8_what_a_preview_shows_is_what_an_upgrade_charges(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        row = await guest.subscription()
        await cancel(house.billing, guest.id, idempotency_key=key())
        await resume(house.billing, guest.id, idempotency_key=key())
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is False
        await house.go(days=11)
        price = house.price("studio", "yearly")
        scheduled = await change_plan(house.billing, guest.id, price.id, idempotency_key=key())
        assert scheduled.payment is None
        assert (await guest.stripe_subscription())["schedule"]
        await change_plan(house.billing, guest.id, house.price("studio").id, idempotency_key=key())
        assert (await guest.stripe_subscription())["schedule"] is None
        assert (await guest.subscription())["id"] == row["id"]
        await house.agree()


async def test_an_upgrade_is_charged_as_previewed_and_given_at_once(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("team", "yearly")
        await house.go(days=100, hours=5)
        row, price = await guest.subscription(), house.price("studio", "yearly")
        order = PriceChange("k", guest.id, uuid7(), row["id"], price.id, 0, house.now)
        due = await house.billing.payments.preview_price(order)
        made = await change_plan(house.billing, guest.id, price.id, idempotency_key=key())
        assert made.payment is not None
        assert (made.payment.status, made.payment.amount_usd_micro) == ("SUCCEEDED", due)
        after = await guest.subscription()
        assert after["price_id"] == price.id
        assert after["current_period_end"] == row["current_period_end"]
        await house.work()
        await house.agree()
        await house.go(days=300)
        assert (await guest.subscription())["period_number"] == 2
        assert (await guest.payments())[-1]["amount_usd_micro"] == price.amount_usd_micro
        await house.agree()


async def test_an_upgrade_that_is_declined_leaves_the_plan(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        before = await guest.subscribe_and_pay("team", "yearly")
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_chargeDeclined")
        made = await change_plan(house.billing, guest.id, house.price("studio", "yearly").id, idempotency_key=key())
        assert made.payment.status == "FAILED"
        assert made.payment.failure_code in {"generic_decline", "card_declined"}
        await house.go(days=2)
        assert (await guest.subscription())["price_id"] == before["price_id"]
        found = await guest.stripe_subscription()
        assert found["pending_update"] is None
        assert (
            found["items"]["data"][0]["price"]["unit_amount"] * CENT == house.price("team", "yearly").amount_usd_micro
        )
        await house.agree()


async def test_an_upgrade_that_the_bank_wants_confirmed_finishes_by_itself(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("team", "yearly")
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        price = house.price("studio", "yearly")
        made = await change_plan(house.billing, guest.id, price.id, idempotency_key=key())
        assert made.payment.status == "ACTION_REQUIRED"
        assert made.checkout_url
        found = await guest.stripe_subscription()
        invoice = await double.v1.invoices.retrieve_async(found["latest_invoice"], {"expand": ["payments"]})
        await double.ask("POST", f"payment_intents/{invoice.payments.data[0].payment.payment_intent}/authenticate")
        await house.work()
        assert (await guest.subscription())["price_id"] == price.id
        await house.agree()


async def test_a_downgrade_waits_for_the_period_and_renews_onto_the_lower_price(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio", "yearly")
        lower = house.price("team", "yearly")
        await change_plan(house.billing, guest.id, lower.id, idempotency_key=key())
        await house.go(days=367)
        row = await guest.subscription()
        assert (row["price_id"], row["period_number"], row["status"]) == (lower.id, 2, "ACTIVE")
        assert (await guest.payments())[-1]["amount_usd_micro"] == lower.amount_usd_micro
        await house.agree()


async def test_C11_a_cancelled_plan_stays_until_its_period_ends_and_is_not_charged_again(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await cancel(house.billing, guest.id, idempotency_key=key())
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is True
        await house.go(days=29)
        assert await guest.available() == 8000
        await house.go(days=40)
        assert (await guest.subscription())["status"] == "CANCELED"
        assert len(await guest.payments()) == 1
        await house.agree()


async def test_a_cancellation_that_could_not_be_told_is_told_by_the_worker(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await double.fault("error_before", "/v1/subscriptions/.*", times=3)  # the library's own repeats included
        await cancel(house.billing, guest.id, idempotency_key=key())
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is False
        house.counter.go(minutes=2)
        await house.work()
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is True


async def test_a_cancellation_in_the_portal_is_taken_over(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio")
        await double.v1.subscriptions.update_async(row["stripe_subscription_id"], {"cancel_at_period_end": True})
        await house.work()
        assert (await guest.subscription())["cancel_at_period_end"] is True
        await house.go(days=35)
        assert (await guest.subscription())["status"] == "CANCELED"
        await house.agree()


async def test_whoever_changes_their_mind_in_the_portal_is_heard_at_once(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio")
        for cancel in (True, False, True, False):
            await double.v1.subscriptions.update_async(row["stripe_subscription_id"], {"cancel_at_period_end": cancel})
            await sweep(house.link, force=True)
            while await work_inbox(house.billing, house.link):  # and no round of what waits to be told
                pass
            assert (await guest.subscription())["cancel_at_period_end"] is cancel
        await house.work()
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is False
        await house.go(days=35)
        assert (await guest.subscription())["status"] == "ACTIVE"
        await house.agree()


async def test_a_subscription_that_is_ended_at_stripe_ends_here(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio")
        await house.go(days=3)
        await double.v1.subscriptions.cancel_async(row["stripe_subscription_id"])
        await house.work()
        assert (await guest.subscription())["status"] == "CANCELED"
        assert await guest.available() == 0
        await house.agree()


async def test_from_free_to_paid_and_back_to_free(database, pg, double):
    async with open_house(database, pg, double, "creator-tiers") as house:
        guest = await house.workspace()
        await subscribe(house.billing, guest.id, house.price("free", "free").id, idempotency_key=key())
        made = await change_plan(house.billing, guest.id, house.price("starter").id, idempotency_key=key())
        await double.pay(session_of(made.checkout_url))
        await house.work()
        row = await guest.subscription()
        assert row["price_id"] == house.price("starter").id
        assert row["stripe_subscription_id"]
        await change_plan(house.billing, guest.id, house.price("free", "free").id, idempotency_key=key())
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is True
        await house.go(days=35)
        row = await guest.subscription()
        assert (row["status"], row["price_id"]) == ("ACTIVE", house.price("free", "free").id)
        assert len(await guest.payments()) == 1
        await house.agree()


async def test_D5_a_refund_of_the_last_paid_month_leaves_the_free_plans_credits(database, pg, double):
    async with open_house(database, pg, double, "creator-tiers") as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("starter")
        await change_plan(house.billing, guest.id, house.price("free", "free").id, idempotency_key=key())
        await house.go(days=30)
        assert await guest.available() == 50
        [payment] = await guest.payments()
        await refund_payment(house.billing, payment["id"], payment["amount_usd_micro"])
        assert await guest.available() == 50


async def test_a_lifetime_bought_over_a_monthly_plan_ends_its_charges(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("studio")
        made = await change_plan(house.billing, guest.id, house.price("studio", "lifetime").id, idempotency_key=key())
        await double.pay(session_of(made.checkout_url))
        await house.work()
        assert (await guest.subscription())["price_id"] == house.price("studio", "lifetime").id
        found = await double.v1.subscriptions.retrieve_async(row["stripe_subscription_id"])
        assert found.status == "canceled"
        await house.go(days=65)
        assert len(await guest.payments()) == 2
        await house.agree()


async def test_an_upgrade_worth_less_than_half_a_cent_costs_nothing_and_is_told(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("team", "yearly")
        await house.go(days=364, hours=23)
        house.counter.go(to=row["current_period_end"] - timedelta(seconds=30))
        await double.advance(int(house.now.timestamp()))
        price = house.price("studio", "yearly")
        made = await change_plan(house.billing, guest.id, price.id, idempotency_key=key())
        assert made.payment is None
        assert (await guest.subscription())["price_id"] == price.id
        found = await guest.stripe_subscription()
        assert found["items"]["data"][0]["price"]["unit_amount"] * CENT == price.amount_usd_micro
        await house.go(days=2)
        assert (await guest.payments())[-1]["amount_usd_micro"] == price.amount_usd_micro
        await house.agree()


async def test_B8_an_upgrade_right_after_the_purchase_is_as_previewed_though_our_clock_is_behind(database, pg, double):
    async with open_house(database, pg, double) as house:
        await double.advance(int(house.now.timestamp()) + 40)
        guest = await house.workspace()
        await guest.subscribe_and_pay("team", "yearly")
        price = house.price("studio", "yearly")
        preview = await preview_change(house.billing, guest.id, price.id)
        house.counter.go(seconds=3)
        made = await change_plan(house.billing, guest.id, price.id, idempotency_key=key(), prorated_at=preview.at)
        assert (made.payment.status, made.payment.amount_usd_micro) == ("SUCCEEDED", preview.due_usd_micro)
        assert (await guest.subscription())["price_id"] == price.id
        await house.work()
        await house.agree()


async def test_an_upgrade_whose_request_was_lost_is_not_charged_for_the_period_after_it(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay("team", "yearly")
        house.counter.go(to=row["current_period_end"] - timedelta(minutes=5))
        await double.advance(int(house.now.timestamp()))
        await house.work()
        await double.fault("error_before", "/v1/subscriptions/.*", method="POST", times=3)
        price = house.price("studio", "yearly")
        made = await change_plan(house.billing, guest.id, price.id, idempotency_key="k")
        assert made.payment.status == "PENDING"
        await house.go(minutes=10, work=False)
        again = await change_plan(house.billing, guest.id, price.id, idempotency_key="k")
        assert again.payment.status == "FAILED"
        await house.go(hours=2)
        assert (await guest.subscription())["price_id"] == row["price_id"]
        assert [each["amount_usd_micro"] for each in await guest.payments() if each["status"] == "SUCCEEDED"] == [
            house.price("team", "yearly").amount_usd_micro
        ] * 2
        await house.agree()


async def test_a_page_that_never_opened_ends_nothing_of_the_plan_that_was_paid_on_another(database, pg, double):
    async with open_house(database, pg, double, "creator-tiers") as house:
        guest = await house.workspace()
        await subscribe(house.billing, guest.id, house.price("free", "free").id, idempotency_key=key())
        await double.fault("error_before", "/v1/checkout/sessions$", method="POST", times=3)
        with pytest.raises(Unavailable):
            await change_plan(house.billing, guest.id, house.price("pro").id, idempotency_key=key())
        await guest.subscribe_and_pay("pro")
        await house.go(days=3)
        assert [payment["failure_code"] for payment in await guest.payments()] == ["never_sent", None]
        assert (await guest.subscription())["status"] == "ACTIVE"
        await house.agree()


async def test_a_page_that_a_later_one_closed_ends_nothing_of_the_plan_whenever_it_is_heard_of(database, pg, double):
    async with open_house(database, pg, double, "creator-tiers") as house:
        guest = await house.workspace()
        await subscribe(house.billing, guest.id, house.price("free", "free").id, idempotency_key=key())
        first, second = [session_of((await guest.page("pro")).checkout_url) for _ in range(2)]
        await double.pay(second)
        for page in (second, first):
            await session_changed(house.billing, house.link, page)
        assert (await guest.subscription())["status"] == "ACTIVE"
        ended = await cancel(house.billing, guest.id, idempotency_key=key())
        assert (ended.status, ended.cancel_at_period_end) == ("ACTIVE", True)
        await house.work()
        assert await guest.available() == 4000 + 50
        await house.agree()


async def test_A1_each_workspace_has_a_plan_a_customer_methods_and_invoices_of_its_own(database, pg, double):
    async with open_house(database, pg, double) as house:
        first, second = await house.workspace(), await house.workspace()
        await first.subscribe_and_pay("studio")
        await second.subscribe_and_pay("team", "yearly", card="pm_card_mastercard")
        plans = [(await guest.subscription())["price_id"] for guest in (first, second)]
        assert plans == [house.price("studio").id, house.price("team", "yearly").id]
        assert [[each["brand"] for each in await guest.methods()] for guest in (first, second)] == [
            ["visa"],
            ["mastercard"],
        ]
        assert [
            [each["total_usd_micro"] // (100 * CENT) for each in await guest.invoices()] for guest in (first, second)
        ] == [[100], [288]]
        assert [await guest.available() for guest in (first, second)] == [8000, 2000]
        customers = await pg.fetch(
            "SELECT DISTINCT stripe_customer_id FROM workspaces WHERE stripe_customer_id IS NOT NULL"
        )
        assert len(customers) == 2
        await cancel(house.billing, first.id, idempotency_key=key())
        assert [(await guest.subscription())["cancel_at_period_end"] for guest in (first, second)] == [True, False]
        await house.agree()


async def test_C11_a_cancellation_forgets_what_was_scheduled_and_resumed_the_plan_goes_on_at_its_own_price(
    database, pg, double
):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await change_plan(house.billing, guest.id, house.price("studio", "yearly").id, idempotency_key=key())
        await house.go(days=3)
        await cancel(house.billing, guest.id, idempotency_key=key())
        at_stripe = await guest.stripe_subscription()
        assert (at_stripe["cancel_at_period_end"], at_stripe["schedule"]) == (True, None)
        await house.go(days=3)
        resumed = await resume(house.billing, guest.id, idempotency_key=key())
        assert (resumed.status, resumed.cancel_at_period_end) == ("ACTIVE", False)
        assert (await guest.stripe_subscription())["cancel_at_period_end"] is False
        with pytest.raises(NothingToResume):
            await resume(house.billing, guest.id, idempotency_key=key())
        await house.go(days=26)
        row = await guest.subscription()
        assert (row["status"], row["period_number"], row["price_id"]) == ("ACTIVE", 2, house.price("studio").id)
        assert (await double.books())["charged"] == 20_000
        await house.agree()


async def test_C1_a_free_plan_asks_nothing_of_stripe(database, pg, double):
    async with open_house(database, pg, double, "creator-tiers") as house:
        guest = await house.workspace()
        await subscribe(house.billing, guest.id, house.price("free", "free").id, idempotency_key=key())
        await cancel(house.billing, guest.id, idempotency_key=key())
        await resume(house.billing, guest.id, idempotency_key=key())
        await house.go(days=32)
        assert (await guest.subscription())["period_number"] == 2
        assert await double.calls() == []
        assert (await double.v1.customers.list_async()).data == []


@pytest.mark.parametrize(("balance", "charged"), [(-1_500, 8_500), (700, 10_700)])
async def test_the_first_period_is_paid_with_what_the_customers_balance_leaves_of_it(
    database, pg, double, balance, charged
):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await double.v1.customers.update_async(await customer_of(house.link, guest.id), {"balance": balance})
        row = await guest.subscribe_and_pay("studio")
        assert (row["status"], row["period_number"]) == ("ACTIVE", 1)
        [payment] = await guest.payments()
        assert payment["amount_usd_micro"] == charged * CENT
        assert await guest.available() == 8000
        await house.agree()
        await refund_payment(house.billing, payment["id"], charged * CENT)
        assert (await guest.payments())[0]["status"] == "REFUNDED"
        assert await guest.available() == 0
