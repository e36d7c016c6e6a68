"""Finds what contradicts itself in a well-formed catalog: offers nobody can take, features without what they need."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from billing.catalog_chains import chain_findings
from billing.catalog_price_check import part_findings, price_findings, renamed_findings
from billing.catalog_reader import join_path, meant, shown
from billing.catalog_route_check import route_findings
from billing.catalog_settings import CatalogSettings, ProviderKind, Renewal
from billing.catalog_terms import CatalogFile, ModelTerms, PlanTerms, PriceTerms
from billing.margin_text import loss_words
from billing.rules.entitlements import ALL_MODELS
from billing.rules.margins import margins_of
from kit.money import usd_micro_text
from models.enums import GrantCadence, Meter, Modality, PricePeriod

MAX_FINDINGS: Final = 200
_TOKENS: Final = frozenset({Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS, Meter.REASONING_TOKENS})
_CACHE_WRITES: Final = frozenset({Meter.CACHE_WRITE_INPUT_TOKENS, Meter.LONG_CACHE_WRITE_INPUT_TOKENS})
METERS_OF: Final[Mapping[Modality, frozenset[Meter]]] = {
    Modality.TEXT: _TOKENS | _CACHE_WRITES | {Meter.REQUESTS},
    Modality.EMBEDDING: frozenset({Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.REQUESTS}),
    Modality.IMAGE: _TOKENS | {Meter.IMAGES, Meter.REQUESTS},
    Modality.VIDEO: _TOKENS | {Meter.SECONDS, Meter.REQUESTS},
    Modality.AUDIO: _TOKENS | {Meter.SECONDS, Meter.CHARACTERS, Meter.REQUESTS},
}
"""The meters that a call of each modality can turn."""

_OUTPUT_METERS: Final[Mapping[Modality, frozenset[Meter]]] = {
    Modality.TEXT: frozenset({Meter.OUTPUT_TOKENS, Meter.REQUESTS}),
    Modality.EMBEDDING: frozenset({Meter.INPUT_TOKENS, Meter.REQUESTS}),
    Modality.IMAGE: frozenset({Meter.IMAGES, Meter.OUTPUT_TOKENS, Meter.REQUESTS}),
    Modality.VIDEO: frozenset({Meter.SECONDS, Meter.OUTPUT_TOKENS, Meter.REQUESTS}),
    Modality.AUDIO: frozenset({Meter.SECONDS, Meter.CHARACTERS, Meter.OUTPUT_TOKENS, Meter.REQUESTS}),
}
PARTS_OF_METERS: Final = (
    (Meter.CACHED_INPUT_TOKENS, Meter.INPUT_TOKENS),
    (Meter.CACHE_WRITE_INPUT_TOKENS, Meter.INPUT_TOKENS),
    (Meter.LONG_CACHE_WRITE_INPUT_TOKENS, Meter.INPUT_TOKENS),
    (Meter.REASONING_TOKENS, Meter.OUTPUT_TOKENS),
)
"""Each part with what it is a part of, which must have a price where the part has one."""
_NEEDS_ADDRESS: Final = frozenset({ProviderKind.OPENAI_COMPATIBLE, ProviderKind.PREDICTION})
_MONTHS_OF_A_YEAR: Final = 12
_DAYS_OF_A_YEAR: Final = 365


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction. A catalog with an error is not applied; a warning is only said."""

    path: str
    message: str
    is_error: bool = True


def check(file: CatalogFile) -> tuple[Finding, ...]:
    """Contradictions in a catalog, errors first; of either sort the first MAX_FINDINGS."""
    errors: list[Finding] = []
    warnings: list[Finding] = []
    for finding in chain.from_iterable(part(file) for part in _PARTS):
        found = errors if finding.is_error else warnings
        if len(found) < MAX_FINDINGS:
            found.append(finding)
        elif finding.is_error:
            break
    return (*errors, *warnings)


def errors_of(file: CatalogFile, findings: Sequence[Finding]) -> tuple[str, ...]:
    """The errors among findings, as lines that name file and key."""
    return tuple(f"{file.file_name}: {finding.path}: {finding.message}" for finding in findings if finding.is_error)


