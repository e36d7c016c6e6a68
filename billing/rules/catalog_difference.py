"""Decides what applying a catalog file changes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from billing.catalog_settings import Renewal, settings_json
from billing.catalog_terms import (
    CatalogFile,
    ModelTerms,
    PackTerms,
    PlanTerms,
    PriceTerms,
    PromoTerms,
    StoredCatalog,
    StoredModel,
    StoredPack,
    StoredPlan,
    StoredPromo,
)
from billing.rules.catalog_words import (
    differing_fields,
    entitlement_changes,
    meter_price_words,
    pack_words,
    price_words,
)


class Mark(StrEnum):
    """What happens to a thing that is sold."""

    ADD = "+"
    CHANGE = "~"
    RETIRE = "-"
    NOTE = "!"


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One line of the difference, for a person."""

    mark: Mark
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What becomes of a plan. `terms` None: retired. `new_version`: the live row is retired and a new one written.

    Otherwise `added` prices are written to the live row, and `removed` ones, by code, retired.
    """

    code: str
    stored: StoredPlan | None
    terms: PlanTerms | None
    new_version: bool = False
    added: tuple[PriceTerms, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackStep:
    """What becomes of a pack; as with plans."""

    code: str
    stored: StoredPack | None
    terms: PackTerms | None
    new_version: bool = False


@dataclass(frozen=True, slots=True)
class ModelStep:
    """What becomes of a model. Its row is written over; a meter's price in `repriced` is retired and written anew."""

    slug: str
    stored: StoredModel | None
    terms: ModelTerms | None
    repriced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PromoStep:
    """What becomes of a promo campaign; its row is written over, so that its count of redemptions stays."""

    name: str
    stored: StoredPromo | None
    terms: PromoTerms | None
    code_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Difference:
    """All steps from the applied catalog to a file's, with their description."""

    plans: tuple[PlanStep, ...]
    packs: tuple[PackStep, ...]
    models: tuple[ModelStep, ...]
    promos: tuple[PromoStep, ...]
    default_plan: str
    lines: tuple[ChangeLine, ...]

    @property
    def is_empty(self) -> bool:
        """Whether applying the file would change nothing; a note changes nothing."""
        return all(line.mark is Mark.NOTE for line in self.lines)


_IN_PLACE: Final = frozenset({"name", "description", "rank", "public"})
"""What a plan's row may change without becoming another version: none of it is a term that a subscriber pays for."""


def compare(stored: StoredCatalog, file: CatalogFile, code_digests: Mapping[str, bytes]) -> Difference:
    """The difference. `code_digests`: of the promo codes that could be read, by campaign."""
    lines: list[ChangeLine] = []
    _describe_top(stored, file, lines)
    plans = [
        *(_plan_step(stored.plans.get(plan.code), plan, lines) for plan in file.plans.values()),
        *_retired_plans(stored, file, lines),
    ]
    packs = _pack_steps(stored, file, lines)
    models = _model_steps(stored, file, lines)
    promos = _promo_steps(stored, file, code_digests, lines)
    return Difference(
        plans=tuple(step for step in plans if step is not None),
        packs=tuple(packs),
        models=tuple(models),
        promos=tuple(promos),
        default_plan=file.default_plan,
        lines=tuple(lines),
    )


def _describe_top(stored: StoredCatalog, file: CatalogFile, lines: list[ChangeLine]) -> None:
    if stored.number == 0:
        lines.append(ChangeLine(Mark.ADD, f"catalog {file.name}", f"{file.credits_per_usd:f} credits to the dollar"))
        return
    if stored.name != file.name:
        lines.append(ChangeLine(Mark.CHANGE, "catalog", f"name {stored.name} → {file.name}"))
    if stored.credits_per_usd != file.credits_per_usd:
        detail = f"credits_per_usd {stored.credits_per_usd.normalize():f} → {file.credits_per_usd.normalize():f}"
        lines.append(ChangeLine(Mark.CHANGE, "catalog", detail))
    before, after = settings_json(stored.settings), settings_json(file.settings)
    lines.extend(
        ChangeLine(Mark.CHANGE, key.replace("_", " "), "other terms" if before[key] else "set")
        for key in after
        if before[key] != after[key]
    )
    default_plan = next((code for code, plan in stored.plans.items() if plan.is_default), "none")
    if default_plan != file.default_plan:
        lines.append(ChangeLine(Mark.CHANGE, "catalog", f"default plan {default_plan} → {file.default_plan}"))


def _plan_step(stored: StoredPlan | None, terms: PlanTerms, lines: list[ChangeLine]) -> PlanStep | None:
    subject = f"plan {terms.code}"
    if stored is None:
        words = ", ".join(price_words(price) for price in terms.prices) or "no price, no subscription"
        lines.append(ChangeLine(Mark.ADD, subject, words))
        return PlanStep(terms.code, None, terms, new_version=True)
    before = {price.code: price for price in stored.terms.prices}
    after = {price.code: price for price in terms.prices}
    added = tuple(price for code, price in after.items() if code not in before)
    removed = tuple(code for code in before if code not in after)
    changed = [code for code in after if code in before and before[code] != after[code]]
    new_version = (
        bool(changed)
        or any(price.code in stored.taken_codes for price in added)
        or stored.terms.entitlements != terms.entitlements
        or stored.terms.access != terms.access
        or stored.terms.workspace_id != terms.workspace_id
    )
    details = [
        *differing_fields(stored.terms, terms, _IN_PLACE | {"workspace_id"}),
        *entitlement_changes(stored.terms, terms),
        *(f"price {code}: {price_words(before[code])} → {price_words(after[code])}" for code in changed),
        *(f"new price {price_words(price)}" for price in added),
        *(f"price {code} is retired" for code in removed),
    ]
    if not details:
        return None
    version = f"version {stored.version} → {stored.version + 1}: " if new_version else ""
    lines.append(ChangeLine(Mark.CHANGE, subject, version + "; ".join(details)))
    return PlanStep(terms.code, stored, terms, new_version, added, removed)


