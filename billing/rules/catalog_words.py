"""The words in which prices and changes of the catalog are told to a person."""

from dataclasses import fields

from billing.catalog_terms import MeterPriceTerms, ModelTerms, PackTerms, PlanTerms, PriceTerms
from kit.money import format_micro, usd_micro_text
from metering.rules.conditions import Conditions
from models.enums import GrantCadence, PricePeriod

_PERIODS = {
    PricePeriod.FREE: "free",
    PricePeriod.DAYS_30: "every 30 days",
    PricePeriod.MONTH: "a month",
    PricePeriod.YEAR: "a year",
    PricePeriod.LIFETIME: "once, for ever",
}
_CADENCES = {
    GrantCadence.MONTH: "each month",
    GrantCadence.BILLING_PERIOD: "each period",
    GrantCadence.ONCE: "once",
}


def price_words(price: PriceTerms) -> str:
    """A price with its credits, such as "monthly ($20.00 a month, 500 credits each month)"."""
    parts = [_PERIODS[price.period]]
    if price.period is not PricePeriod.FREE:
        parts = [f"${usd_micro_text(price.amount_usd_micro)} {_PERIODS[price.period]}"]
    if price.trial_days:
        parts.append(f"{price.trial_days} days' trial")
    if price.credits_micro is not None and price.cadence is not None:
        parts.append(f"{format_micro(price.credits_micro)} credits {_CADENCES[price.cadence]}")
    if price.rollover:
        cap = price.rollover_cap_micro
        parts.append("rolling over" if cap is None else f"rolling over up to {format_micro(cap)}")
    return f"{price.code} ({', '.join(parts)})"


def pack_words(pack: PackTerms) -> str:
    """A pack's terms, such as "1000 credits for $10.00, valid 12 months"."""
    life = "never expiring" if pack.expires_after_months is None else f"valid {pack.expires_after_months} months"
    active = ", usable with an active plan" if pack.requires_active_plan else ""
    return f"{pack.name}: {format_micro(pack.credits_micro)} credits for ${usd_micro_text(pack.price_usd_micro)}, {life}{active}"


def meter_price_words(price: MeterPriceTerms | None) -> str:
    """A meter's price, such as "300000 credits for 1000000 INPUT_TOKENS"."""
    if price is None:
        return "no price"
    words = f"{format_micro(price.credits_micro)} credits for {price.per} {price.meter}"
    return f"{words} where {conditions_words(price.when)}" if price.when else words


def conditions_words(when: Conditions) -> str:
    """Conditions, such as "quality is hd and size is 1024x1792 or 1792x1024"."""
    return " and ".join(f"{condition.field} is {' or '.join(condition.values)}" for condition in when)


def differing_fields(before: PlanTerms | ModelTerms, after: PlanTerms | ModelTerms, names: frozenset[str]) -> list[str]:
    """The fields among `names` that differ, with both values where they are short."""
    changes: list[str] = []
    for item in fields(after):
        old, new = getattr(before, item.name), getattr(after, item.name)
        if item.name not in names or old == new:
            continue
        if isinstance(old, (str, int)) and isinstance(new, (str, int)) and len(f"{old}{new}") <= 80:
            changes.append(f"{item.name} {old} → {new}")
        else:
            changes.append(f"other {item.name}")
    return changes


def entitlement_changes(before: PlanTerms, after: PlanTerms) -> list[str]:
    """The entitlements that differ between two versions of a plan."""
    changes: list[str] = []
    for item in fields(after.entitlements):
        old, new = getattr(before.entitlements, item.name), getattr(after.entitlements, item.name)
        if old != new:
            changes.append(f"{item.name} {'no limit' if old is None else old} → {'no limit' if new is None else new}")
    if before.access.patterns != after.access.patterns:
        changes.append(f"models {', '.join(before.access.patterns)} → {', '.join(after.access.patterns)}")
    if before.access.discounts != after.access.discounts:
        changes.append("other discounts")
    return changes
