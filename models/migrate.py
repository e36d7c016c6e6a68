"""Applies the migrations in models/migrations, through Tortoise's framework, to one database."""

from datetime import datetime

import asyncpg
from tortoise import fields
from tortoise.context import TortoiseContext
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.loader import MigrationLoader
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_editor import AsyncpgSchemaEditor
from tortoise.models import Model
from tortoise.transactions import in_transaction

from models.pool import open_connection
from models.schema_check import SchemaError as SchemaError
from models.schema_check import check_schema as check_schema

_LOCK_KEY = 0x746F6C6C67617465
"""Ours in the database's space of advisory locks: "tollgate" in ASCII."""

_LOCK_TIMEOUT = "120s"
_APPS: dict[str, dict[str, object]] = {
    "models": {"models": [], "migrations": "models.migrations", "default_connection": "default"}
}
"""No models: the migrations are SQL."""


class AppliedMigration(Model):
    """A row of Tortoise's record. Its own app: loading the real models would bind them to this connection."""

    id: fields.Field[int] = fields.IntField(primary_key=True)
    app: fields.Field[str] = fields.CharField(max_length=255)
    name: fields.Field[str] = fields.CharField(max_length=255)
    applied_at: fields.Field[datetime] = fields.DatetimeField()

    class Meta(Model.Meta):  # noqa: D106  it names the table, there is no more to say
        table = "tortoise_migrations"


async def migrate(database_url: str) -> list[str]:
    """Bring the database to the newest schema; answers the names applied now, none when it was there already.

    Lock, migrations and their records are one transaction, so that a killed process leaves the database as it was,
    and of two processes at once the second finds nothing to do. Raises Unavailable when the server is away.
    """
    applied: list[str] = []

    def note(event: str, _app: str, name: str) -> None:
        if event == "apply_done":
            applied.append(name)

    credentials = {"dsn": database_url, "max_size": 1}
    async with TortoiseContext() as context:
        # The context is this task's own: what Database.open set up for the process stays as it is.
        await context.init(
            config={
                "connections": {"default": {"engine": "models.orm_client", "credentials": credentials}},
                "apps": {"record": {"models": ["models.migrate"], "default_connection": "default"}},
            }
        )
        async with in_transaction("default") as client:
            await client.execute_script(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            await client.execute_query("SELECT pg_advisory_xact_lock($1)", [_LOCK_KEY])
            executor = MigrationExecutor(client, _APPS)
            # Before the executor looks: it takes a failed SELECT for "none applied", and that would end the transaction.
            await executor.recorder.ensure_schema(AsyncpgSchemaEditor(client, atomic=False))
            await executor.migrate(direction="forward", progress=note)
    return applied


async def pending(database_url: str) -> list[str]:
    """Names of the migrations on disk that the database has not had, in order."""
    loader = MigrationLoader(_APPS, MigrationRecorder(None), load=False)
    loader.load_disk()
    names = sorted(key.name for key in loader.disk_migrations)
    connection = await open_connection(database_url)
    try:
        done = await _applied(connection)
    finally:
        await connection.close()
    return [name for name in names if name not in done]


async def _applied(connection: asyncpg.Connection) -> set[str]:
    if await connection.fetchval("SELECT to_regclass('tortoise_migrations')") is None:
        return set()
    rows: list[asyncpg.Record] = await connection.fetch("SELECT name FROM tortoise_migrations WHERE app = 'models'")
    return {row["name"] for row in rows}
