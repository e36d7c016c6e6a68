"""Events in and out: the inbox of what Stripe told us, the outbox of what is to be told."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.fields import JsonField, JsonObject, NullableTextField


class InboxEvent(Model):
    """An event someone sent us, worked off once."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    source: fields.Field[str] = fields.TextField()
    event_id: fields.Field[str] = fields.TextField()
    kind: fields.Field[str] = fields.TextField()
    object_id: fields.Field[str | None] = NullableTextField()
    payload: fields.Field[JsonObject] = JsonField()
    received_at: fields.Field[datetime] = fields.DatetimeField()
    attempts: fields.Field[int] = fields.IntField(default=0)
    due_at: fields.Field[datetime] = fields.DatetimeField()
    leased_until: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    completed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    last_error: fields.Field[str | None] = NullableTextField()

    class Meta(Model.Meta):
        table = "inbox_events"
        table_description = "An event someone sent us, worked off once"


class InboxSweep(Model):
    """Until when a sweep over a sender's own list of events has looked."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    source: fields.Field[str] = fields.TextField()
    swept_until: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "inbox_sweeps"
        table_description = "Until when a sweep over a sender's own list of events has looked"


class OutboxEvent(Model):
    """An event to be told to others, written with the fact itself."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    kind: fields.Field[str] = fields.TextField()
    dedupe_key: fields.Field[str | None] = NullableTextField()
    payload: fields.Field[JsonObject] = JsonField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    due_at: fields.Field[datetime] = fields.DatetimeField()
    attempts: fields.Field[int] = fields.IntField(default=0)
    completed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    last_error: fields.Field[str | None] = NullableTextField()

    class Meta(Model.Meta):
        table = "outbox_events"
        table_description = "An event to be told to others, written with the fact itself"
