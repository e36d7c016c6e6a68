"""Reads the models and providers of a catalog file: what can be called, where it is served and what it costs."""

import re
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

from billing.catalog_conditions import read_conditions
from billing.catalog_predictions import read_prediction
from billing.catalog_reader import NAME_FORM, Section, join_path, shown
from billing.catalog_settings import MeterCost, ProviderKind, ProviderSpec
from billing.catalog_terms import MeterPriceTerms, ModelTerms
from billing.rules.chains import ChainError, parse_chain
from billing.rules.entitlements import STANDARD_TIER
from billing.views import ModelLimits, RouteView
from kit.json_values import JsonObject, is_object
from kit.money import AmountError, micro_of
from models.enums import Meter, Modality
from providers.prediction_terms import PredictionTerms

MAX_MODELS: Final = 5_000
MAX_PROVIDERS: Final = 200
MAX_ROUTES: Final = 16
MAX_PRICES: Final = 64
MAX_PER: Final = 1_000_000_000
MAX_TOKENS: Final = 100_000_000
MAX_REQUESTS_PER_HOUR: Final = 1_000_000_000
MAX_TIMEOUT_S: Final = 86_400
MAX_DELAY_MS: Final = 120_000
MAX_RETRIES: Final = 5
MAX_CIRCUIT_FAILURES: Final = 1_000
MAX_COOLDOWN_S: Final = 60
MAX_DEADLINE_S: Final = 7 * 86_400
MAX_ASSET_BYTES: Final = 10_000_000_000

SLUG_FORM: Final = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,126}[a-z0-9])?")
SLUG_WORDS: Final = "lower-case letters, digits, dots, slashes, - and _, at most 128"
_CHATTING: Final = frozenset({ProviderKind.OPENAI_COMPATIBLE, ProviderKind.SANDBOX})
VARIABLE_FORM: Final = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
VARIABLE_WORDS: Final = "the name of an environment variable, such as OPENAI_API_KEY"


def read_providers(top: Section) -> tuple[ProviderSpec, ...]:
    """Every `[providers.<name>]`."""
    return tuple(_provider(name, section) for name, section in top.named("providers", "name", most=MAX_PROVIDERS))


def read_models(top: Section, credits_per_usd: Decimal) -> tuple[dict[str, ModelTerms], tuple[MeterCost, ...]]:
    """Every `[models.<slug>]`, and what their providers take, which is no term of sale."""
    sections = top.named("models", "slug", most=MAX_MODELS, form=SLUG_FORM, words=SLUG_WORDS)
    costs: list[MeterCost] = []
    return {slug: _model(slug, section, credits_per_usd, costs) for slug, section in sections}, tuple(costs)


def _provider(name: str, section: Section) -> ProviderSpec:
    kind = section.choice("kind", ProviderKind)
    base_url = section.optional_text("base_url")
    if base_url is not None and not _is_base_url(base_url):
        section.add("base_url", f"expected an address such as https://api.example.com/v1, found {shown(base_url)}")
    responses = section.flag("responses", default=False)
    if responses and kind not in _CHATTING:
        section.add("responses", f"a provider of the kind {kind} has no Responses API")
    max_tokens_only = section.flag("max_tokens_only", default=False)
    if max_tokens_only and kind is not ProviderKind.OPENAI_COMPATIBLE:
        section.add("max_tokens_only", f"a provider of the kind {kind} takes no limits by these names")
    spec = ProviderSpec(
        name=name,
        kind=kind,
        base_url=base_url,
        base_url_env=section.optional_match("base_url_env", VARIABLE_FORM, VARIABLE_WORDS),
        api_key_env=section.optional_match("api_key_env", VARIABLE_FORM, VARIABLE_WORDS),
        connect_timeout_s=section.optional_integer("connect_timeout_s", 1, MAX_TIMEOUT_S),
        first_byte_timeout_s=section.optional_integer("first_byte_timeout_s", 1, MAX_TIMEOUT_S),
        idle_timeout_s=section.optional_integer("idle_timeout_s", 1, MAX_TIMEOUT_S),
        total_timeout_s=section.optional_integer("total_timeout_s", 1, MAX_TIMEOUT_S),
        retries=section.optional_integer("retries", 0, MAX_RETRIES),
        circuit_failures=section.optional_integer("circuit_failures", 0, MAX_CIRCUIT_FAILURES),
        circuit_cooldown_s=section.optional_integer("circuit_cooldown_s", 1, MAX_COOLDOWN_S),
        sandbox_delay_ms=section.integer("sandbox_delay_ms", 0, MAX_DELAY_MS, default=0),
        sandbox_chunk_delay_ms=section.integer("sandbox_chunk_delay_ms", 0, MAX_DELAY_MS, default=0),
        responses=responses,
        max_tokens_only=max_tokens_only,
        prediction=read_prediction(section) or (PredictionTerms() if kind is ProviderKind.PREDICTION else None),
    )
    section.finish()
    return spec


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.username or parts.password or parts.query or parts.fragment)
        )
    except ValueError:
        return False


