"""Applying a catalog: what is versioned, what stays, and what is refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from billing.catalog import load_snapshot
from billing.catalog_apply import PromoCodes, apply, plan_changes
from billing.catalog_text import render_change
from billing.errors import CatalogErrors, CatalogRefused
from billing.rules.promo_code import code_digest
from kit.ids import encode_id, uuid7
from models.enums import Meter
from tests.billing.catalog_samples import file_of, small, small_file

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=40)
CODES = PromoCodes(b"k" * 32, {"WELCOME_CODE": "Hello-2030"})


async def counts(pg) -> dict[str, int]:
    tables = (
        "catalog_versions",
        "plans",
        "prices",
        "credit_packs",
        "models",
        "model_prices",
        "plan_models",
        "promo_campaigns",
    )
    return {table: await pg.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


async def workspace(pg, *, default_plan_id: UUID | None = None) -> UUID:
    workspace_id = uuid7()
    await pg.execute(
        "INSERT INTO workspaces (id, name, slug, default_plan_id, created_at, updated_at) VALUES ($1, 'W', $2, $3, $4, $4)",
        workspace_id,
        f"w-{workspace_id.hex[-12:]}",
        default_plan_id,
        NOW,
    )
    return workspace_id


async def subscribe(pg, price, *, status: str = "ACTIVE", cancel: bool = False) -> UUID:
    workspace_id = await workspace(pg)
    await pg.execute(
        "INSERT INTO subscriptions (id, workspace_id, plan_id, price_id, status, anchor_at, current_period_start,"
        " current_period_end, cancel_at_period_end, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $6, $6)",
        uuid7(),
        workspace_id,
        price.plan_id,
        price.id,
        status,
        NOW,
        NOW + timedelta(days=31),
        cancel,
    )
    return workspace_id


async def test_the_same_file_twice_changes_nothing(database, pg):
    first = await apply(database, small_file(), now=NOW, promo_codes=CODES)
    written = await counts(pg)
    second = await apply(database, small_file(), now=LATER, promo_codes=CODES)
    assert (first.number, first.changed) == (1, True)
    assert (second.number, second.changed) == (1, False)
    assert await counts(pg) == written
    assert written == {
        "catalog_versions": 1,
        "plans": 2,
        "prices": 3,
        "credit_packs": 1,
        "models": 2,
        "model_prices": 3,
        "plan_models": 3,
        "promo_campaigns": 1,
    }


async def test_planning_says_what_applying_does_and_writes_nothing(database, pg):
    planned = await plan_changes(database, small_file(), promo_codes=CODES)
    assert sum((await counts(pg)).values()) == 0
    applied = await apply(database, small_file(), now=NOW, promo_codes=CODES)
    assert planned == applied
    assert "+ plan pro: monthly ($20.00 a month, 500 credits each period, rolling over up to 1000)" in render_change(
        planned
    )


async def test_two_processes_that_apply_at_once_write_one_version(database, pg):
    changes = await asyncio.gather(*(apply(database, small_file(), now=NOW) for _ in range(4)))
    assert sorted(change.changed for change in changes) == [False, False, False, True]
    assert (await counts(pg))["plans"] == 2


async def test_a_changed_price_makes_a_new_version_and_leaves_subscriptions_on_the_old(database, pg):
    await apply(database, small_file(), now=NOW)
    before = await load_snapshot(database)
    old = before.plans_by_code["pro"]
    await subscribe(pg, old.prices[0])
    await pg.execute("UPDATE prices SET stripe_price_id = 'price_' || code")
    values = small()
    values["plans"]["pro"]["prices"][0]["amount"] = "25"
    change = await apply(database, file_of(values), now=LATER)
    assert "~ plan pro: version 1 → 2: price monthly: monthly ($20.00" in render_change(change)
    after = await load_snapshot(database)
    new = after.plans_by_code["pro"]
    assert (new.version, new.prices[0].amount_usd_micro) == (2, 25_000_000)
    kept = after.plans_by_id[old.id]
    assert (kept.retired, kept.prices[0].amount_usd_micro) == (True, 20_000_000)
    assert kept.models == old.models
    assert after.renewal_of(after.prices_by_id[old.prices[0].id]) == new.prices[0]
    assert [price.stripe_price_id for price in new.prices] == [None, "price_yearly"]


async def test_unchanged_plans_packs_and_models_keep_their_rows(database):
    await apply(database, small_file(), now=NOW)
    before = await load_snapshot(database)
    values = small()
    values["plans"]["pro"]["prices"][0]["amount"] = "25"
    await apply(database, file_of(values), now=LATER)
    after = await load_snapshot(database)
    assert after.default_plan == before.default_plan
    assert after.packs == before.packs
    assert [model.id for model in after.models] == [model.id for model in before.models]
    assert after.models_by_slug["chat"].prices == before.models_by_slug["chat"].prices


async def test_a_new_name_and_a_new_price_are_written_to_the_live_version(database):
    await apply(database, small_file(), now=NOW)
    before = (await load_snapshot(database)).plans_by_code["pro"]
    values = small()
    values["plans"]["pro"]["name"] = "Professional"
    values["plans"]["pro"]["prices"].append({"code": "lifetime", "amount": "900", "period": "LIFETIME"})
    await apply(database, file_of(values), now=LATER)
    after = (await load_snapshot(database)).plans_by_code["pro"]
    assert (after.id, after.version, after.name) == (before.id, 1, "Professional")
    assert [price.code for price in after.prices] == ["monthly", "yearly", "lifetime"]


async def test_a_price_taken_up_again_is_part_of_a_new_version(database):
    await apply(database, small_file(), now=NOW)
    values = small()
    del values["plans"]["pro"]["prices"][1]
    await apply(database, file_of(values), now=NOW)
    assert [price.code for price in (await load_snapshot(database)).plans_by_code["pro"].prices] == ["monthly"]
    await apply(database, small_file(), now=LATER)
    plan = (await load_snapshot(database)).plans_by_code["pro"]
    assert (plan.version, [price.code for price in plan.prices]) == (2, ["monthly", "yearly"])


async def test_a_model_price_is_retired_and_written_anew(database, pg):
    await apply(database, small_file(), now=NOW)
    values = small()
    values["models"]["chat"]["prices"][0]["credits"] = "3"
    await apply(database, file_of(values), now=LATER)
    model = (await load_snapshot(database)).models_by_slug["chat"]
    assert {price.meter: price.credits_micro for price in model.prices} == {
        Meter.INPUT_TOKENS: 3_000_000,
        Meter.OUTPUT_TOKENS: 2_000_000,
    }
    retired = await pg.fetch("SELECT meter, credits_micro, retired_at FROM model_prices WHERE retired_at IS NOT NULL")
    assert [tuple(row) for row in retired] == [("INPUT_TOKENS", 1_000_000, LATER)]


async def test_a_new_model_reaches_subscribers_on_older_versions_too(database, pg):
    await apply(database, small_file(), now=NOW)
    old = (await load_snapshot(database)).plans_by_code["pro"]
    await subscribe(pg, old.prices[0])
    values = small()
    values["plans"]["pro"]["entitlements"]["requests_per_hour"] = 2000
    values["models"]["poem"] = values["models"]["chat"] | {"name": "Poem"}
    await apply(database, file_of(values), now=LATER)
    snapshot = await load_snapshot(database)
    poem = snapshot.models_by_slug["poem"]
    assert snapshot.allowed(snapshot.plans_by_id[old.id], poem)
    assert snapshot.plans_by_id[old.id].entitlements.requests_per_hour == 1000
    assert set(poem.plan_ids) == {plan.id for plan in snapshot.plans}


async def test_a_model_that_is_gone_is_retired_and_given_by_no_plan(database, pg):
    await apply(database, small_file(), now=NOW)
    values = small()
    del values["models"]["image"]
    values["plans"]["pro"].pop("discounts")
    values["plans"]["pro"]["entitlements"].pop("compute_discount_percent")
    await apply(database, file_of(values), now=LATER)
    snapshot = await load_snapshot(database)
    assert list(snapshot.models_by_slug) == ["chat"]
    assert await pg.fetchval("SELECT count(*) FROM plan_models") == 2
    assert await pg.fetchval("SELECT retired_at FROM models WHERE slug = 'image'") == LATER
    assert await pg.fetchval("SELECT count(*) FROM model_prices WHERE meter = 'IMAGES' AND retired_at IS NULL") == 0


async def test_a_changed_pack_is_another_version_and_a_renamed_one_is_not(database):
    await apply(database, small_file(), now=NOW)
    first = (await load_snapshot(database)).packs_by_code["small"]
    values = small()
    values["packs"]["small"]["name"] = "Little pack"
    await apply(database, file_of(values), now=NOW)
    renamed = (await load_snapshot(database)).packs_by_code["small"]
    values["packs"]["small"]["price"] = "2"
    await apply(database, file_of(values), now=LATER)
    snapshot = await load_snapshot(database)
    assert (renamed.id, renamed.name) == (first.id, "Little pack")
    assert snapshot.packs_by_code["small"].id != first.id
    assert snapshot.packs_by_id[first.id].retired


@pytest.mark.parametrize("removed", ["plan", "price"])
async def test_removing_what_live_subscriptions_renew_onto_is_refused(database, pg, removed):
    await apply(database, small_file(), now=NOW)
    price = (await load_snapshot(database)).plans_by_code["pro"].prices[0]
    await subscribe(pg, price)
    before = await counts(pg)
    values = without_pro() if removed == "plan" else without_monthly()
    with pytest.raises(CatalogRefused, match=r"pro\.monthly: 1 running subscriptions renew onto it"):
        await apply(database, file_of(values), now=LATER)
    assert await counts(pg) == before
    assert (await plan_changes(database, file_of(values))).refusals


@pytest.mark.parametrize(("status", "cancel"), [("ACTIVE", True), ("EXPIRED", False)])
async def test_subscriptions_that_end_anyway_do_not_stand_against_a_removal(database, pg, status, cancel):
    await apply(database, small_file(), now=NOW)
    price = (await load_snapshot(database)).plans_by_code["pro"].prices[0]
    workspace_id = await subscribe(pg, price, cancel=cancel)
    if status == "EXPIRED":
        await pg.execute("UPDATE subscriptions SET status = 'EXPIRED', ended_at = $1", NOW)
    change = await apply(database, file_of(without_pro()), now=LATER)
    assert change.changed
    assert workspace_id


@pytest.mark.parametrize(
    ("retired", "code"),
    [
        ({"plans": {"pro": {"renewal": "KEEP"}}}, "pro.monthly"),
        ({"plans": {"pro": {"renewal": "END"}}}, None),
        ({"plans": {"pro": {"renewal": "SUCCESSOR", "successor": "max"}}}, "max.monthly"),
        ({"prices": {"pro.monthly": {"renewal": "SUCCESSOR", "successor": "free.free"}}}, "free.free"),
    ],
)
async def test_a_retired_plan_says_what_becomes_of_its_subscribers(database, pg, retired, code):
    await apply(database, small_file(), now=NOW)
    price = (await load_snapshot(database)).plans_by_code["pro"].prices[0]
    await subscribe(pg, price)
    values = without_pro()
    values["retired"] = retired
    values["plans"]["max"] = small()["plans"]["pro"] | {"name": "Max"}
    await apply(database, file_of(values), now=LATER)
    snapshot = await load_snapshot(database)
    renewed = snapshot.renewal_of(snapshot.prices_by_id[price.id])
    found = None if renewed is None else f"{snapshot.plans_by_id[renewed.plan_id].code}.{renewed.code}"
    assert found == code


async def test_a_successor_without_the_price_is_refused(database, pg):
    await apply(database, small_file(), now=NOW)
    await subscribe(pg, (await load_snapshot(database)).plans_by_code["pro"].prices[0])
    values = without_pro()
    values["retired"] = {"plans": {"pro": {"renewal": "SUCCESSOR", "successor": "free"}}}
    with pytest.raises(CatalogRefused, match="the successor free has no price 'monthly'"):
        await apply(database, file_of(values), now=LATER)


async def test_a_rate_is_not_changed_under_the_credits_of_customers(database, pg):
    await apply(database, small_file(), now=NOW)
    wallet_id = uuid7()
    await pg.execute(
        "INSERT INTO wallets (id, workspace_id, balance_micro, created_at) VALUES ($1, $2, 5, $3)",
        wallet_id,
        await workspace(pg),
        NOW,
    )
    await pg.execute(
        "INSERT INTO credit_grants (id, wallet_id, kind, burn_rank, amount_micro, remaining_micro, effective_at,"
        " source_kind, source_id, created_at) VALUES ($1, $2, 'TOP_UP', 4, 5, 5, $3, 'test', '1', $3)",
        uuid7(),
        wallet_id,
        NOW,
    )
    values = small()
    values["credits_per_usd"] = "50"
    with pytest.raises(CatalogRefused, match="credits_per_usd goes from 100 to 50"):
        await apply(database, file_of(values), now=LATER)
    change = await apply(database, file_of(values), now=LATER, may_revalue=True)
    assert change.changed


async def test_a_catalog_with_contradictions_is_not_applied(database, pg):
    values = small()
    values["default_plan"] = "nobody"
    with pytest.raises(CatalogErrors, match="default_plan: there is no plan 'nobody'"):
        await apply(database, file_of(values), now=NOW)
    assert (await counts(pg))["catalog_versions"] == 0


async def test_the_default_plan_can_move_to_another_plan(database):
    await apply(database, small_file(), now=NOW)
    values = small()
    values["default_plan"] = "base"
    values["plans"]["base"] = values["plans"]["free"] | {"name": "Base", "rank": 1}
    await apply(database, file_of(values), now=LATER)
    snapshot = await load_snapshot(database)
    assert (snapshot.number, snapshot.default_plan.code) == (2, "base")
    assert not snapshot.plans_by_code["free"].is_default


async def test_codes_are_kept_as_keyed_digests_and_redemptions_stay_counted(database, pg):
    await apply(database, small_file(), now=NOW, promo_codes=CODES)
    await pg.execute("UPDATE promo_campaigns SET redeemed_count = 4")
    values = small()
    values["promo"]["welcome"]["total_limit"] = 5
    await apply(database, file_of(values), now=LATER, promo_codes=CODES)
    (row,) = await pg.fetch("SELECT * FROM promo_campaigns")
    assert row["code_digest"] == code_digest("hello 2030", CODES.secret_key)
    assert (row["total_limit"], row["redeemed_count"]) == (5, 4)
    values["promo"]["welcome"]["total_limit"] = 3
    with pytest.raises(CatalogRefused, match="redeemed 4 times already"):
        await apply(database, file_of(values), now=LATER, promo_codes=CODES)
    del values["promo"]
    await apply(database, file_of(values), now=LATER, promo_codes=CODES)
    assert await pg.fetchval("SELECT retired_at FROM promo_campaigns") == LATER


async def test_a_campaign_whose_code_is_not_set_is_left_out_with_a_note(database, pg):
    change = await apply(database, small_file(), now=NOW)
    assert "! promo welcome: left as it is: WELCOME_CODE is not set" in render_change(change)
    assert (await counts(pg))["promo_campaigns"] == 0
    with_code = await apply(database, small_file(), now=LATER, promo_codes=CODES)
    assert (with_code.changed, (await counts(pg))["promo_campaigns"]) == (True, 1)


async def test_campaigns_with_one_code_are_refused_and_an_operators_own_is_left_alone(database, pg):
    await pg.execute(
        "INSERT INTO promo_campaigns (id, code_digest, name, credits_micro, created_at) VALUES ($1, $2, 'own', 5, $3)",
        uuid7(),
        code_digest("HELLO2030", CODES.secret_key),
        NOW,
    )
    with pytest.raises(CatalogRefused, match=r"promo\.welcome: another campaign has the same code"):
        await apply(database, small_file(), now=NOW, promo_codes=CODES)
    await pg.execute("UPDATE promo_campaigns SET code_digest = 'x'")
    await apply(database, small_file(), now=NOW, promo_codes=CODES)
    assert await pg.fetchval("SELECT retired_at FROM promo_campaigns WHERE name = 'own'") is None


async def test_D10_a_custom_plan_becomes_the_plan_of_its_one_workspace(database, pg):
    await apply(database, small_file(), now=NOW)
    acme, other = await workspace(pg), await workspace(pg)
    values = small()
    values["plans"]["acme"] = {
        "name": "Acme",
        "rank": 5,
        "public": False,
        "workspace": encode_id("ws", acme),
        "models": ["*"],
        "entitlements": {"requests_per_hour": 7, "support_level": "PRIORITY"},
    }
    await apply(database, file_of(values), now=NOW)
    snapshot = await load_snapshot(database)
    plan = snapshot.plans_by_code["acme"]
    assert await pg.fetchval("SELECT default_plan_id FROM workspaces WHERE id = $1", acme) == plan.id
    assert plan in snapshot.plans_seen_by(acme)
    assert plan not in snapshot.plans_seen_by(other)
    values["plans"]["acme"]["entitlements"]["requests_per_hour"] = 8
    await apply(database, file_of(values), now=LATER)
    newer = (await load_snapshot(database)).plans_by_code["acme"]
    assert await pg.fetchval("SELECT default_plan_id FROM workspaces WHERE id = $1", acme) == newer.id
    await apply(database, small_file(), now=LATER)
    assert "acme" in (await load_snapshot(database)).plans_by_code
    ended = small() | {"retired": {"plans": {"acme": {"renewal": "END"}}}}
    await apply(database, file_of(ended), now=LATER)
    assert await pg.fetchval("SELECT default_plan_id FROM workspaces WHERE id = $1", acme) is None


async def test_a_custom_plan_for_nobody_and_a_slug_that_is_taken_are_refused(database, pg):
    values = small()
    values["plans"]["acme"] = values["plans"]["free"] | {"public": False, "workspace": encode_id("ws", uuid7())}
    await pg.execute(
        "INSERT INTO models (id, slug, name, modality, routes, workspace_id, created_at, updated_at)"
        " VALUES ($1, 'chat', 'Theirs', 'TEXT', '[]', $2, $3, $3)",
        uuid7(),
        await workspace(pg),
        NOW,
    )
    with pytest.raises(CatalogRefused) as caught:
        await apply(database, file_of(values), now=NOW)
    assert caught.value.reasons == (
        'models."chat": a workspace has published a model of this slug',
        "plans.acme.workspace: there is no such workspace",
    )


def without_pro() -> dict:
    values = small()
    del values["plans"]["pro"], values["packs"]
    values["plans"]["free"]["models"] = ["*"]
    return values


def without_monthly() -> dict:
    values = small()
    del values["plans"]["pro"]["prices"][0]
    return values
