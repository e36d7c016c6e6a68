"""What a published model is made of, and which of it can stand (B12 to B15)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from billing.catalog_check import METERS_OF, PARTS_OF_METERS
from billing.catalog_models import MAX_PER, MAX_PRICES, MAX_TOKENS
from billing.rules.chains import Chain, ChainError, parse_chain
from billing.rules.egress import mistake_in_url
from billing.rules.input_schema import UNSEEN, check_schema
from billing.rules.price_conditions import conditions_in
from billing.rules.templates import TemplateError, parse_template
from kit.errors import InvalidInput
from kit.json_values import JsonObject
from kit.money import MAX_MICRO
from metering.rules.conditions import Conditions
from models.enums import Meter, Modality, Visibility

MAX_NAME: Final = 100
MAX_DESCRIPTION: Final = 2_000
MAX_KEY: Final = 500
MAX_CONDITION_VALUES: Final = 256
"""Of all prices of a model together: whoever lists models, strangers too, is told them all."""
_OF_INPUT: Final = "input."
MODEL_SLUG: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
PUBLISHED_NAME: Final = re.compile(rf"[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?/{MODEL_SLUG.pattern}")
"""What a published model is called by: its workspace's slug and its own."""
SERVED: Final = (Modality.TEXT, Modality.EMBEDDING, Modality.IMAGE)
"""What a publisher's provider can make: the forms that its adapter speaks."""
_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_PLACE: Final = re.compile(r"[a-zA-Z0-9.:\[\]-]+")
"""Host and port of an address that may stand in a policy of its page: `*` has a meaning there."""


@dataclass(frozen=True, slots=True)
class MeterPrice:
    """Micro-credits for each `per` units of a meter, where a request says `when`; nothing there: the ordinary price."""

    meter: Meter
    credits_micro: int
    per: int
    when: Conditions = ()


@dataclass(frozen=True, slots=True)
class PublishedTerms:
    """A model as its publisher states it. Either `base_url` with `upstream_model`, or `chain`.

    `slug` is the part behind the workspace's. `prompt`: a template that makes a message of an `input`.
    """

    slug: str
    name: str
    modality: Modality
    description: str | None = None
    visibility: Visibility = Visibility.PRIVATE
    enabled: bool = True
    prices: tuple[MeterPrice, ...] = ()
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    base_url: str | None = None
    upstream_model: str | None = None
    chain: JsonObject | None = None
    input_schema: JsonObject | None = None
    prompt: str | None = None
    logo_url: str | None = None
    colour: str | None = None

    @property
    def is_priced(self) -> bool:
        """Whether its use costs anything."""
        return any(price.credits_micro for price in self.prices)

    @property
    def is_branded(self) -> bool:
        """Whether its page shows its publisher's own logo or colour."""
        return self.logo_url is not None or self.colour is not None


def check_terms(terms: PublishedTerms) -> Chain | None:
    """Its chain, if it is one; InvalidInput where something of it cannot stand."""
    if not MODEL_SLUG.fullmatch(terms.slug):
        raise InvalidInput("slug must be lower-case letters, digits, dots, - and _, at most 64", field=["slug"])
    _text(terms.name, "name", MAX_NAME)
    if not terms.name.strip() or "\n" in terms.name or "\t" in terms.name:
        raise InvalidInput("name must not be empty, and be one line", field=["name"])
    _text(terms.description or "", "description", MAX_DESCRIPTION)
    for field, count in (("contextTokens", terms.context_tokens), ("maxOutputTokens", terms.max_output_tokens)):
        if count is not None and not 1 <= count <= MAX_TOKENS:
            raise InvalidInput(f"{field} must be a number from 1 to {MAX_TOKENS}", field=[field])
    chain = _source(terms)
    _prices(terms, chain)
    if terms.input_schema is not None:
        check_schema(terms.input_schema)
    if terms.prompt is not None:
        _prompt(terms.prompt, chain)
    _branding(terms)
    return chain


def _source(terms: PublishedTerms) -> Chain | None:
    if (terms.chain is None) == (terms.base_url is None):
        raise InvalidInput("a model has either a provider or a chain", field=["chain"])
    if terms.chain is not None:
        try:
            return parse_chain(terms.chain)
        except ChainError as error:
            raise InvalidInput(str(error), field=["chain", *error.field]) from error
    if terms.modality not in SERVED:
        raise InvalidInput(f"modality must be one of {', '.join(SERVED)}", field=["modality"])
    mistake = mistake_in_url(terms.base_url or "", "baseUrl", "https://example.com/v1")
    if mistake is None and (urlsplit(terms.base_url or "").query):
        mistake = "baseUrl must have no query"
    if mistake is not None:
        raise InvalidInput(mistake, field=["provider", "baseUrl"])
    upstream = terms.upstream_model or ""
    if not upstream.strip() or len(upstream) > 200 or UNSEEN.search(upstream):
        raise InvalidInput("model must be what the provider calls it", field=["provider", "model"])
    return None


