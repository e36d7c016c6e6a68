"""What workspaces want to be told about their credits, and what is crossed now."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.fields import BigIntArrayField
from models.workspaces import Workspace


class WorkspaceAlerts(Model):
    """The lines a workspace wants to be told of, and when it is to be looked at."""

    workspace: fields.OneToOneRelation[Workspace] = fields.OneToOneField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT, primary_key=True
    )
    workspace_id: UUID
    cycle_percents: fields.Field[list[int]] = BigIntArrayField()
    expiry_days: fields.Field[list[int]] = BigIntArrayField()
    low_balance_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    by_mail: fields.Field[bool] = fields.BooleanField(default=True)
    is_due: fields.Field[bool] = fields.BooleanField(default=True)
    look_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "workspace_alerts"
        table_description = "The lines a workspace wants to be told of, and when it is to be looked at"


class RaisedAlert(Model):
    """A line that was crossed, and when it was recovered."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    kind: fields.Field[str] = fields.TextField()
    subject: fields.Field[str] = fields.TextField()
    raised_at: fields.Field[datetime] = fields.DatetimeField()
    cleared_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "raised_alerts"
        table_description = "A line that was crossed, and when it was recovered"
