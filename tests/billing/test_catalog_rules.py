"""The four pricing models as data: one test for each rule of product.md that the catalog files state."""

from decimal import Decimal

from billing.catalog_settings import ProviderKind
from billing.catalog_text import render_catalog, render_plan_models
from kit.money import usd_text
from models.enums import GrantCadence, GrantKind, Meter, Modality, PricePeriod
from tests.billing.catalog_samples import shipped

TEAM = shipped("team-workspaces")
USD = shipped("usd-balance")
CREATOR = shipped("creator-tiers")
PREPAID = shipped("pay-as-you-go")


def price_of(catalog, plan, period):
    (price,) = [price for price in catalog.plans[plan].prices if price.period is period]
    return price


def paid_plans(catalog):
    return [plan for plan in catalog.plans.values() if any(price.amount_usd_micro for price in plan.prices)]


def test_A3_members_can_share_a_workspace_on_every_plan():
    assert all(plan.entitlements.team_management for plan in TEAM.plans.values())
    assert all(plan.entitlements.members_limit is None for plan in TEAM.plans.values())


def test_A5_monthly_is_charged_every_30_days_and_each_charge_grants_a_cycle():
    for plan in paid_plans(TEAM):
        price = price_of(TEAM, plan.code, PricePeriod.DAYS_30)
        assert (price.cadence, price.rollover) == (GrantCadence.BILLING_PERIOD, False)


def test_A6_yearly_costs_less_than_twelve_months_and_resets_credits_every_month():
    for plan in paid_plans(TEAM):
        monthly, yearly = price_of(TEAM, plan.code, PricePeriod.DAYS_30), price_of(TEAM, plan.code, PricePeriod.YEAR)
        assert yearly.amount_usd_micro < 12 * monthly.amount_usd_micro
        assert (yearly.cadence, yearly.credits_micro) == (GrantCadence.MONTH, monthly.credits_micro)


def test_A7_lifetime_is_paid_once_and_granted_every_month():
    for plan in paid_plans(TEAM):
        price = price_of(TEAM, plan.code, PricePeriod.LIFETIME)
        assert (price.cadence, price.rollover) == (GrantCadence.MONTH, False)
        assert price.credits_micro


def test_A8_add_on_credits_never_expire_are_sold_on_every_plan_and_used_after_the_cycle():
    assert TEAM.packs
    assert all(pack.expires_after_months is None for pack in TEAM.packs.values())
    assert all(plan.entitlements.credit_packs for plan in TEAM.plans.values())
    order = TEAM.settings.burn_order
    assert order.index(GrantKind.CYCLE) < order.index(GrantKind.PACK)


def test_A9_add_on_credits_need_an_active_subscription():
    assert all(pack.requires_active_plan for pack in TEAM.packs.values())
    assert not TEAM.plans[TEAM.default_plan].prices


def test_B2_a_promo_code_gives_an_amount_or_a_percentage_and_is_not_in_the_file():
    welcome, double = USD.promos["welcome"], USD.promos["double-top-up"]
    assert (welcome.credits_micro, double.bonus_percent) == (5_000_000, 20)
    assert all(promo.code_env and promo.total_limit for promo in USD.promos.values())


def test_B3_one_credit_is_one_dollar():
    assert USD.credits_per_usd == 1
    assert usd_text(32_390_000, USD.credits_per_usd) == "32.39"


def test_B4_auto_recharge_takes_ten_dollars_below_twenty():
    terms = USD.settings.auto_recharge
    assert terms.min_threshold_usd_micro <= 20_000_000 <= terms.max_threshold_usd_micro
    assert terms.min_amount_usd_micro <= 10_000_000 <= terms.max_amount_usd_micro


def test_B6_earnings_can_be_paid_out_within_72_hours_and_top_ups_as_the_catalog_says():
    assert USD.settings.transfers.completes_within_hours == 72
    assert USD.settings.top_up.transferable is False