def _model(slug: str, section: Section, credits_per_usd: Decimal, costs: list[MeterCost]) -> ModelTerms:
    tier = section.optional_match("tier", NAME_FORM, "a short lower-case word such as basic")
    prices: list[MeterPriceTerms] = []
    for price in section.tables("prices", most=MAX_PRICES):
        terms, cost_usd_micro = _price(price, credits_per_usd)
        if cost_usd_micro is not None:
            costs.append(MeterCost(slug, terms.meter, cost_usd_micro, terms.per, terms.when))
        if price.sound and any((terms.meter, terms.when) == (other.meter, other.when) for other in prices):
            same = " under the same conditions" if terms.when else ""
            price.add("meter", f"the meter {terms.meter} has a price already{same}")
        prices.append(terms)
    model = ModelTerms(
        slug=slug,
        name=section.text("name", longest=100),
        modality=section.choice("modality", Modality),
        tier=tier or STANDARD_TIER,
        description=section.optional_text("description"),
        context_tokens=section.optional_integer("context_tokens", 1, MAX_TOKENS),
        max_output_tokens=section.optional_integer("max_output_tokens", 1, MAX_TOKENS),
        enabled=section.flag("enabled", default=True),
        routes=_routes(section),
        limits=ModelLimits(
            bytes_per_token=section.integer("bytes_per_token", 1, 64, default=1),
            tokenizer=section.optional_text("tokenizer"),
            image_input_tokens=section.optional_integer("image_input_tokens", 1, MAX_TOKENS),
            max_images=section.optional_integer("max_images", 1, 1_000),
            max_seconds=section.optional_integer("max_seconds", 1, 86_400),
            max_characters=section.optional_integer("max_characters", 1, MAX_TOKENS),
            requests_per_hour=section.optional_integer("requests_per_hour", 1, MAX_REQUESTS_PER_HOUR),
            cache_percent=section.integer("cache_percent", 0, 100, default=0),
            job_deadline_s=section.optional_integer("job_deadline_s", 10, MAX_DEADLINE_S),
            asset_bytes=section.optional_integer("asset_bytes", 1, MAX_ASSET_BYTES),
        ),
        prices=tuple(prices),
        chain=_chain(section),
    )
    section.finish()
    return model


def _chain(section: Section) -> JsonObject | None:
    given = section.raw("chain")
    if given is None:
        return None
    try:
        parse_chain(given)
    except ChainError as error:
        steps = "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in error.field)
        section.findings.add(f"{join_path(section.path, 'chain')}{steps}", str(error))
    return given if is_object(given) else None


def _routes(model: Section) -> tuple[RouteView, ...]:
    routes: list[RouteView] = []
    for section in model.tables("routes", most=MAX_ROUTES):
        routes.append(
            RouteView(
                provider=section.text("provider", longest=64),
                upstream_model=section.text("upstream_model", longest=200),
                weight=section.integer("weight", 1, 1_000, default=1),
                order=section.integer("order", 0, 100, default=0),
                responses_only=section.flag("responses_only", default=False),
            )
        )
        section.finish()
    return tuple(routes)


def _price(section: Section, credits_per_usd: Decimal) -> tuple[MeterPriceTerms, int | None]:
    meter = section.choice("meter", Meter)
    credits_micro = section.optional_amount("credits", positive=False)
    usd_micro = section.optional_amount("usd", positive=False)
    if credits_micro is None and usd_micro is None:
        section.add("credits", "is missing: a price is in credits or in usd")
    if credits_micro is not None and usd_micro is not None:
        section.add("usd", "a price is in credits or in usd, not in both")
    if credits_micro is None and usd_micro is not None:
        credits_micro = _exact_credits(section, usd_micro, credits_per_usd)
    per = section.integer("per", 1, MAX_PER, default=1)
    terms = MeterPriceTerms(meter, credits_micro or 0, per, read_conditions(section))
    cost_usd_micro = section.optional_amount("cost", positive=False)
    section.finish()
    return terms, cost_usd_micro


def _exact_credits(section: Section, usd_micro: int, credits_per_usd: Decimal) -> int:
    exact = Decimal(usd_micro) * credits_per_usd
    try:
        whole = micro_of(exact.scaleb(-6))
    except AmountError as error:
        section.add("usd", f"in credits: {error}; write the price for a larger `per`")
        return 0
    return whole
