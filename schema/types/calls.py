"""Model calls as the API shows them: status, output, usage and charge."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Self
from uuid import UUID

import strawberry

from gateway.payloads import AssetsOutputView, AssetView, ChatOutputView, EmbeddingOutputView, OutputView
from kit.errors import Code
from kit.ids import encode_id
from kit.money import usd_text
from metering.views import CallView, UsageView
from resolvers import calls, catalog, wallets
from schema.cost import sized
from schema.enums import CallStatus, Meter
from schema.errors import UserError
from schema.node import Info, Node
from schema.scalars import BigInt, Credits, Json, Usd, Vector
from schema.types.grants import CreditGrant


@strawberry.type(description="What a chat model answered")
class ChatOutput:
    """The contract's ChatOutput."""

    content: str | None = strawberry.field(description="The text; null where the model called tools instead")
    finish_reason: str = strawberry.field(
        description="Why it ended, in the provider's word: stop, length, tool_calls …"
    )
    tool_calls: Json | None = strawberry.field(description="The tools it wants to call, in OpenAI's form")

    @classmethod
    def of(cls, view: ChatOutputView) -> Self:
        """The answer."""
        return cls(
            content=view.content,
            finish_reason=view.finish_reason,
            tool_calls=None if view.tool_calls is None else Json(view.tool_calls),
        )


@strawberry.type(description="What an embedding model answered")
class EmbeddingOutput:
    """The contract's EmbeddingOutput."""

    embeddings: list[Vector] = strawberry.field(description="One vector for each text, in order", directives=[sized(1)])

    @classmethod
    def of(cls, view: EmbeddingOutputView) -> Self:
        """The vectors."""
        return cls(embeddings=[Vector(vector) for vector in view.embeddings])


@strawberry.type(description="A file that a model made")
class Asset(Node):
    """The contract's Asset."""

    content_type: str = strawberry.field(description="Its media type")
    size_bytes: BigInt = strawberry.field(description="Its size; 0 where the provider keeps the file and does not tell")
    url: str = strawberry.field(description="Where to fetch it, without a credential; works until `urlExpiresAt`")
    expires_at: datetime | None = strawberry.field(description="Until when it is kept; null for ever")
    url_expires_at: datetime | None = strawberry.field(
        description="Until when the address works; ask for the asset anew after that"
    )

    @classmethod
    def of(cls, view: AssetView) -> Self:
        """The file."""
        return cls(
            id=strawberry.ID(encode_id("asset", view.id)),
            content_type=view.content_type,
            size_bytes=BigInt(view.size_bytes or 0),
            url=view.url,
            expires_at=view.expires_at,
            url_expires_at=view.url_expires_at,
        )


@strawberry.type(description="The files that a model made")
class AssetsOutput:
    """The contract's AssetsOutput."""

    assets: list[Asset] = strawberry.field(description="The files, in order", directives=[sized(10)])

    @classmethod
    def of(cls, view: AssetsOutputView) -> Self:
        """The files."""
        return cls(assets=[Asset.of(asset) for asset in view.assets])


CallOutput = Annotated[
    ChatOutput | EmbeddingOutput | AssetsOutput, strawberry.union("CallOutput", description="What a model answered")
]


def _output_of(view: OutputView) -> ChatOutput | EmbeddingOutput | AssetsOutput:
    match view:
        case ChatOutputView():
            return ChatOutput.of(view)
        case EmbeddingOutputView():
            return EmbeddingOutput.of(view)
        case AssetsOutputView():
            return AssetsOutput.of(view)


@strawberry.type(description="How much of a meter a call used")
class MeterReading:
    """The contract's MeterReading."""

    meter: Meter = strawberry.field(description="What was counted")
    quantity: BigInt = strawberry.field(description="How much")


@strawberry.type(description="What a grant paid for a call")
class Charge:
    """The contract's Charge."""

    grant_id: strawberry.Private[UUID]
    workspace_id: strawberry.Private[UUID]
    credits: Credits = strawberry.field(description="How many credits")

    @strawberry.field(description="The grant; null for those who may not read the wallet")
    async def grant(self, info: Info) -> CreditGrant | None:
        """The grant that paid."""
        view = await wallets.charged_grant(info.context, self.grant_id, self.workspace_id)
        return None if view is None else CreditGrant.of(view)


