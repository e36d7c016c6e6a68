"""The events of a streamed call as the API shows them."""

from typing import Annotated, Self
from uuid import UUID

import strawberry

from kit.ids import encode_id
from resolvers import calls
from resolvers.calls import CallAnswer
from resolvers.streams import StreamDelta, StreamEvent, StreamFailed
from schema.errors import UserError
from schema.node import Info
from schema.scalars import Json
from schema.types.calls import ModelCall
from schema.types.wallets import Wallet


def _call_id(key: UUID) -> strawberry.ID:
    return strawberry.ID(encode_id("call", key))


@strawberry.type(description="A piece of the output")
class CallDelta:
    """The contract's CallDelta."""

    call_id: strawberry.ID = strawberry.field(description="The call it belongs to")
    index: int = strawberry.field(description="Which choice it belongs to: 0 unless several were asked for")
    content: str | None = strawberry.field(description="The next piece of the text")
    tool_calls: Json | None = strawberry.field(description="The next pieces of tool calls, in OpenAI's form")

    @classmethod
    def of(cls, view: StreamDelta) -> Self:
        """The piece."""
        calls_made = view.delta.tool_calls
        return cls(
            call_id=_call_id(view.call_id),
            index=view.delta.index,
            content=view.delta.content,
            tool_calls=None if calls_made is None else Json(calls_made),
        )


@strawberry.type(description="The last event: the call is settled")
class CallCompleted:
    """The contract's CallCompleted."""

    answer: strawberry.Private[CallAnswer]
    call: ModelCall = strawberry.field(description="The call with its usage and charge")

    @strawberry.field(description="The wallet after it; null for those who may not read it")
    async def wallet(self, info: Info) -> Wallet | None:
        """The wallet."""
        view = await calls.wallet_after(info.context, self.answer)
        return None if view is None else Wallet.of(view)


@strawberry.type(description="The last event of a call that was refused or broke")
class CallFailed:
    """The contract's CallFailed."""

    call_id: strawberry.ID | None = strawberry.field(description="The call, where there was one")
    user_errors: list[UserError] = strawberry.field(description="Why")

    @classmethod
    def of(cls, view: StreamFailed) -> Self:
        """The failure."""
        return cls(
            call_id=None if view.call_id is None else _call_id(view.call_id), user_errors=[UserError.of(view.refusal)]
        )


CallEvent = Annotated[
    CallDelta | CallCompleted | CallFailed,
    strawberry.union("CallEvent", description="What happened to a streamed call"),
]


def event_of(view: StreamEvent) -> CallDelta | CallCompleted | CallFailed:
    """The event in its type."""
    match view:
        case StreamDelta():
            return CallDelta.of(view)
        case StreamFailed():
            return CallFailed.of(view)
        case CallAnswer():
            assert view.call is not None, "a completed stream has its call"
            return CallCompleted(answer=view, call=ModelCall.of(view.call, view.output))
