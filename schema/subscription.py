"""What can be watched."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from resolvers import streams, watching
from schema.cost import Cost
from schema.inputs.calls import ModelCallInput
from schema.node import Info
from schema.types.calls import ModelCall
from schema.types.streams import CallEvent, event_of
from schema.types.wallets import Wallet

CallId = Annotated[strawberry.ID, strawberry.argument(description="The call to follow")]
WorkspaceId = Annotated[strawberry.ID, strawberry.argument(description="The workspace whose wallet to watch")]
CallInput = Annotated[ModelCallInput, strawberry.argument(description="The call")]


@strawberry.type(
    description="The subscription root. (The domain type is `PlanSubscription`, so that the two never clash.)"
)
class Subscription:
    """The contract's Subscription."""

    @strawberry.subscription(
        description="A streamed model call: deltas as they come, then one `completed` with usage and charge. With the"
        " idempotency key of a call still running it attaches to that call",
        directives=[Cost(weight="10")],
    )
    async def stream_model(self, info: Info, input: CallInput) -> AsyncGenerator[CallEvent]:  # noqa: A002  the contract's name
        """A streamed call."""
        async with aclosing(streams.stream_model(info.context, input.ask())) as events:
            async for view in events:
                yield event_of(view)

    @strawberry.subscription(
        description="Fires on every settlement, grant, expiry and hold change; coalesced to at most 10 a second",
        directives=[Cost(weight="10")],
    )
    async def wallet_changed(self, info: Info, workspace_id: WorkspaceId) -> AsyncGenerator[Wallet]:
        """A wallet's states, until the viewer leaves or may no longer read it."""
        async with aclosing(watching.wallet_changed(info.context, workspace_id)) as views:
            async for view in views:
                yield Wallet.of(view)

    @strawberry.subscription(
        description="The call at once, then after each change until it has ended",
        directives=[Cost(weight="10")],
    )
    async def call_updated(self, info: Info, id: CallId) -> AsyncGenerator[ModelCall]:  # noqa: A002  the contract's name
        """A call's states."""
        async with aclosing(watching.call_updated(info.context, id)) as views:
            async for view in views:
                yield ModelCall.of(view)
