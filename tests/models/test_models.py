"""The Tortoise models say the same as the database: columns, types, nulls, references, enums."""

import importlib
import inspect
import re
from enum import StrEnum

import asyncpg
import pytest
from tortoise import fields
from tortoise.fields.relational import ForeignKeyFieldInstance
from tortoise.models import Model

import models.enums
from models.database import MODEL_MODULES, Database
from models.enums import ApiScope, SpendLimitPeriod, SpendLimitSubject
from models.fields import EnumField

WITHOUT_MODEL = {
    "usage_events",
    "idempotency_keys",
    "usage_rollups",
    "usage_days",
    "usage_marks",
    "free_credit_counts",
    "published_uses",
    "tortoise_migrations",
}
"""Composite primary keys, which Tortoise has not; and Tortoise's own table."""

REFERENCES_WITHOUT_RELATION = {("plans", "workspace_id"), ("models", "workspace_id")}
"""A relation here would make models.catalog and models.workspaces import each other."""

DATABASE_NAMES = {"TIMESTAMPTZ": "timestamp with time zone", "INT": "integer", "BOOL": "boolean"}

MODELS: list[type[Model]] = [
    found
    for module in map(importlib.import_module, MODEL_MODULES)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if issubclass(found, Model) and found.__module__ == module.__name__
]


async def test_every_table_has_a_model_or_a_reason(pg: asyncpg.Connection) -> None:
    tables = {row["tablename"] for row in await pg.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert {model._meta.db_table for model in MODELS} == tables - WITHOUT_MODEL
    assert tables >= WITHOUT_MODEL


def column_type(field: fields.Field) -> str:
    source = field.reference.to_field_instance if field.reference is not None else field
    sql_type = source.get_for_dialect("postgres", "SQL_TYPE")
    return DATABASE_NAMES.get(sql_type, sql_type).lower().replace("decimal", "numeric")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
async def test_columns_are_those_of_the_table(shared_pg: asyncpg.Connection, database_models: None, model) -> None:
    rows = await shared_pg.fetch(
        """
        SELECT attname, format_type(atttypid, atttypmod) AS type, NOT attnotnull AS nullable
        FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
        """,
        model._meta.db_table,
    )
    expected = {row["attname"]: (row["type"], row["nullable"]) for row in rows}
    declared = {
        column: (column_type(model._meta.fields_map[name]), model._meta.fields_map[name].null)
        for name, column in model._meta.fields_db_projection.items()
    }
    assert declared == expected


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
async def test_relations_and_primary_key_are_those_of_the_table(
    shared_pg: asyncpg.Connection, database_models: None, model
) -> None:
    table = model._meta.db_table
    rows = await shared_pg.fetch(
        """
        SELECT con.contype::text AS kind, att.attname AS column, con.confrelid::regclass::text AS target
        FROM pg_constraint con JOIN pg_attribute att ON att.attrelid = con.conrelid AND att.attnum = con.conkey[1]
        WHERE con.conrelid = $1::regclass AND con.contype IN ('f', 'p')
        """,
        table,
    )
    expected = {(row["column"], row["target"]) for row in rows if row["kind"] == "f"}
    expected -= {(column, target) for column, target in expected if (table, column) in REFERENCES_WITHOUT_RELATION}
    declared = set()
    for field in model._meta.fields_map.values():
        if isinstance(field, ForeignKeyFieldInstance):
            key = model._meta.fields_map[field.source_field]
            declared.add((model._meta.fields_db_projection[key.model_field_name], field.related_model._meta.db_table))
    assert declared == expected
    assert [model._meta.db_pk_column] == [row["column"] for row in rows if row["kind"] == "p"]


def values_in(definition: str, column: str) -> set[str] | None:
    found = re.fullmatch(rf"CHECK \(\({column} = ANY \(ARRAY\[(.*)\]\)\)\)", definition)
    return set(re.findall(r"'([^']*)'::text", found[1])) if found else None


ENUM_COLUMNS = [
    (model._meta.db_table, name, field.enum_type)
    for model in MODELS
    for name, field in model._meta.fields_map.items()
    if isinstance(field, EnumField)
]
PAIRED = {SpendLimitSubject, SpendLimitPeriod}
WITHOUT_CHECK = {("holds", "modality")}
"""metering.ledger writes what the catalog says, whose column has the check."""


async def checks_of(connection: asyncpg.Connection, table: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c'",
        table,
    )
    return [row["definition"] for row in rows]


@pytest.mark.parametrize(
    ("table", "column", "enum"),
    [entry for entry in ENUM_COLUMNS if entry[2] not in PAIRED and entry[:2] not in WITHOUT_CHECK],
    ids=str,
)
async def test_an_enum_has_the_values_of_its_check(
    shared_pg: asyncpg.Connection, table: str, column: str, enum: type[StrEnum]
) -> None:
    found = [values for definition in await checks_of(shared_pg, table) if (values := values_in(definition, column))]
    assert found == [set(enum)]


async def test_the_enums_of_paired_and_array_columns_have_the_values_of_their_checks(
    shared_pg: asyncpg.Connection,
) -> None:
    texts = r"'([^']*)'::text"
    [pairs] = [check for check in await checks_of(shared_pg, "spend_limits") if "subject_kind" in check]
    assert set(re.findall(texts, pairs)) == set(SpendLimitSubject) | set(SpendLimitPeriod)
    [scopes] = [check for check in await checks_of(shared_pg, "api_keys") if "scopes" in check]
    assert set(re.findall(texts, scopes)) == set(ApiScope)


async def test_every_check_that_lists_values_has_an_enum(shared_pg: asyncpg.Connection) -> None:
    rows = await shared_pg.fetch(
        """
        SELECT con.conrelid::regclass::text AS table, att.attname AS column, pg_get_constraintdef(con.oid) AS definition
        FROM pg_constraint con JOIN pg_attribute att ON att.attrelid = con.conrelid AND att.attnum = con.conkey[1]
        WHERE con.contype = 'c' AND con.connamespace = 'public'::regnamespace AND cardinality(con.conkey) = 1
        """
    )
    listed = {(row["table"], row["column"]) for row in rows if values_in(row["definition"], row["column"])}
    assert listed == {(table, column) for table, column, enum in ENUM_COLUMNS if enum not in PAIRED} - WITHOUT_CHECK


def test_every_enum_is_used_by_a_column() -> None:
    enums = {enum for _, enum in inspect.getmembers(models.enums, inspect.isclass) if enum.__module__ == "models.enums"}
    assert {enum for _, _, enum in ENUM_COLUMNS} | {ApiScope} == enums


@pytest.fixture
async def database_models(shared_database: Database) -> None:
    """Tortoise fills in relations only once it is initialised."""
