"""Auto-recharge: every guard of the decision, and the whole way from a spent credit to a charge."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.auto_recharge import auto_recharge_of, recharge_due, update_auto_recharge
from billing.errors import (
    AmountOutOfBounds,
    AutoRechargeNotOffered,
    PaymentMethodRequired,
    PaymentsNotConfigured,
    UnknownWorkspace,
)
from billing.payment_port import ActionNeeded, Declined, Pending
from billing.payments import apply_payment, ask_for_action
from billing.recharge_rows import METHOD_CHANGED, note_method_set
from billing.rules.auto_recharge import NoRecharge, Recharge, RechargeFacts, RechargeState, decide, state_at
from billing.subscriptions import end_now
from billing.top_ups import add_credits
from kit import clock
from kit.errors import InvalidInput
from kit.ids import uuid7
from models.database import Database, transaction
from tests.billing.catalog_samples import small
from tests.billing.shop import MICRO, START, open_shop
from tests.metering.invariants import assert_invariants

USD = MICRO
NOW = START
GOOD = RechargeFacts(
    enabled=True,
    threshold_usd_micro=20 * USD,
    amount_usd_micro=10 * USD,
    monthly_limit_usd_micro=500 * USD,
    largest_usd_micro=200 * USD,
    suspended=False,
    in_progress=False,
    has_method=True,
    attempts_at=(),
    last_failure_at=None,
    this_month_usd_micro=0,
)


def decided(available=15 * USD, pending=0, **facts):
    return decide(replace(GOOD, **facts), available, pending, NOW)


def test_B4_below_the_threshold_the_amount_is_charged_and_at_it_nothing():
    assert decided(20 * USD) is NoRecharge.NOT_LOW
    assert decided(20 * USD - 1) == Recharge(10 * USD)


def test_B4_one_charge_closes_the_gap_in_multiples_of_the_amount():
    assert decided(0) == Recharge(20 * USD)
    assert decided(9 * USD) == Recharge(20 * USD)
    assert decided(10 * USD) == Recharge(10 * USD)


def test_D4_a_threshold_of_zero_means_when_it_has_run_out():
    assert decided(1, threshold_usd_micro=0) is NoRecharge.NOT_LOW
    assert decided(0, threshold_usd_micro=0) == Recharge(10 * USD)


def test_what_is_being_paid_already_counts():
    assert decided(5 * USD, pending=15 * USD) is NoRecharge.NOT_LOW
    assert decided(5 * USD, pending=10 * USD) == Recharge(10 * USD)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"enabled": False}, NoRecharge.OFF),
        ({"suspended": True}, NoRecharge.SUSPENDED),
        ({"in_progress": True}, NoRecharge.IN_PROGRESS),
        ({"has_method": False}, NoRecharge.NO_METHOD),
        ({"lacks_plan": True}, NoRecharge.NO_PLAN),
        ({"attempts_at": (NOW - timedelta(seconds=29),)}, NoRecharge.COOLING_DOWN),
        ({"attempts_at": (NOW - timedelta(minutes=9), NOW - timedelta(minutes=5))}, NoRecharge.COOLING_DOWN),
        ({"last_failure_at": NOW - timedelta(minutes=59)}, NoRecharge.COOLING_DOWN),
        ({"this_month_usd_micro": 491 * USD}, NoRecharge.MONTHLY_LIMIT),
    ],
)
def test_each_guard_stops_it(facts, reason):
    assert decided(**facts) is reason


@pytest.mark.parametrize(
    "facts",
    [
        {"attempts_at": (NOW - timedelta(seconds=30),)},
        {"attempts_at": (NOW - timedelta(minutes=10), NOW - timedelta(minutes=5))},
        {"last_failure_at": NOW - timedelta(hours=1)},
        {"this_month_usd_micro": 490 * USD},
    ],
)
def test_each_guard_lets_it_go_again(facts):
    assert decided(**facts) == Recharge(10 * USD)


@given(
    st.integers(0, 50 * USD),
    st.integers(0, 50 * USD),
    st.integers(0, 100 * USD),
    st.integers(1, 60 * USD),
    st.integers(0, 600 * USD),
)
def test_no_charge_is_above_the_months_limit_or_the_largest_and_never_more_than_the_gap_needs(
    available, pending, threshold, amount, spent
):
    decision = decided(
        available, pending, threshold_usd_micro=threshold, amount_usd_micro=amount, this_month_usd_micro=spent
    )
    if isinstance(decision, Recharge):
        assert 0 < decision.amount_usd_micro <= min(GOOD.largest_usd_micro, GOOD.monthly_limit_usd_micro - spent)
        assert decision.amount_usd_micro % amount == 0
        assert available + pending + decision.amount_usd_micro - amount < max(threshold, 1)


def test_the_state_shown_follows_the_same_guards():
    assert state_at(GOOD, NOW) is RechargeState.READY
    assert state_at(replace(GOOD, enabled=False, suspended=True), NOW) is RechargeState.OFF
    assert state_at(replace(GOOD, suspended=True, in_progress=True), NOW) is RechargeState.SUSPENDED
    assert state_at(replace(GOOD, attempts_at=(NOW,)), NOW) is RechargeState.COOLING_DOWN


async def with_recharge(shop, *, balance=25, threshold=20, amount=10, limit=None):
    customer = await shop.workspace()
    await add_credits(shop.billing, customer.id, balance * USD, idempotency_key="first")
    await update_auto_recharge(
        shop.billing,
        customer.id,
        enabled=True,
        threshold_usd_micro=threshold * USD,
        amount_usd_micro=amount * USD,
        monthly_limit_usd_micro=None if limit is None else limit * USD,
    )
    shop.provider.charges.clear()
    await recharge_due(shop.billing)
    shop.go(minutes=1)
    return customer


async def state_of(shop, customer):
    return (await auto_recharge_of(shop.billing, customer.id)).state


async def is_low(pg, customer):
    return await pg.fetchval("SELECT is_low FROM auto_recharges WHERE workspace_id = $1", customer.id)


async def test_B4_that_it_is_due_is_written_in_the_transaction_that_spends_the_credits(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        assert not await is_low(pg, customer)
        await customer.spend(5 * USD)
        assert not await is_low(pg, customer)  # at the threshold, not below
        await customer.spend(1)
        assert await is_low(pg, customer)
        assert await recharge_due(shop.billing) == 1
        assert [charge.amount_usd_micro for charge in shop.provider.charges] == [10 * USD]
        assert shop.provider.charges[0].off_session
        assert (await customer.wallet()).available_micro == 30 * USD - 1
        assert await recharge_due(shop.billing) == 0
        shop.go(minutes=1)
        assert await recharge_due(shop.billing) == 0
        assert not await is_low(pg, customer)
    await assert_invariants(pg)


async def test_frozen_credits_do_not_count_as_spendable(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        from metering.operations import Freeze

        grant_id = await pg.fetchval("SELECT id FROM credit_grants")
        async with transaction(database) as conn:
            await shop.billing.ledger.post(conn, [Freeze(customer.wallet_id, "DISPUTE", (grant_id,))])
        assert await is_low(pg, customer)
        assert await recharge_due(shop.billing) == 1
        assert shop.provider.charges[0].amount_usd_micro == 20 * USD


async def test_D4_turned_off_it_never_charges(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        view = await update_auto_recharge(shop.billing, customer.id, enabled=False)
        assert (view.state, view.threshold_usd_micro) == (RechargeState.OFF, 20 * USD)
        await customer.spend(25 * USD)
        assert await recharge_due(shop.billing) == 0
        assert await pg.fetchval("SELECT recharge_below_micro FROM wallets") is None


async def test_D4_turned_off_a_charge_whose_answer_was_lost_is_not_asked_for_again(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = Pending()  # lost on the way there, say
        await customer.spend(10 * USD)
        await recharge_due(shop.billing)
        shop.provider.answers.clear()
        shop.provider.result = None
        await update_auto_recharge(shop.billing, customer.id, enabled=False)
        shop.go(minutes=1)
        assert await recharge_due(shop.billing) == 0
        assert len(shop.provider.charges) == 1
        assert (await customer.wallet()).available_micro == 15 * USD
        await apply_payment(shop.billing, await customer.open_payment_id())  # it had arrived: what is paid is given
        assert (await customer.wallet()).available_micro == 25 * USD


async def test_A9_no_credits_are_recharged_that_could_not_be_spent_without_a_plan(database, pg):
    values = small()
    values["top_up"]["requires_active_plan"] = True
    values["auto_recharge"] = {
        "min_threshold": "0",
        "max_threshold": "100",
        "min_amount": "5",
        "max_amount": "100",
        "max_monthly": "500",
    }
    async with open_shop(database, pg, values) as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        await end_now(shop.billing, row["id"])
        await add_credits(shop.billing, customer.id, 25 * USD, idempotency_key="bought")
        await update_auto_recharge(
            shop.billing, customer.id, enabled=True, threshold_usd_micro=10 * USD, amount_usd_micro=5 * USD
        )
        shop.provider.charges.clear()
        for _ in range(3):
            shop.go(minutes=15)
            assert await recharge_due(shop.billing) == 0
        assert shop.provider.charges == []
        await customer.subscribe("pro")
        await customer.spend(int(await customer.available()) * MICRO - MICRO)
        assert await recharge_due(shop.billing) == 1
    await assert_invariants(pg)


async def test_many_workers_open_one_attempt(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        await customer.spend(10 * USD)
        await asyncio.gather(*(recharge_due(shop.billing) for _ in range(6)))
        assert len(shop.provider.charges) == 1
        assert await pg.fetchval("SELECT count(*) FROM payments WHERE purpose = 'AUTO_RECHARGE'") == 1
        assert (await customer.wallet()).available_micro == 25 * USD


async def test_a_declined_card_is_tried_once_an_hour_and_three_times_in_all(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = Declined("card_declined")
        await customer.spend(10 * USD)
        for _ in range(24 * 12):
            await recharge_due(shop.billing)
            shop.go(minutes=5)
        assert len(shop.provider.charges) == 3
        view = await auto_recharge_of(shop.billing, customer.id)
        assert (view.state, view.suspended_reason) == (RechargeState.SUSPENDED, "too_many_failures")
        assert await pg.fetchval("SELECT count(*) FROM outbox_events WHERE kind = 'auto_recharge.suspended'") == 1
        shop.provider.result = None
        async with transaction(database) as conn:
            await note_method_set(conn, customer.id, clock.now())
        assert await recharge_due(shop.billing) == 1
        assert await state_of(shop, customer) is RechargeState.COOLING_DOWN
        assert (await customer.wallet()).available_micro == 25 * USD


@pytest.mark.parametrize("code", ["lost_card", "stolen_card", "fraudulent", "expired_card", "authentication_required"])
async def test_some_declines_suspend_at_once(database, pg, code):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = Declined(code)
        await customer.spend(10 * USD)
        await recharge_due(shop.billing)
        shop.go(days=1)
        await recharge_due(shop.billing)
        assert len(shop.provider.charges) == 1
        assert (await auto_recharge_of(shop.billing, customer.id)).suspended_reason == code


async def test_a_request_that_was_never_sent_is_no_decline(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = Declined("never_sent")
        await customer.spend(10 * USD)
        await recharge_due(shop.billing)
        shop.provider.result = None
        shop.go(minutes=1)
        assert await recharge_due(shop.billing) == 1
        assert (await customer.wallet()).available_micro == 25 * USD


async def test_a_charge_to_confirm_suspends_tells_where_and_goes_on_once_confirmed(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = ActionNeeded("https://confirm.example")
        await customer.spend(10 * USD)
        await recharge_due(shop.billing)
        assert await state_of(shop, customer) is RechargeState.SUSPENDED
        told = await pg.fetchval("SELECT payload FROM outbox_events WHERE kind = 'auto_recharge.action_required'")
        assert "https://confirm.example" in told
        shop.go(hours=3)
        assert await recharge_due(shop.billing) == 0
        await apply_payment(shop.billing, await customer.open_payment_id())
        assert await state_of(shop, customer) is RechargeState.READY
        assert (await customer.wallet()).available_micro == 25 * USD


async def test_another_method_gives_up_the_charge_to_confirm_which_suspends_once_and_is_charged_instead(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = ActionNeeded("https://confirm.example")
        await customer.spend(10 * USD)
        await recharge_due(shop.billing)
        waiting = await customer.open_payment_id()
        async with transaction(database) as conn:
            await note_method_set(conn, customer.id, clock.now())
        row = await pg.fetchrow("SELECT status, failure_code, action_url FROM payments WHERE id = $1", waiting)
        assert tuple(row) == ("FAILED", METHOD_CHANGED, None)
        await ask_for_action(shop.billing, waiting, "https://confirm.example")  # news that come late
        shop.provider.result = None
        shop.go(minutes=1)
        assert await recharge_due(shop.billing) == 1
        assert (await customer.wallet()).available_micro == 25 * USD
        assert await state_of(shop, customer) is RechargeState.COOLING_DOWN
        await apply_payment(shop.billing, waiting)  # it was confirmed after all: what is paid is given
        assert (await customer.wallet()).available_micro == 35 * USD
    await assert_invariants(pg)


async def test_a_charge_to_confirm_that_is_asked_for_again_suspends_nothing_anew(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = ActionNeeded("https://confirm.example")
        await customer.spend(10 * USD)
        await recharge_due(shop.billing)
        await pg.execute("UPDATE auto_recharges SET suspended_reason = NULL")
        await ask_for_action(shop.billing, await customer.open_payment_id(), "https://confirm.example")
        assert await state_of(shop, customer) is RechargeState.IN_PROGRESS
        assert await pg.fetchval("SELECT count(*) FROM outbox_events WHERE kind = 'auto_recharge.suspended'") == 1


async def test_a_lost_connection_is_no_decline_and_is_asked_again_with_the_same_key(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await with_recharge(shop)
        shop.provider.result = Pending()
        await customer.spend(10 * USD)
        await recharge_due(shop.billing)
        assert await state_of(shop, customer) is RechargeState.IN_PROGRESS
        shop.provider.answers.clear()
        shop.provider.result = None
        assert await recharge_due(shop.billing) == 0
        shop.go(seconds=31)
        assert await recharge_due(shop.billing) == 1
        assert len({charge.key for charge in shop.provider.charges}) == 1
        row = await pg.fetchrow("SELECT consecutive_failures, last_failure_at FROM auto_recharges")
        assert tuple(row) == (0, None)
        assert (await customer.wallet()).available_micro == 25 * USD


async def test_the_months_limit_holds_and_the_next_month_begins_anew(database, pg):
    async with open_shop(database, pg, "usd-balance", start=START - timedelta(days=20)) as shop:
        customer = await with_recharge(shop, limit=20)
        for _ in range(40):
            await customer.spend(10 * USD)
            await recharge_due(shop.billing)
            shop.go(minutes=11)
        assert len(shop.provider.charges) == 2
        assert await state_of(shop, customer) is RechargeState.READY
        shop.go(to=datetime(2027, 2, 1, tzinfo=START.tzinfo))
        assert await recharge_due(shop.billing) == 1


@pytest.mark.parametrize(("zone", "hours"), [("Pacific/Kiritimati", 14), ("Pacific/Pago_Pago", -11)])
async def test_a_month_of_the_limit_is_one_of_utc_whatever_zone_the_clock_and_the_database_are_in(
    database_url, pg, zone, hours
):
    await pg.execute(
        f"ALTER DATABASE {await pg.fetchval('SELECT quote_ident(current_database())')} SET timezone = '{zone}'"
    )
    database = await Database.open(database_url)
    there, turn = timezone(timedelta(hours=hours)), datetime(2027, 3, 1, tzinfo=UTC)
    instant = timedelta(microseconds=1)
    try:
        async with open_shop(database, pg, "usd-balance", start=turn - timedelta(days=2)) as shop:
            customer = await with_recharge(shop, limit=20)
            for at, charged in (
                (turn - timedelta(days=1), 10),
                (turn - timedelta(hours=1), 20),
                (turn - instant, 20),
                (turn, 40),
                (turn + timedelta(days=31) - instant, 40),
                (turn + timedelta(days=31), 60),
            ):
                shop.go(to=at.astimezone(there))
                await customer.spend(10 * USD)
                await recharge_due(shop.billing)
                assert sum(charge.amount_usd_micro for charge in shop.provider.charges) == charged * USD, at
    finally:
        await database.close()


async def test_B4_settings_stay_within_the_catalogs_bounds(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer, poor = await shop.workspace(), await shop.workspace(method=False)
        terms = shop.billing.catalog.current.settings.auto_recharge
        good = {"threshold_usd_micro": 20 * USD, "amount_usd_micro": 10 * USD}
        for wrong in (
            {"threshold_usd_micro": terms.max_threshold_usd_micro + 1},
            {"amount_usd_micro": terms.max_amount_usd_micro + 10_000},
            {"amount_usd_micro": 0},
            {"amount_usd_micro": 10 * USD + 1},
            {"monthly_limit_usd_micro": 9 * USD},
            {"monthly_limit_usd_micro": 2**62},
            {"threshold_usd_micro": -1},
        ):
            with pytest.raises(AmountOutOfBounds):
                await update_auto_recharge(shop.billing, customer.id, enabled=True, **(good | wrong))
        with pytest.raises(InvalidInput):
            await update_auto_recharge(shop.billing, customer.id, enabled=True, amount_usd_micro=10 * USD)
        with pytest.raises(PaymentMethodRequired):
            await update_auto_recharge(shop.billing, poor.id, enabled=True, **good)
        with pytest.raises(UnknownWorkspace):
            await update_auto_recharge(shop.billing, uuid7(), enabled=True, **good)
        shop.provider.configured = False
        with pytest.raises(PaymentsNotConfigured):
            await update_auto_recharge(shop.billing, customer.id, enabled=True, **good)
        assert await state_of(shop, customer) is RechargeState.OFF
        assert await pg.fetchval("SELECT count(*) FROM auto_recharges") == 0


async def test_where_the_catalog_offers_none_it_cannot_be_turned_on(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        with pytest.raises(AutoRechargeNotOffered):
            await update_auto_recharge(
                shop.billing, customer.id, enabled=True, threshold_usd_micro=USD, amount_usd_micro=USD
            )
