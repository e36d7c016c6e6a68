"""Reads the plans of a catalog file: prices, entitlements, and which models they give."""

from dataclasses import replace
from typing import Final

from billing.catalog_reader import NAME_FORM, NAME_WORDS, Section, shown
from billing.catalog_terms import PackTerms, PlanTerms, PriceTerms
from billing.rules.entitlements import Entitlements, ModelAccess
from kit.ids import UnknownIdError, decode_id
from models.enums import GrantCadence, PricePeriod

MAX_PLANS: Final = 200
MAX_PRICES: Final = 24
MAX_PACKS: Final = 200
MAX_PATTERNS: Final = 5_000
MAX_TRIAL_DAYS: Final = 365
MAX_PACK_MONTHS: Final = 120
MAX_REQUESTS_PER_HOUR: Final = 1_000_000_000
MAX_STORAGE_BYTES: Final = 2**53


def read_plans(top: Section) -> dict[str, PlanTerms]:
    """Every `[plans.<code>]`."""
    return {code: _plan(code, section) for code, section in top.named("plans", "code", most=MAX_PLANS)}


def read_packs(top: Section) -> dict[str, PackTerms]:
    """Every `[packs.<code>]`."""
    return {code: _pack(code, section) for code, section in top.named("packs", "code", most=MAX_PACKS)}


def _plan(code: str, section: Section) -> PlanTerms:
    prices: list[PriceTerms] = []
    for price in section.tables("prices", most=MAX_PRICES):
        terms = _price(price)
        if any(terms.code == other.code for other in prices):
            price.add("code", f"two prices of this plan are called {shown(terms.code)}")
        prices.append(terms)
    plan = PlanTerms(
        code=code,
        name=section.text("name", longest=100),
        description=section.optional_text("description"),
        rank=section.integer("rank", 0, 10_000),
        public=section.flag("public", default=True),
        workspace_id=None,
        entitlements=_entitlements(section),
        access=ModelAccess(
            section.texts("models", most=MAX_PATTERNS), section.percents("discounts", most=MAX_PATTERNS)
        ),
        prices=tuple(prices),
    )
    workspace = section.optional_text("workspace")
    if workspace is not None:
        plan = _custom(plan, workspace, section)
    section.finish()
    return plan


def _custom(plan: PlanTerms, workspace: str, section: Section) -> PlanTerms:
    if plan.public:
        section.add("public", "a plan for one workspace is not public: write public = false")
    try:
        return replace(plan, workspace_id=decode_id("ws", workspace))
    except UnknownIdError:
        section.add("workspace", f"expected a workspace's id such as ws_01h…, found {shown(workspace)}")
        return plan


def _entitlements(plan: Section) -> Entitlements:
    section = plan.table("entitlements")
    if section is None:
        if "entitlements" not in plan:
            plan.add("entitlements", "is missing")
        return Entitlements(requests_per_hour=1, support_level="")
    entitlements = Entitlements(
        requests_per_hour=section.integer("requests_per_hour", 1, MAX_REQUESTS_PER_HOUR),
        support_level=section.text("support_level", longest=40),
        api_access=section.flag("api_access", default=False),
        team_management=section.flag("team_management", default=False),
        credit_packs=section.flag("credit_packs", default=False),
        monetization=section.flag("monetization", default=False),
        chained_models=section.flag("chained_models", default=False),
        branding=section.flag("branding", default=False),
        compute_discount_percent=section.integer("compute_discount_percent", 0, 100, default=0),
        storage_bytes=section.optional_integer("storage_bytes", 0, MAX_STORAGE_BYTES),
        asset_retention_days=section.optional_integer("asset_retention_days", 1, 36_500),
        request_burst=section.optional_integer("request_burst", 1, MAX_REQUESTS_PER_HOUR),
        concurrent_calls=section.optional_integer("concurrent_calls", 1),
        members_limit=section.optional_integer("members_limit", 1),
        api_keys_limit=section.optional_integer("api_keys_limit", 0),
        published_models_limit=section.optional_integer("published_models_limit", 0),
    )
    section.finish()
    return entitlements


def _price(section: Section) -> PriceTerms:
    code = section.text("code", longest=64)
    if code and not NAME_FORM.fullmatch(code):
        section.add("code", f"{shown(code)} is not of the form expected: {NAME_WORDS}")
    period = section.choice("period", PricePeriod)
    amount_usd_micro = section.amount("amount", positive=False)
    if section.sound and (period is PricePeriod.FREE) != (amount_usd_micro == 0):
        section.add("amount", "a price of 0 has the period FREE, and only that one")
    trial_days = section.integer("trial_days", 0, MAX_TRIAL_DAYS, default=0)
    if section.sound and trial_days and period in {PricePeriod.FREE, PricePeriod.LIFETIME}:
        section.add("trial_days", f"a price of the period {period} has no trial")
    credits_section = section.table("credits")
    terms = PriceTerms(code, amount_usd_micro, period, trial_days)
    if credits_section is not None:
        terms = _with_credits(terms, credits_section)
    section.finish()
    return terms


def _with_credits(terms: PriceTerms, section: Section) -> PriceTerms:
    cadence = section.choice("cadence", GrantCadence)
    rollover = section.flag("rollover", default=False)
    cap = section.optional_amount("rollover_cap")
    if section.sound and cap is not None and not rollover:
        section.add("rollover_cap", "a cap needs rollover = true")
    if section.sound and rollover and cadence is GrantCadence.ONCE:
        section.add("rollover", "credits granted once have nothing to roll over into")
    if (
        section.sound
        and cadence is GrantCadence.BILLING_PERIOD
        and terms.period in {PricePeriod.FREE, PricePeriod.LIFETIME}
    ):
        section.add("cadence", f"the period {terms.period} has no renewals: expected MONTH or ONCE")
    policy = PriceTerms(
        terms.code,
        terms.amount_usd_micro,
        terms.period,
        terms.trial_days,
        credits_micro=section.amount("amount"),
        cadence=cadence,
        rollover=rollover,
        rollover_cap_micro=cap,
    )
    section.finish()
    return policy


def _pack(code: str, section: Section) -> PackTerms:
    pack = PackTerms(
        code=code,
        name=section.text("name", longest=100),
        credits_micro=section.amount("credits"),
        price_usd_micro=section.amount("price"),
        expires_after_months=section.optional_integer("expires_after_months", 1, MAX_PACK_MONTHS),
        requires_active_plan=section.flag("requires_active_plan", default=False),
    )
    section.finish()
    return pack
