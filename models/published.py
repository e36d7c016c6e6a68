"""Models that workspaces publish."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from models.catalog import AiModel
from models.enums import Visibility
from models.fields import EnumField, JsonObject, NullableJsonField, NullableTextField
from models.workspaces import Workspace


class PublishedModel(Model):
    """What a workspace's own model is made of, and who may call it."""

    model: fields.OneToOneRelation[AiModel] = fields.OneToOneField(
        "models.AiModel", related_name=False, on_delete=fields.RESTRICT, primary_key=True
    )
    model_id: UUID
    workspace: fields.ForeignKeyRelation[Workspace] = fields.ForeignKeyField(
        "models.Workspace", related_name=False, on_delete=fields.RESTRICT
    )
    workspace_id: UUID
    visibility: fields.Field[Visibility] = EnumField(Visibility)
    base_url: fields.Field[str | None] = NullableTextField()
    upstream_model: fields.Field[str | None] = NullableTextField()
    api_key_encrypted: fields.Field[bytes] = fields.BinaryField()
    key_version: fields.Field[int] = fields.SmallIntField(default=0)
    chain: fields.Field[JsonObject | None] = NullableJsonField()
    input_schema: fields.Field[JsonObject | None] = NullableJsonField()
    prompt: fields.Field[str | None] = NullableTextField()
    logo_url: fields.Field[str | None] = NullableTextField()
    colour: fields.Field[str | None] = NullableTextField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()
    unpublished_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "published_models"
        table_description = "What a workspace's own model is made of, and who may call it"
