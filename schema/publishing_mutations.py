"""What can be done with published models."""

from typing import Annotated

import strawberry

from billing.published import Published
from resolvers import publishing
from schema.cost import Cost
from schema.errors import answered
from schema.inputs.publishing import PublishModelInput, UnpublishModelInput, UpdatePublishedModelInput
from schema.node import Info
from schema.types.payloads import DeletePayload
from schema.types.published import PublishedModelPayload

MUTATION = Cost(weight="10")


@strawberry.type
class PublishingMutation:
    """A part of Mutation."""

    @strawberry.mutation(
        description="Publishes a model: a provider of the workspace's own, or a chain of models", directives=[MUTATION]
    )
    async def publish_model(
        self,
        info: Info,
        input: Annotated[PublishModelInput, strawberry.argument(description="The model")],  # noqa: A002
    ) -> PublishedModelPayload | None:
        """Publishes a model."""
        return await answered(info.context, PublishedModelPayload, _publish(info, input))

    @strawberry.mutation(
        description="Changes a published model; calls that run keep the terms they began with", directives=[MUTATION]
    )
    async def update_published_model(
        self,
        info: Info,
        input: Annotated[UpdatePublishedModelInput, strawberry.argument(description="What to change")],  # noqa: A002
    ) -> PublishedModelPayload | None:
        """Changes a model."""
        return await answered(info.context, PublishedModelPayload, _update(info, input))

    @strawberry.mutation(
        description="Takes a published model back: its name is free, its key is deleted", directives=[MUTATION]
    )
    async def unpublish_model(
        self,
        info: Info,
        input: Annotated[UnpublishModelInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Takes a model back."""
        return await answered(
            info.context, DeletePayload, publishing.unpublish(info.context, model_id=input.published_model_id)
        )


async def _publish(info: Info, given: PublishModelInput) -> Published:
    return await publishing.publish(
        info.context, workspace_id=given.workspace_id, terms=given.terms(), api_key=given.api_key()
    )


async def _update(info: Info, given: UpdatePublishedModelInput) -> Published:
    return await publishing.update(
        info.context, model_id=given.published_model_id, change=given.change(), api_key=given.api_key()
    )