def conditions_at(place: Sequence[str], given: Sequence[tuple[str, Sequence[str]]]) -> Conditions:
    """A price's conditions as its publisher states them; InvalidInput names the one at `place` that cannot stand."""
    conditions, problems = conditions_in(given)
    if problems:
        field, problem = problems[0]
        names = [name for name, _ in given]
        at = (str(names.index(field)),) if field else ()
        raise InvalidInput(f"{field}: {problem}" if field else problem, field=[*place, *at])
    for index, (name, _) in enumerate(given):
        if name.casefold().startswith(_OF_INPUT):
            message = f"{name}: an input becomes a text of the prompt, so that it decides no price"
            raise InvalidInput(message, field=[*place, str(index)])
    return conditions


def _prices(terms: PublishedTerms, chain: Chain | None) -> None:
    if len(terms.prices) > MAX_PRICES:
        raise InvalidInput(f"a model has at most {MAX_PRICES} prices", field=["prices"])
    if sum(len(condition.values) for price in terms.prices for condition in price.when) > MAX_CONDITION_VALUES:
        raise InvalidInput(f"a model's prices name at most {MAX_CONDITION_VALUES} values", field=["prices"])
    meters = {price.meter for price in terms.prices}
    ordinary = {price.meter for price in terms.prices if not price.when}
    different: set[tuple[Meter, Conditions]] = set()
    for index, price in enumerate(terms.prices):
        at = ("prices", str(index))
        if price.meter not in METERS_OF[terms.modality]:
            raise InvalidInput(f"{price.meter} does not fit a model of {terms.modality}", field=[*at, "meter"])
        if (price.meter, price.when) in different:
            same = " under the same conditions" if price.when else ""
            raise InvalidInput(f"{price.meter} has a price already{same}", field=[*at, "meter"])
        if price.when and chain is not None:
            raise InvalidInput("a chain's own prices have no conditions: its steps' models may", field=[*at, "when"])
        if price.meter not in ordinary:
            raise InvalidInput(f"{price.meter} needs a price without conditions too", field=[*at, "when"])
        different.add((price.meter, price.when))
        if not 0 <= price.credits_micro <= MAX_MICRO // MAX_TOKENS:
            raise InvalidInput("credits must be zero or more, and not that large", field=[*at, "credits"])
        if not 1 <= price.per <= MAX_PER:
            raise InvalidInput(f"per must be a number from 1 to {MAX_PER}", field=[*at, "per"])
    for part, whole in PARTS_OF_METERS:
        if part in meters and whole not in meters:
            raise InvalidInput(f"{part} are part of {whole}, which have no price", field=["prices"])
    if chain is None and Meter.OUTPUT_TOKENS in meters and terms.max_output_tokens is None:
        raise InvalidInput("maxOutputTokens is needed where output tokens have a price", field=["maxOutputTokens"])


def _prompt(text: str, chain: Chain | None) -> None:
    if chain is not None:
        raise InvalidInput("a chain's prompts stand in its steps", field=["prompt"])
    try:
        template = parse_template(text)
    except TemplateError as error:
        raise InvalidInput(str(error), field=["prompt"]) from error
    if template.steps:
        raise InvalidInput("a prompt refers to input only", field=["prompt"])


def _branding(terms: PublishedTerms) -> None:
    if terms.colour is not None and not _COLOUR.fullmatch(terms.colour):
        raise InvalidInput("colour must be written as in #1f4fd8", field=["colour"])
    if terms.logo_url is not None and not is_logo(terms.logo_url):
        raise InvalidInput("logoUrl must be an address that begins with https://", field=["logoUrl"])


def is_logo(url: str) -> bool:
    """Whether an address may be that of a logo: it stands in its page, and its host in the page's policy."""
    if mistake_in_url(url) is not None or any(character in url for character in "\"'<>;,\\ "):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" and _PLACE.fullmatch(parts.netloc) is not None


def _text(text: str, field: str, most: int) -> None:
    if len(text) > most or UNSEEN.search(text):
        raise InvalidInput(f"{field} may have at most {most} characters and no control characters", field=[field])


def check_key(key: str | None) -> None:
    """InvalidInput for what cannot be sent as a provider's key."""
    if key is not None and (not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable()):
        raise InvalidInput(f"apiKey must be at most {MAX_KEY} printable ASCII characters", field=["provider", "apiKey"])
