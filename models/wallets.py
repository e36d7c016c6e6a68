"""Wallets, grants, holds, limits and ledger entries, for reading; metering.ledger alone writes them."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.enums import (
    CounterAccount,
    EntryKind,
    FrozenReason,
    GrantKind,
    Modality,
    SpendLimitPeriod,
    SpendLimitSubject,
)
from models.fields import (
    BigIntArrayField,
    EnumField,
    JsonField,
    JsonObject,
    NullableEnumField,
    NullableJsonField,
    NullableTextField,
    UuidArrayField,
)
from models.payments import Payment
from models.subscriptions import Subscription
from models.workspaces import Workspace


class Wallet(Model):
    """The credits of a workspace in total: the sum of its grants."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    balance_micro: fields.Field[int] = fields.BigIntField(default=0)
    held_micro: fields.Field[int] = fields.BigIntField(default=0)
    version: fields.Field[int] = fields.BigIntField(default=0)
    recharge_below_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    look_below_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    created_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "wallets"
        table_description = "The credits of a workspace in total: the sum of its grants"


class CreditGrant(Model):
    """Credits with one origin and one life; every micro-credit of it is accounted for."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    wallet: fields.ForeignKeyRelation[Wallet] = fields.ForeignKeyField(
        "models.Wallet", related_name=False, on_delete=fields.RESTRICT
    )
    wallet_id: UUID
    kind: fields.Field[GrantKind] = EnumField(GrantKind)
    burn_rank: fields.Field[int] = fields.SmallIntField()
    amount_micro: fields.Field[int] = fields.BigIntField()
    remaining_micro: fields.Field[int] = fields.BigIntField()
    held_micro: fields.Field[int] = fields.BigIntField(default=0)
    reinstated_micro: fields.Field[int] = fields.BigIntField(default=0)
    spent_micro: fields.Field[int] = fields.BigIntField(default=0)
    expired_micro: fields.Field[int] = fields.BigIntField(default=0)
    clawed_back_micro: fields.Field[int] = fields.BigIntField(default=0)
    refunded_micro: fields.Field[int] = fields.BigIntField(default=0)
    transferred_micro: fields.Field[int] = fields.BigIntField(default=0)
    adjusted_micro: fields.Field[int] = fields.BigIntField(default=0)
    effective_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    frozen_reason: fields.Field[FrozenReason | None] = NullableEnumField(FrozenReason)
    requires_active_plan: fields.Field[bool] = fields.BooleanField(default=False)
    transferable: fields.Field[bool] = fields.BooleanField(default=False)
    source_kind: fields.Field[str] = fields.TextField()
    source_id: fields.Field[str] = fields.TextField()
    subscription: fields.ForeignKeyNullableRelation[Subscription] = fields.ForeignKeyField(
        "models.Subscription", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    subscription_id: UUID | None
    payment: fields.ForeignKeyNullableRelation[Payment] = fields.ForeignKeyField(
        "models.Payment", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    payment_id: UUID | None
    description: fields.Field[str] = fields.TextField(default="")
    created_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "credit_grants"
        table_description = "Credits with one origin and one life; every micro-credit of it is accounted for"


class SpendLimit(Model):
    """How much a key, a member or a workspace may spend in a period."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    subject_kind: fields.Field[SpendLimitSubject] = EnumField(SpendLimitSubject)
    subject_id: fields.Field[UUID] = fields.UUIDField()
    period: fields.Field[SpendLimitPeriod] = EnumField(SpendLimitPeriod)
    limit_micro: fields.Field[int] = fields.BigIntField()
    period_start: fields.Field[datetime] = fields.DatetimeField()
    spent_micro: fields.Field[int] = fields.BigIntField(default=0)
    held_micro: fields.Field[int] = fields.BigIntField(default=0)
    created_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "spend_limits"
        table_description = "How much a key, a member or a workspace may spend in a period"


class Hold(Model):
    """Credits set aside for a running call."""

    call_id: fields.Field[UUID] = fields.UUIDField(primary_key=True)
    wallet: fields.ForeignKeyRelation[Wallet] = fields.ForeignKeyField(
        "models.Wallet", related_name=False, on_delete=fields.RESTRICT
    )
    wallet_id: UUID
    workspace_id: fields.Field[UUID] = fields.UUIDField()
    amount_micro: fields.Field[int] = fields.BigIntField()
    grant_ids: fields.Field[list[UUID]] = UuidArrayField()
    grant_amounts_micro: fields.Field[list[int]] = BigIntArrayField()
    model_slug: fields.Field[str] = fields.TextField()
    user_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    api_key_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    request_id: fields.Field[str] = fields.TextField()
    idempotency_key: fields.Field[str | None] = NullableTextField()
    owner: fields.Field[UUID] = fields.UUIDField()
    payee_wallet_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    payee_share_percent: fields.Field[int] = fields.SmallIntField(default=0)
    terms: fields.Field[JsonObject] = JsonField()
    checkpoint_micro: fields.Field[int] = fields.BigIntField(default=0)
    checkpoint: fields.Field[JsonObject | None] = NullableJsonField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()
    modality: fields.Field[Modality] = EnumField(Modality)
    limit_ids: fields.Field[list[UUID]] = UuidArrayField(default=list)

    class Meta(Model.Meta):
        table = "holds"
        table_description = "Credits set aside for a running call"


class LedgerEntry(Model):
    """A movement of credits; appended only."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    wallet_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    grant_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    kind: fields.Field[EntryKind] = EnumField(EntryKind)
    amount_micro: fields.Field[int] = fields.BigIntField()
    balance_after_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    counter_account: fields.Field[CounterAccount] = EnumField(CounterAccount)
    call_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    reference_kind: fields.Field[str] = fields.TextField()
    reference_id: fields.Field[str] = fields.TextField()
    description: fields.Field[str] = fields.TextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "ledger_entries"
        table_description = "A movement of credits; appended only"
