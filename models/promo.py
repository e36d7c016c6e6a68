"""Promotion campaigns and their redemptions."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.people import User
from models.wallets import CreditGrant
from models.workspaces import Workspace


class PromoCampaign(Model):
    """A promotion code, held as its digest, and its limits."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    code_digest: fields.Field[bytes] = fields.BinaryField()
    name: fields.Field[str] = fields.TextField()
    credits_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    bonus_percent: fields.Field[int | None] = fields.IntField(null=True)
    grant_expires_after_days: fields.Field[int | None] = fields.IntField(null=True)
    starts_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    ends_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    total_limit: fields.Field[int | None] = fields.IntField(null=True)
    per_workspace_limit: fields.Field[int] = fields.IntField(default=1)
    redeemed_count: fields.Field[int] = fields.IntField(default=0)
    paused: fields.Field[bool] = fields.BooleanField(default=False)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    retired_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "promo_campaigns"
        table_description = "A promotion code, held as its digest, and its limits"


class PromoRedemption(Model):
    """A promotion used by a workspace."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    campaign: fields.ForeignKeyRelation[PromoCampaign] = fields.ForeignKeyField(
        "models.PromoCampaign", related_name=False, on_delete=fields.RESTRICT
    )
    campaign_id: UUID
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    number: fields.Field[int] = fields.IntField()
    redeemed_by: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, source_field="redeemed_by", null=True, on_delete=fields.RESTRICT
    )
    redeemed_by_id: UUID | None
    grant: fields.ForeignKeyNullableRelation[CreditGrant] = fields.ForeignKeyField(
        "models.CreditGrant", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    grant_id: UUID | None
    created_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "promo_redemptions"
        table_description = "A promotion used by a workspace"
