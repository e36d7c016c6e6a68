"""The catalog in memory, and the plan that holds for a workspace."""

from datetime import timedelta

import pytest

from billing.catalog import CatalogHolder, load_snapshot
from billing.catalog_apply import apply
from billing.errors import CatalogMissing, NotInPlan, UnknownPlan
from billing.plans import give_plan, plan_in_force, plan_of, plans_of, require_feature
from billing.rules.standing import gives_plan
from kit.ids import uuid7
from models.enums import GrantKind
from tests.billing.catalog_samples import SHIPPED, file_of, shipped, small, small_file
from tests.billing.test_catalog_apply import LATER, NOW, subscribe, workspace


async def test_without_a_catalog_there_is_no_snapshot(database):
    holder = CatalogHolder(database)
    with pytest.raises(CatalogMissing):
        _ = holder.current
    assert not await holder.refresh_if_changed()
    with pytest.raises(CatalogMissing):
        await holder.reload()


async def test_a_holder_takes_the_next_version_when_there_is_one(database):
    holder = CatalogHolder(database)
    await apply(database, small_file(), now=NOW)
    assert await holder.refresh_if_changed()
    first = holder.current
    assert not await holder.refresh_if_changed()
    assert holder.current is first
    await apply(database, file_of(small() | {"name": "Other"}), now=LATER)
    assert await holder.refresh_if_changed()
    assert (holder.current.number, holder.current.name) == (2, "Other")


async def test_the_snapshot_answers_access_discount_and_prices_by_look_up(database):
    await apply(database, small_file(), now=NOW)
    snapshot = await load_snapshot(database)
    free, pro = snapshot.plans_by_code["free"], snapshot.plans_by_code["pro"]
    chat, image = snapshot.models_by_slug["chat"], snapshot.models_by_slug["image"]
    assert [snapshot.allowed(free, chat), snapshot.allowed(free, image), snapshot.allowed(pro, image)] == [
        True,
        False,
        True,
    ]
    assert [snapshot.discount_percent(pro, chat), snapshot.discount_percent(pro, image)] == [0, 10]
    assert chat.plan_ids == (free.id, pro.id)
    assert image.plan_ids == (pro.id,)
    assert snapshot.models_by_id[chat.id] is chat
    assert snapshot.burn_ranks[GrantKind.CYCLE] == 0
    assert snapshot.settings.top_up is not None


@pytest.mark.parametrize("name", SHIPPED)
async def test_a_shipped_catalog_survives_the_way_through_the_database(database, name):
    file = shipped(name)
    await apply(database, file, now=NOW)
    snapshot = await load_snapshot(database)
    assert (snapshot.credits_per_usd, snapshot.settings) == (file.credits_per_usd, file.settings)
    for plan in snapshot.plans:
        assert plan.entitlements == file.plans[plan.code].entitlements
        assert [price.code for price in plan.prices] == [price.code for price in file.plans[plan.code].prices]
    for model in snapshot.models:
        terms = file.models[model.slug]
        assert (model.routes, model.limits, model.tier) == (terms.routes, terms.limits, terms.tier)
        found = [(price.meter, price.credits_micro, price.per) for price in model.prices]
        assert found == [(price.meter, price.credits_micro, price.per) for price in terms.prices]
    assert not (await apply(database, file, now=LATER)).changed


async def test_a_subscription_gives_its_plan_then_the_workspaces_own_then_the_catalogs(database, pg):
    await apply(database, small_file(), now=NOW)
    snapshot = await load_snapshot(database)
    pro = snapshot.plans_by_code["pro"]
    subscribed = await subscribe(pg, pro.prices[0])
    own, none = await workspace(pg, default_plan_id=pro.id), await workspace(pg)
    found = await plans_of(database, snapshot, [subscribed, own, none], NOW)
    assert [found[workspace_id].code for workspace_id in (subscribed, own, none)] == ["pro", "pro", "free"]
    assert (await plan_of(database, snapshot, uuid7(), NOW)).code == "free"


async def test_a_plan_that_another_process_has_just_applied_holds_at_once(database, pg):
    holder = CatalogHolder(database)
    await apply(database, small_file(), now=NOW)
    await holder.reload()
    values = small()
    values["plans"]["pro"]["prices"][0]["amount"] = "25"
    await apply(database, file_of(values), now=LATER)
    price = (await load_snapshot(database)).plans_by_code["pro"].prices[0]
    workspace_id = await subscribe(pg, price)
    assert (await plan_in_force(database, holder, workspace_id, NOW)).id == price.plan_id


async def test_D10_a_plan_can_be_given_to_one_workspace_and_taken_back(database, pg):
    await apply(database, small_file(), now=NOW)
    snapshot = await load_snapshot(database)
    workspace_id = await workspace(pg)
    await give_plan(database, snapshot, workspace_id, "pro", now=NOW)
    assert (await plan_of(database, snapshot, workspace_id, NOW)).code == "pro"
    await give_plan(database, snapshot, workspace_id, None, now=NOW)
    assert (await plan_of(database, snapshot, workspace_id, NOW)).code == "free"
    with pytest.raises(UnknownPlan):
        await give_plan(database, snapshot, workspace_id, "gold", now=NOW)


@pytest.mark.parametrize(
    ("status", "grace_days", "cancel", "expected"),
    [
        ("TRIALING", None, False, True),
        ("ACTIVE", None, False, True),
        ("ACTIVE", None, True, False),
        ("PAST_DUE", 3, False, True),
        ("PAST_DUE", 0, False, False),
        ("PAST_DUE", None, False, False),
        ("INCOMPLETE", None, False, False),
        ("CANCELED", None, False, False),
    ],
)
def test_A9_C11_a_subscription_gives_its_plan_while_it_is_active_or_within_grace(status, grace_days, cancel, expected):
    grace_ends_at = None if grace_days is None else NOW + timedelta(days=grace_days)
    end = NOW if cancel else NOW + timedelta(days=1)
    given = gives_plan(status, NOW, current_period_end=end, grace_ends_at=grace_ends_at, cancel_at_period_end=cancel)
    assert given is expected


async def test_a_missing_feature_names_the_plans_that_have_it(database):
    await apply(database, small_file(), now=NOW)
    snapshot = await load_snapshot(database)
    require_feature(snapshot, snapshot.plans_by_code["pro"], "api_access")
    with pytest.raises(NotInPlan, match="the plan Free does not include API access; it is part of Pro"):
        require_feature(snapshot, snapshot.plans_by_code["free"], "api_access")
