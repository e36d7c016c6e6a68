"""Packs and top-ups: their own life, what they need a plan for, bonus, refunds, disputes."""

import asyncio

import pytest

from billing.disputes import close_dispute, dispute_payment
from billing.due import settle_frozen
from billing.errors import (
    AmountOutOfBounds,
    NotInPlan,
    PaymentMethodRequired,
    PaymentsNotConfigured,
    TopUpsNotOffered,
    UnknownPack,
)
from billing.packs import buy_pack
from billing.payment_port import ActionNeeded, Declined, Pending
from billing.payments import apply_payment
from billing.refunds import refund_payment
from billing.subscriptions import cancel, end_now
from billing.top_ups import add_credits
from kit.ids import uuid7
from metering.operations import Thaw
from models.database import transaction
from models.enums import PaymentStatus
from tests.billing.catalog_samples import small
from tests.billing.shop import MICRO, START, open_shop
from tests.metering.invariants import assert_invariants


async def test_A8_add_on_credits_never_expire_and_go_after_the_cycles_credits(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("team", "yearly")
        await buy_pack(shop.billing, customer.id, "addon-1000", idempotency_key="k")
        await customer.spend(1500 * MICRO)
        assert await pg.fetchval("SELECT remaining_micro FROM credit_grants WHERE kind = 'PACK'") == 1000 * MICRO
        await customer.spend(700 * MICRO)
        assert await pg.fetchval("SELECT remaining_micro FROM credit_grants WHERE kind = 'PACK'") == 800 * MICRO
        for year in range(1, 4):
            shop.go(to=START.replace(year=2027 + year))
            await customer.pay(row["id"], shop.price("team", "yearly"))
        await shop.work()
        assert await customer.available() == 2800
    await assert_invariants(pg)


async def test_A9_add_on_credits_are_frozen_without_a_subscription_kept_and_thawed_with_one(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        await buy_pack(shop.billing, customer.id, "addon-1000", idempotency_key="k")  # A8: bought at any time
        assert (await customer.wallet()).frozen_micro == 1000 * MICRO
        assert await customer.spend(MICRO) == 0
        row = await customer.subscribe("team", "yearly")
        assert await customer.available() == 3000
        await customer.spend(2400 * MICRO)
        await cancel(shop.billing, customer.id, idempotency_key="c")
        shop.go(days=365)
        await shop.work()
        assert (await customer.wallet()).frozen_micro == 600 * MICRO
        assert await customer.available() == 0
        shop.go(days=900)
        await shop.work()
        await customer.subscribe("team", "yearly")
        assert await customer.available() == 2600
        assert row["id"] != (await customer.subscription())["id"]
    await assert_invariants(pg)


async def test_A9_past_due_within_grace_keeps_them_spendable_and_its_end_freezes_them(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("team", "yearly")
        await buy_pack(shop.billing, customer.id, "addon-1000", idempotency_key="k")
        shop.go(days=367)
        await shop.work()
        assert (await customer.subscription())["status"] == "PAST_DUE"
        assert await customer.available() == 1000
        shop.go(days=5)
        await shop.work()
        assert await customer.available() == 0
        await customer.pay(row["id"], shop.price("team", "yearly"))
        assert await customer.available() == 3000
    await assert_invariants(pg)


async def test_A9_a_payment_that_finds_the_subscription_lapsed_meanwhile_thaws_in_the_same_transaction(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("team", "yearly")
        await buy_pack(shop.billing, customer.id, "addon-1000", idempotency_key="k")
        shop.go(days=500)  # no worker came: the payment itself plays the lapse, and begins anew
        await customer.pay(row["id"], shop.price("team", "yearly"))
        assert await customer.available() == 3000
    await assert_invariants(pg)


async def test_A9_the_sweep_mends_what_came_between(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("team", "yearly")
        await buy_pack(shop.billing, customer.id, "addon-1000", idempotency_key="k")
        payment_id = await pg.fetchval("SELECT id FROM payments WHERE purpose = 'PACK'")
        grant_id = await pg.fetchval("SELECT id FROM credit_grants WHERE kind = 'PACK'")
        from metering.operations import Freeze

        async with transaction(database) as conn:  # as during a dispute, in which the subscription ends
            await shop.billing.ledger.post(conn, [Freeze(customer.wallet_id, "DISPUTE", (grant_id,))])
        await end_now(shop.billing, row["id"])
        async with transaction(database) as conn:
            await shop.billing.ledger.post(conn, [Thaw(customer.wallet_id, "DISPUTE", (grant_id,))])
        assert await customer.available() == 1000
        assert await settle_frozen(shop.billing) == 1
        assert await customer.available() == 0
        assert await settle_frozen(shop.billing) == 0
        assert payment_id is not None
    await assert_invariants(pg)


async def test_C3_packs_may_be_bought_with_pro_only(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("starter")
        with pytest.raises(NotInPlan):
            await buy_pack(shop.billing, customer.id, "small", idempotency_key="k")
        with pytest.raises(UnknownPack):
            await buy_pack(shop.billing, customer.id, "nothing", idempotency_key="k")


async def test_C6_cycle_credits_go_first_then_packs(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        await buy_pack(shop.billing, customer.id, "small", idempotency_key="k")
        await customer.spend(4500 * MICRO)
        left = {row[0]: row[1] // MICRO for row in await pg.fetch("SELECT kind, remaining_micro FROM credit_grants")}
        assert left == {"CYCLE": 0, "PACK": 500}


async def test_C7_packs_are_valid_12_months_from_purchase_also_after_the_plan_is_cancelled(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        shop.go(days=5)
        await buy_pack(shop.billing, customer.id, "small", idempotency_key="k")
        await cancel(shop.billing, customer.id, idempotency_key="c")
        shop.go(days=100)
        await shop.work()
        assert (await customer.subscription())["status"] == "CANCELED"
        assert await customer.available() == 1000
        shop.go(to=START.replace(year=2028, month=2, day=5, hour=9))
        assert await customer.spend(100 * MICRO) == 100 * MICRO
        shop.go(hours=1)
        assert await customer.available() == 0
        await shop.work()
        assert await pg.fetchval("SELECT expired_micro FROM credit_grants WHERE kind = 'PACK'") == 900 * MICRO
    await assert_invariants(pg)


async def test_B5_adding_credit_is_refused_while_no_payment_method_is_set(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await shop.workspace(method=False)
        with pytest.raises(PaymentMethodRequired, match=r"createPaymentMethodSetup.*checkout: true"):
            await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        await customer.set_method()
        bought = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        again = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        assert bought == again
        assert bought.payment.status is PaymentStatus.SUCCEEDED
        assert await customer.available() == 20
        assert len(shop.provider.charges) == 1
        shop.provider.configured = False
        with pytest.raises(PaymentsNotConfigured):
            await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k2")


@pytest.mark.parametrize("amount", [0, -MICRO, 1, 4_990_000, 500_010_000, 5_000_001, 2**62])
async def test_amounts_outside_the_catalogs_bounds_are_refused(database, pg, amount):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        with pytest.raises(AmountOutOfBounds):
            await add_credits(shop.billing, customer.id, amount, idempotency_key="k")


async def test_a_catalog_without_top_ups_sells_none(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        with pytest.raises(TopUpsNotOffered):
            await add_credits(shop.billing, customer.id, MICRO, idempotency_key="k")


async def test_D6_bonus_credits_come_by_the_highest_step_reached_and_can_be_paused(database, pg):
    values = small()
    values["top_up"]["bonus"].append({"from": "200", "percent": 10})
    async with open_shop(database, pg, values) as shop:
        customer = await shop.workspace()
        for number, dollars in enumerate((99, 100, 250)):
            await add_credits(shop.billing, customer.id, dollars * MICRO, idempotency_key=f"k{number}")
        assert [grant[0] for grant in await customer.grants("TOP_UP")] == [9900, 10000, 25000]
        assert [grant[0] for grant in await customer.grants("BONUS")] == [500, 2500]
        values["top_up"]["bonus_paused"] = True
        from billing.catalog_apply import apply
        from tests.billing.catalog_samples import file_of

        await apply(database, file_of(values), now=shop.time.at)
        await shop.billing.catalog.reload()
        await add_credits(shop.billing, customer.id, 250 * MICRO, idempotency_key="paused")
        assert len(await customer.grants("BONUS")) == 2
    await assert_invariants(pg)


async def test_D6_the_pay_as_you_go_catalog_has_its_bonus_configured_and_paused(database, pg):
    async with open_shop(database, pg, "pay-as-you-go") as shop:
        customer = await shop.workspace()
        await add_credits(shop.billing, customer.id, 1000 * MICRO, idempotency_key="k")
        assert shop.billing.catalog.current.settings.top_up.bonus
        assert await customer.grants("BONUS") == []


async def test_one_payment_applied_by_page_webhook_and_reconciler_at_once_credits_once(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        shop.provider.result = Pending()
        made = await add_credits(shop.billing, customer.id, 200 * MICRO, idempotency_key="k")
        assert made.payment.status is PaymentStatus.PENDING
        results = await asyncio.gather(*(apply_payment(shop.billing, made.payment.id) for _ in range(8)))
        assert sum(result.changed for result in results) == 1
        assert await customer.available() == 20000 + 1000
    await assert_invariants(pg)


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        shop.provider.result = Pending()
        first = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        shop.provider.answers.clear()
        shop.provider.result = None
        second = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        assert first.payment.id == second.payment.id
        assert {charge.key for charge in shop.provider.charges} == {f"topup:{first.payment.id}"}
        assert second.payment.status is PaymentStatus.SUCCEEDED


async def test_a_declined_purchase_gives_nothing_and_one_to_confirm_says_where(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        shop.provider.result = Declined("insufficient_funds")
        made = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        assert (made.payment.status, made.payment.failure_code) == (PaymentStatus.FAILED, "insufficient_funds")
        shop.provider.result = ActionNeeded("https://confirm.example")
        made = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k2")
        assert made.payment.action_url == "https://confirm.example"
        assert await customer.available() == 0


async def test_D5_a_refund_takes_its_fraction_from_what_is_left_and_no_wallet_owes_anything(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        made = await add_credits(shop.billing, customer.id, 100 * MICRO, idempotency_key="k")
        other = await add_credits(shop.billing, customer.id, 10 * MICRO, idempotency_key="k2")
        assert await customer.available() == 10500 + 1000
        for _ in range(2):
            await refund_payment(shop.billing, made.payment.id, 25 * MICRO)
        assert await customer.available() == 7500 + 375 + 1000
        await customer.spend(8000 * MICRO)
        view = await refund_payment(shop.billing, made.payment.id, 100 * MICRO)
        assert (view.status, view.refunded_usd_micro) == (PaymentStatus.REFUNDED, 100 * MICRO)
        await refund_payment(shop.billing, made.payment.id, 50 * MICRO)  # old news
        assert await customer.available() == 875
        assert not (await apply_payment(shop.billing, made.payment.id)).changed
        assert other.grant_id is not None
    await assert_invariants(pg)


async def test_D5_a_dispute_takes_the_unspent_credits_and_gives_them_back_when_it_is_won(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        made = await add_credits(shop.billing, customer.id, 50 * MICRO, idempotency_key="k")
        await customer.spend(2000 * MICRO)
        for _ in range(2):
            view = await dispute_payment(shop.billing, made.payment.id, "dp_1", 50 * MICRO)
        assert view.status is PaymentStatus.DISPUTED
        assert await customer.available() == 0
        for _ in range(2):
            view = await close_dispute(shop.billing, made.payment.id, "dp_1", disputed_usd_micro=50 * MICRO, won=True)
        assert view.status is PaymentStatus.SUCCEEDED
        assert await customer.available() == 3000
        await dispute_payment(shop.billing, made.payment.id, "dp_1", 50 * MICRO)
        await close_dispute(shop.billing, made.payment.id, "dp_1", disputed_usd_micro=50 * MICRO, won=False)
        assert await customer.available() == 0
    await assert_invariants(pg)


async def test_D5_two_disputes_of_one_payment_take_their_parts_and_a_won_one_gives_back_its_own(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        made = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        assert await customer.available() == 2000
        for dispute in ("dp_1", "dp_2"):
            await dispute_payment(shop.billing, made.payment.id, dispute, 10 * MICRO)
        assert await customer.available() == 0
        await close_dispute(shop.billing, made.payment.id, "dp_1", disputed_usd_micro=10 * MICRO, won=False)
        assert await customer.available() == 0
        for _ in range(2):
            await close_dispute(shop.billing, made.payment.id, "dp_2", disputed_usd_micro=10 * MICRO, won=True)
        assert await customer.available() == 1000
    await assert_invariants(pg)


async def test_D5_two_disputes_that_are_won_give_back_everything(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        made = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        for dispute in ("dp_1", "dp_2"):
            await dispute_payment(shop.billing, made.payment.id, dispute, 10 * MICRO)
        for dispute in ("dp_1", "dp_2"):
            await close_dispute(shop.billing, made.payment.id, dispute, disputed_usd_micro=10 * MICRO, won=True)
        assert await customer.available() == 2000
    await assert_invariants(pg)


async def test_D5_a_refunded_plan_payment_takes_the_part_of_the_cycle_that_it_paid_for(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        payment_id = await pg.fetchval("SELECT id FROM payments")
        assert await pg.fetchval("SELECT payment_id FROM credit_grants") == payment_id
        await refund_payment(shop.billing, payment_id, 22_500_000)
        assert await customer.available() == 2000
    await assert_invariants(pg)


async def test_an_unknown_workspace_cannot_buy(database, pg):
    from billing.errors import UnknownWorkspace

    async with open_shop(database, pg, small()) as shop:
        with pytest.raises(UnknownWorkspace):
            await add_credits(shop.billing, uuid7(), 20 * MICRO, idempotency_key="k")
