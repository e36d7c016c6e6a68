"""What can be done about jobs and what they made."""

from typing import Annotated

import strawberry

from resolvers import assets, jobs
from schema.cost import Cost
from schema.errors import answered
from schema.inputs.calls import ModelCallInput
from schema.inputs.jobs import CancelCallInput, DeleteAssetInput
from schema.node import Info
from schema.types.payloads import DeletePayload, ModelCallPayload

MUTATION = Cost(weight="10")


@strawberry.type
class JobMutation:
    """A part of Mutation."""

    @strawberry.mutation(
        description="The same for work that takes minutes (image, video): answers at once, follow it with callUpdated",
        directives=[MUTATION],
    )
    async def start_call(
        self,
        info: Info,
        input: Annotated[ModelCallInput, strawberry.argument(description="The call")],  # noqa: A002
    ) -> ModelCallPayload | None:
        """A job."""
        return await answered(info.context, ModelCallPayload, jobs.start_call(info.context, input.ask()))

    @strawberry.mutation(
        description="Cancels a call that `startCall` began: what was made until then is charged, nothing where nothing was",
        directives=[MUTATION],
    )
    async def cancel_call(
        self,
        info: Info,
        input: Annotated[CancelCallInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> ModelCallPayload | None:
        """Cancels a job."""
        return await answered(info.context, ModelCallPayload, jobs.cancel_call(info.context, call_id=input.call_id))

    @strawberry.mutation(description="Deletes an asset; its room is free at once", directives=[MUTATION])
    async def delete_asset(
        self,
        info: Info,
        input: Annotated[DeleteAssetInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Deletes an asset."""
        return await answered(info.context, DeletePayload, assets.delete(info.context, asset_id=input.asset_id))
