"""Webhook endpoints, their deliveries and alert settings as the API shows them."""

from datetime import datetime
from typing import Self

import strawberry

from billing.alerts import AlertSettings as AlertSettingsView
from billing.webhook_endpoints import DeliveryView, EndpointSecret, EndpointView
from kit.ids import encode_id
from resolvers import webhooks
from schema.enums import EventKind
from schema.errors import Payload
from schema.node import Info
from schema.pagination import After, Connection, First, connection_of, listed
from schema.scalars import Credits


@strawberry.type(description="An event on its way to an endpoint")
class WebhookDelivery:
    """One line of the delivery log."""

    id: strawberry.ID = strawberry.field(description="For `replayWebhookDelivery`")
    event: EventKind = strawberry.field(description="What happened")
    message_id: str = strawberry.field(description="The `webhook-id` of every attempt")
    attempts: int = strawberry.field(description="How often it was sent")
    status_code: int | None = strawberry.field(description="What the endpoint answered last; null where it did not")
    error: str | None = strawberry.field(description="Why the last attempt failed")
    next_attempt_at: datetime | None = strawberry.field(description="When it is sent next; null when it is over")
    last_attempt_at: datetime | None = strawberry.field(description="When it was sent last")
    completed_at: datetime | None = strawberry.field(description="When it was taken, or given up: see `error`")
    created_at: datetime = strawberry.field(description="Since when it is on its way")

    @classmethod
    def of(cls, view: DeliveryView) -> Self:
        """The delivery."""
        return cls(
            id=strawberry.ID(encode_id("delivery", view.id)),
            event=EventKind(view.kind),
            message_id=f"evt_{view.event_id.hex}",
            attempts=view.attempts,
            status_code=view.status_code,
            error=view.error,
            next_attempt_at=view.due_at if view.completed_at is None else None,
            last_attempt_at=view.attempted_at,
            completed_at=view.completed_at,
            created_at=view.created_at,
        )


@strawberry.type(description="An address that is told what happens, signed as Standard Webhooks says")
class WebhookEndpoint:
    """An endpoint without its secret."""

    view: strawberry.Private[EndpointView]
    id: strawberry.ID = strawberry.field(description="For the mutations")
    url: str = strawberry.field(description="Where events are sent")
    description: str = strawberry.field(description="What its makers say about it")
    events: list[EventKind] = strawberry.field(description="What it is told")
    disabled_at: datetime | None = strawberry.field(description="Since when nothing is sent to it")
    disabled_reason: str | None = strawberry.field(
        description="FAILING for five days, GONE (it answered 410) or BY_HAND"
    )
    failing_since: datetime | None = strawberry.field(description="Since when every attempt has failed")
    created_at: datetime = strawberry.field(description="When it was made")

    @listed("What was sent to it and is to be sent, the newest first")
    async def deliveries(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[WebhookDelivery]:
        """A page of the delivery log."""
        page = await webhooks.deliveries(info.context, self.view, first=first, after=after)
        return connection_of(page, WebhookDelivery.of)

    @classmethod
    def of(cls, view: EndpointView) -> Self:
        """The endpoint."""
        return cls(
            id=strawberry.ID(encode_id("hook", view.id)),
            view=view,
            url=view.url,
            description=view.description,
            events=[EventKind(kind) for kind in view.event_kinds],
            disabled_at=view.disabled_at,
            disabled_reason=view.disabled_reason,
            failing_since=view.failing_since,
            created_at=view.created_at,
        )


@strawberry.type(description="What a workspace wants to be told about its credits, by webhook and by mail")
class AlertSettings:
    """The lines."""

    cycle_percents: list[int] = strawberry.field(description="Told when so many percent of a cycle's credits are used")
    expiry_days: list[int] = strawberry.field(description="Told so many days before credits expire")
    low_balance: Credits | None = strawberry.field(description="Told when the balance is below it; null for never")
    by_mail: bool = strawberry.field(description="Whether owners, admins and billing members get mails as well")

    @classmethod
    def of(cls, view: AlertSettingsView) -> Self:
        """The settings."""
        figure = view.low_balance_micro
        return cls(
            cycle_percents=list(view.cycle_percents),
            expiry_days=list(view.expiry_days),
            low_balance=None if figure is None else Credits(figure),
            by_mail=view.by_mail,
        )


@strawberry.type(description="A webhook endpoint that was changed")
class WebhookEndpointPayload(Payload):
    """The endpoint."""

    webhook_endpoint: WebhookEndpoint | None = strawberry.field(default=None, description="The endpoint as it is now")

    @classmethod
    def of(cls, view: EndpointView) -> Self:
        """Done."""
        return cls(webhook_endpoint=WebhookEndpoint.of(view))


@strawberry.type(description="A webhook endpoint and its secret, which is never shown again")
class WebhookSecretPayload(Payload):
    """The endpoint and its secret."""

    webhook_endpoint: WebhookEndpoint | None = strawberry.field(default=None, description="The endpoint")
    secret: str | None = strawberry.field(default=None, description="With which its messages are signed: whsec_…")

    @classmethod
    def of(cls, view: EndpointSecret) -> Self:
        """Done."""
        return cls(webhook_endpoint=WebhookEndpoint.of(view.endpoint), secret=view.secret)


@strawberry.type(description="A delivery that is sent again")
class WebhookDeliveryPayload(Payload):
    """The delivery."""

    webhook_delivery: WebhookDelivery | None = strawberry.field(default=None, description="The delivery as it is now")

    @classmethod
    def of(cls, view: DeliveryView) -> Self:
        """Done."""
        return cls(webhook_delivery=WebhookDelivery.of(view))


@strawberry.type(description="Alert settings that were changed")
class AlertSettingsPayload(Payload):
    """The settings."""

    alert_settings: AlertSettings | None = strawberry.field(default=None, description="The settings as they are now")

    @classmethod
    def of(cls, view: AlertSettingsView) -> Self:
        """Done."""
        return cls(alert_settings=AlertSettings.of(view))
