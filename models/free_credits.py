"""Which workspaces may have free credits."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from models.enums import FreeCreditsRefusal
from models.fields import NullableEnumField
from models.workspaces import Workspace


class FreeCreditVerdict(Model):
    """Whether a new workspace may have free credits, and if not, why."""

    workspace: fields.OneToOneRelation[Workspace] = fields.OneToOneField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT, primary_key=True
    )
    workspace_id: UUID
    allowed: fields.Field[bool] = fields.BooleanField()
    refusal: fields.Field[FreeCreditsRefusal | None] = NullableEnumField(FreeCreditsRefusal)
    by_operator: fields.Field[bool] = fields.BooleanField(default=False)
    decided_at: fields.Field[datetime] = fields.DatetimeField()
    given_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "free_credit_verdicts"
        table_description = "Whether a new workspace may have free credits, and if not, why"
