"""Inputs about published models."""

from collections.abc import Callable
from dataclasses import replace

import strawberry

from billing.rules.publishing import MeterPrice, PublishedTerms, conditions_at
from kit.errors import InvalidInput
from kit.json_values import JsonObject
from resolvers.publishing import KeyGiven
from schema.enums import Meter, Modality, Visibility
from schema.inputs.values import given
from schema.scalars import BigInt, Credits, Json

_DESCRIPTION = "What it is good for, at most 2000 characters"
_SCHEMA = "A JSON Schema of one level: an object of texts, numbers and choices, of which its page makes a form"
_PROMPT = "A template such as `Write about {{ input.topic }}` that makes a message of an `input`; not for chains"
_PRICES = "What its use costs; nothing: it is free. Charging needs a plan with monetization"
_CHAIN = "Steps that name other models; needs a plan with chained models"
_LOGO = "An https address of a picture for its page; needs a plan with branding"
_COLOUR = "Of its page, as #1f4fd8; needs a plan with branding"


@strawberry.input(description="A provider of the workspace's own that speaks OpenAI's REST form")
class PublishedProviderInput:
    """Where to."""

    base_url: str = strawberry.field(description="What comes before `/chat/completions`; reachable from the internet")
    model: str = strawberry.field(description="What the provider calls the model")
    api_key: str | None = strawberry.field(
        default=strawberry.UNSET, description="Kept encrypted and never shown; null for a provider that wants none"
    )


@strawberry.input(description="What a request must say for a price to be its price")
class PriceConditionInput:
    """A field and its values."""

    field: str = strawberry.field(
        description="A setting in the request's body in the REST form, with dots before nested ones, such as `quality`"
    )
    values: list[str] = strawberry.field(
        description="It has one of these, in any letters; numbers and booleans as texts. 1 to 32"
    )


@strawberry.input(description="What one meter of a model costs")
class ModelPriceInput:
    """A price."""

    meter: Meter = strawberry.field(description="What is counted")
    credits: Credits = strawberry.field(description="The price in credits, for `per` units")
    per: BigInt = strawberry.field(default=BigInt(1), description="How many units the price is for")

    when: list[PriceConditionInput] = strawberry.field(
        default_factory=list["PriceConditionInput"],
        description="Which requests have this price, see `ModelPrice.when`; at most 6. The meter needs a price without, too",
    )

    def price(self, index: int) -> MeterPrice:
        """The price, which stands at `index` of its list. InvalidInput."""
        when = conditions_at(("prices", str(index), "when"), [(each.field, each.values) for each in self.when])
        return MeterPrice(self.meter, int(self.credits), int(self.per), when)


@strawberry.input(description="A model to publish: either `provider` or `chain`")
class PublishModelInput:
    """The model."""

    workspace_id: strawberry.ID = strawberry.field(description="Who publishes it")
    slug: str = strawberry.field(description="Its name behind the workspace's: it is called workspace-slug/slug")
    name: str = strawberry.field(description="Its name for people")
    description: str | None = strawberry.field(default=strawberry.UNSET, description=_DESCRIPTION)
    modality: Modality = strawberry.field(default=Modality.TEXT, description="What it makes")
    visibility: Visibility = strawberry.field(default=Visibility.PRIVATE, description="Who may call it")
    provider: PublishedProviderInput | None = strawberry.field(
        default=strawberry.UNSET, description="Where it is served"
    )
    chain: Json | None = strawberry.field(default=strawberry.UNSET, description=_CHAIN)
    prices: list[ModelPriceInput] = strawberry.field(default_factory=list["ModelPriceInput"], description=_PRICES)
    context_tokens: int | None = strawberry.field(default=strawberry.UNSET, description="Of input and output together")
    max_output_tokens: int | None = strawberry.field(
        default=strawberry.UNSET, description="The most of one call; needed where output tokens have a price"
    )
    input_schema: Json | None = strawberry.field(default=strawberry.UNSET, description=_SCHEMA)
    prompt: str | None = strawberry.field(default=strawberry.UNSET, description=_PROMPT)
    logo_url: str | None = strawberry.field(default=strawberry.UNSET, description=_LOGO)
    colour: str | None = strawberry.field(default=strawberry.UNSET, description=_COLOUR)

    def terms(self) -> PublishedTerms:
        """The model as it is stated. InvalidInput."""
        provider = given(self.provider)
        return PublishedTerms(
            slug=self.slug,
            name=self.name,
            modality=self.modality,
            description=given(self.description),
            visibility=self.visibility,
            prices=tuple(price.price(index) for index, price in enumerate(self.prices)),
            context_tokens=given(self.context_tokens),
            max_output_tokens=given(self.max_output_tokens),
            base_url=None if provider is None else provider.base_url,
            upstream_model=None if provider is None else provider.model,
            chain=_object(given(self.chain), "chain"),
            input_schema=_object(given(self.input_schema), "inputSchema"),
            prompt=given(self.prompt),
            logo_url=given(self.logo_url),
            colour=given(self.colour),
        )

    def api_key(self) -> str | None:
        """The provider's key."""
        provider = given(self.provider)
        return None if provider is None else given(provider.api_key)


