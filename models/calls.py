"""Calls to models and their sealed outputs; metering.ledger writes the calls."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.enums import CallStatus
from models.fields import EnumField, NullableTextField


class Call(Model):
    """A call to a model and how it ended."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace_id: fields.Field[UUID] = fields.UUIDField()
    model_slug: fields.Field[str] = fields.TextField()
    status: fields.Field[CallStatus] = EnumField(CallStatus)
    user_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    api_key_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    request_id: fields.Field[str] = fields.TextField()
    idempotency_key: fields.Field[str | None] = NullableTextField()
    error_code: fields.Field[str | None] = NullableTextField()
    error_message: fields.Field[str | None] = NullableTextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    completed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "calls"
        table_description = "A call to a model and how it ended"


class CallOutput(Model):
    """The sealed output of a call, kept for its workspace."""

    call_id: fields.Field[UUID] = fields.UUIDField(primary_key=True)
    workspace_id: fields.Field[UUID] = fields.UUIDField()
    key_version: fields.Field[int] = fields.SmallIntField()
    sealed: fields.Field[bytes] = fields.BinaryField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    repeat_until: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "call_outputs"
        table_description = "The sealed output of a call, kept for its workspace"
