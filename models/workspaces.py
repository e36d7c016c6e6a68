"""Workspaces, who and what may act in them, and the record of what was done."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.catalog import Plan
from models.enums import ActorKind, KeyEnvironment, Role
from models.fields import EnumField, JsonField, JsonObject, NullableTextArrayField, NullableTextField, TextArrayField
from models.people import User


class Workspace(Model):
    """A tenant: everything billed belongs to one."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    name: fields.Field[str] = fields.TextField()
    slug: fields.Field[str] = fields.TextField()
    created_by: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, source_field="created_by", null=True, on_delete=fields.RESTRICT
    )
    created_by_id: UUID | None
    default_plan: fields.ForeignKeyNullableRelation[Plan] = fields.ForeignKeyField(
        "models.Plan", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    default_plan_id: UUID | None
    store_outputs: fields.Field[bool] = fields.BooleanField(default=False)
    time_zone: fields.Field[str] = fields.TextField(default="UTC")
    concurrent_calls_limit: fields.Field[int | None] = fields.IntField(null=True)
    stripe_customer_id: fields.Field[str | None] = NullableTextField()
    methods_fetch_number: fields.Field[int] = fields.BigIntField(default=0)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()
    deleted_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    purged_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "workspaces"
        table_description = "A tenant: everything billed belongs to one"


class Member(Model):
    """A person's role in a workspace."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, on_delete=fields.RESTRICT
    )
    user_id: UUID
    role: fields.Field[Role] = EnumField(Role)
    joined_at: fields.Field[datetime] = fields.DatetimeField()
    removed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "members"
        table_description = "A person's role in a workspace"


class Invitation(Model):
    """An offer of membership, mailed to an address."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    email: fields.Field[str] = fields.TextField()
    email_key: fields.Field[str] = fields.TextField()
    role: fields.Field[Role] = EnumField(Role)
    digest: fields.Field[bytes] = fields.BinaryField()
    invited_by: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, source_field="invited_by", null=True, on_delete=fields.RESTRICT
    )
    invited_by_id: UUID | None
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()
    accepted_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    accepted_by: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, source_field="accepted_by", null=True, on_delete=fields.RESTRICT
    )
    accepted_by_id: UUID | None
    revoked_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "invitations"
        table_description = "An offer of membership, mailed to an address"


class ApiKey(Model):
    """A key of a workspace, held as the digest of its secret."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    created_by: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, source_field="created_by", null=True, on_delete=fields.RESTRICT
    )
    created_by_id: UUID | None
    name: fields.Field[str] = fields.TextField()
    environment: fields.Field[KeyEnvironment] = EnumField(KeyEnvironment)
    prefix: fields.Field[str] = fields.TextField()
    digest: fields.Field[bytes] = fields.BinaryField()
    scopes: fields.Field[list[str]] = TextArrayField()
    models: fields.Field[list[str] | None] = NullableTextArrayField()
    addresses: fields.Field[list[str] | None] = NullableTextArrayField()
    requests_per_hour: fields.Field[int | None] = fields.IntField(null=True)
    cache_answers: fields.Field[bool] = fields.BooleanField(default=False)
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    revoked_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    last_used_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    rotated_to: "fields.ForeignKeyNullableRelation[ApiKey]" = fields.ForeignKeyField(
        "models.ApiKey", related_name=False, source_field="rotated_to", null=True, on_delete=fields.RESTRICT
    )
    rotated_to_id: UUID | None

    class Meta(Model.Meta):
        table = "api_keys"
        table_description = "A key of a workspace, held as the digest of its secret"


class AuditEvent(Model):
    """Who did what to which thing; appended only."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyNullableRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    workspace_id: UUID | None
    actor_kind: fields.Field[ActorKind] = EnumField(ActorKind)
    actor_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    action: fields.Field[str] = fields.TextField()
    subject_kind: fields.Field[str] = fields.TextField()
    subject_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    facts: fields.Field[JsonObject] = JsonField(default=dict)
    address: fields.Field[str | None] = NullableTextField()
    request_id: fields.Field[str | None] = NullableTextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "audit_events"
        table_description = "Who did what to which thing; appended only"