@strawberry.input(description="What to change of a published model")
class UpdatePublishedModelInput:
    """What is left out stays, null clears."""

    published_model_id: strawberry.ID = strawberry.field(description="Which one")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Its name for people")
    description: str | None = strawberry.field(default=strawberry.UNSET, description=_DESCRIPTION)
    visibility: Visibility | None = strawberry.field(default=strawberry.UNSET, description="Who may call it")
    enabled: bool | None = strawberry.field(default=strawberry.UNSET, description="Off: calls are refused")
    provider: PublishedProviderInput | None = strawberry.field(
        default=strawberry.UNSET, description="Where it is served; with another host the key must be given again"
    )
    chain: Json | None = strawberry.field(default=strawberry.UNSET, description=_CHAIN)
    prices: list[ModelPriceInput] | None = strawberry.field(default=strawberry.UNSET, description=_PRICES)
    context_tokens: int | None = strawberry.field(default=strawberry.UNSET, description="Of input and output together")
    max_output_tokens: int | None = strawberry.field(default=strawberry.UNSET, description="The most of one call")
    input_schema: Json | None = strawberry.field(default=strawberry.UNSET, description=_SCHEMA)
    prompt: str | None = strawberry.field(default=strawberry.UNSET, description=_PROMPT)
    logo_url: str | None = strawberry.field(default=strawberry.UNSET, description=_LOGO)
    colour: str | None = strawberry.field(default=strawberry.UNSET, description=_COLOUR)

    def change(self) -> Callable[[PublishedTerms], PublishedTerms]:
        """What becomes of the terms. InvalidInput."""
        cleared: JsonObject = {
            name: getattr(self, name)
            for name in ("description", "context_tokens", "max_output_tokens", "prompt", "logo_url", "colour")
            if getattr(self, name) is not strawberry.UNSET
        }
        kept: JsonObject = {
            name: getattr(self, name)
            for name in ("name", "visibility", "enabled")
            if given(getattr(self, name)) is not None
        }
        for name, shown in (("chain", "chain"), ("input_schema", "inputSchema")):
            if getattr(self, name) is not strawberry.UNSET:
                cleared[name] = _object(getattr(self, name), shown)
        provider, prices = given(self.provider), self.prices
        if self.provider is not strawberry.UNSET:
            cleared["base_url"] = None if provider is None else provider.base_url
            cleared["upstream_model"] = None if provider is None else provider.model
        if prices is not strawberry.UNSET:
            cleared["prices"] = tuple(price.price(index) for index, price in enumerate(prices or ()))
        changes: dict[str, object] = {**cleared, **kept}
        return lambda terms: replace(terms, **changes)  # pyright: ignore[reportArgumentType] -- each is of its field's type

    def api_key(self) -> KeyGiven:
        """The provider's key, or that it stays."""
        provider = given(self.provider)
        if self.provider is strawberry.UNSET or (provider is not None and provider.api_key is strawberry.UNSET):
            return KeyGiven(None, keep=True)
        return KeyGiven(None if provider is None else provider.api_key, keep=False)


@strawberry.input(description="A published model to take back")
class UnpublishModelInput:
    """Which one."""

    published_model_id: strawberry.ID = strawberry.field(description="Which one")


def _object(value: object, field: str) -> JsonObject | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput(f"{field} must be an object", field=[field])
    return value  # pyright: ignore[reportUnknownVariableType] -- parsed JSON: its keys are texts
