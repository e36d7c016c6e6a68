"""What the preview of a plan change shows is what is then charged and given: any instant, price and direction."""

import random
from datetime import timedelta

import pytest

from billing.errors import ChangeRefused
from billing.previews import PREVIEW_LIFE, ChangePreview, preview_change
from billing.refunds import refund_payment
from billing.stripe_customers import customer_of
from billing.subscriptions import cancel, change_plan, resume
from kit.ids import uuid7
from tests.billing.catalog_samples import small
from tests.billing.shop import MICRO, START
from tests.payments.house import CENT, Guest, House, open_house, session_of

PERIODS = {"days": "DAYS_30", "monthly": "MONTH", "yearly": "YEAR"}
AMOUNTS = {"least": "0.99", "odd": "19.97", "middle": "123.45", "most": "1999.99", "cheaper-but-higher": "4.99"}
LADDER = small()
LADDER["plans"] |= {
    plan: {
        "name": plan,
        "rank": rank,
        "models": ["*"],
        "entitlements": {"requests_per_hour": 100, "support_level": "COMMUNITY"},
        "prices": [
            {
                "code": code,
                "amount": amount,
                "period": period,
                "credits": {"amount": str(7 * rank), "cadence": "MONTH"},
            }
            for code, period in PERIODS.items()
        ],
    }
    for rank, (plan, amount) in enumerate(AMOUNTS.items(), start=20)
}
"""Five plans of odd prices, each for three periods."""


async def charged(house: House, guest: Guest) -> int:
    """What the customer has paid at Stripe, in micro-dollars."""
    customer = await customer_of(house.link, guest.id)
    books = (await house.customers()).get(customer)  # nobody is in them who has paid nothing
    return 0 if books is None else books["charged"] * CENT


async def change_as_previewed(house: House, guest: Guest, plan: str, code: str, wait_s: int = 500) -> ChangePreview:
    """Preview, think it over, change; the money and the credits that come at once are the preview's."""
    price = house.price(plan, code)
    paid, had = await charged(house, guest), (await guest.wallet()).available_micro
    preview = await preview_change(house.billing, guest.id, price.id)
    await house.go(seconds=wait_s)
    made = await change_plan(house.billing, guest.id, price.id, idempotency_key=uuid7().hex, prorated_at=preview.at)
    await house.work()
    assert await charged(house, guest) - paid == preview.due_usd_micro, preview
    if made.payment is not None and preview.due_usd_micro:
        assert made.payment.amount_usd_micro == preview.due_usd_micro, preview
    assert (await guest.wallet()).available_micro - had == preview.credits_micro, preview
    assert (await guest.subscription())["current_period_end"] == preview.next_at, preview
    return preview


async def renew_as_previewed(house: House, guest: Guest, preview: ChangePreview) -> None:
    """The period's end, and the hour that Stripe takes; it is charged what the preview said."""
    paid = await charged(house, guest)
    await house.go(seconds=(preview.next_at - house.now).total_seconds() + 7200)
    row = await guest.subscription()
    assert (row["status"], row["period_number"]) == ("ACTIVE", 2)
    assert await charged(house, guest) - paid == preview.next_usd_micro, preview


@pytest.mark.parametrize("seed", range(10))
async def test_B8_a_change_up_or_down_at_any_instant_costs_what_its_preview_said(database, pg, double, seed):
    chance = random.Random(seed)
    before, after = chance.sample([(plan, code) for plan in AMOUNTS for code in PERIODS], 2)
    start = START + timedelta(seconds=chance.randrange(366 * 86_400))
    async with open_house(database, pg, double, LADDER, start=start) as house:
        guest = await house.workspace()
        row = await guest.subscribe_and_pay(*before)
        whole = row["current_period_end"] - house.now - PREVIEW_LIFE
        await house.go(seconds=chance.randrange(int(whole.total_seconds())))
        preview = await change_as_previewed(house, guest, *after, wait_s=chance.randrange(600))
        await house.agree()
        await renew_as_previewed(house, guest, preview)
        await house.agree()


