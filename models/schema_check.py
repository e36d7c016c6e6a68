"""Compares the constraints and indexes of a database with those this version was written for."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import orjson

from models.pool import open_connection

_EXPECTED = Path(__file__).parent / "migrations" / "expected_schema.json"
_REPORTED = 10

_CONSTRAINTS = """
SELECT class.relname || '.' || con.conname AS name,
       pg_get_constraintdef(con.oid) || CASE WHEN con.convalidated THEN '' ELSE ' (not valid)' END AS definition
FROM pg_constraint con
JOIN pg_class class ON class.oid = con.conrelid
WHERE con.connamespace = current_schema()::regnamespace AND con.contype IN ('p', 'u', 'f', 'c', 'x')
  AND class.relname <> 'tortoise_migrations'
"""  # 'n', not null, exists from PostgreSQL 18 on; models and columns are compared by a test

_INDEXES = """
SELECT class.relname || '.' || ind.relname AS name,
       replace(pg_get_indexdef(i.indexrelid), ' ON ' || current_schema() || '.', ' ON ')
           || CASE WHEN i.indisvalid THEN '' ELSE ' (invalid)' END AS definition
FROM pg_index i
JOIN pg_class ind ON ind.oid = i.indexrelid
JOIN pg_class class ON class.oid = i.indrelid
WHERE class.relnamespace = current_schema()::regnamespace AND class.relname <> 'tortoise_migrations'
"""

Schema = Mapping[str, Mapping[str, str]]


class SchemaError(Exception):
    """The database lacks an invariant that the money depends on; the message names what is missing or different."""


async def check_schema(connection: asyncpg.Connection) -> None:
    """Raise SchemaError unless every expected constraint and index is there, as defined.

    More than expected is allowed: an operator may add an index. Called at start-up, after migrations.
    """
    found = await read_schema(connection)
    problems: list[str] = []
    for kind, expected in expected_schema().items():
        for name, definition in expected.items():
            actual = found[kind].get(name)
            if actual is None:
                problems.append(f"{name} is missing")
            elif actual != definition:
                problems.append(f"{name} is {actual!r}, expected {definition!r}")
    if problems:
        more = f" and {len(problems) - _REPORTED} more" if len(problems) > _REPORTED else ""
        raise SchemaError(
            "The database is not as this version needs it; run `tollgate migrate`, or restore what was changed by hand: "
            + "; ".join(problems[:_REPORTED])
            + more
        )


async def read_schema(connection: asyncpg.Connection) -> Schema:
    """The constraints and indexes of the current schema: kind, then "table.name", then the definition."""
    constraints: list[asyncpg.Record] = await connection.fetch(_CONSTRAINTS)
    indexes: list[asyncpg.Record] = await connection.fetch(_INDEXES)
    return {
        "constraints": {row["name"]: row["definition"] for row in constraints},
        "indexes": {row["name"]: row["definition"] for row in indexes},
    }


def expected_schema() -> Schema:
    """What the committed snapshot says. models/README.md says how it is written."""
    return orjson.loads(_EXPECTED.read_bytes())


async def _print_schema(url: str) -> None:
    connection = await open_connection(url)
    try:
        schema = await read_schema(connection)
    finally:
        await connection.close()
    sys.stdout.buffer.write(orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


if __name__ == "__main__":
    asyncio.run(_print_schema(sys.argv[1]))