def test_B9_personal_is_free_for_ever_pro_costs_20_dollars_and_business_100():
    assert USD.default_plan == "personal"
    assert [price.period for price in USD.plans["personal"].prices] == [PricePeriod.FREE]
    assert price_of(USD, "pro", PricePeriod.MONTH).amount_usd_micro == 20_000_000
    assert price_of(USD, "business", PricePeriod.MONTH).amount_usd_micro == 100_000_000
    assert all(plan.access.patterns == ("*",) for plan in USD.plans.values())


def test_B9_each_plan_has_all_of_the_one_below():
    flags = ("api_access", "team_management", "monetization", "chained_models", "branding")
    personal, pro, business = (
        {flag for flag in flags if getattr(USD.plans[code].entitlements, flag)}
        for code in ("personal", "pro", "business")
    )
    assert personal < pro <= business
    rates = [USD.plans[code].entitlements.requests_per_hour for code in ("personal", "pro", "business")]
    assert rates == sorted(rates)


def test_B10_business_pays_up_to_30_percent_less_by_model():
    business = USD.plans["business"]
    percents = {
        model.slug: business.access.discount_percent(model.slug, model.modality, model.tier)
        for model in USD.models.values()
    }
    assert max(percents.values()) == 30 == business.entitlements.compute_discount_percent
    assert (percents["gpt-5-mini"], percents["claude-sonnet-4"], percents["sandbox-embedding"]) == (30, 20, 10)
    assert not USD.plans["personal"].access.discounts
    assert not USD.plans["pro"].access.discounts


def test_B12_publishing_is_unlimited_charging_needs_pro_and_the_charge_is_split():
    assert all(plan.entitlements.published_models_limit is None for plan in USD.plans.values())
    assert [USD.plans[code].entitlements.monetization for code in ("personal", "pro", "business")] == [
        False,
        True,
        True,
    ]
    assert 0 < USD.settings.publishing.share_percent < 100


def test_B13_api_keys_need_pro():
    assert [USD.plans[code].entitlements.api_access for code in ("personal", "pro", "business")] == [False, True, True]


def test_B14_chained_models_need_pro():
    assert [USD.plans[code].entitlements.chained_models for code in ("personal", "pro", "business")] == [
        False,
        True,
        True,
    ]


def test_B15_branding_needs_pro():
    assert [USD.plans[code].entitlements.branding for code in ("personal", "pro", "business")] == [False, True, True]


def test_B16_business_has_priority_support():
    levels = [USD.plans[code].entitlements.support_level for code in ("personal", "pro", "business")]
    assert levels[2] == "PRIORITY"
    assert len(set(levels)) == 3


def test_C1_free_has_a_gigabyte_three_months_some_models_and_a_monthly_grant():
    free = CREATOR.plans[CREATOR.default_plan]
    assert (free.entitlements.storage_bytes, free.entitlements.asset_retention_days) == (10**9, 90)
    (price,) = free.prices
    assert (price.period, price.cadence) == (PricePeriod.FREE, GrantCadence.MONTH)
    for modality in (Modality.IMAGE, Modality.VIDEO):
        models = [model for model in CREATOR.models.values() if model.modality is modality]
        given = [model for model in models if free.access.allows(model.slug, model.modality, model.tier)]
        assert 0 < len(given) < len(models)


def test_C2_starter_has_ten_gigabytes_all_image_and_video_models_and_the_api():
    starter = CREATOR.plans["starter"]
    assert (starter.entitlements.storage_bytes, starter.entitlements.api_access) == (10 * 10**9, True)
    for model in CREATOR.models.values():
        if model.modality in {Modality.IMAGE, Modality.VIDEO}:
            assert starter.access.allows(model.slug, model.modality, model.tier)


def test_C3_pro_alone_has_team_management_and_packs_and_fifty_gigabytes():
    for code, plan in CREATOR.plans.items():
        assert (plan.entitlements.team_management, plan.entitlements.credit_packs) == (code == "pro", code == "pro")
    assert CREATOR.plans["pro"].entitlements.storage_bytes == 50 * 10**9


