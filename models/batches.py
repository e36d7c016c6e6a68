"""Batches of calls: the files they are read from, and their lines."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.enums import BatchLineState, BatchStatus, FilePurpose
from models.fields import EnumField, JsonField, JsonObject, NullableJsonField


class StoredFile(Model):
    """A file of a batch; those of its output are made from its lines."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace_id: fields.Field[UUID] = fields.UUIDField()
    api_key_id: fields.Field[UUID] = fields.UUIDField()
    purpose: fields.Field[FilePurpose] = EnumField(FilePurpose)
    filename: fields.Field[str] = fields.TextField()
    size_bytes: fields.Field[int] = fields.BigIntField()
    batch_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    key_version: fields.Field[int | None] = fields.SmallIntField(null=True)
    sealed: fields.Field[bytes | None] = fields.BinaryField(null=True)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "files"
        table_description = "A file of a batch"


class Batch(Model):
    """Many calls asked for at once."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace_id: fields.Field[UUID] = fields.UUIDField()
    api_key_id: fields.Field[UUID] = fields.UUIDField()
    endpoint: fields.Field[str] = fields.TextField()
    input_file_id: fields.Field[UUID] = fields.UUIDField()
    output_file_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    error_file_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    status: fields.Field[BatchStatus] = EnumField(BatchStatus)
    metadata: fields.Field[JsonObject] = JsonField()
    problems: fields.Field[JsonObject | None] = NullableJsonField()
    total_count: fields.Field[int] = fields.IntField(default=0)
    completed_count: fields.Field[int] = fields.IntField(default=0)
    failed_count: fields.Field[int] = fields.IntField(default=0)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()
    in_progress_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    cancelling_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    ended_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    purge_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "batches"
        table_description = "Many calls asked for at once"


class BatchLine(Model):
    """One call of a batch: its request, then what it came to, sealed."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    batch: fields.ForeignKeyRelation[Batch] = fields.ForeignKeyField(
        "models.Batch", related_name=False, on_delete=fields.CASCADE
    )
    batch_id: UUID
    number: fields.Field[int] = fields.IntField()
    state: fields.Field[BatchLineState] = EnumField(BatchLineState)
    attempt: fields.Field[int] = fields.SmallIntField(default=0)
    due_at: fields.Field[datetime] = fields.DatetimeField()
    claimed_until: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    key_version: fields.Field[int] = fields.SmallIntField()
    sealed: fields.Field[bytes] = fields.BinaryField()

    class Meta(Model.Meta):
        table = "batch_lines"
        table_description = "One call of a batch"
