"""Credits by our own schedule: drip, whole year, reset, rollover, catching up, once and not twice."""

import asyncio
import tomllib
from datetime import UTC, datetime, timedelta

from billing.advance import advance_due
from billing.catalog_apply import apply
from tests.billing.catalog_samples import file_of, small
from tests.billing.shop import MICRO, open_shop
from tests.metering.invariants import assert_invariants


def day(text):
    return datetime.fromisoformat(text).replace(hour=10, tzinfo=UTC)


async def test_A5_each_charge_starts_a_cycle_of_30_days_with_its_credits(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        await pg.execute("UPDATE prices SET trial_days = 0")
        await shop.billing.catalog.reload()
        made = await customer.subscribe("team")
        assert await customer.available() == 2000
        await customer.spend(500 * MICRO)
        shop.go(days=30)
        await shop.work()
        assert await customer.available() == 0  # charged every 30 days: without the charge there is no new cycle
        await customer.pay(made["id"], shop.price("team", "monthly"))
        assert await customer.available() == 2000
        assert await customer.grants() == [(2000, "2027-01-31", "2027-03-02"), (2000, "2027-03-02", "2027-04-01")]
    await assert_invariants(pg)


async def test_A6_yearly_plan_resets_credits_every_month(database, pg):
    async with open_shop(database, pg, "team-workspaces") as shop:
        customer = await shop.workspace()
        await customer.subscribe("team", "yearly")
        for month in range(12):
            assert await customer.available() == 2000, month
            await customer.spend(100 * (month + 1) * MICRO)
            shop.go(to=day("2027-01-31") + timedelta(days=31 * (month + 1)))
            await shop.work()
        grants = await customer.grants()
        assert grants[:4] == [
            (2000, "2027-01-31", "2027-02-28"),
            (2000, "2027-02-28", "2027-03-31"),
            (2000, "2027-03-31", "2027-04-30"),
            (2000, "2027-04-30", "2027-05-31"),
        ]
        assert len(grants) == 12
        assert grants[-1] == (2000, "2027-12-31", "2028-01-31")
    await assert_invariants(pg)


async def test_A7_lifetime_grants_every_month_for_ever_after_one_payment(database, pg):
    async with open_shop(database, pg, "team-workspaces", start=day("2028-02-29")) as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("team", "lifetime")
        assert row["current_period_end"] is None
        for years in (1, 3, 9):
            shop.go(to=day("2028-02-28").replace(year=2028 + years, day=28) + timedelta(days=2))
            await shop.work()
            assert await customer.available() == 2000
        grants = await customer.grants()
        assert len(grants) == 9 * 12 + 1
        assert grants[12] == (2000, "2029-02-28", "2029-03-29")
        assert grants[48] == (2000, "2032-02-29", "2032-03-29")
        assert await pg.fetchval("SELECT count(*) FROM payments") == 1
    await assert_invariants(pg)


async def test_C5_an_annual_plan_brings_the_whole_year_at_once_until_the_yearly_renewal(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("starter", "annual")
        assert await customer.grants() == [(12000, "2027-01-31", "2028-01-31")]
        await customer.spend(11_000 * MICRO)
        shop.go(days=364)
        await shop.work()
        assert await customer.available() == 1000
        shop.go(days=1)
        await customer.pay(row["id"], shop.price("starter", "annual"))
        await shop.work()
        assert await customer.available() == 12000
    await assert_invariants(pg)


async def test_C8_cycle_credits_do_not_roll_over(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("starter")
        shop.go(to=day("2027-02-28"))
        await customer.pay(row["id"], shop.price("starter", "monthly"))
        await shop.work()
        assert await customer.available() == 1000
        assert [entry["kind"] for entry in await pg.fetch("SELECT kind FROM ledger_entries ORDER BY id")] == [
            "GRANT",
            "EXPIRY",
            "GRANT",
        ]
    await assert_invariants(pg)


async def test_rollover_keeps_what_is_left_up_to_its_cap_and_a_cycle_used_up_leaves_nothing(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        price = shop.price("pro", "monthly")
        seen = []
        for month, spent in enumerate((100, 0, 0, 1500)):
            await customer.spend(spent * MICRO)
            shop.go(to=day("2027-01-31") + timedelta(days=31 * (month + 1)))
            await customer.pay(row["id"], price)
            await shop.work()
            seen.append(await customer.available())
        assert seen == [900, 1400, 1500, 500]  # 400 kept; 900 kept; 1000 of 1400, the cap; nothing
    await assert_invariants(pg)


async def test_a_worker_that_was_away_for_three_months_catches_up_period_by_period(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("free", "free")
        await customer.spend(20 * MICRO)
        shop.go(to=day("2027-05-05"))
        assert await customer.available() == 0
        assert await shop.work() == 1
        assert await customer.grants() == [
            (50, "2027-01-31", "2027-02-28"),
            (50, "2027-02-28", "2027-03-31"),
            (50, "2027-03-31", "2027-04-30"),
            (50, "2027-04-30", "2027-05-31"),
        ]
        assert await customer.available() == 50
        row = await customer.subscription()
        assert (row["period_number"], row["grant_number"]) == (4, 4)
        assert await shop.work() == 0
    await assert_invariants(pg)


async def test_rollover_is_the_same_for_a_punctual_worker_and_for_one_that_was_away(database, pg):
    values = small()
    values["plans"]["free"]["prices"][0]["credits"] = {
        "amount": "5",
        "cadence": "MONTH",
        "rollover": True,
        "rollover_cap": "12",
    }
    async with open_shop(database, pg, values) as shop:
        punctual, late = await shop.workspace(), await shop.workspace()
        for each in (punctual, late):
            await each.subscribe("free", "free")
            await each.spend(2 * MICRO)
        for month in range(1, 6):
            shop.go(to=day("2027-01-31") + timedelta(days=31 * month))
            await pg.execute(
                "UPDATE subscriptions SET due_at = due_at + interval '10 years' WHERE workspace_id = $1", late.id
            )
            await shop.work()
        await pg.execute("UPDATE subscriptions SET due_at = current_period_end WHERE workspace_id = $1", late.id)
        await shop.work()
        assert await late.grants() == await punctual.grants()
        assert await late.available() == await punctual.available() == 17
    await assert_invariants(pg)


async def test_no_number_of_workers_grants_twice(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customers = [await shop.workspace() for _ in range(4)]
        for customer in customers:
            await customer.subscribe("free", "free")
        shop.go(to=day("2027-04-01"))
        counts = await asyncio.gather(*(advance_due(shop.billing, limit=3) for _ in range(4)))
        assert sum(counts) >= 3
        await shop.work()
        for customer in customers:
            assert [grant[1] for grant in await customer.grants()] == ["2027-01-31", "2027-02-28", "2027-03-31"]
    await assert_invariants(pg)


async def test_credits_that_come_once_come_once_whatever_is_cancelled_and_begun_again(database, pg):
    values = small()
    values["plans"]["free"]["prices"][0]["credits"] = {"amount": "5", "cadence": "ONCE"}
    async with open_shop(database, pg, values) as shop:
        from billing.subscriptions import cancel

        customer = await shop.workspace()
        await customer.subscribe("free", "free")
        for round_ in range(2):
            await cancel(shop.billing, customer.id, idempotency_key=f"c{round_}")
            shop.go(days=40)
            await shop.work()
            assert await customer.available() == 0  # frozen, as no plan is active
            await customer.subscribe("free", "free")
            assert await customer.available() == 5
        assert len(await customer.grants()) == 1
    await assert_invariants(pg)


async def test_a_renewal_follows_the_catalogs_new_terms_and_running_periods_stay_on_the_old(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("starter")
        values = tomllib.loads(await pg.fetchval("SELECT source FROM catalog_versions"))
        values["plans"]["starter"]["prices"][0]["credits"]["amount"] = "1200"
        values["plans"]["starter"]["prices"][0]["amount"] = "16"
        await apply(database, file_of(values), now=shop.time.at)
        await shop.billing.catalog.reload()
        await shop.work()
        assert await customer.available() == 1000
        shop.go(to=day("2027-02-28"))
        await customer.pay(row["id"], shop.price("starter", "monthly"))
        assert await customer.available() == 1200
    await assert_invariants(pg)


async def test_a_price_that_the_catalog_ended_ends_its_subscriptions_with_their_period(database, pg):
    values = small()
    async with open_shop(database, pg, values) as shop:
        customer = await shop.workspace()
        row = await customer.subscribe("pro")
        del values["plans"]["pro"]["prices"][0]
        values["retired"] = {"prices": {"pro.monthly": {"renewal": "END"}}}
        await apply(database, file_of(values), now=shop.time.at)
        shop.go(days=27)
        await shop.work()
        assert (await customer.subscription())["status"] == "ACTIVE"
        shop.go(days=1)
        await shop.work()
        row = await customer.subscription()
        assert (row["status"], row["ended_at"]) == ("EXPIRED", day("2027-02-28"))
        assert await customer.available() == 0
    await assert_invariants(pg)