def _plans(file: CatalogFile) -> Iterator[Finding]:
    default = file.plans.get(file.default_plan)
    if default is None:
        hint = meant(file.default_plan, list(file.plans))
        yield Finding("default_plan", f"there is no plan {shown(file.default_plan)}{hint}")
    elif default.workspace_id is not None:
        yield Finding("default_plan", f"the plan '{default.code}' is for one workspace alone")
    elif default.prices and all(price.period is not PricePeriod.FREE for price in default.prices):
        yield Finding(
            "default_plan", f"the plan '{default.code}' holds without a subscription, but every price of it is paid"
        )
    successors = {item.successor for item in file.settings.retired_plans.values()}
    for plan in file.plans.values():
        path = f"plans.{plan.code}"
        if plan is default or plan.workspace_id is not None:
            continue
        if not plan.prices:
            yield Finding(path, "nobody can reach this plan: it has no price and is not the default plan")
        elif not plan.public and plan.code not in successors:
            yield Finding(
                path, "nobody can reach this plan: it is not public, not the default plan and for no workspace"
            )
    ranks = [plan.rank for plan in file.plans.values() if plan.workspace_id is None]
    if len(set(ranks)) < len(ranks):
        yield Finding("plans", "two plans have the same rank, so that their order is by code", is_error=False)


def _prices(file: CatalogFile) -> Iterator[Finding]:
    for plan in file.plans.values():
        for index, price in enumerate(plan.prices):
            path = f"plans.{plan.code}.prices[{index}]"
            if price.period is PricePeriod.YEAR:
                yield from _dearer_by_the_year(plan, price, path)
            if price.period is PricePeriod.LIFETIME and price.cadence is GrantCadence.ONCE:
                yield Finding(
                    f"{path}.credits.cadence", "a lifetime price that grants credits once only", is_error=False
                )
            if price.credits_micro is not None and not plan.access.patterns:
                yield Finding(f"{path}.credits", "the plan gives no model to spend these credits on")
            if price.rollover and price.rollover_cap_micro is None:
                message = "without rollover_cap the credits add up without end"
                yield Finding(f"{path}.credits.rollover", message, is_error=False)


def _dearer_by_the_year(plan: PlanTerms, year: PriceTerms, path: str) -> Iterator[Finding]:
    for other in plan.prices:
        if other.period is PricePeriod.MONTH:
            twelve_usd_micro = other.amount_usd_micro * _MONTHS_OF_A_YEAR
        elif other.period is PricePeriod.DAYS_30:
            twelve_usd_micro = other.amount_usd_micro * _DAYS_OF_A_YEAR // 30
        else:
            continue
        if year.amount_usd_micro > twelve_usd_micro:
            price, other_price = usd_micro_text(year.amount_usd_micro), usd_micro_text(twelve_usd_micro)
            yield Finding(
                f"{path}.amount", f"${price} a year is above the ${other_price} that a year of '{other.code}' costs"
            )


def _features(file: CatalogFile) -> Iterator[Finding]:
    settings = file.settings
    plans = list(file.plans.values())
    if file.packs and not any(plan.entitlements.credit_packs for plan in plans):
        yield Finding("packs", "no plan may buy a pack: none has credit_packs = true")
    subscribable = any(plan.prices for plan in plans)
    for pack in file.packs.values():
        if pack.requires_active_plan and not subscribable:
            yield Finding(f"packs.{pack.code}.requires_active_plan", "no plan can be subscribed to")
    for plan in plans:
        path = f"plans.{plan.code}.entitlements"
        if plan.entitlements.credit_packs and not file.packs:
            yield Finding(f"{path}.credit_packs", "the catalog has no packs", is_error=False)
        if plan.entitlements.monetization and settings.publishing is None:
            yield Finding(f"{path}.monetization", "charging for models needs [publishing] with share_percent")
        if plan.entitlements.branding and plan.entitlements.published_models_limit == 0:
            yield Finding(f"{path}.branding", "the plan has no published models whose pages could be branded")
    if settings.publishing is not None and not any(plan.entitlements.monetization for plan in plans):
        yield Finding("publishing", "no plan may charge for models: none has monetization = true")
    if settings.auto_recharge is not None and settings.top_up is None:
        yield Finding("auto_recharge", "recharging buys credits by amount and needs [top_up]")
    transferable = settings.publishing is not None or (settings.top_up is not None and settings.top_up.transferable)
    if settings.transfers is not None and not transferable:
        yield Finding(
            "transfers", "nothing can be paid out: no [publishing] earnings, and top-ups are not transferable"
        )
    if settings.top_up is not None:
        if settings.top_up.requires_active_plan and not subscribable:
            yield Finding("top_up.requires_active_plan", "no plan can be subscribed to")
        if settings.top_up.bonus and settings.top_up.bonus[-1].from_usd_micro > settings.top_up.max_usd_micro:
            yield Finding("top_up.bonus", "the last step begins above the largest top-up", is_error=False)
    granted = any(price.credits_micro for plan in plans for price in plan.prices)
    if settings.top_up is None and not file.packs and not granted and not _sign_up_credits(settings):
        yield Finding("", "there is no way to get credits: no [top_up], no packs, no price with credits, no [sign_up]")
    for promo in file.promos.values():
        if promo.bonus_percent is not None and settings.top_up is None:
            yield Finding(f"promo.{promo.name}.bonus_percent", "a bonus on top-ups needs [top_up]")


