"""Reads the offers of a catalog file around its plans: top-ups, promo campaigns, payouts, and what is retired."""

import re
from typing import Final

from billing.catalog_models import VARIABLE_FORM, VARIABLE_WORDS
from billing.catalog_reader import Section
from billing.catalog_settings import (
    DEFAULT_BURN_ORDER,
    AutoRechargeTerms,
    BonusStep,
    PublishingTerms,
    Renewal,
    Retirement,
    SignUpTerms,
    TopUpTerms,
    TransferTerms,
)
from billing.catalog_terms import PromoTerms
from kit.money import usd_micro_text
from models.enums import GrantKind

MAX_PROMOS: Final = 1_000
MAX_BONUS_STEPS: Final = 20
MAX_RETIRED: Final = 1_000
MAX_MONTHS: Final = 120
MAX_DAYS: Final = 3_650
MAX_BONUS_PERCENT: Final = 1_000
MAX_A_DAY: Final = 1_000_000
MAX_PUBLIC_DOMAINS: Final = 1_000
DIGEST_FORM: Final = re.compile(r"[0-9a-f]{64}")
PRICE_NAME_FORM: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.[a-z0-9][a-z0-9_-]{0,63}")


def read_burn_order(top: Section) -> tuple[GrantKind, ...]:
    """`burn_order`: every kind of grant once; the house's order where it is left out."""
    names = top.texts("burn_order", most=len(GrantKind))
    kinds = [top.one_of("burn_order", name, GrantKind, index) for index, name in enumerate(names)]
    order = tuple(kind for kind in kinds if kind is not None)
    if not order:
        return DEFAULT_BURN_ORDER
    left_out = [kind for kind in DEFAULT_BURN_ORDER if kind not in order]
    if left_out:
        top.add("burn_order", f"every kind has its place; missing: {', '.join(left_out)}")
    return order


def read_top_up(top: Section) -> TopUpTerms | None:
    """`[top_up]`."""
    section = top.table("top_up")
    if section is None:
        return None
    bonus: list[BonusStep] = []
    for step in section.tables("bonus", most=MAX_BONUS_STEPS):
        bonus.append(BonusStep(step.amount("from"), step.integer("percent", 1, MAX_BONUS_PERCENT)))
        step.finish()
    terms = TopUpTerms(
        min_usd_micro=section.amount("min"),
        max_usd_micro=section.amount("max"),
        expires_after_months=section.optional_integer("expires_after_months", 1, MAX_MONTHS),
        requires_active_plan=section.flag("requires_active_plan", default=False),
        transferable=section.flag("transferable", default=False),
        bonus_paused=section.flag("bonus_paused", default=False),
        bonus_expires_after_months=section.optional_integer("bonus_expires_after_months", 1, MAX_MONTHS),
        bonus=tuple(bonus),
    )
    _in_order(section, "max", terms.min_usd_micro, terms.max_usd_micro)
    if [step.from_usd_micro for step in bonus] != sorted({step.from_usd_micro for step in bonus}):
        section.add("bonus", "the steps rise: each `from` is above the one before")
    section.finish()
    return terms


def read_auto_recharge(top: Section) -> AutoRechargeTerms | None:
    """`[auto_recharge]`."""
    section = top.table("auto_recharge")
    if section is None:
        return None
    terms = AutoRechargeTerms(
        min_threshold_usd_micro=section.amount("min_threshold", positive=False),
        max_threshold_usd_micro=section.amount("max_threshold"),
        min_amount_usd_micro=section.amount("min_amount"),
        max_amount_usd_micro=section.amount("max_amount"),
        max_monthly_usd_micro=section.amount("max_monthly"),
    )
    _in_order(section, "max_threshold", terms.min_threshold_usd_micro, terms.max_threshold_usd_micro)
    _in_order(section, "max_amount", terms.min_amount_usd_micro, terms.max_amount_usd_micro)
    _in_order(section, "max_monthly", terms.min_amount_usd_micro, terms.max_monthly_usd_micro)
    section.finish()
    return terms


def read_transfers(top: Section) -> TransferTerms | None:
    """`[transfers]`."""
    section = top.table("transfers")
    if section is None:
        return None
    terms = TransferTerms(
        min_usd_micro=section.amount("min"),
        max_usd_micro=section.amount("max"),
        completes_within_hours=section.integer("completes_within_hours", 1, 24 * 60, default=72),
        review_from_usd_micro=section.optional_amount("review_from"),
    )
    _in_order(section, "max", terms.min_usd_micro, terms.max_usd_micro)
    section.finish()
    return terms


