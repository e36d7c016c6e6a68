"""What can be done about webhook endpoints and alerts, beyond the contract."""

from typing import Annotated

import strawberry

from resolvers import webhooks
from schema.cost import Cost
from schema.errors import answered
from schema.inputs.values import as_tuple, changed, given
from schema.inputs.webhooks import (
    CreateWebhookEndpointInput,
    DeleteWebhookEndpointInput,
    ReplayWebhookDeliveryInput,
    RotateWebhookSecretInput,
    SendTestWebhookInput,
    UpdateAlertSettingsInput,
    UpdateWebhookEndpointInput,
)
from schema.node import Info
from schema.types.payloads import DeletePayload
from schema.types.webhooks import (
    AlertSettingsPayload,
    WebhookDeliveryPayload,
    WebhookEndpointPayload,
    WebhookSecretPayload,
)

MUTATION = Cost(weight="10")


@strawberry.type
class WebhookMutation:
    """A part of Mutation."""

    @strawberry.mutation(
        description="Makes a webhook endpoint; its secret is in the answer and never shown again", directives=[MUTATION]
    )
    async def create_webhook_endpoint(
        self,
        info: Info,
        input: Annotated[CreateWebhookEndpointInput, strawberry.argument(description="The endpoint")],  # noqa: A002
    ) -> WebhookSecretPayload | None:
        """Makes an endpoint."""
        return await answered(
            info.context,
            WebhookSecretPayload,
            webhooks.create(
                info.context,
                workspace_id=input.workspace_id,
                url=input.url,
                events=input.events,
                description=given(input.description),
            ),
        )

    @strawberry.mutation(description="Changes a webhook endpoint, or turns it on or off", directives=[MUTATION])
    async def update_webhook_endpoint(
        self,
        info: Info,
        input: Annotated[UpdateWebhookEndpointInput, strawberry.argument(description="What to change")],  # noqa: A002
    ) -> WebhookEndpointPayload | None:
        """Changes an endpoint."""
        return await answered(
            info.context,
            WebhookEndpointPayload,
            webhooks.update(
                info.context,
                endpoint_id=input.webhook_endpoint_id,
                url=given(input.url),
                events=as_tuple(input.events),
                description=given(input.description),
                enabled=given(input.enabled),
            ),
        )

    @strawberry.mutation(description="Deletes a webhook endpoint and its secret", directives=[MUTATION])
    async def delete_webhook_endpoint(
        self,
        info: Info,
        input: Annotated[DeleteWebhookEndpointInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Deletes an endpoint."""
        return await answered(
            info.context, DeletePayload, webhooks.delete(info.context, endpoint_id=input.webhook_endpoint_id)
        )

    @strawberry.mutation(
        description="Gives an endpoint a new secret; for a day its messages carry both signatures",
        directives=[MUTATION],
    )
    async def rotate_webhook_secret(
        self,
        info: Info,
        input: Annotated[RotateWebhookSecretInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> WebhookSecretPayload | None:
        """Gives it a new secret."""
        return await answered(
            info.context, WebhookSecretPayload, webhooks.rotate(info.context, endpoint_id=input.webhook_endpoint_id)
        )

    @strawberry.mutation(description="Sends an endpoint an event that says nothing, to try it", directives=[MUTATION])
    async def send_test_webhook(
        self,
        info: Info,
        input: Annotated[SendTestWebhookInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> WebhookDeliveryPayload | None:
        """Tries an endpoint."""
        return await answered(
            info.context,
            WebhookDeliveryPayload,
            webhooks.send_test(info.context, endpoint_id=input.webhook_endpoint_id),
        )

    @strawberry.mutation(description="Sends a delivery again, with all its attempts before it", directives=[MUTATION])
    async def replay_webhook_delivery(
        self,
        info: Info,
        input: Annotated[ReplayWebhookDeliveryInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> WebhookDeliveryPayload | None:
        """Replays a delivery."""
        return await answered(
            info.context, WebhookDeliveryPayload, webhooks.replay(info.context, delivery_id=input.webhook_delivery_id)
        )

    @strawberry.mutation(description="Changes what a workspace is told about its credits", directives=[MUTATION])
    async def update_alert_settings(
        self,
        info: Info,
        input: Annotated[UpdateAlertSettingsInput, strawberry.argument(description="What to change")],  # noqa: A002
    ) -> AlertSettingsPayload | None:
        """Changes alerts."""
        return await answered(
            info.context,
            AlertSettingsPayload,
            webhooks.update_alerts(
                info.context,
                workspace_id=input.workspace_id,
                cycle_percents=as_tuple(input.cycle_percents),
                expiry_days=as_tuple(input.expiry_days),
                low_balance_micro=changed(input.low_balance),
                by_mail=given(input.by_mail),
            ),
        )
