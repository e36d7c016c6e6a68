"""Published models and what they earn, as the API shows them to their own workspace."""

from datetime import datetime
from typing import Self

import strawberry

from billing.published import Published
from kit.ids import encode_id
from kit.money import usd_text
from metering.publishers import EarningsBucketView, EarningsReportView
from resolvers import catalog, publishing
from schema.enums import Visibility
from schema.errors import Payload
from schema.node import Info, Node
from schema.pagination import After, Connection, First, connection_of, listed
from schema.scalars import BigInt, Credits, Json, Usd
from schema.types.catalog import Model


@strawberry.type(description="The provider that a workspace's own model is served by; its key is never shown")
class PublishedProvider:
    """Where a published model is served."""

    base_url: str = strawberry.field(description="What comes before `/chat/completions`")
    model: str = strawberry.field(description="What the provider calls it")
    has_api_key: bool = strawberry.field(description="Whether it is called with a key")


@strawberry.type(description="A model that a workspace publishes, as its own people see it")
class PublishedModel(Node):
    """A published model."""

    model: Model = strawberry.field(description="The model as its callers see it")
    visibility: Visibility = strawberry.field(description="Who may call it")
    enabled: bool = strawberry.field(description="Off: calls are refused while it stays listed")
    provider: PublishedProvider | None = strawberry.field(description="Where it is served; null for a chain")
    chain: Json | None = strawberry.field(description="Which steps it is made of; null for a provider's model")
    input_schema: Json | None = strawberry.field(
        description="The JSON Schema of its `input`, of which its page makes a form"
    )
    prompt: str | None = strawberry.field(description="The template that makes a message of an `input`")
    logo_url: str | None = strawberry.field(description="The logo on its page")
    colour: str | None = strawberry.field(description="The colour of its page")
    path: str = strawberry.field(description="Its page, below this server's address")
    created_at: datetime = strawberry.field(description="When it was published")
    updated_at: datetime = strawberry.field(description="When it was changed last")

    @classmethod
    def of(cls, view: Published) -> Self:
        """The model."""
        provider = None
        if view.base_url is not None:
            provider = PublishedProvider(
                base_url=view.base_url, model=view.upstream_model or "", has_api_key=bool(view.sealed_key)
            )
        return cls(
            id=strawberry.ID(encode_id("pub", view.model.id)),
            model=Model.of(view.model),
            visibility=view.visibility,
            enabled=view.model.enabled,
            provider=provider,
            chain=None if view.chain is None else Json(view.chain),
            input_schema=None if view.input_schema is None else Json(view.input_schema),
            prompt=view.prompt_text,
            logo_url=view.logo_url,
            colour=view.colour,
            path=f"/m/{view.slug}",
            created_at=view.created_at,
            updated_at=view.updated_at,
        )


@strawberry.type(description="What one published model was used for in one hour, day or month")
class EarningsBucket:
    """One model in one bucket."""

    view: strawberry.Private[EarningsBucketView]
    start: datetime = strawberry.field(description="When the hour, day or month began in the time zone asked for")
    model: str = strawberry.field(description="The model's slug")
    published_model_id: strawberry.ID = strawberry.field(description="The model, also where it is published no more")
    calls: BigInt = strawberry.field(description="Calls in which it was used")
    uses: BigInt = strawberry.field(description="Uses of it; each step of a chain counts")
    input_tokens: BigInt = strawberry.field(description="Tokens read")
    output_tokens: BigInt = strawberry.field(description="Tokens written")
    charged: Credits = strawberry.field(description="What its callers paid for it")
    credits: Credits = strawberry.field(description="What the workspace earned of that")

    @strawberry.field(description="What was earned, in dollars at the catalog's rate")
    def usd(self, info: Info) -> Usd:
        """The earnings in dollars."""
        return Usd(usd_text(self.view.earned_micro, catalog.credits_per_usd(info.context)))

    @classmethod
    def of(cls, view: EarningsBucketView) -> Self:
        """The bucket."""
        return cls(
            view=view,
            start=view.start,
            model=view.slug,
            published_model_id=strawberry.ID(encode_id("pub", view.model_id)),
            calls=BigInt(view.calls),
            uses=BigInt(view.uses),
            input_tokens=BigInt(view.input_tokens),
            output_tokens=BigInt(view.output_tokens),
            charged=Credits(view.charged_micro),
            credits=Credits(view.earned_micro),
        )


@strawberry.type(description="What a workspace's published models were used for and earned in a range of time")
class EarningsReport:
    """A report."""

    view: strawberry.Private[EarningsReportView]
    calls: BigInt = strawberry.field(description="Calls, each counted for every model of the workspace that it used")
    charged: Credits = strawberry.field(description="What callers paid for them")
    credits: Credits = strawberry.field(description="What the workspace earned of that")

    @strawberry.field(description="What was earned, in dollars at the catalog's rate")
    def usd(self, info: Info) -> Usd:
        """The earnings in dollars."""
        return Usd(usd_text(self.view.earned_micro, catalog.credits_per_usd(info.context)))

    @listed("The hours, days or months with use, by model, in order of time")
    def buckets(self, first: First = 100, after: After = strawberry.UNSET) -> Connection[EarningsBucket]:
        """A page of buckets."""
        return connection_of(publishing.buckets(self.view, first=first, after=after), EarningsBucket.of)

    @classmethod
    def of(cls, view: EarningsReportView) -> Self:
        """The report as it stood when it was read."""
        return cls(
            view=view,
            calls=BigInt(view.calls),
            charged=Credits(view.charged_micro),
            credits=Credits(view.earned_micro),
        )


@strawberry.type(description="A published model that was made or changed")
class PublishedModelPayload(Payload):
    """The model."""

    published_model: PublishedModel | None = strawberry.field(default=None, description="The model as it is now")

    @classmethod
    def of(cls, view: Published) -> Self:
        """Done."""
        return cls(published_model=PublishedModel.of(view))
