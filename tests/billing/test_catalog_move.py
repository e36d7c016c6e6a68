"""Running subscriptions keep their terms until they renew, unless the operator moves them onto the new ones at once."""

from datetime import timedelta

from app.catalog_commands import apply_file
from app.settings import Settings
from billing.catalog_apply import apply
from billing.catalog_move import move_subscriptions
from billing.plans import plan_of
from billing.subscribing import subscribe
from billing.subscriptions import change_plan
from tests.billing.catalog_samples import file_of, small
from tests.billing.shop import START, open_shop
from tests.metering.invariants import assert_invariants


def catalog(*, requests=1000, granted="500", amount="20", lifetime="300"):
    values = small()
    pro = values["plans"]["pro"]
    pro["entitlements"]["requests_per_hour"] = requests
    pro["prices"][0] |= {"amount": amount, "credits": {"amount": granted, "cadence": "BILLING_PERIOD"}}
    pro["prices"].append(
        {
            "code": "lifetime",
            "amount": lifetime,
            "period": "LIFETIME",
            "credits": {"amount": granted, "cadence": "MONTH"},
        }
    )
    return values


async def requests_of(shop, customer):
    billing = shop.billing
    plan = await plan_of(billing.database, billing.catalog.current, customer.id, shop.time.at)
    return plan.entitlements.requests_per_hour


async def sell(shop, **changes):
    await apply(shop.billing.database, file_of(catalog(**changes)), now=shop.time.at)
    await shop.billing.catalog.reload()


async def test_without_being_told_a_running_subscription_keeps_its_terms_until_it_renews(database, pg):
    async with open_shop(database, pg, catalog()) as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        shop.go(days=3)
        await sell(shop, requests=2000, granted="700")
        await shop.work()
        assert (await requests_of(shop, customer), await customer.available()) == (1000, 500)
        row = await customer.subscription()
        shop.go(to=row["current_period_end"])
        await customer.pay(row["id"], shop.price("pro", "monthly"))
        assert (await requests_of(shop, customer), await customer.available()) == (2000, 700)


async def test_moved_it_has_the_new_terms_at_once_and_the_new_credits_with_the_next_grant(database, pg):
    async with open_shop(database, pg, catalog()) as shop:
        monthly, lifetime = await shop.workspace(), await shop.workspace()
        await monthly.subscribe("pro")
        await lifetime.subscribe("pro", "lifetime")
        before = await monthly.subscription()
        shop.go(days=3)
        await sell(shop, requests=2000, granted="700")
        assert await move_subscriptions(shop.billing) == 2
        assert await move_subscriptions(shop.billing) == 0
        for customer in (monthly, lifetime):
            assert (await requests_of(shop, customer), await customer.available()) == (2000, 500)
        after = await monthly.subscription()
        kept = ("current_period_start", "current_period_end", "anchor_at", "status", "period_number")
        assert [after[name] for name in kept] == [before[name] for name in kept]
        shop.go(to=START + timedelta(days=28))
        await shop.work()
        assert await lifetime.available() == 700
    await assert_invariants(pg)


async def test_nobody_is_moved_onto_another_price_or_out_of_a_checkout_and_what_was_scheduled_stays(database, pg):
    async with open_shop(database, pg, catalog()) as shop:
        dearer, waiting, leaving = [await shop.workspace() for _ in range(3)]
        await dearer.subscribe("pro")
        await subscribe(shop.billing, waiting.id, shop.price("pro", "monthly").id, idempotency_key="k")
        await leaving.subscribe("pro", "yearly")
        await change_plan(shop.billing, leaving.id, shop.price("pro", "monthly").id, idempotency_key="c")
        scheduled = (await leaving.subscription())["scheduled_price_id"]
        assert scheduled is not None
        await sell(shop, requests=2000, amount="19")
        assert await move_subscriptions(shop.billing) == 1  # the yearly one, whose amount is as before
        assert await requests_of(shop, dearer) == 1000
        assert await requests_of(shop, leaving) == 2000
        assert (await leaving.subscription())["scheduled_price_id"] == scheduled
        assert (await waiting.subscription())["status"] == "INCOMPLETE"


async def test_the_command_moves_after_applying_and_also_those_an_earlier_file_left_behind(
    database, database_url, pg, tmp_path, capsys
):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await customer.subscribe("pro")
        path = tmp_path / "changed.toml"
        text = (await pg.fetchval("SELECT source FROM catalog_versions")).replace(
            "requests_per_hour = 5_000", "requests_per_hour = 6_000"
        )
        path.write_text(text)
        settings = Settings.from_environment({"TOLLGATE_DATABASE_URL": database_url})
        assert await apply_file(settings, path, yes=True, dry_run=False) == 0
        await shop.billing.catalog.reload()
        assert await requests_of(shop, customer) == 5_000
        assert await apply_file(settings, path, yes=True, dry_run=False, move=True) == 0
        assert "1 running subscriptions have the new terms now" in capsys.readouterr().out
        assert await requests_of(shop, customer) == 6_000