@strawberry.type(description="What a call used and was charged")
class CallUsage:
    """The contract's CallUsage."""

    view: strawberry.Private[UsageView]
    workspace_id: strawberry.Private[UUID]
    credits: Credits = strawberry.field(description="What was charged")
    estimated: bool = strawberry.field(
        description="True when the provider did not report usage and it was counted here"
    )
    cached: bool = strawberry.field(description="True when the answer of an equal, earlier call was given")

    @strawberry.field(description="What was counted; meters that stand at zero are left out", directives=[sized(4)])
    def meters(self) -> list[MeterReading]:
        """The readings."""
        readings = _readings(self.view)
        return [MeterReading(meter=meter, quantity=BigInt(count)) for meter, count in readings.items() if count]

    @strawberry.field(description="What was charged, in dollars")
    def usd(self, info: Info) -> Usd:
        """The charge at the catalog's rate."""
        return Usd(usd_text(self.view.charged_micro, catalog.credits_per_usd(info.context)))

    @strawberry.field(description="Which grants paid, in the order they were used", directives=[sized(3)])
    def charges(self) -> list[Charge]:
        """The charges."""
        return [
            Charge(grant_id=grant_id, workspace_id=self.workspace_id, credits=Credits(micro))
            for grant_id, micro in self.view.charges
        ]

    @classmethod
    def of(cls, view: UsageView, workspace_id: UUID) -> Self:
        """The usage of a call of the workspace."""
        return cls(
            view=view,
            workspace_id=workspace_id,
            credits=Credits(view.charged_micro),
            estimated=view.estimated,
            cached=view.cached,
        )


def _readings(view: UsageView) -> Mapping[Meter, int]:
    return {
        Meter.INPUT_TOKENS: view.input_tokens,
        Meter.CACHED_INPUT_TOKENS: view.cached_input_tokens,
        Meter.CACHE_WRITE_INPUT_TOKENS: view.cache_write_input_tokens,
        Meter.LONG_CACHE_WRITE_INPUT_TOKENS: view.long_cache_write_input_tokens,
        Meter.OUTPUT_TOKENS: view.output_tokens,
        Meter.REASONING_TOKENS: view.reasoning_tokens,
        Meter.REQUESTS: view.requests,
        Meter.IMAGES: view.images,
        Meter.SECONDS: view.seconds,
        Meter.CHARACTERS: view.characters,
    }


_CODES: Final = frozenset(Code)


@strawberry.type(description="One call of a model: what became of it and what it cost")
class ModelCall(Node):
    """The contract's ModelCall."""

    view: strawberry.Private[CallView]
    answer: strawberry.Private[OutputView | None]
    model: str = strawberry.field(description="The slug of the model that was called")
    status: CallStatus = strawberry.field(description="Where it stands")
    usage: CallUsage | None = strawberry.field(description="What it used and was charged; null until it is settled")
    created_at: datetime = strawberry.field(description="When it was asked for")
    completed_at: datetime | None = strawberry.field(description="When it ended")
    error: UserError | None = strawberry.field(description="Why it failed")

    @strawberry.field(
        description="Kept, encrypted, for 10 minutes (24 hours for jobs) so that a repeat with the same idempotency key"
        " and a finished job can be answered; after that null unless the workspace stores outputs"
    )
    async def output(self, info: Info) -> CallOutput | None:
        """What the model answered."""
        view = self.answer if self.answer is not None else await calls.output(info.context, self.view)
        return None if view is None else _output_of(view)

    @classmethod
    def of(cls, view: CallView, answer: OutputView | None = None) -> Self:
        """The call; `answer` where its output is at hand."""
        return cls(
            id=strawberry.ID(encode_id("call", view.id)),
            view=view,
            answer=answer,
            model=view.model_slug,
            status=CallStatus(view.status),
            usage=None if view.usage is None else CallUsage.of(view.usage, view.workspace_id),
            created_at=view.created_at,
            completed_at=view.completed_at,
            error=_error_of(view),
        )


def _error_of(view: CallView) -> UserError | None:
    if view.error_code is None:
        return None
    code = Code(view.error_code) if view.error_code in _CODES else Code.UPSTREAM_ERROR
    return UserError(code=code, message=view.error_message or "the call failed", field=[])
