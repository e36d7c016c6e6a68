"""Jobs: calls that outlive the request which asked for them; gateway writes them."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from models.enums import JobOperation
from models.fields import EnumField, JsonField, JsonObject, NullableTextField
from models.wallets import Wallet
from models.workspaces import Workspace


class Job(Model):
    """A call that a provider works on for minutes."""

    call_id: fields.Field[UUID] = fields.UUIDField(primary_key=True)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    wallet: fields.ForeignKeyRelation[Wallet] = fields.ForeignKeyField(
        "models.Wallet", related_name=False, on_delete=fields.RESTRICT
    )
    wallet_id: UUID
    user_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    api_key_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    model_slug: fields.Field[str] = fields.TextField()
    operation: fields.Field[JobOperation] = EnumField(JobOperation)
    request_id: fields.Field[str] = fields.TextField()
    terms: fields.Field[JsonObject] = JsonField()
    request: fields.Field[bytes | None] = fields.BinaryField(null=True)
    route: fields.Field[int] = fields.IntField(default=0)
    provider: fields.Field[str | None] = NullableTextField()
    prediction_id: fields.Field[str | None] = NullableTextField()
    submitting_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    taken_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    polls: fields.Field[int] = fields.IntField(default=0)
    misses: fields.Field[int] = fields.IntField(default=0)
    due_at: fields.Field[datetime] = fields.DatetimeField()
    deadline_at: fields.Field[datetime] = fields.DatetimeField()
    cancel_requested_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    poked_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    ended_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "jobs"
        table_description = "A call that a provider works on for minutes"
