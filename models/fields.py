"""Tortoise fields for the column types of PostgreSQL that Tortoise has not, or types loosely."""

# ruff: noqa: ARG002  Tortoise passes the instance to every field

from enum import Enum, StrEnum
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import orjson
from tortoise import fields
from tortoise.exceptions import ValidationError
from tortoise.models import Model

from models.pool import dump_json

E = TypeVar("E", bound=StrEnum)
JsonObject: TypeAlias = dict[str, Any]
"""A jsonb object. Any: JSON has any shape; who reads it checks it."""


class NullableTextField(fields.Field[str | None]):
    """Column `text` without NOT NULL."""

    SQL_TYPE = "TEXT"
    field_type = str

    def __init__(self) -> None:
        super().__init__(null=True)


class EnumField(fields.Field[E]):
    """Column `text` whose check constraint names the values of an enum of models.enums."""

    SQL_TYPE = "TEXT"

    def __init__(self, enum_type: type[E], *, null: bool = False) -> None:
        super().__init__(null=null)
        self.enum_type = enum_type
        self.field_type = enum_type

    def to_db_value(self, value: Any, instance: type[Model] | Model) -> str | None:
        """Refuse texts that are not of the enum before the database does."""
        return None if value is None else self.enum_type(value).value

    def to_python_value(self, value: Any) -> E | None:
        """Make the enum's member of a text."""
        return None if value is None else self.enum_type(value)


def NullableEnumField(enum_type: type[E]) -> fields.Field[E | None]:  # noqa: N802  stands among field classes
    """Column `text` with such a check constraint and without NOT NULL."""
    field: Any = EnumField(enum_type, null=True)  # Any: a Field is invariant in its type, and null widens it
    return field


class JsonField(fields.Field[JsonObject]):
    """Column `jsonb` that holds an object."""

    SQL_TYPE = "JSONB"
    field_type = dict

    def to_db_value(self, value: Any, instance: type[Model] | Model) -> str | None:
        """Tortoise's pool has no jsonb codec: it takes the text."""
        if value is None:
            return None
        if not issubclass(type(value), dict):
            raise ValidationError(f"{self.model_field_name}: a JSON object, not {type(value).__name__}")
        return dump_json(value).decode()

    def to_python_value(self, value: Any) -> Any:
        """Parse what came from the database; leave what the program assigned."""
        return orjson.loads(value) if isinstance(value, str | bytes) else value


def NullableJsonField() -> fields.Field[JsonObject | None]:  # noqa: N802  stands among field classes
    """Column `jsonb` that holds an object, without NOT NULL."""
    field: Any = JsonField(null=True)  # Any: a Field is invariant in its type, and null widens it
    return field


class _ArrayField(fields.Field[Any]):  # Any: the subclasses say what the elements are
    indexable = False
    field_type = list

    def to_db_value(self, value: Any, instance: type[Model] | Model) -> list[Any] | None:
        if value is None:
            return None
        return [item.value if isinstance(item, Enum) else item for item in value]


class TextArrayField(_ArrayField, fields.Field[list[str]]):
    """Column `text[]`."""

    SQL_TYPE = "TEXT[]"


class UuidArrayField(_ArrayField, fields.Field[list[UUID]]):
    """Column `uuid[]`."""

    SQL_TYPE = "UUID[]"


class BigIntArrayField(_ArrayField, fields.Field[list[int]]):
    """Column `bigint[]`."""

    SQL_TYPE = "BIGINT[]"


def NullableTextArrayField() -> fields.Field[list[str] | None]:  # noqa: N802  stands among field classes
    """Column `text[]` without NOT NULL."""
    field: Any = TextArrayField(null=True)  # Any: a Field is invariant in its type, and null widens it
    return field
