"""Usage reports as the API shows them."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import strawberry

from kit.ids import encode_id
from kit.money import usd_text
from metering.reports import UsageBucketView
from resolvers import catalog, usage
from resolvers.usage import WorkspaceReport
from schema.enums import Modality, UsageDimension, UsageInterval
from schema.node import Info
from schema.pagination import After, Connection, First, connection_of, listed
from schema.scalars import BigInt, Credits, Usd
from schema.types.api_keys import ApiKey
from schema.types.people import User

From = Annotated[datetime, strawberry.argument(name="from", description="From this instant on")]
To = Annotated[datetime, strawberry.argument(description="Until before this instant")]
Interval = Annotated[UsageInterval, strawberry.argument(description="How long the buckets are")]
GroupBy = Annotated[
    list[UsageDimension] | None,
    strawberry.argument(description="What to tell apart; nothing: one line for each bucket"),
]
TimeZone = Annotated[
    str | None,
    strawberry.argument(description="In which zone days begin, as `Europe/Berlin`; the workspace's own when left out"),
]


@strawberry.type(description="What was used in one hour, day or month, by one group")
class UsageBucket:
    """The contract's UsageBucket."""

    view: strawberry.Private[UsageBucketView]
    workspace_id: strawberry.Private[UUID]
    start: datetime = strawberry.field(description="When the hour, day or month began in the time zone asked for")
    model: str | None = strawberry.field(description="The model's slug, where models are told apart")
    modality: Modality | None = strawberry.field(description="The modality, where these are told apart")
    user_id: strawberry.ID | None = strawberry.field(
        description="The person, where members are told apart; null for calls made with an API key"
    )
    api_key_id: strawberry.ID | None = strawberry.field(
        description="The API key, where keys are told apart; null for calls made by a signed-in person"
    )
    credits: Credits = strawberry.field(description="What was charged")
    calls: BigInt = strawberry.field(description="How many calls were settled")
    input_tokens: BigInt = strawberry.field(description="Tokens read")
    output_tokens: BigInt = strawberry.field(description="Tokens written")

    @strawberry.field(description="What was charged, in dollars at the catalog's rate")
    def usd(self, info: Info) -> Usd:
        """The charge in dollars."""
        return Usd(usd_text(self.view.charged_micro, catalog.credits_per_usd(info.context)))

    @strawberry.field(description="The person, for those who may read the members")
    async def member(self, info: Info) -> User | None:
        """The person."""
        view = await usage.member(info.context, self.workspace_id, self.view.user_id)
        return None if view is None else User.of(view)

    @strawberry.field(description="The API key, for those who may read the keys")
    async def api_key(self, info: Info) -> ApiKey | None:
        """The key."""
        view = await usage.api_key(info.context, self.workspace_id, self.view.api_key_id)
        return None if view is None else ApiKey.of(view)

    @classmethod
    def of(cls, view: UsageBucketView, workspace_id: UUID) -> Self:
        """The bucket."""
        return cls(
            view=view,
            workspace_id=workspace_id,
            start=view.start,
            model=view.model_slug,
            modality=None if view.modality is None else Modality(view.modality),
            user_id=None if view.user_id is None else strawberry.ID(encode_id("user", view.user_id)),
            api_key_id=None if view.api_key_id is None else strawberry.ID(encode_id("key", view.api_key_id)),
            credits=Credits(view.charged_micro),
            calls=BigInt(view.calls),
            input_tokens=BigInt(view.input_tokens),
            output_tokens=BigInt(view.output_tokens),
        )


@strawberry.type(description="What a workspace used in a range of time")
class UsageReport:
    """The contract's UsageReport."""

    view: strawberry.Private[WorkspaceReport]
    credits: Credits = strawberry.field(description="What was charged in the whole range")
    calls: BigInt = strawberry.field(description="How many calls were settled in the whole range")

    @strawberry.field(description="What was charged, in dollars at the catalog's rate")
    def usd(self, info: Info) -> Usd:
        """The charge in dollars."""
        return Usd(usd_text(self.view.report.charged_micro, catalog.credits_per_usd(info.context)))

    @listed("The hours, days or months with usage, by group, in order of time")
    def buckets(self, first: First = 100, after: After = strawberry.UNSET) -> Connection[UsageBucket]:
        """A page of buckets."""
        page = usage.buckets(self.view, first=first, after=after)
        return connection_of(page, lambda view: UsageBucket.of(view, self.view.workspace_id))

    @classmethod
    def of(cls, view: WorkspaceReport) -> Self:
        """The report as it stood when it was read."""
        return cls(view=view, credits=Credits(view.report.charged_micro), calls=BigInt(view.report.calls))
