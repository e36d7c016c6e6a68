"""Webhooks to customers: where to, and each delivery."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.events import OutboxEvent
from models.fields import NullableTextField, TextArrayField
from models.workspaces import Workspace


class WebhookEndpoint(Model):
    """An address of a customer that wants events."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    url: fields.Field[str] = fields.TextField()
    event_kinds: fields.Field[list[str]] = TextArrayField()
    secret_encrypted: fields.Field[bytes] = fields.BinaryField()
    key_version: fields.Field[int] = fields.SmallIntField()
    disabled_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    disabled_reason: fields.Field[str | None] = NullableTextField()
    failing_since: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    deleted_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    previous_secret_encrypted: fields.Field[bytes | None] = fields.BinaryField(null=True)
    previous_until: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    description: fields.Field[str] = fields.TextField(default="")

    class Meta(Model.Meta):
        table = "webhook_endpoints"
        table_description = "An address of a customer that wants events"


class WebhookDelivery(Model):
    """An event on its way to an endpoint."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    endpoint: fields.ForeignKeyRelation[WebhookEndpoint] = fields.ForeignKeyField(
        "models.WebhookEndpoint", related_name=False, on_delete=fields.RESTRICT
    )
    endpoint_id: UUID
    event: fields.ForeignKeyRelation[OutboxEvent] = fields.ForeignKeyField(
        "models.OutboxEvent", related_name=False, on_delete=fields.RESTRICT
    )
    event_id: UUID
    attempt: fields.Field[int] = fields.IntField(default=0)
    due_at: fields.Field[datetime] = fields.DatetimeField()
    status_code: fields.Field[int | None] = fields.IntField(null=True)
    error: fields.Field[str | None] = NullableTextField()
    completed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    attempted_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "webhook_deliveries"
        table_description = "An event on its way to an endpoint"
