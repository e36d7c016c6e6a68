"""Payments: methods, charges, automatic recharge, invoices and transfers out."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.catalog import CreditPack, Price
from models.enums import DisputeStatus, PaymentPurpose, PaymentStatus, TransferStatus
from models.fields import BigIntArrayField, EnumField, NullableTextField, UuidArrayField
from models.people import User
from models.subscriptions import Subscription
from models.workspaces import Workspace


class FormerCustomer(Model):
    """A customer of a workspace that was deleted at Stripe."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    stripe_customer_id: fields.Field[str] = fields.TextField()
    deleted_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "former_customers"
        table_description = "A customer that was deleted at Stripe"


class PaymentMethod(Model):
    """A card or account at Stripe."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    stripe_payment_method_id: fields.Field[str] = fields.TextField()
    kind: fields.Field[str] = fields.TextField()
    brand: fields.Field[str | None] = NullableTextField()
    last4: fields.Field[str | None] = NullableTextField()
    exp_month: fields.Field[int | None] = fields.IntField(null=True)
    exp_year: fields.Field[int | None] = fields.IntField(null=True)
    fingerprint_digest: fields.Field[bytes | None] = fields.BinaryField(null=True)
    is_default: fields.Field[bool] = fields.BooleanField(default=False)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    removed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "payment_methods"
        table_description = "A card or account at Stripe"


class Payment(Model):
    """A charge in dollars and what it was for."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    purpose: fields.Field[PaymentPurpose] = EnumField(PaymentPurpose)
    amount_usd_micro: fields.Field[int] = fields.BigIntField()
    refunded_usd_micro: fields.Field[int] = fields.BigIntField(default=0)
    status: fields.Field[PaymentStatus] = EnumField(PaymentStatus)
    pack: fields.ForeignKeyNullableRelation[CreditPack] = fields.ForeignKeyField(
        "models.CreditPack", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    pack_id: UUID | None
    price: fields.ForeignKeyNullableRelation[Price] = fields.ForeignKeyField(
        "models.Price", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    price_id: UUID | None
    former_price: fields.ForeignKeyNullableRelation[Price] = fields.ForeignKeyField(
        "models.Price", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    former_price_id: UUID | None
    subscription: fields.ForeignKeyNullableRelation[Subscription] = fields.ForeignKeyField(
        "models.Subscription", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    subscription_id: UUID | None
    stripe_object_id: fields.Field[str | None] = NullableTextField()
    stripe_checkout_id: fields.Field[str | None] = NullableTextField()
    asked_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    action_url: fields.Field[str | None] = NullableTextField()
    failure_code: fields.Field[str | None] = NullableTextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()
    applied_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "payments"
        table_description = "A charge in dollars and what it was for"


class PaymentDispute(Model):
    """A payment's money, or a part of it, that the customer's bank takes back."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    payment: fields.ForeignKeyRelation[Payment] = fields.ForeignKeyField(
        "models.Payment", related_name=False, on_delete=fields.RESTRICT
    )
    payment_id: UUID
    stripe_dispute_id: fields.Field[str] = fields.TextField()
    amount_usd_micro: fields.Field[int] = fields.BigIntField()
    status: fields.Field[DisputeStatus] = EnumField(DisputeStatus)
    fetch_number: fields.Field[int] = fields.BigIntField(default=0)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "payment_disputes"
        table_description = "Money of a payment that a bank takes back"


class AutoRecharge(Model):
    """A workspace's wish to buy credits when few are left."""

    workspace: fields.OneToOneRelation[Workspace] = fields.OneToOneField(
        "models.Workspace", related_name=False, primary_key=True, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    enabled: fields.Field[bool] = fields.BooleanField(default=False)
    threshold_usd_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    amount_usd_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    monthly_limit_usd_micro: fields.Field[int | None] = fields.BigIntField(null=True)
    last_attempt_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    consecutive_failures: fields.Field[int] = fields.IntField(default=0)
    last_failure_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    suspended_reason: fields.Field[str | None] = NullableTextField()
    is_low: fields.Field[bool] = fields.BooleanField(default=False)
    updated_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "auto_recharges"
        table_description = "A workspace's wish to buy credits when few are left"


class Invoice(Model):
    """An invoice that Stripe issued."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    stripe_invoice_id: fields.Field[str] = fields.TextField()
    number: fields.Field[str | None] = NullableTextField()
    status: fields.Field[str] = fields.TextField()
    total_usd_micro: fields.Field[int] = fields.BigIntField()
    hosted_url: fields.Field[str | None] = NullableTextField()
    pdf_url: fields.Field[str | None] = NullableTextField()
    fetch_number: fields.Field[int] = fields.BigIntField(default=0)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "invoices"
        table_description = "An invoice that Stripe issued"


class Transfer(Model):
    """Credits paid out as money."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    amount_micro: fields.Field[int] = fields.BigIntField()
    amount_usd_micro: fields.Field[int] = fields.BigIntField()
    status: fields.Field[TransferStatus] = EnumField(TransferStatus)
    requested_by: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, source_field="requested_by", null=True, on_delete=fields.RESTRICT
    )
    requested_by_id: UUID | None
    grant_ids: fields.Field[list[UUID]] = UuidArrayField()
    grant_amounts_micro: fields.Field[list[int]] = BigIntArrayField()
    stripe_transfer_id: fields.Field[str | None] = NullableTextField()
    stripe_payout_id: fields.Field[str | None] = NullableTextField()
    failure_code: fields.Field[str | None] = NullableTextField()
    requested_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()
    completed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    due_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    refusals: fields.Field[int] = fields.IntField(default=0)
    returned_micro: fields.Field[int] = fields.BigIntField(default=0)
    returned_usd_micro: fields.Field[int] = fields.BigIntField(default=0)

    class Meta(Model.Meta):
        table = "transfers"
        table_description = "Credits paid out as money"


class PayoutAccount(Model):
    """Where a workspace's transfers go to."""

    workspace: fields.OneToOneRelation[Workspace] = fields.OneToOneField(
        "models.Workspace", related_name=False, primary_key=True, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    stripe_account_id: fields.Field[str | None] = NullableTextField()
    payouts_enabled: fields.Field[bool] = fields.BooleanField(default=False)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "payout_accounts"
        table_description = "Where a workspace's transfers go to"