def read_publishing(top: Section) -> PublishingTerms | None:
    """`[publishing]`."""
    section = top.table("publishing")
    if section is None:
        return None
    terms = PublishingTerms(share_percent=section.integer("share_percent", 0, 100))
    section.finish()
    return terms


def read_sign_up(top: Section) -> SignUpTerms | None:
    """`[sign_up]`."""
    section = top.table("sign_up")
    if section is None:
        return None
    usual = SignUpTerms()
    terms = SignUpTerms(
        credits_micro=section.optional_amount("credits"),
        expires_after_days=section.optional_integer("expires_after_days", 1, MAX_DAYS),
        per_address_range_a_day=section.integer(
            "per_address_range_a_day", 0, MAX_A_DAY, default=usual.per_address_range_a_day
        ),
        per_domain_a_day=section.integer("per_domain_a_day", 0, MAX_A_DAY, default=usual.per_domain_a_day),
        per_payment_fingerprint=section.integer(
            "per_payment_fingerprint", 0, MAX_A_DAY, default=usual.per_payment_fingerprint
        ),
        public_domains=section.texts("public_domains", most=MAX_PUBLIC_DOMAINS),
    )
    section.finish()
    return terms


def read_promos(top: Section) -> dict[str, PromoTerms]:
    """Every `[promo.<name>]`."""
    return {name: _promo(name, section) for name, section in top.named("promo", "name", most=MAX_PROMOS)}


def read_retired(top: Section) -> tuple[dict[str, Retirement], dict[str, Retirement]]:
    """`[retired.plans.<code>]` and `[retired.prices.<plan.price>]`."""
    section = top.table("retired")
    if section is None:
        return {}, {}
    plans = {code: _retirement(item) for code, item in section.named("plans", "code", most=MAX_RETIRED)}
    words = "a plan's and a price's code, such as pro.monthly"
    named = section.named("prices", "plan.price", most=MAX_RETIRED, form=PRICE_NAME_FORM, words=words)
    prices = {name: _retirement(item) for name, item in named}
    section.finish()
    return plans, prices


def _promo(name: str, section: Section) -> PromoTerms:
    digest = section.optional_match("code_digest", DIGEST_FORM, "64 hexadecimal digits")
    terms = PromoTerms(
        name=name,
        code_env=section.optional_match("code_env", VARIABLE_FORM, VARIABLE_WORDS),
        code_digest=bytes.fromhex(digest) if digest and DIGEST_FORM.fullmatch(digest) else None,
        credits_micro=section.optional_amount("credits"),
        bonus_percent=section.optional_integer("bonus_percent", 1, MAX_BONUS_PERCENT),
        grant_expires_after_days=section.optional_integer("grant_expires_after_days", 1, MAX_DAYS),
        starts_at=section.instant("starts_at"),
        ends_at=section.instant("ends_at"),
        total_limit=section.optional_integer("total_limit", 1),
        per_workspace_limit=section.integer("per_workspace_limit", 1, default=1),
        paused=section.flag("paused", default=False),
    )
    if section.sound and (terms.code_env is None) == (digest is None):
        section.add("code_env", "a campaign has either code_env or code_digest; the code itself is never in the file")
    if section.sound and (terms.credits_micro is None) == (terms.bonus_percent is None):
        section.add("credits", "a campaign gives either credits or bonus_percent")
    if terms.starts_at is not None and terms.ends_at is not None and terms.ends_at <= terms.starts_at:
        section.add("ends_at", "the campaign ends before it starts")
    section.finish()
    return terms


def _retirement(section: Section) -> Retirement:
    renewal = section.choice("renewal", Renewal)
    successor = section.optional_text("successor", longest=130)
    if section.sound and (renewal is Renewal.SUCCESSOR) != (successor is not None):
        section.add("successor", 'a successor is named with renewal = "SUCCESSOR", and only then')
    section.finish()
    return Retirement(renewal, successor)


def _in_order(section: Section, key: str, low_micro: int, high_micro: int) -> None:
    if section.sound and high_micro < low_micro:
        section.add(key, f"${usd_micro_text(high_micro)} is below the least, ${usd_micro_text(low_micro)}")
