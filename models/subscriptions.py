"""Subscriptions: which plan a workspace pays for, and its periods."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.catalog import Plan, Price
from models.enums import SubscriptionStatus
from models.fields import EnumField, NullableTextField
from models.workspaces import Workspace


class Subscription(Model):
    """A workspace's subscription to one price; at most one is live."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    plan: fields.ForeignKeyRelation[Plan] = fields.ForeignKeyField(
        "models.Plan", related_name=False, on_delete=fields.RESTRICT
    )
    plan_id: UUID
    price: fields.ForeignKeyRelation[Price] = fields.ForeignKeyField(
        "models.Price", related_name=False, on_delete=fields.RESTRICT
    )
    price_id: UUID
    scheduled_price: fields.ForeignKeyNullableRelation[Price] = fields.ForeignKeyField(
        "models.Price", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    scheduled_price_id: UUID | None
    status: fields.Field[SubscriptionStatus] = EnumField(SubscriptionStatus)
    anchor_at: fields.Field[datetime] = fields.DatetimeField()
    current_period_start: fields.Field[datetime] = fields.DatetimeField()
    current_period_end: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    period_number: fields.Field[int] = fields.IntField(default=0)
    grant_number: fields.Field[int] = fields.IntField(default=0)
    next_grant_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    trial_ends_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    grace_ends_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    cancel_at_period_end: fields.Field[bool] = fields.BooleanField(default=False)
    canceled_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    ended_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    stripe_subscription_id: fields.Field[str | None] = NullableTextField()
    due_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    tell_due_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "subscriptions"
        table_description = "A workspace's subscription to one price; at most one is live"