def _sign_up_credits(settings: CatalogSettings) -> int | None:
    return None if settings.sign_up is None else settings.sign_up.credits_micro


def _access(file: CatalogFile) -> Iterator[Finding]:
    if not file.models:
        yield Finding("models", "there is no model to call")
    known = _patterns(file)
    for plan in file.plans.values():
        for index, pattern in enumerate(plan.access.patterns):
            if pattern not in known:
                path = f"plans.{plan.code}.models[{index}]"
                yield Finding(path, f"no model is meant by {shown(pattern)}{meant(pattern, sorted(known))}")
        yield from _discounts(plan, known)
        if not plan.access.patterns:
            yield Finding(f"plans.{plan.code}.models", "this plan gives no model", is_error=False)
    for model in file.models.values():
        if not any(plan.access.allows(model.slug, model.modality, model.tier) for plan in file.plans.values()):
            yield Finding(join_path("models", model.slug), "no plan gives this model")


def _discounts(plan: PlanTerms, known: frozenset[str]) -> Iterator[Finding]:
    most = plan.entitlements.compute_discount_percent
    for pattern, percent in plan.access.discounts:
        path = join_path(f"plans.{plan.code}.discounts", pattern)
        if pattern not in known:
            yield Finding(path, f"no model is meant by {shown(pattern)}{meant(pattern, sorted(known))}")
        if percent > most:
            message = f"{percent} is above the plan's compute_discount_percent of {most}"
            yield Finding(path, message)
    if most and not plan.access.discounts:
        path = f"plans.{plan.code}.entitlements.compute_discount_percent"
        yield Finding(path, f"no model of this plan has a discount: add [plans.{plan.code}.discounts]")


def _patterns(file: CatalogFile) -> frozenset[str]:
    patterns = {ALL_MODELS}
    for model in file.models.values():
        patterns |= {model.slug, model.modality.value, f"{model.modality.value}:{model.tier}"}
    return frozenset(patterns)


def _models(file: CatalogFile) -> Iterator[Finding]:
    providers = {provider.name: provider for provider in file.settings.providers}
    from_anthropic = {name for name, provider in providers.items() if provider.kind is ProviderKind.ANTHROPIC}
    for model in file.models.values():
        path = join_path("models", model.slug)
        if model.chain is not None:
            yield from (Finding(*found) for found in chain_findings(file.models, model, path))
        elif not model.routes:
            yield Finding(f"{path}.routes", "the model is served nowhere: name a provider")
        yield from (Finding(*found) for found in route_findings(providers, model, path))
        yield from _meters(model, path)
        terms = [providers[route.provider].prediction for route in model.routes if route.provider in providers]
        yield from (Finding(*found) for found in renamed_findings(model, [each for each in terms if each], path))
        if any(route.provider in from_anthropic for route in model.routes):
            yield from _cache_writes(model, path)
        if model.chain is None:
            yield from _bounds(model, path)
    used = {route.provider for model in file.models.values() for route in model.routes}
    for provider in providers.values():
        path = f"providers.{provider.name}"
        if provider.name not in used:
            yield Finding(path, "no model is served here", is_error=False)
        if provider.kind is ProviderKind.SANDBOX:
            continue
        if provider.kind in _NEEDS_ADDRESS and not (provider.base_url or provider.base_url_env):
            yield Finding(f"{path}.base_url", "is missing: where does this provider answer?")
        if provider.prediction is not None and provider.kind is not ProviderKind.PREDICTION:
            yield Finding(f"{path}.prediction", "belongs to a provider whose kind is prediction")
        if provider.api_key_env is None:
            yield Finding(f"{path}.api_key_env", "this provider is called without a key", is_error=False)


