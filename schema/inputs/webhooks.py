"""Inputs about webhook endpoints and alerts."""

import strawberry

from schema.enums import EventKind
from schema.scalars import Credits

_URL = "An address of https, reachable from the internet"


@strawberry.input(description="A new webhook endpoint")
class CreateWebhookEndpointInput:
    """Where to, and what of."""

    workspace_id: strawberry.ID = strawberry.field(description="In which workspace")
    url: str = strawberry.field(description=_URL)
    events: list[EventKind] = strawberry.field(description="What it is told: at least one")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="At most 200 characters")


@strawberry.input(description="What to change of a webhook endpoint")
class UpdateWebhookEndpointInput:
    """What is left out stays."""

    webhook_endpoint_id: strawberry.ID = strawberry.field(description="Which one")
    url: str | None = strawberry.field(default=strawberry.UNSET, description=_URL)
    events: list[EventKind] | None = strawberry.field(default=strawberry.UNSET, description="What it is told")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="At most 200 characters")
    enabled: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Off: nothing is sent. On: its failures are forgotten"
    )


@strawberry.input(description="A webhook endpoint to delete")
class DeleteWebhookEndpointInput:
    """Which one."""

    webhook_endpoint_id: strawberry.ID = strawberry.field(description="Which one")


@strawberry.input(description="A webhook endpoint that gets a new secret")
class RotateWebhookSecretInput:
    """Which one."""

    webhook_endpoint_id: strawberry.ID = strawberry.field(description="Which one")


@strawberry.input(description="A webhook endpoint to try")
class SendTestWebhookInput:
    """Which one."""

    webhook_endpoint_id: strawberry.ID = strawberry.field(description="Which one")


@strawberry.input(description="A delivery to send again")
class ReplayWebhookDeliveryInput:
    """Which one."""

    webhook_delivery_id: strawberry.ID = strawberry.field(description="Which one")


@strawberry.input(description="What to change of a workspace's alerts")
class UpdateAlertSettingsInput:
    """What is left out stays."""

    workspace_id: strawberry.ID = strawberry.field(description="Which workspace")
    cycle_percents: list[int] | None = strawberry.field(
        default=strawberry.UNSET, description="At most ten, from 1 to 100; none: nothing is told"
    )
    expiry_days: list[int] | None = strawberry.field(
        default=strawberry.UNSET, description="At most ten, from 1 to 365; none: nothing is told"
    )
    low_balance: Credits | None = strawberry.field(default=strawberry.UNSET, description="Null for none")
    by_mail: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether mails are sent as well")
