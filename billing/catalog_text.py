"""Prints a catalog, its contradictions and its changes as text tables for the command line."""

from collections.abc import Sequence
from typing import Final

from billing.catalog_apply import CatalogChange
from billing.catalog_check import Finding
from billing.catalog_terms import CatalogFile, MeterPriceTerms, ModelTerms, PlanTerms
from billing.rules.catalog_words import conditions_words, pack_words, price_words
from billing.rules.entitlements import FEATURE_NAMES
from billing.rules.text_table import text_table
from kit.money import format_micro, usd_text
from models.enums import Meter

_YES: Final = "yes"
_NO: Final = "–"
_METERS_IN_SHORT: Final = {
    Meter.INPUT_TOKENS: "input",
    Meter.CACHED_INPUT_TOKENS: "cached",
    Meter.CACHE_WRITE_INPUT_TOKENS: "cache write",
    Meter.LONG_CACHE_WRITE_INPUT_TOKENS: "long cache write",
    Meter.OUTPUT_TOKENS: "output",
    Meter.REASONING_TOKENS: "reasoning",
    Meter.REQUESTS: "request",
    Meter.IMAGES: "image",
    Meter.SECONDS: "second",
    Meter.CHARACTERS: "character",
}


def render_check(file: CatalogFile, findings: Sequence[Finding]) -> str:
    """The contradictions of a catalog, a line each, and a closing sentence."""
    lines: list[str] = []
    for finding in findings:
        place = f"{file.file_name}: {finding.path}: " if finding.path else f"{file.file_name}: "
        lines.append(f"{'error' if finding.is_error else 'warning'}: {place}{finding.message}")
    errors = sum(finding.is_error for finding in findings)
    counts = f"plans {len(file.plans)}, models {len(file.models)}, packs {len(file.packs)}"
    lines.append(f"{file.file_name}: {counts}; errors {errors}, warnings {len(findings) - errors}")
    return "\n".join(lines)


def render_change(change: CatalogChange) -> str:
    """The difference that applying makes, a line each, and what stands against it."""
    lines = [f"{line.mark} {line.subject}: {line.detail}" for line in change.lines]
    lines += [f"refused: {reason}" for reason in change.refusals]
    if not change.changed:
        lines.append(f"nothing changes; version {change.number} stays in force")
    elif not change.refusals:
        lines.append(f"version {change.number}")
    return "\n".join(lines)


def render_catalog(file: CatalogFile) -> str:
    """A catalog for people: plans, which plan gives which model (C4), packs, and models with their prices."""
    parts = [
        f"{file.name}: {file.credits_per_usd.normalize():f} credits = $1; default plan {file.default_plan}",
        text_table(["plan", "features", "requests an hour", "storage", "kept", "support"], _plan_rows(file)),
        text_table(["plan", "price"], _plan_price_rows(file)),
        render_plan_models(file),
    ]
    if file.packs:
        parts.append(text_table(["pack", "terms"], [[pack.code, pack_words(pack)] for pack in file.packs.values()]))
    parts.append(_prices_table(file))
    return "\n\n".join(parts) + "\n"


def render_plan_models(file: CatalogFile) -> str:
    """One table of which plan gives which model, with its discount."""
    plans = _plans_by_rank(file)
    rows = [
        [model.slug, model.modality.value, *(_given(plan, model) for plan in plans)] for model in file.models.values()
    ]
    return text_table(["model", "kind", *(plan.code for plan in plans)], rows)


def _plans_by_rank(file: CatalogFile) -> list[PlanTerms]:
    return sorted(file.plans.values(), key=lambda plan: (plan.rank, plan.code))


def _given(plan: PlanTerms, model: ModelTerms) -> str:
    if not plan.access.allows(model.slug, model.modality, model.tier):
        return _NO
    percent = plan.access.discount_percent(model.slug, model.modality, model.tier)
    return f"-{percent} %" if percent else _YES


def _plan_rows(file: CatalogFile) -> list[list[str]]:
    rows: list[list[str]] = []
    for plan in _plans_by_rank(file):
        held = plan.entitlements
        flags = {
            "api_access": held.api_access,
            "team_management": held.team_management,
            "credit_packs": held.credit_packs,
            "monetization": held.monetization,
            "chained_models": held.chained_models,
            "branding": held.branding,
        }
        rows.append(
            [
                plan.code,
                ", ".join(words for flag, words in FEATURE_NAMES.items() if flags[flag]) or _NO,
                f"{held.requests_per_hour:,}",
                "no limit" if held.storage_bytes is None else f"{held.storage_bytes // 10**9} GB",
                "for ever" if held.asset_retention_days is None else f"{held.asset_retention_days} days",
                held.support_level,
            ]
        )
    return rows


def _plan_price_rows(file: CatalogFile) -> list[list[str]]:
    return [
        [plan.code, words]
        for plan in _plans_by_rank(file)
        for words in ([price_words(price) for price in plan.prices] or ["no price, no subscription"])
    ]


def _prices_table(file: CatalogFile) -> str:
    """Conditions have a column where the catalog has any."""
    head = ["model", "kind", "meter", "credits", "USD", "per"]
    rows = _price_rows(file)
    if any(row[-1] for row in rows):
        return text_table([*head, "where"], rows)
    return text_table(head, [row[:-1] for row in rows])


def _price_rows(file: CatalogFile) -> list[list[str]]:
    return [
        [model.slug, model.modality.value, *_price_cells(file, price)]
        for model in file.models.values()
        for price in model.prices
    ]


def _price_cells(file: CatalogFile, price: MeterPriceTerms) -> list[str]:
    per = "1" if price.per == 1 else f"{price.per:,}"
    return [
        _METERS_IN_SHORT[price.meter],
        format_micro(price.credits_micro),
        usd_text(price.credits_micro, file.credits_per_usd),
        per,
        conditions_words(price.when),
    ]