def _meters(model: ModelTerms, path: str) -> Iterator[Finding]:
    for index, price in enumerate(model.prices):
        if price.meter not in METERS_OF[model.modality]:
            fitting = ", ".join(meter for meter in Meter if meter in METERS_OF[model.modality])
            message = f"{price.meter} does not fit a model of {model.modality}, expected one of {fitting}"
            yield Finding(f"{path}.prices[{index}].meter", message)
    meters = {price.meter for price in model.prices}
    if model.chain is not None:
        pass  # it costs what its steps cost, and its own prices on top
    elif not model.prices:
        yield Finding(f"{path}.prices", 'the model has no price; one that is free says so with credits = "0"')
    elif not meters & _OUTPUT_METERS[model.modality]:
        expected = ", ".join(meter for meter in Meter if meter in _OUTPUT_METERS[model.modality])
        yield Finding(f"{path}.prices", f"what the model makes is free: no price for any of {expected}", is_error=False)
    for part, all_of_it in PARTS_OF_METERS:
        if part in meters and all_of_it not in meters:
            yield Finding(f"{path}.prices", f"{part} are part of {all_of_it}, which have no price")
    yield from (Finding(*found) for found in price_findings(model, path))
    yield from (Finding(*found) for found in part_findings(model, PARTS_OF_METERS, path))
    per_meter = {price.meter: price for price in model.prices if not price.when}
    cached, whole = per_meter.get(Meter.CACHED_INPUT_TOKENS), per_meter.get(Meter.INPUT_TOKENS)
    if cached is not None and whole is not None and cached.credits_micro * whole.per > whole.credits_micro * cached.per:
        yield Finding(f"{path}.prices", "cached input costs more than input that is not cached", is_error=False)


def _cache_writes(model: ModelTerms, path: str) -> Iterator[Finding]:
    """Anthropic takes more for input that it writes to its cache than for other input; any request may ask it to."""
    per_meter = {price.meter: price for price in model.prices if not price.when}
    whole = per_meter.get(Meter.INPUT_TOKENS)
    if whole is None or not whole.credits_micro:
        return
    written = per_meter.get(Meter.CACHE_WRITE_INPUT_TOKENS, whole)
    for meter, price, times in (
        (Meter.CACHE_WRITE_INPUT_TOKENS, written, "1.25 times"),
        (Meter.LONG_CACHE_WRITE_INPUT_TOKENS, per_meter.get(Meter.LONG_CACHE_WRITE_INPUT_TOKENS, written), "twice"),
    ):
        if price.credits_micro * whole.per <= whole.credits_micro * price.per:
            message = f"{meter} cost no more than input, for which Anthropic takes {times} as much"
            yield Finding(f"{path}.prices", message, is_error=False)


def _bounds(model: ModelTerms, path: str) -> Iterator[Finding]:
    """What an upper bound of a call's cost is computed from must be there."""
    needed: dict[Meter, tuple[str, int | None]] = {
        Meter.OUTPUT_TOKENS: ("max_output_tokens", model.max_output_tokens),
        Meter.SECONDS: ("max_seconds", model.limits.max_seconds),
        Meter.IMAGES: ("max_images", model.limits.max_images),
        Meter.CHARACTERS: ("max_characters", model.limits.max_characters),
    }
    for price in model.prices:
        key, bound = needed.get(price.meter, ("", 0))
        if bound is None:
            yield Finding(f"{path}.{key}", f"is missing: without it a call priced by {price.meter} has no upper bound")
    if model.modality is Modality.TEXT and model.context_tokens is None:
        yield Finding(f"{path}.context_tokens", "is missing", is_error=False)
    if model.context_tokens is not None and (model.max_output_tokens or 0) > model.context_tokens:
        yield Finding(f"{path}.max_output_tokens", "is above context_tokens", is_error=False)


def _costs(file: CatalogFile) -> Iterator[Finding]:
    for margin in margins_of(file, file.settings.costs):
        if margin.is_loss:
            path = f"{join_path('models', margin.slug)}.prices[{margin.price_index}].cost"
            yield Finding(path, loss_words(margin), is_error=False)


def _retired(file: CatalogFile) -> Iterator[Finding]:
    settings = file.settings
    for code, retirement in settings.retired_plans.items():
        path = f"retired.plans.{code}"
        if code in file.plans:
            yield Finding(path, "this plan is on offer as well")
        if retirement.renewal is Renewal.SUCCESSOR and retirement.successor not in file.plans:
            hint = meant(retirement.successor or "", list(file.plans))
            yield Finding(f"{path}.successor", f"there is no plan {shown(retirement.successor)}{hint}")
    prices = {f"{plan.code}.{price.code}" for plan in file.plans.values() for price in plan.prices}
    for name, retirement in settings.retired_prices.items():
        path = join_path("retired.prices", name)
        if name in prices:
            yield Finding(path, "this price is on offer as well")
        if retirement.renewal is Renewal.SUCCESSOR and retirement.successor not in prices:
            hint = meant(retirement.successor or "", sorted(prices))
            yield Finding(f"{path}.successor", f"there is no price {shown(retirement.successor)}{hint}")


_PARTS: Final[tuple[Callable[[CatalogFile], Iterator[Finding]], ...]] = (
    _plans,
    _prices,
    _features,
    _access,
    _models,
    _costs,
    _retired,
)
