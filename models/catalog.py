"""The catalog: what is sold, in versions that never change once sold."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.enums import GrantCadence, Meter, Modality, PricePeriod
from models.fields import EnumField, JsonField, JsonObject, NullableEnumField, NullableTextField


class CatalogVersion(Model):
    """A catalog file that was applied."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    number: fields.Field[int] = fields.IntField()
    name: fields.Field[str] = fields.TextField()
    digest: fields.Field[str] = fields.TextField()
    source: fields.Field[str] = fields.TextField()
    credits_per_usd: fields.Field[Decimal] = fields.DecimalField(max_digits=20, decimal_places=6)
    settings: fields.Field[JsonObject] = JsonField(default=dict)
    applied_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "catalog_versions"
        table_description = "A catalog file that was applied"


class Plan(Model):
    """One version of a plan; what was sold is never changed, only retired."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    code: fields.Field[str] = fields.TextField()
    version: fields.Field[int] = fields.IntField()
    name: fields.Field[str] = fields.TextField()
    description: fields.Field[str | None] = NullableTextField()
    rank: fields.Field[int] = fields.IntField()
    is_default: fields.Field[bool] = fields.BooleanField(default=False)
    is_public: fields.Field[bool] = fields.BooleanField(default=True)
    workspace_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    entitlements: fields.Field[JsonObject] = JsonField()
    stripe_product_id: fields.Field[str | None] = NullableTextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    retired_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "plans"
        table_description = "One version of a plan; what was sold is never changed, only retired"


class Price(Model):
    """What a plan costs for a period, and the credits that come with it."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    plan: fields.ForeignKeyRelation[Plan] = fields.ForeignKeyField(
        "models.Plan", related_name=False, on_delete=fields.RESTRICT
    )
    plan_id: UUID
    code: fields.Field[str] = fields.TextField()
    amount_usd_micro: fields.Field[int] = fields.BigIntField()
    period: fields.Field[PricePeriod] = EnumField(PricePeriod)
    trial_days: fields.Field[int] = fields.IntField(default=0)
    credits_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    cadence: fields.Field[GrantCadence | None] = NullableEnumField(GrantCadence)
    rollover: fields.Field[bool] = fields.BooleanField(default=False)
    rollover_cap_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    stripe_price_id: fields.Field[str | None] = NullableTextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    retired_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "prices"
        table_description = "What a plan costs for a period, and the credits that come with it"


class CreditPack(Model):
    """One version of a pack of credits sold once."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    code: fields.Field[str] = fields.TextField()
    version: fields.Field[int] = fields.IntField()
    name: fields.Field[str] = fields.TextField()
    credits_micro: fields.Field[int] = fields.BigIntField()
    price_usd_micro: fields.Field[int] = fields.BigIntField()
    expires_after_months: fields.Field[int | None] = fields.IntField(null=True)
    requires_active_plan: fields.Field[bool] = fields.BooleanField()
    stripe_price_id: fields.Field[str | None] = NullableTextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    retired_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "credit_packs"
        table_description = "One version of a pack of credits sold once"


class AiModel(Model):
    """An AI model on sale; named so because Model is Tortoise's."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    slug: fields.Field[str] = fields.TextField()
    name: fields.Field[str] = fields.TextField()
    modality: fields.Field[Modality] = EnumField(Modality)
    description: fields.Field[str | None] = NullableTextField()
    context_tokens: fields.Field[int | None] = fields.IntField(null=True)
    max_output_tokens: fields.Field[int | None] = fields.IntField(null=True)
    routes: fields.Field[JsonObject] = JsonField()
    limits: fields.Field[JsonObject] = JsonField(default=dict)
    enabled: fields.Field[bool] = fields.BooleanField(default=True)
    workspace_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()
    retired_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "models"
        table_description = "An AI model on sale; named so because Model is Tortoise's"


class ModelPrice(Model):
    """Credits for a number of units of one meter of a model, where a request says what `conditions` name."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    model: fields.ForeignKeyRelation[AiModel] = fields.ForeignKeyField(
        "models.AiModel", related_name=False, on_delete=fields.RESTRICT
    )
    model_id: UUID
    meter: fields.Field[Meter] = EnumField(Meter)
    credits_micro: fields.Field[int] = fields.BigIntField()
    per: fields.Field[int] = fields.BigIntField()
    conditions: fields.Field[JsonObject] = JsonField(default=dict)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    retired_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "model_prices"
        table_description = (
            "Credits for a number of units of one meter of a model, where a request says what `conditions` name"
        )


class PlanModel(Model):
    """A model that a plan includes, and its discount."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    plan: fields.ForeignKeyRelation[Plan] = fields.ForeignKeyField(
        "models.Plan", related_name=False, on_delete=fields.RESTRICT
    )
    plan_id: UUID
    model: fields.ForeignKeyRelation[AiModel] = fields.ForeignKeyField(
        "models.AiModel", related_name=False, on_delete=fields.RESTRICT
    )
    model_id: UUID
    discount_percent: fields.Field[int] = fields.SmallIntField(default=0)

    class Meta(Model.Meta):
        table = "plan_models"
        table_description = "A model that a plan includes, and its discount"
