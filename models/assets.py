"""Assets: files that calls produced and the workspace keeps, and the room they take."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.people import User
from models.workspaces import Workspace


class Asset(Model):
    """A stored file."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    owner: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, null=True, on_delete=fields.RESTRICT
    )
    owner_id: UUID | None
    call_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    content_type: fields.Field[str] = fields.TextField()
    size_bytes: fields.Field[int] = fields.BigIntField()
    storage_path: fields.Field[str] = fields.TextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    deleted_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    api_key_id: fields.Field[UUID | None] = fields.UUIDField(null=True)
    purged_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    unstored_until: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "assets"
        table_description = "A stored file"


class WorkspaceStorage(Model):
    """What a workspace's assets take and what calls under way have set aside; triggers keep it."""

    workspace: fields.OneToOneRelation[Workspace] = fields.OneToOneField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT, primary_key=True
    )
    workspace_id: UUID
    used_bytes: fields.Field[int] = fields.BigIntField(default=0)
    reserved_bytes: fields.Field[int] = fields.BigIntField(default=0)

    class Meta(Model.Meta):
        table = "workspace_storage"
        table_description = "What a workspace's assets take"


class StorageReservation(Model):
    """Room set aside for the assets of a call under way."""

    call_id: fields.Field[UUID] = fields.UUIDField(primary_key=True)
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    bytes: fields.Field[int] = fields.BigIntField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):
        table = "storage_reservations"
        table_description = "Room set aside for the assets of a call under way"