def test_C4_plan_model_table():
    head, _, *rows = render_plan_models(CREATOR).splitlines()
    assert head.split() == ["model", "kind", "free", "starter", "pro"]
    table = {row.split()[0]: row.split()[2:] for row in rows}
    assert table["sandbox-image"] == ["yes", "yes", "yes"]
    assert table["dall-e-3"] == ["–", "yes", "yes"]
    assert table["sandbox-chat"] == ["–", "–", "yes"]
    assert len(table) == len(CREATOR.models)


def test_C5_cycle_credits_come_with_each_renewal_and_a_years_at_once():
    for code in ("starter", "pro"):
        monthly, annual = price_of(CREATOR, code, PricePeriod.MONTH), price_of(CREATOR, code, PricePeriod.YEAR)
        assert monthly.cadence is annual.cadence is GrantCadence.BILLING_PERIOD
        assert annual.credits_micro == 12 * monthly.credits_micro


def test_C6_cycle_credits_are_used_first_then_packs():
    assert CREATOR.settings.burn_order[:2] == (GrantKind.CYCLE, GrantKind.PACK)


def test_C7_packs_are_valid_twelve_months_also_without_a_plan():
    assert {(pack.expires_after_months, pack.requires_active_plan) for pack in CREATOR.packs.values()} == {(12, False)}


def test_C8_cycle_credits_do_not_roll_over():
    assert not any(price.rollover for plan in CREATOR.plans.values() for price in plan.prices)


def test_C9_seats_are_free():
    assert all(plan.entitlements.members_limit is None for plan in CREATOR.plans.values())


def test_D1_two_million_credits_are_one_dollar():
    assert PREPAID.credits_per_usd == Decimal(2_000_000)
    assert usd_text(2_000_000 * 1_000_000, PREPAID.credits_per_usd) == "1.00"
    prices = {price.meter: price for price in PREPAID.models["gpt-4o-mini"].prices}
    assert (prices[Meter.INPUT_TOKENS].credits_micro, prices[Meter.INPUT_TOKENS].per) == (300_000 * 10**6, 10**6)


def test_D1_one_currency_pays_for_models_of_every_kind_by_every_meter():
    assert len(PREPAID.models) >= 16
    assert {model.modality for model in PREPAID.models.values()} == set(Modality)
    meters = {price.meter for model in PREPAID.models.values() for price in model.prices}
    assert meters == set(Meter)


def test_D1_each_kind_of_model_answers_without_a_network():
    sandboxes = {spec.name for spec in PREPAID.settings.providers if spec.kind is ProviderKind.SANDBOX}
    offline = [model for model in PREPAID.models.values() if {route.provider for route in model.routes} <= sandboxes]
    assert {model.modality for model in offline} == set(Modality)


def test_D3_the_default_plan_holds_without_a_subscription_and_nothing_is_free():
    plan = PREPAID.plans[PREPAID.default_plan]
    assert plan.prices == ()
    assert plan.entitlements.api_access
    assert PREPAID.settings.top_up is not None
    assert PREPAID.settings.sign_up is None


def test_D4_a_balance_that_runs_out_can_be_refilled():
    assert PREPAID.settings.auto_recharge.min_threshold_usd_micro == 0


def test_D6_bonus_credits_are_configured_and_paused():
    terms = PREPAID.settings.top_up
    assert [(step.from_usd_micro, step.percent) for step in terms.bonus] == [(100_000_000, 5), (1_000_000_000, 10)]
    assert terms.bonus_paused


def test_D9_eighteen_thousand_requests_an_hour_belong_to_the_plan():
    assert PREPAID.plans["pay-as-you-go"].entitlements.requests_per_hour == 18_000


def test_the_printed_catalog_shows_prices_in_credits_and_dollars():
    lines = [line.split() for line in render_catalog(PREPAID).splitlines()]
    assert ["gpt-4o-mini", "TEXT", "input", "300000", "0.15", "1,000,000"] in lines
    assert ["sandbox-image", "IMAGE", "image", "40000", "0.02", "1"] in lines
