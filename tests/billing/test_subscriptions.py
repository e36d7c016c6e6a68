"""Subscriptions over a real database and a clock that is moved: begin, renew, change, cancel, lapse."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.due import settle_frozen, subscribe_by_default
from billing.errors import (
    AlreadySubscribed,
    ChangeRefused,
    NoSubscription,
    NothingToResume,
    PaymentsNotConfigured,
    UnknownPrice,
)
from billing.packs import buy_pack
from billing.payment_port import ActionNeeded, Declined
from billing.payments import apply_payment, fail_payment, renewal_payment
from billing.plans import give_plan, plan_of
from billing.previews import preview_change
from billing.refunds import refund_failed, refund_payment, seen_at
from billing.rules.proration import fraction_left, money_due_micro
from billing.subscribing import start_trial, subscribe
from billing.subscriptions import cancel, change_plan, end_now, resume
from kit.ids import encode_id
from metering.errors import IdempotencyKeyReused
from models.enums import SubscriptionStatus
from tests.billing.catalog_samples import small
from tests.billing.shop import MICRO, START, open_shop
from tests.metering.invariants import assert_invariants

DAY = timedelta(days=1)


async def plan_code(shop, customer):
    billing = shop.billing
    return (await plan_of(billing.database, billing.catalog.current, customer.id, shop.time.at)).code


async def test_C1_free_begins_at_once_asks_for_no_card_and_grants_each_month(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace(method=False)
        shop.provider.configured = False
        made = await subscribe(shop.billing, customer.id, shop.price("free", "free").id, idempotency_key="k")
        assert made.subscription.status is SubscriptionStatus.ACTIVE
        assert made.checkout_url is None
        assert await customer.available() == 50
        plan = await plan_of(database, shop.billing.catalog.current, customer.id, shop.time.at)
        assert (plan.entitlements.storage_bytes, plan.entitlements.asset_retention_days) == (10**9, 90)
        assert await customer.spend(80 * MICRO) == 0  # it can run out
        shop.go(days=31)
        await shop.work()
        assert await customer.available() == 50
        assert await pg.fetchval("SELECT count(*) FROM payments") == 0


async def test_C1_a_workspace_without_a_subscription_gets_the_free_default_plan_from_the_worker(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customers = [await shop.workspace() for _ in range(3)]
        counts = await asyncio.gather(*(subscribe_by_default(shop.billing) for _ in range(3)))
        assert sum(counts) == 3
        assert [await each.available() for each in customers] == [50, 50, 50]
        assert await subscribe_by_default(shop.billing) == 0
    await assert_invariants(pg)


async def test_D3_no_subscription_is_needed_where_the_catalog_has_no_free_price(database, pg):
    async with open_shop(database, pg, "pay-as-you-go") as shop:
        customer = await shop.workspace()
        assert await subscribe_by_default(shop.billing) == 0
        assert await plan_code(shop, customer) == "pay-as-you-go"
        assert await pg.fetchval("SELECT count(*) FROM subscriptions") == 0
        from billing.top_ups import add_credits

        bought = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        assert bought.grant_id is not None
        assert await customer.available() == 40_000_000
        assert await customer.spend(MICRO) == MICRO


async def test_a_paid_plan_waits_for_its_payment_and_a_repeat_gets_the_same_page(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        price = shop.price("pro", "monthly")
        back = "https://a.example"
        first = await subscribe(shop.billing, customer.id, price.id, idempotency_key="k", success_url=back)
        again = await subscribe(shop.billing, customer.id, price.id, idempotency_key="k", success_url=back)
        assert first.checkout_url == again.checkout_url is not None
        assert first.subscription.status is SubscriptionStatus.INCOMPLETE
        assert await plan_code(shop, customer) == "free"
        assert await customer.available() == 0
        with pytest.raises(IdempotencyKeyReused):
            await subscribe(shop.billing, customer.id, shop.price("pro", "annual").id, idempotency_key="k")
        shop.go(minutes=5)
        payment_id = await customer.open_payment_id()
        results = await asyncio.gather(*(apply_payment(shop.billing, payment_id) for _ in range(5)))
        assert sum(result.changed for result in results) == 1
        assert await plan_code(shop, customer) == "pro"
        assert await customer.available() == 4000
        row = await customer.subscription()
        assert row["current_period_start"] == shop.time.at
        with pytest.raises(AlreadySubscribed):
            await subscribe(shop.billing, customer.id, price.id, idempotency_key="k2")
    await assert_invariants(pg)


async def test_a_checkout_that_nobody_paid_lapses_and_money_that_comes_late_still_counts(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await subscribe(shop.billing, customer.id, shop.price("pro", "monthly").id, idempotency_key="k")
        shop.go(hours=25)
        await shop.work()
        assert (await customer.subscription())["status"] == "EXPIRED"
        await apply_payment(shop.billing, await customer.open_payment_id())
        row = await customer.subscription()
        assert (row["status"], row["current_period_start"]) == ("ACTIVE", shop.time.at)
        assert await customer.available() == 4000


async def test_a_payment_for_a_checkout_that_was_replaced_is_kept_for_the_operator_and_gives_nothing(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await subscribe(shop.billing, customer.id, shop.price("starter", "monthly").id, idempotency_key="k")
        forgotten = await customer.open_payment_id()
        await customer.subscribe("pro")
        for _ in range(2):
            assert not (await apply_payment(shop.billing, forgotten)).changed
        assert await customer.available() == 4000
        told = await pg.fetch("SELECT payload FROM outbox_events WHERE kind = 'payment.unapplied'")
        assert len(told) == 1
        assert encode_id("pay", forgotten) in told[0]["payload"]


async def test_without_a_payment_provider_paid_plans_are_refused_and_nothing_is_written(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        shop.provider.configured = False
        customer = await shop.workspace()
        with pytest.raises(PaymentsNotConfigured):
            await subscribe(shop.billing, customer.id, shop.price("pro", "monthly").id, idempotency_key="k")
        assert await pg.fetchval("SELECT count(*) FROM subscriptions") == 0


async def test_C10_each_renewal_starts_a_cycle_where_the_last_ended_however_late_the_news(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("starter")
        price = shop.price("starter", "monthly")
        shop.go(to=datetime(2027, 2, 28, 10, tzinfo=UTC) + timedelta(hours=20))
        await shop.work()
        assert (await customer.subscription())["status"] == "ACTIVE"  # its payment may be under way
        await customer.pay(row["id"], price)
        row = await customer.subscription()
        assert row["current_period_start"] == datetime(2027, 2, 28, 10, tzinfo=UTC)
        assert row["current_period_end"] == datetime(2027, 3, 31, 10, tzinfo=UTC)
        assert await customer.available() == 1000
    await assert_invariants(pg)


async def test_C10_payments_that_arrive_after_an_outage_give_every_period_its_own_credits(database, pg):
    """Webhooks and worker were down for three months while the provider went on charging in time."""
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("starter")
        shop.go(to=datetime(2027, 5, 2, tzinfo=UTC))
        await shop.work()
        assert (await customer.subscription())["status"] == "EXPIRED"
        for paid_at in ("2027-02-28", "2027-03-31", "2027-04-30"):
            at = datetime.fromisoformat(paid_at).replace(hour=11, tzinfo=UTC)
            assert (await customer.pay(row["id"], shop.price("starter", "monthly"), paid_at=at)).changed
        assert [grant[1:] for grant in await customer.grants()] == [
            ("2027-01-31", "2027-02-28"),
            ("2027-02-28", "2027-03-31"),
            ("2027-03-31", "2027-04-30"),
            ("2027-04-30", "2027-05-31"),
        ]
        row = await customer.subscription()
        assert (row["status"], row["ended_at"]) == ("ACTIVE", None)
        assert await customer.available() == 1000
    await assert_invariants(pg)


async def test_C11_cancelled_stays_active_until_the_cycle_ends_and_its_credits_end_with_it(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        shop.go(days=3)
        view = await cancel(shop.billing, customer.id, idempotency_key="c")
        await cancel(shop.billing, customer.id, idempotency_key="c")
        assert view.cancel_at_period_end
        assert shop.provider.cancels[0] == (view.id, True, False)
        shop.go(days=24)
        await shop.work()
        assert await plan_code(shop, customer) == "pro"
        assert await customer.available() == 4000
        shop.go(days=1)
        assert await plan_code(shop, customer) == "free"  # by the instant, before any worker came
        assert await customer.available() == 0
        await shop.work()
        row = await customer.subscription()
        assert (row["status"], row["ended_at"]) == ("CANCELED", datetime(2027, 2, 28, 10, tzinfo=UTC))
        with pytest.raises(NoSubscription):
            await cancel(shop.billing, customer.id, idempotency_key="c2")
    await assert_invariants(pg)


async def test_C11_resumed_before_the_end_it_goes_on(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        with pytest.raises(NothingToResume):
            await resume(shop.billing, customer.id, idempotency_key="r0")
        await cancel(shop.billing, customer.id, idempotency_key="c")
        assert not (await resume(shop.billing, customer.id, idempotency_key="r")).cancel_at_period_end
        shop.go(days=28)
        await customer.pay(row["id"], shop.price("pro", "monthly"))
        await shop.work()
        assert await customer.available() == 4000


async def test_past_due_keeps_the_plan_for_its_grace_and_a_late_payment_mends_it(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        shop.go(days=28, hours=1)
        renewal = await renewal_payment(shop.billing, row["id"], 45 * MICRO, "in_1")
        assert renewal == await renewal_payment(shop.billing, row["id"], 45 * MICRO, "in_1")
        await fail_payment(shop.billing, renewal, "card_declined")
        row = await customer.subscription()
        assert (row["status"], row["grace_ends_at"]) == ("PAST_DUE", row["current_period_end"] + 7 * DAY)
        assert await plan_code(shop, customer) == "pro"
        assert await customer.available() == 0
        shop.go(days=5)
        await shop.work()
        await apply_payment(shop.billing, renewal)
        row = await customer.subscription()
        assert (row["status"], row["grace_ends_at"]) == ("ACTIVE", None)
        assert row["current_period_start"] == datetime(2027, 2, 28, 10, tzinfo=UTC)
        assert await customer.available() == 4000


async def test_unpaid_beyond_its_grace_it_expires_and_what_is_paid_then_begins_anew(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        shop.go(days=30)
        await shop.work()
        assert (await customer.subscription())["status"] == "PAST_DUE"
        shop.go(days=5)
        await shop.work()
        row = await customer.subscription()
        assert (row["status"], row["ended_at"]) == ("EXPIRED", datetime(2027, 3, 7, 10, tzinfo=UTC))
        await customer.pay(row["id"], shop.price("pro", "monthly"))
        row = await customer.subscription()
        assert (row["status"], row["anchor_at"]) == ("ACTIVE", shop.time.at)
        assert await customer.available() == 4000


async def test_a_trial_comes_once_and_the_first_payment_begins_the_first_period_at_its_end(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        made = await subscribe(shop.billing, customer.id, shop.price("team", "monthly").id, idempotency_key="k")
        assert shop.provider.checkouts[0].trial_days == 7
        assert shop.provider.checkouts[0].payment_id is None
        await start_trial(shop.billing, made.subscription.id)
        view = await start_trial(shop.billing, made.subscription.id)
        assert (view.status, view.trial_ends_at) == (SubscriptionStatus.TRIALING, START + 7 * DAY)
        assert await customer.available() == 2000
        await customer.spend(700 * MICRO)
        shop.go(days=7)
        await customer.pay(view.id, shop.price("team", "monthly"))
        row = await customer.subscription()
        assert (row["status"], row["current_period_end"]) == ("ACTIVE", START + 37 * DAY)
        assert await customer.available() == 2000
        await cancel(shop.billing, customer.id, idempotency_key="c")
        shop.go(days=31)
        await shop.work()
        await subscribe(shop.billing, customer.id, shop.price("team", "monthly").id, idempotency_key="k2")
        assert shop.provider.checkouts[1].trial_days == 0
        assert shop.provider.checkouts[1].amount_usd_micro == 30 * MICRO
    await assert_invariants(pg)


async def test_C5_an_upgrade_in_a_trial_of_a_year_adds_to_the_trials_twelfth_as_its_preview_says(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        await pg.execute("UPDATE prices SET trial_days = 7 WHERE period = 'YEAR'")
        await shop.billing.catalog.reload()
        customer = await shop.workspace()
        starter, pro = shop.price("starter", "annual"), shop.price("pro", "annual")
        made = await subscribe(shop.billing, customer.id, starter.id, idempotency_key="k")
        await start_trial(shop.billing, made.subscription.id)
        assert await customer.available() == 1000
        preview = await preview_change(shop.billing, customer.id, pro.id)
        assert (preview.due_usd_micro, preview.credits_micro) == (0, 3000 * MICRO)
        await change_plan(shop.billing, customer.id, pro.id, idempotency_key="up", prorated_at=preview.at)
        assert await customer.available() == 4000
    await assert_invariants(pg)


async def test_a_trial_that_nobody_pays_ends_like_any_unpaid_period(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        made = await subscribe(shop.billing, customer.id, shop.price("team", "monthly").id, idempotency_key="k")
        await start_trial(shop.billing, made.subscription.id)
        shop.go(days=20)
        await shop.work()
        row = await customer.subscription()
        assert (row["status"], row["ended_at"]) == ("EXPIRED", START + 14 * DAY)
        assert await customer.available() == 0


async def test_B8_an_upgrade_is_at_once_and_brings_the_credits_difference_by_the_moneys_fraction(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("starter")
        await customer.spend(1000 * MICRO)
        shop.go(days=21)  # of 28: a quarter is left
        made = await change_plan(shop.billing, customer.id, shop.price("pro", "monthly").id, idempotency_key="k")
        await change_plan(shop.billing, customer.id, shop.price("pro", "monthly").id, idempotency_key="k")
        assert made.subscription.price_id == shop.price("pro", "monthly").id
        assert shop.provider.changes[0].amount_usd_micro == 7_500_000  # (45 - 15) / 4
        assert await customer.available() == 750  # (4000 - 1000) / 4
        assert await plan_code(shop, customer) == "pro"
        after = await customer.subscription()
        assert after["current_period_end"] == row["current_period_end"]
        shop.go(days=7)
        await customer.pay(row["id"], shop.price("pro", "monthly"))
        assert await customer.available() == 4000
    await assert_invariants(pg)


async def test_an_upgrade_of_a_yearly_plan_with_monthly_credits_adds_for_this_month_and_grants_the_new_amount_after(
    database, pg
):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        await customer.subscribe("team", "yearly")
        shop.go(days=14)  # half of February's cycle
        await change_plan(shop.billing, customer.id, shop.price("studio", "yearly").id, idempotency_key="k")
        assert await customer.available() == 2000 + 3000
        shop.go(days=14)
        await shop.work()
        assert await customer.available() == 8000
    await assert_invariants(pg)


async def test_an_upgrade_that_is_declined_changes_nothing_and_one_to_confirm_waits(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("starter")
        pro = shop.price("pro", "monthly")
        shop.provider.result = Declined("card_declined")
        made = await change_plan(shop.billing, customer.id, pro.id, idempotency_key="k")
        assert made.subscription.price_id == shop.price("starter", "monthly").id
        assert (await customer.subscription())["status"] == "ACTIVE"
        assert await customer.available() == 1000
        shop.provider.result = ActionNeeded("https://confirm.example")
        made = await change_plan(shop.billing, customer.id, pro.id, idempotency_key="k2")
        assert made.checkout_url == "https://confirm.example"
        with pytest.raises(ChangeRefused):
            await change_plan(shop.billing, customer.id, pro.id, idempotency_key="k3")
        await apply_payment(shop.billing, await customer.open_payment_id())
        assert await plan_code(shop, customer) == "pro"
        assert await customer.available() == 4000
    await assert_invariants(pg)


async def test_B8_a_downgrade_and_another_period_wait_for_the_periods_end_and_take_nothing_back(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        starter = shop.price("starter", "annual")
        made = await change_plan(shop.billing, customer.id, starter.id, idempotency_key="k")
        assert made.subscription.scheduled_price_id == starter.id
        assert shop.provider.scheduled == [(row["id"], starter.id)]
        shop.go(days=27)
        await shop.work()
        assert await plan_code(shop, customer) == "pro"
        assert await customer.available() == 4000
        shop.go(days=1)
        await customer.pay(row["id"], starter)
        after = await customer.subscription()
        assert after["scheduled_price_id"] is None
        assert after["current_period_end"] == datetime(2028, 2, 28, 10, tzinfo=UTC)
        assert await customer.available() == 12000
    await assert_invariants(pg)


async def test_B9_back_to_free_happens_at_the_periods_end_by_itself(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        await change_plan(shop.billing, customer.id, shop.price("personal", "free").id, idempotency_key="k")
        shop.go(days=60)
        await shop.work()
        row = await customer.subscription()
        assert (row["status"], row["price_id"]) == ("ACTIVE", shop.price("personal", "free").id)
        assert row["current_period_start"] == datetime(2027, 3, 31, 10, tzinfo=UTC)


async def test_asking_for_the_present_price_takes_back_what_was_scheduled(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        pro = shop.price("pro", "monthly")
        with pytest.raises(ChangeRefused):
            await change_plan(shop.billing, customer.id, pro.id, idempotency_key="k0")
        await change_plan(shop.billing, customer.id, shop.price("free", "free").id, idempotency_key="k1")
        made = await change_plan(shop.billing, customer.id, pro.id, idempotency_key="k2")
        assert made.subscription.scheduled_price_id is None


async def test_from_free_to_paid_the_free_plan_stays_until_the_other_is_paid(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("free", "free")
        shop.go(days=10)
        made = await change_plan(shop.billing, customer.id, shop.price("pro", "monthly").id, idempotency_key="k")
        assert made.checkout_url is not None
        payment_id = await customer.open_payment_id()
        await fail_payment(shop.billing, payment_id, "card_declined")
        assert (await customer.subscription())["status"] == "ACTIVE"
        assert await plan_code(shop, customer) == "free"
        await apply_payment(shop.billing, payment_id)
        row = await customer.subscription()
        assert (row["anchor_at"], row["current_period_end"]) == (shop.time.at, datetime(2027, 3, 10, 10, tzinfo=UTC))
        assert await customer.available() == 50 + 4000
    await assert_invariants(pg)


async def test_A7_a_lifetime_is_bought_once_replaces_the_subscription_and_can_only_be_raised(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("team", "yearly")
        await change_plan(shop.billing, customer.id, shop.price("team", "lifetime").id, idempotency_key="k")
        await apply_payment(shop.billing, await customer.open_payment_id())
        after = await customer.subscription()
        assert (after["id"], after["current_period_end"]) == (row["id"], None)
        with pytest.raises(ChangeRefused):
            await change_plan(shop.billing, customer.id, shop.price("studio", "yearly").id, idempotency_key="k1")
        with pytest.raises(ChangeRefused):
            await cancel(shop.billing, customer.id, idempotency_key="c")
        await change_plan(shop.billing, customer.id, shop.price("studio", "lifetime").id, idempotency_key="k2")
        assert shop.provider.changes[-1].amount_usd_micro == 2100 * MICRO
        assert not (await customer.pay(row["id"], shop.price("studio", "lifetime"))).changed
        shop.go(days=2000)
        await shop.work()
        assert await customer.available() == 8000


async def test_a_plan_ended_at_once_takes_its_cycles_credits_with_it_and_leaves_what_was_bought(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro", "annual")
        await buy_pack(shop.billing, customer.id, "small", idempotency_key="p")
        await customer.spend(8000 * MICRO)
        for _ in range(2):
            assert (await end_now(shop.billing, row["id"])).status is SubscriptionStatus.CANCELED
        assert await customer.available() == 1000
    await assert_invariants(pg)


@pytest.mark.parametrize("used", [0, 300])
async def test_what_calls_held_when_a_plan_ended_at_once_is_taken_too_once_it_is_free(database, pg, used: int):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        await buy_pack(shop.billing, customer.id, "small", idempotency_key="p")
        cycle = int(await customer.available()) - 1000
        calls = [await customer.hold(cycle // 2 * MICRO) for _ in range(2)]
        await end_now(shop.billing, row["id"])
        await shop.work()
        assert await customer.available() == 1000
        shop.go(minutes=1)
        await customer.settle(calls[0], used * MICRO)
        await shop.work()
        assert await customer.available() == 1000
        shop.go(minutes=1)
        await customer.settle(calls[1], 0)
        await shop.work()
        assert await customer.available() == 1000
        shop.go(minutes=1)
        await shop.work()
        assert await customer.available() == 1000
        spent = await pg.fetchval("SELECT sum(spent_micro) FROM credit_grants WHERE kind = 'CYCLE'")
        assert spent == used * MICRO
        assert (
            await pg.fetchval("SELECT count(*) FROM outbox_events WHERE completed_at IS NULL AND kind LIKE 'plan.%'")
            == 0
        )
    await assert_invariants(pg)


async def test_D5_credits_that_return_with_a_failed_refund_are_not_taken_for_what_calls_held(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        cycle = await customer.available()
        [payment] = await pg.fetch("SELECT id, amount_usd_micro FROM payments")
        call = await customer.hold(1000 * MICRO)
        await refund_payment(shop.billing, payment["id"], payment["amount_usd_micro"])
        assert await refund_failed(shop.billing, payment["id"], 0, seen=await seen_at(shop.billing, payment["id"]))
        assert await customer.available() == cycle - 1000
        await customer.settle(call, 400 * MICRO)
        shop.go(minutes=1)
        for _ in range(2):
            await shop.work()
            assert await customer.available() == cycle - 1000
    await assert_invariants(pg)


async def test_D10_a_custom_plan_is_for_one_workspace_with_a_price_or_without(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer, other = await shop.workspace(), await shop.workspace()
        values = small()
        values["plans"]["acme"] = values["plans"]["pro"] | {
            "name": "Acme",
            "public": False,
            "workspace": encode_id("ws", customer.id),
            "rank": 30,
        }
        from billing.catalog_apply import apply
        from tests.billing.catalog_samples import file_of

        await apply(database, file_of(values), now=shop.time.at)
        await shop.billing.catalog.reload()
        with pytest.raises(UnknownPrice):
            await subscribe(shop.billing, other.id, shop.price("acme", "monthly").id, idempotency_key="k")
        await customer.subscribe("acme")
        assert await plan_code(shop, customer) == "acme"
        await give_plan(database, shop.billing.catalog.current, other.id, "pro", now=shop.time.at)
        assert await plan_code(shop, other) == "pro"
        assert await subscribe_by_default(shop.billing) == 0
    await assert_invariants(pg)


async def test_subscribing_and_retiring_the_price_at_the_same_time_leaves_nobody_on_a_dead_price(database, pg):
    async with open_shop(database, pg, small()) as shop:
        from billing.catalog_apply import apply
        from tests.billing.catalog_samples import file_of

        customer = await shop.workspace()
        values = small()
        values["plans"]["pro"]["prices"][0]["amount"] = "21"
        old = shop.price("pro", "monthly")
        await apply(database, file_of(values), now=shop.time.at)
        with pytest.raises(UnknownPrice):  # this process has not heard of it yet
            await subscribe(shop.billing, customer.id, old.id, idempotency_key="k")


async def test_twenty_subscribe_at_once_and_one_subscription_lives(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        price = shop.price("free", "free").id
        calls = [subscribe(shop.billing, customer.id, price, idempotency_key=f"k{number}") for number in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, AlreadySubscribed) for result in results) == 19
        assert await customer.available() == 50
        assert await settle_frozen(shop.billing) == 0
    await assert_invariants(pg)


@given(st.integers(0, 28 * 86400), st.integers(0, 28 * 86400))
def test_the_fraction_left_never_grows_and_ends_at_nothing(earlier, later):
    end = START + 28 * DAY
    first, second = sorted((earlier, later))
    fractions = [fraction_left(START, end, START + timedelta(seconds=second_)) for second_ in (first, second)]
    assert 0 <= fractions[1] <= fractions[0] <= 1
    assert fraction_left(START, end, end) == 0
    assert fraction_left(START, end, START) == 1


def test_money_due_is_rounded_up_to_a_cent_and_nothing_in_a_trial():
    from tests.billing.samples_of_prices import monthly

    old, new = monthly(10 * MICRO), monthly(20 * MICRO)
    at = START + timedelta(seconds=1)
    assert money_due_micro(START, old, new, at) == 10 * MICRO
    assert money_due_micro(START, old, new, START + 14 * DAY) == 5 * MICRO
    assert money_due_micro(START, old, new, START + 14 * DAY, trial=True) == 0
