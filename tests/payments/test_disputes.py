"""Disputes and refunds before the double: several at once, during a plan's life, told in any order (D5, A6, A7)."""

import copy
import random
import tomllib

import pytest

from billing.disputes import close_dispute, dispute_payment
from billing.previews import preview_change
from billing.refunds import refund_failed, refund_payment, seen_at
from billing.stripe_charges import PREPAID
from billing.stripe_client import Stripe
from billing.stripe_objects import charge_changed, dispute_changed, intent_changed, object_changed
from billing.stripe_subscriptions import subscription_changed
from billing.subscriptions import cancel, change_plan
from billing.transfers import request_transfer
from kit.ids import uuid7
from metering.operations import Freeze
from metering.reconcile import reconcile
from tests.billing.catalog_samples import ROOT, small
from tests.billing.shop import MICRO
from tests.payments.house import CENT, Guest, House, open_house, session_of

CATALOG = "usd-balance"


async def topped_up(house: House, dollars: int) -> tuple[Guest, str]:
    """A workspace that paid so much, and the payment's intent."""
    guest = await house.workspace()
    await guest.save_card()
    await guest.top_up(dollars)
    await house.work()
    return guest, (await guest.payments())[0]["stripe_object_id"]


async def opened(house: House, intent: str, dollars: int, **more) -> str:
    found = await house.double.ask("POST", "disputes", payment_intent=intent, amount=dollars * MICRO // CENT, **more)
    return found["id"]


async def closed(house: House, dispute: str, outcome: str) -> None:
    await house.double.ask("POST", "disputes", dispute=dispute, outcome=outcome)


async def heard(house: House, *disputes: str) -> None:
    """Twice, as webhooks are repeated."""
    for dispute in [*disputes, *disputes]:
        await dispute_changed(house.billing, house.link, dispute)


async def status_of(guest: Guest) -> str:
    return (await guest.payments())[-1]["status"]


async def last_intent(guest: Guest) -> str:
    return (await guest.invoices_at_stripe())[0].payments.data[0].payment.payment_intent


@pytest.mark.parametrize("first", ["won", "lost"])
@pytest.mark.parametrize("second", ["won", "lost"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_D5_a_payment_is_disputed_and_frozen_until_its_last_dispute_is_closed(
    database, pg, double, order: tuple[int, int], first: str, second: str
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, intent = await topped_up(house, 20)
        disputes = [await opened(house, intent, dollars) for dollars in (10, 4)]
        await heard(house, *[disputes[place] for place in order])
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await closed(house, disputes[0], first)
        await heard(house, *[disputes[place] for place in order])
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await closed(house, disputes[1], second)
        await heard(house, *[disputes[place] for place in order])
        lost = (10 if first == "lost" else 0) + (4 if second == "lost" else 0)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED" if lost else "SUCCEEDED", 20 - lost)
        await house.work()
        assert await guest.available() == 20 - lost
        await house.agree()
        assert (await reconcile(database)).agrees


async def test_D5_a_dispute_heard_of_when_it_is_closed_leaves_what_another_one_froze(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, intent = await topped_up(house, 20)
        unheard, heard_of = [await opened(house, intent, dollars) for dollars in (4, 10)]
        await heard(house, heard_of)
        await closed(house, unheard, "won")
        await heard(house, unheard)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await closed(house, heard_of, "won")
        await heard(house, heard_of)
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 20)


async def test_D5_a_dispute_that_is_closed_leaves_what_one_of_another_payment_froze(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, _ = await topped_up(house, 20)
        await guest.top_up(30)
        disputes = [
            await opened(house, payment["stripe_object_id"], 10) for payment in await guest.payments()
        ]  # of 20 and of 30
        await house.work()
        assert await guest.available() == 0
        await closed(house, disputes[0], "lost")
        await house.work()
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 10)


@pytest.mark.parametrize("outcome", ["won", "lost"])
@pytest.mark.parametrize("period", ["yearly", "lifetime"])
async def test_A6_A7_D5_credits_granted_during_a_dispute_are_frozen_and_share_its_end(
    database, pg, double, period: str, outcome: str
):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("team", period)
        [payment] = await guest.payments()
        intent = payment["stripe_object_id"] if period == "lifetime" else await last_intent(guest)
        half = payment["amount_usd_micro"] // 2 // CENT
        dispute = (await double.ask("POST", "disputes", payment_intent=intent, amount=half))["id"]
        await house.go(days=65)
        assert len(await guest.grants("CYCLE")) == 3
        assert await guest.available() == 0
        await closed(house, dispute, outcome)
        await house.work()
        each = 2000 if outcome == "won" else 2000 - 2000 * half * CENT // payment["amount_usd_micro"]
        assert await guest.available() == pytest.approx(each)
        await house.go(days=30)  # and so do those of the months after it
        assert await guest.available() == pytest.approx(each)
        assert (await guest.subscription())["status"] == "ACTIVE"
        await house.agree()


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_D5_what_is_left_over_from_a_disputed_cycle_stays_frozen_until_the_dispute_is_closed(
    database, pg, double, outcome: str
):
    async with open_house(database, pg, double, small()) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("pro")
        dispute = await opened(house, await last_intent(guest), 10)  # half: 250 taken
        await house.work()
        await guest.spend(MICRO)
        await house.go(days=31)
        assert await guest.available() == 500  # of the period that nobody disputes
        await closed(house, dispute, outcome)
        await house.work()
        assert await guest.available() == 750
        await house.go(days=31)
        assert await guest.available() == 1250
        await house.agree()


async def test_D5_a_dispute_told_before_its_payment_was_applied_applies_it_first(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        made = await guest.top_up(20)
        assert made.payment.status == "ACTION_REQUIRED"
        [payment] = await guest.payments()
        await double.ask("POST", f"payment_intents/{payment['stripe_object_id']}/authenticate")
        dispute = await opened(house, payment["stripe_object_id"], 20)
        await heard(house, dispute)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await closed(house, dispute, "won")
        await house.work()
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 20)
        await house.go(hours=2)
        assert (await double.books())["refunded"] == 0
        await house.agree()


async def test_D5_a_part_refunded_before_its_payment_was_applied_takes_its_credits(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        await guest.top_up(20)
        [payment] = await guest.payments()
        await double.ask("POST", f"payment_intents/{payment['stripe_object_id']}/authenticate")
        await double.v1.refunds.create_async({"payment_intent": payment["stripe_object_id"], "amount": 500})
        intent = await double.v1.payment_intents.retrieve_async(payment["stripe_object_id"])
        await charge_changed(house.billing, house.link, intent.latest_charge)
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 15)
        await house.work()
        assert await guest.available() == 15
        await house.agree()


@pytest.mark.parametrize("period", ["yearly", "lifetime"])
async def test_A6_A7_D5_two_partly_lost_disputes_that_make_up_the_whole_end_the_plan(database, pg, double, period: str):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("team", period)
        [payment] = await guest.payments()
        intent = payment["stripe_object_id"] if period == "lifetime" else await last_intent(guest)
        whole = payment["amount_usd_micro"] // CENT
        disputes = [
            (await double.ask("POST", "disputes", payment_intent=intent, amount=amount))["id"]
            for amount in (whole - 5000, 5000)
        ]
        await closed(house, disputes[0], "lost")
        await heard(house, *disputes)
        assert (await guest.subscription())["status"] == "ACTIVE"
        await closed(house, disputes[1], "lost")
        await heard(house, *disputes)
        assert (await guest.subscription())["status"] == "CANCELED"
        await house.go(days=65)
        assert (await guest.available(), len(await guest.grants("CYCLE"))) == (0, 1)
        await house.agree()


async def test_A6_D5_a_part_refunded_and_the_rest_lost_end_the_plan_in_either_order(database, pg, double):
    async with open_house(database, pg, double) as house:
        for refund_first in (True, False):
            guest = await house.workspace()
            await guest.subscribe_and_pay("team", "yearly")
            [payment] = await guest.payments()
            rest = payment["amount_usd_micro"] - 50 * MICRO
            if refund_first:
                await refund_payment(house.billing, payment["id"], 50 * MICRO)
            await dispute_payment(house.billing, payment["id"], "dp_1", rest)
            await close_dispute(house.billing, payment["id"], "dp_1", disputed_usd_micro=rest, won=False)
            assert (await guest.subscription())["status"] == ("CANCELED" if refund_first else "ACTIVE")
            await refund_payment(house.billing, payment["id"], 50 * MICRO)
            assert (await guest.subscription())["status"] == "CANCELED"
            assert await guest.available() == 0


async def test_D5_a_refund_during_a_dispute_holds_when_the_dispute_is_won(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, _ = await topped_up(house, 20)
        [payment] = await guest.payments()
        await guest.spend(8 * MICRO)
        await dispute_payment(house.billing, payment["id"], "dp_1", 10 * MICRO)
        await refund_payment(house.billing, payment["id"], 10 * MICRO)  # finds 2 of the 10 credits
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await close_dispute(house.billing, payment["id"], "dp_1", disputed_usd_micro=10 * MICRO, won=True)
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 2)
        await refund_payment(house.billing, payment["id"], 20 * MICRO)
        assert (await status_of(guest), await guest.available()) == ("REFUNDED", 0)


async def test_D5_an_inquiry_takes_nothing_until_it_becomes_a_dispute(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, intent = await topped_up(house, 20)
        asked = [await opened(house, intent, 10, inquiry=True) for _ in range(2)]
        await heard(house, *asked)
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 20)
        await closed(house, asked[0], "escalated")
        await heard(house, *asked)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await closed(house, asked[1], "closed")
        await heard(house, *asked)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await closed(house, asked[0], "won")
        await heard(house, *asked)
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 20)
        await house.agree()


async def test_D5_a_lost_dispute_that_is_opened_again_and_won_gives_back_what_it_took(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, _ = await topped_up(house, 20)
        [payment] = await guest.payments()
        await close_dispute(house.billing, payment["id"], "dp_1", disputed_usd_micro=10 * MICRO, won=False)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 10)
        await dispute_payment(house.billing, payment["id"], "dp_1", 10 * MICRO)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        await close_dispute(house.billing, payment["id"], "dp_1", disputed_usd_micro=10 * MICRO, won=True)
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 20)


async def test_D5_what_a_slow_worker_fetched_before_a_dispute_was_closed_does_not_open_it_again(
    database, pg, double, monkeypatch
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, intent = await topped_up(house, 20)
        dispute = await opened(house, intent, 20)
        asked = Stripe.call

        async def answers_late(stripe, ask):
            """The dispute as it is, while the bank decides and another worker hears of it."""
            found = await asked(stripe, ask)
            if found["object"] == "dispute":
                monkeypatch.setattr(Stripe, "call", asked)
                await closed(house, dispute, "won")
                await heard(house, dispute)
            return found

        monkeypatch.setattr(Stripe, "call", answers_late)
        await dispute_changed(house.billing, house.link, dispute)
        assert (await status_of(guest), await guest.available()) == ("SUCCEEDED", 20)


async def test_B6_D5_credits_paid_out_and_sent_back_go_with_the_money_that_went_back_meanwhile(database, pg, double):
    values = tomllib.loads((ROOT / "catalogs" / f"{CATALOG}.toml").read_text())
    values["top_up"]["transferable"] = True
    async with open_house(database, pg, double, values) as house:
        guest, intent = await topped_up(house, 40)
        await house.billing.payments.open_payout_setup(guest.id, "https://app.example/back")
        account = await pg.fetchval("SELECT stripe_account_id FROM payout_accounts WHERE workspace_id = $1", guest.id)
        await double.ask("POST", f"accounts/{account}/onboard", bank_number="000111111116")  # it is closed
        await double.ask("POST", "balance", amount=1_000_000)
        await house.work()
        await request_transfer(house.billing, guest.id, 30 * MICRO, requested_by=None, idempotency_key=uuid7().hex)
        dispute = await opened(house, intent, 20)
        await heard(house, dispute)
        await closed(house, dispute, "lost")
        await heard(house, dispute)
        assert await guest.available() == 0  # of the 20 credits 10 were there
        await house.go(days=4)
        assert await pg.fetchval("SELECT status FROM transfers WHERE workspace_id = $1", guest.id) == "FAILED"
        assert await guest.available() == 20
        await house.agree()


async def test_D8_news_of_a_prepaid_payment_that_come_again_days_later_give_nothing_back_twice(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        made = await guest.top_up(20, checkout=True)
        await double.pay(session_of(made.payment.action_url), card="pm_card_mastercard_prepaid")
        await house.go(days=2)
        [payment] = await guest.payments()
        intent = await double.v1.payment_intents.retrieve_async(payment["stripe_object_id"])
        await intent_changed(house.billing, house.link, intent.id)
        await charge_changed(house.billing, house.link, intent.latest_charge)
        assert (await double.books())["refunded"] == 2_000
        assert ((await guest.payments())[0]["failure_code"], await guest.available()) == (PREPAID, 0)


async def test_D5_a_part_refunded_takes_the_same_of_later_months_however_often_it_is_told(database, pg, double):
    async with open_house(database, pg, double) as house:
        for repeats in (0, 2):
            guest = await house.workspace()
            await guest.subscribe_and_pay("team", "yearly")
            [payment] = await guest.payments()
            half = payment["amount_usd_micro"] // 2
            await refund_payment(house.billing, payment["id"], half)
            await house.go(days=35)
            for _ in range(repeats):
                await refund_payment(house.billing, payment["id"], half)
            assert await guest.available() == 1000


async def upgraded(house: House, period: str = "yearly") -> tuple[Guest, dict]:
    """From Team to Studio, paid by the saved card; the upgrade's payment."""
    guest = await house.workspace()
    await guest.subscribe_and_pay("team", period)
    await change_plan(house.billing, guest.id, house.price("studio", period).id, idempotency_key=uuid7().hex)
    await house.work()
    assert (await guest.subscription())["price_id"] == house.price("studio", period).id
    return guest, (await guest.payments())[-1]


async def price_at_stripe(house: House, guest: Guest) -> int:
    return (await guest.stripe_subscription())["items"]["data"][0]["price"]["unit_amount"] * CENT


@pytest.mark.parametrize("how", ["refund", "dispute"])
async def test_D5_an_upgrade_whose_payment_goes_back_whole_is_undone_here_and_at_stripe(database, pg, double, how: str):
    async with open_house(database, pg, double) as house:
        guest, payment = await upgraded(house)
        before = await guest.subscription()
        if how == "refund":
            await house.billing.payments.refund(payment["id"], payment["amount_usd_micro"], "sorry")
        else:
            intent = await last_intent(guest)
            dispute = (await double.ask("POST", "disputes", payment_intent=intent))["id"]
            await closed(house, dispute, "lost")
        for _ in range(2):
            await house.work()
        after, team = await guest.subscription(), house.price("team", "yearly")
        assert (after["status"], after["price_id"]) == ("ACTIVE", team.id)
        assert after["current_period_end"] == before["current_period_end"]
        assert await guest.available() == 2000
        assert await price_at_stripe(house, guest) == team.amount_usd_micro
        await subscription_changed(house.billing, house.link, after["stripe_subscription_id"])
        await house.go(days=367)
        assert (await guest.payments())[-1]["amount_usd_micro"] == team.amount_usd_micro
        assert (await guest.available(), (await guest.subscription())["period_number"]) == (2000, 2)
        await house.agree()


async def test_D5_a_part_of_an_upgrade_or_one_of_an_older_period_leaves_the_higher_plan(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, payment = await upgraded(house)
        studio = house.price("studio", "yearly").id
        await refund_payment(house.billing, payment["id"], payment["amount_usd_micro"] - CENT)
        assert (await guest.subscription())["price_id"] == studio
        await house.go(days=367)
        await refund_payment(house.billing, payment["id"], payment["amount_usd_micro"])
        await house.work()
        assert (await guest.subscription())["price_id"] == studio


async def test_B8_D5_an_upgrade_that_was_undone_can_be_made_again_before_stripe_was_told(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, payment = await upgraded(house)
        await house.billing.payments.refund(payment["id"], payment["amount_usd_micro"], "sorry")
        await refund_payment(house.billing, payment["id"], payment["amount_usd_micro"])
        await house.go(hours=1, work=False)
        studio = house.price("studio", "yearly")
        preview = await preview_change(house.billing, guest.id, studio.id)
        made = await change_plan(
            house.billing, guest.id, studio.id, idempotency_key=uuid7().hex, prorated_at=preview.at
        )
        assert (made.payment.status.value, made.payment.amount_usd_micro) == ("SUCCEEDED", preview.due_usd_micro)
        for _ in range(2):
            await house.work()
            assert (await guest.subscription())["price_id"] == studio.id
        assert await price_at_stripe(house, guest) == studio.amount_usd_micro
        assert [row["status"] for row in await guest.payments()] == ["SUCCEEDED", "REFUNDED", "SUCCEEDED"]
        await house.agree()


async def test_D5_an_upgrade_that_is_undone_while_a_higher_one_waits_is_told_when_that_one_fails(database, pg, double):
    async with open_house(database, pg, double, with_a_highest_plan()) as house:
        guest, payment = await upgraded(house)
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        await house.go(hours=1)
        highest = house.price("highest", "yearly")
        made = await change_plan(house.billing, guest.id, highest.id, idempotency_key=uuid7().hex)
        assert made.payment.status.value == "ACTION_REQUIRED"
        await house.billing.payments.refund(payment["id"], payment["amount_usd_micro"], "sorry")
        for _ in range(2):
            await house.work()
        await house.go(days=3)
        team = house.price("team", "yearly")
        assert (await guest.subscription())["price_id"] == team.id
        assert [row["status"] for row in await guest.payments()] == ["SUCCEEDED", "REFUNDED", "FAILED"]
        assert await price_at_stripe(house, guest) == team.amount_usd_micro
        await house.agree()


async def test_D5_an_upgrade_that_is_paid_after_the_one_below_it_was_undone_is_given_back(database, pg, double):
    async with open_house(database, pg, double, with_a_highest_plan()) as house:
        guest, payment = await upgraded(house)
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        await house.go(hours=1)
        highest = house.price("highest", "yearly")
        await change_plan(house.billing, guest.id, highest.id, idempotency_key=uuid7().hex)
        await house.billing.payments.refund(payment["id"], payment["amount_usd_micro"], "sorry")
        await house.work()
        await double.ask("POST", f"payment_intents/{await last_intent(guest)}/authenticate")
        for _ in range(3):  # it was the difference to a plan that is not paid any more
            await house.work()
        team = house.price("team", "yearly")
        assert ((await guest.subscription())["price_id"], await guest.available()) == (team.id, 2000)
        assert [row["status"] for row in await guest.payments()] == ["SUCCEEDED", "REFUNDED", "REFUNDED"]
        assert await price_at_stripe(house, guest) == team.amount_usd_micro
        await house.agree()


async def test_A7_D5_a_higher_lifetime_whose_difference_is_refunded_is_the_former_one_again(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest, payment = await upgraded(house, "lifetime")
        await refund_payment(house.billing, payment["id"], payment["amount_usd_micro"])
        assert (await guest.subscription())["price_id"] == house.price("team", "lifetime").id
        assert await guest.available() == 2000
        await house.go(days=65)
        assert await guest.available() == 2000


def with_a_highest_plan() -> dict:
    values = tomllib.loads((ROOT / "catalogs" / "team-workspaces.toml").read_text())
    highest = copy.deepcopy(values["plans"]["studio"])
    highest["rank"], highest["name"] = highest["rank"] + 1, "Highest"
    highest["prices"] = [{**price, "amount": "2000"} for price in highest["prices"] if price["code"] == "yearly"]
    values["plans"]["highest"] = highest
    return values


async def test_D5_upgrades_that_are_refunded_from_below_are_undone_together_with_the_last(database, pg, double):
    async with open_house(database, pg, double, with_a_highest_plan()) as house:
        guest, first = await upgraded(house)
        await house.go(hours=1)
        price = house.price("highest", "yearly").id
        await change_plan(house.billing, guest.id, price, idempotency_key=uuid7().hex)
        await house.work()
        second = (await guest.payments())[-1]
        for payment, plan in ((first, "highest"), (second, "team")):
            await house.billing.payments.refund(payment["id"], payment["amount_usd_micro"], "sorry")
            for _ in range(2):
                await house.work()
            assert (await guest.subscription())["price_id"] == house.price(plan, "yearly").id
            assert await price_at_stripe(house, guest) == house.price(plan, "yearly").amount_usd_micro
        await house.agree()


@pytest.mark.parametrize("seed", range(2))
async def test_D5_credits_and_state_follow_from_what_is_gone_in_the_end_whatever_was_told_in_which_order(
    database, pg, double, seed: int
):
    chance = random.Random(seed)
    async with open_house(database, pg, double, CATALOG) as house:
        for _ in range(4):
            guest, _ = await topped_up(house, 20)
            payment_id, refunded, standing = (await guest.payments())[0]["id"], 0, {}
            for _ in range(15):
                act, name = chance.choice(("open", "won", "lost", "refund", "fail")), chance.choice(("dp_1", "dp_2"))
                if act == "refund":
                    refunded = max(refunded, chance.randint(1, 20))
                elif act == "fail":
                    refunded = chance.randint(0, refunded)
                else:
                    standing[name] = (act, standing.get(name, (act, chance.choice((5, 12, 20))))[1])
                for _ in range(chance.choice((1, 2))):
                    await told(house, payment_id, act, name, refunded, standing)
                dollars = [part for state, part in standing.values() if state != "won"]
                is_open = any(state == "open" for state, _ in standing.values())
                left = 0 if is_open else max(0, 20 - refunded - sum(dollars))
                assert await guest.available() == left, (act, name, refunded, standing)
                status = "REFUNDED" if refunded == 20 else "DISPUTED" if dollars else "SUCCEEDED"
                assert await status_of(guest) == ("DISPUTED" if is_open else status), (act, refunded, standing)
        assert (await reconcile(database)).agrees


async def told(house: House, payment_id, act: str, name: str, refunded: int, standing: dict) -> None:
    """One piece of news: absolute, as it is fetched anew."""
    if act == "refund":
        await refund_payment(house.billing, payment_id, refunded * MICRO)
    elif act == "fail":
        seen = await seen_at(house.billing, payment_id)
        assert await refund_failed(house.billing, payment_id, refunded * MICRO, seen=seen)
    elif act == "open":
        await dispute_payment(house.billing, payment_id, name, standing[name][1] * MICRO)
    else:
        dollars = standing[name][1] * MICRO
        await close_dispute(house.billing, payment_id, name, disputed_usd_micro=dollars, won=act == "won")


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_a_dispute_in_the_cardholders_currency_is_of_the_whole_charge(database, pg, double, monkeypatch, outcome):
    """Banks may give the sum in theirs: 3,100 yen are not 31 dollars, nor 31 % of 100."""
    async with open_house(database, pg, double, CATALOG) as house:
        guest, intent = await topped_up(house, 100)
        dispute = await opened(house, intent, 100)
        asked = Stripe.call

        async def in_yen(stripe, ask):
            found = await asked(stripe, ask)
            return {**found, "amount": 3_100, "currency": "jpy"} if found["object"] == "dispute" else found

        monkeypatch.setattr(Stripe, "call", in_yen)
        await heard(house, dispute)
        assert (await status_of(guest), await guest.available()) == ("DISPUTED", 0)
        assert await pg.fetchval("SELECT amount_usd_micro FROM payment_disputes") == 100 * MICRO
        await closed(house, dispute, outcome)
        await heard(house, dispute)
        won = outcome == "won"
        assert (await status_of(guest), await guest.available()) == (("SUCCEEDED", 100) if won else ("DISPUTED", 0))
        await house.agree()


async def deleted(house: House, guest: Guest) -> None:
    """The workspace, as accounts.workspace_deletion does it to its money."""
    await house.pg.execute("UPDATE workspaces SET deleted_at = $2 WHERE id = $1", guest.id, house.now)
    await house.billing.ledger.submit(Freeze(wallet_id=guest.wallet_id, reason="WORKSPACE_DELETED"))


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_told_of_a_deleted_workspaces_payments_ends_and_thaws_nothing(database, pg, double, seed):
    """A purchase refunded in part and its rest disputed, a running period's money lost: in any order, each twice."""
    chance = random.Random(seed)
    async with open_house(database, pg, double, CATALOG) as house:
        guest, intent = await topped_up(house, 100)
        await guest.subscribe_and_pay("pro")
        await cancel(house.billing, guest.id, idempotency_key=uuid7().hex)
        await house.work()
        await deleted(house, guest)
        await double.v1.refunds.create_async({"payment_intent": intent, "amount": 3_000})
        charge = (await double.v1.payment_intents.retrieve_async(intent)).latest_charge
        disputes = [await opened(house, intent, 70), await opened(house, await last_intent(guest), 20)]
        if chance.random() < 0.5:
            await closed(house, disputes[0], chance.choice(["won", "lost"]))
        await closed(house, disputes[1], "lost")
        news = [(charge, "charge"), *((dispute, "dispute") for dispute in disputes)] * 2
        for object_id, kind in chance.sample(news, len(news)):
            await object_changed(house.billing, house.link, object_id, kind, None)
        await house.work()
        await house.go(days=40)
        assert await pg.fetchval("SELECT count(*) FROM inbox_events WHERE completed_at IS NULL") == 0
        frozen = await pg.fetch("SELECT frozen_reason FROM credit_grants WHERE remaining_micro > 0")
        assert {row["frozen_reason"] for row in frozen} <= {"WORKSPACE_DELETED"}
        assert await guest.available() == 0
        assert (await reconcile(database)).shown == []
        assert (await double.books())["charged"] == 12_000