@pytest.mark.parametrize("balance", [-500, 700, -99_999])
async def test_B8_an_upgrade_counts_the_balance_at_stripe_in_as_its_preview_does(database, pg, double, balance):
    async with open_house(database, pg, double, LADDER) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("odd", "monthly")
        await house.go(days=10, seconds=12_345)
        customer = await customer_of(house.link, guest.id)
        await double.v1.customers.update_async(customer, {"balance": balance})
        preview = await change_as_previewed(house, guest, "middle", "monthly")
        assert preview.due_usd_micro == max(0, 65_990_000 + balance * CENT)
        await house.agree()
        if preview.due_usd_micro:
            paid = (await guest.payments())[-1]["id"]
            await refund_payment(house.billing, paid, preview.due_usd_micro)
            assert (await guest.payments())[-1]["status"] == "REFUNDED"


async def test_B8_an_upgrade_in_a_trial_costs_nothing_now_and_the_new_price_at_its_end(database, pg, double):
    async with open_house(database, pg, double, "team-workspaces") as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("team")
        await house.go(days=3, seconds=4321)
        preview = await change_as_previewed(house, guest, "studio", "monthly")
        assert (preview.due_usd_micro, preview.next_usd_micro) == (0, 100_000_000)
        await house.agree()
        paid = await charged(house, guest)
        await house.go(seconds=(preview.next_at - house.now).total_seconds() + 7200)
        assert await charged(house, guest) - paid == preview.next_usd_micro
        assert (await guest.subscription())["status"] == "ACTIVE"
        await house.agree()


async def test_B8_a_lifetime_bought_on_a_page_costs_what_its_preview_said(database, pg, double):
    async with open_house(database, pg, double, "team-workspaces") as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        price, paid = house.price("studio", "lifetime"), await charged(house, guest)
        preview = await preview_change(house.billing, guest.id, price.id)
        made = await change_plan(house.billing, guest.id, price.id, idempotency_key=uuid7().hex)
        await double.pay(session_of(made.checkout_url))
        await house.work()
        assert await charged(house, guest) - paid == preview.due_usd_micro == price.amount_usd_micro
        assert (await guest.grants("CYCLE"))[-1][0] * MICRO == preview.credits_micro
        await house.agree()


async def test_B8_what_a_change_would_be_refused_for_its_preview_is_refused_for(database, pg, double):
    async with open_house(database, pg, double, "team-workspaces") as house:
        guest = await house.workspace()
        price = house.price("studio", "yearly")

        async def refusals() -> set[str]:
            found = set()
            with pytest.raises(ChangeRefused) as refused:
                await preview_change(house.billing, guest.id, price.id)
            found.add(str(refused.value))
            with pytest.raises(ChangeRefused) as refused:
                await change_plan(house.billing, guest.id, price.id, idempotency_key=uuid7().hex)
            found.add(str(refused.value))
            return found

        await guest.page("studio")
        assert len(await refusals()) == 1
        await guest.subscribe_and_pay("team", "yearly")
        await cancel(house.billing, guest.id, idempotency_key="c")
        assert len(await refusals()) == 1
        await resume(house.billing, guest.id, idempotency_key="r")
        assert (await preview_change(house.billing, guest.id, price.id)).due_usd_micro
        price = house.price("team", "yearly")
        assert len(await refusals()) == 1
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_chargeDeclined")
        await house.go(days=366)
        assert (await guest.subscription())["status"] == "PAST_DUE"
        price = house.price("studio", "yearly")
        assert len(await refusals()) == 1


async def test_B8_a_higher_lifetime_and_an_upgrade_over_a_scheduled_change_cost_what_their_previews_said(
    database, pg, double
):
    async with open_house(database, pg, double, "team-workspaces") as house:
        first, second = await house.workspace(), await house.workspace()
        await first.subscribe_and_pay("team", "lifetime")
        await second.subscribe_and_pay("team", "yearly")
        scheduled = house.price("studio")
        await change_plan(house.billing, second.id, scheduled.id, idempotency_key="scheduled")
        assert (await second.stripe_subscription())["schedule"]
        await house.go(days=9, seconds=77)
        raised = await change_as_previewed(house, first, "studio", "lifetime")
        assert (raised.due_usd_micro, raised.next_at) == ((2999 - 899) * MICRO, None)
        upgraded = await change_as_previewed(house, second, "studio", "yearly")
        assert upgraded.due_usd_micro
        assert (await second.stripe_subscription())["schedule"] is None
        await house.agree()
        await house.go(days=40)
        row = await second.subscription()
        assert (row["price_id"], row["scheduled_price_id"]) == (house.price("studio", "yearly").id, None)
        assert row["current_period_end"] == upgraded.next_at
        await house.agree()