def _retired_plans(stored: StoredCatalog, file: CatalogFile, lines: list[ChangeLine]) -> list[PlanStep]:
    """Plans that the file has no more. A custom plan was given to a workspace, so it goes only when it is named."""
    steps: list[PlanStep] = []
    for code, plan in stored.plans.items():
        kept = plan.terms.workspace_id is not None and code not in file.settings.retired_plans
        if code in file.plans or kept:
            continue
        retirement = file.settings.retired_plans.get(code)
        then = "nobody is on it"
        if retirement is not None:
            then = {
                Renewal.KEEP: "its subscriptions renew on their terms",
                Renewal.END: "its subscriptions end with their period",
                Renewal.SUCCESSOR: f"its subscriptions renew onto {retirement.successor}",
            }[retirement.renewal]
        lines.append(ChangeLine(Mark.RETIRE, f"plan {code}", then))
        steps.append(PlanStep(code, plan, None))
    return steps


def _pack_steps(stored: StoredCatalog, file: CatalogFile, lines: list[ChangeLine]) -> list[PackStep]:
    steps: list[PackStep] = []
    for code, terms in file.packs.items():
        before = stored.packs.get(code)
        if before is None:
            lines.append(ChangeLine(Mark.ADD, f"pack {code}", pack_words(terms)))
            steps.append(PackStep(code, None, terms, new_version=True))
        elif before.terms != terms:
            changed = {
                item.name for item in fields(terms) if getattr(before.terms, item.name) != getattr(terms, item.name)
            }
            lines.append(ChangeLine(Mark.CHANGE, f"pack {code}", f"{pack_words(before.terms)} → {pack_words(terms)}"))
            steps.append(PackStep(code, before, terms, new_version=changed != {"name"}))
    for code, before in stored.packs.items():
        if code not in file.packs:
            lines.append(ChangeLine(Mark.RETIRE, f"pack {code}", "credits already bought stay"))
            steps.append(PackStep(code, before, None))
    return steps


def _model_steps(stored: StoredCatalog, file: CatalogFile, lines: list[ChangeLine]) -> list[ModelStep]:
    steps: list[ModelStep] = []
    for slug, terms in file.models.items():
        before = stored.models.get(slug)
        if before is None:
            words = ", ".join(meter_price_words(price) for price in terms.prices)
            lines.append(ChangeLine(Mark.ADD, f"model {slug}", words))
            steps.append(ModelStep(slug, None, terms, frozenset(price.meter.value for price in terms.prices)))
            continue
        old = {(price.meter, price.when): price for price in before.terms.prices}
        new = {(price.meter, price.when): price for price in terms.prices}
        repriced = [which for which in old | new if old.get(which) != new.get(which)]
        details = [
            *differing_fields(before.terms, terms, frozenset(item.name for item in fields(terms)) - {"prices"}),
            *(
                f"{which[0]}: {meter_price_words(old.get(which))} → {meter_price_words(new.get(which))}"
                for which in repriced
            ),
        ]
        if details:
            lines.append(ChangeLine(Mark.CHANGE, f"model {slug}", "; ".join(details)))
            steps.append(ModelStep(slug, before, terms, frozenset(meter.value for meter, _ in repriced)))
    for slug, before in stored.models.items():
        if slug not in file.models:
            lines.append(ChangeLine(Mark.RETIRE, f"model {slug}", "calls in flight are settled at its prices"))
            steps.append(ModelStep(slug, before, None))
    return steps


def _promo_steps(
    stored: StoredCatalog, file: CatalogFile, code_digests: Mapping[str, bytes], lines: list[ChangeLine]
) -> list[PromoStep]:
    known = {promo.name: promo for promo in stored.promos}  # the latest of a name counts
    steps: list[PromoStep] = []
    for name, terms in file.promos.items():
        digest = terms.code_digest or code_digests.get(name)
        before = known.get(name)
        if digest is None:
            lines.append(ChangeLine(Mark.NOTE, f"promo {name}", f"left as it is: {terms.code_env} is not set"))
        elif before is None:
            lines.append(ChangeLine(Mark.ADD, f"promo {name}", "new campaign"))
            steps.append(PromoStep(name, None, terms, digest))
        else:
            shared = [item.name for item in fields(terms) if item.name not in {"name", "code_env", "code_digest"}]
            changed = [key for key in shared if getattr(before, key) != getattr(terms, key)]
            changed += ["code"] if before.code_digest != digest else []
            changed += ["taken up again"] if before.retired else []
            if changed:
                lines.append(ChangeLine(Mark.CHANGE, f"promo {name}", ", ".join(changed)))
                steps.append(PromoStep(name, before, terms, digest))
    for name in stored.settings.promo_names:
        if name not in file.promos and name in known and not known[name].retired:
            lines.append(ChangeLine(Mark.RETIRE, f"promo {name}", "credits already given stay"))
            steps.append(PromoStep(name, known[name], None))
    return steps
