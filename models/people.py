"""People: who signs in, their one-time tokens, sessions and mail choices."""

# ruff: noqa: D106  a Meta names its table, there is no more to say

from datetime import datetime
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from kit.ids import uuid7
from models.enums import TokenPurpose, UnsubscribeSource
from models.fields import EnumField, NullableTextField


class User(Model):
    """A person who signs in. Erased people keep their row without personal facts."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    email: fields.Field[str] = fields.TextField()
    email_key: fields.Field[str] = fields.TextField()
    name: fields.Field[str] = fields.TextField()
    password_digest: fields.Field[str | None] = NullableTextField()
    email_verified_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    oidc_issuer: fields.Field[str | None] = NullableTextField()
    oidc_subject: fields.Field[str | None] = NullableTextField()
    totp_secret_encrypted: fields.Field[bytes | None] = fields.BinaryField(null=True)
    totp_confirmed_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    totp_last_step: fields.Field[int | None] = fields.BigIntField(null=True)
    locale: fields.Field[str] = fields.TextField(default="en")
    created_at: fields.Field[datetime] = fields.DatetimeField()
    updated_at: fields.Field[datetime] = fields.DatetimeField()
    erased_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "users"
        table_description = "A person who signs in. Erased people keep their row without personal facts"


class UserToken(Model):
    """A one-time secret mailed to a person, held as its digest."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, on_delete=fields.RESTRICT
    )
    user_id: UUID
    purpose: fields.Field[TokenPurpose] = EnumField(TokenPurpose)
    digest: fields.Field[bytes] = fields.BinaryField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()
    used_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "user_tokens"
        table_description = "A one-time secret mailed to a person, held as its digest"


class Session(Model):
    """A sign-in of a person on a device."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        "models.User", related_name=False, on_delete=fields.RESTRICT
    )
    user_id: UUID
    created_at: fields.Field[datetime] = fields.DatetimeField()
    last_refreshed_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()
    revoked_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)
    revoked_reason: fields.Field[str | None] = NullableTextField()
    address: fields.Field[str | None] = NullableTextField()
    user_agent: fields.Field[str | None] = NullableTextField()

    class Meta(Model.Meta):
        table = "sessions"
        table_description = "A sign-in of a person on a device"


class RefreshToken(Model):
    """One link in a session's chain of refresh tokens; at most one is unused."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    session: fields.ForeignKeyRelation[Session] = fields.ForeignKeyField(
        "models.Session", related_name=False, on_delete=fields.RESTRICT
    )
    session_id: UUID
    digest: fields.Field[bytes] = fields.BinaryField()
    created_at: fields.Field[datetime] = fields.DatetimeField()
    expires_at: fields.Field[datetime] = fields.DatetimeField()
    used_at: fields.Field[datetime | None] = fields.DatetimeField(null=True)

    class Meta(Model.Meta):
        table = "refresh_tokens"
        table_description = "One link in a session's chain of refresh tokens; at most one is unused"


class MailPreference(Model):
    """An address that wants no mail of a kind."""

    id: fields.Field[UUID] = fields.UUIDField(primary_key=True, default=uuid7)
    email_key: fields.Field[str] = fields.TextField()
    kind: fields.Field[str] = fields.TextField()
    unsubscribed_at: fields.Field[datetime] = fields.DatetimeField()
    source: fields.Field[UnsubscribeSource] = EnumField(UnsubscribeSource)

    class Meta(Model.Meta):
        table = "mail_preferences"
        table_description = "An address that wants no mail of a kind"
