"""Recharges that stay on their way: a bank debit is asked about at growing pauses, a lost answer as soon as ever."""

import itertools
from datetime import timedelta

from billing.auto_recharge import recharge_due
from billing.stripe_reconcile import ask_for_payments
from tests.billing.shop import MICRO
from tests.payments.house import open_house

CATALOG = "usd-balance"
BANK = "pm_usBankAccount_success"


async def test_a_recharge_by_bank_debit_is_asked_about_at_growing_pauses_and_given_once(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], BANK)
        await guest.spend(10 * MICRO)
        began, asked = house.now, []
        while (age := house.now - began) < timedelta(hours=6):
            before = len(await double.calls("/v1/payment_intents", "POST"))
            await recharge_due(house.billing)
            if len(await double.calls("/v1/payment_intents", "POST")) > before:
                asked.append(int(age.total_seconds()))
            house.counter.go(seconds=30)
        assert asked[:9] == [0, 30, 60, 120, 240, 480, 960, 1_920, 3_840]
        pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert set(pauses[9:]) == {3_600}
        row = (await guest.payments())[-1]
        assert (row["purpose"], row["status"]) == ("AUTO_RECHARGE", "PENDING")
        await house.go(days=5)
        assert [row["status"] for row in await guest.payments()] == ["SUCCEEDED", "SUCCEEDED"]
        assert await guest.available() == 25
        await house.agree()


async def test_a_bank_debit_whose_webhook_is_lost_is_found_by_asking_within_the_hour(database, pg, double):
    """No sweep in this test: only the worker's questions."""
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], BANK)
        await guest.spend(10 * MICRO)

        async def ask(**pace: float) -> int:
            """One round of the worker; how many requests about payments it made."""
            before = len(await double.calls("/v1/payment_intents", "POST"))
            before += len(await double.calls("/v1/payment_intents", "GET"))
            await recharge_due(house.billing)
            await ask_for_payments(house.billing, house.link)
            house.counter.go(**pace)
            await double.advance(int(house.now.timestamp()))
            after = len(await double.calls("/v1/payment_intents", "POST"))
            return after + len(await double.calls("/v1/payment_intents", "GET")) - before

        first_day = sum([await ask(minutes=10) for _ in range(6 * 24)])
        assert 24 <= first_day <= 60, "2,400 were made of the charge alone"
        later = sum([await ask(minutes=10) for _ in range(6 * 24 * 3)])
        assert later <= 3 * 26
        for _ in range(7):  # the four days are over
            await ask(minutes=10)
        assert [row["status"] for row in await guest.payments()] == ["SUCCEEDED", "SUCCEEDED"]
        await house.work()
        await house.agree()


async def test_a_card_whose_answer_was_lost_is_asked_for_as_soon_as_ever(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        await guest.spend(10 * MICRO)
        house.counter.go(minutes=1)
        await double.fault(
            "error_before", "/v1/payment_intents$", times=9
        )  # three tries, each with the library's repeats
        for _ in range(3):
            await recharge_due(house.billing)
            house.counter.go(seconds=30)
        await double.ask("DELETE", "faults")
        await recharge_due(house.billing)
        assert (await guest.payments())[-1]["status"] == "SUCCEEDED"
        await house.work()
        await house.agree()
