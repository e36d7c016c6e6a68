"""Migrations are applied once, whole, and by one process at a time."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest
from tortoise.exceptions import OperationalError

from models.database import Database
from models.migrate import SchemaError, check_schema, migrate, pending
from models.people import User
from models.schema_check import expected_schema, read_schema

ROOT = Path(__file__).parents[2]
MIGRATIONS = sorted(path.stem for path in (ROOT / "models" / "migrations").glob("[0-9]*.py"))
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


async def test_migrate_answers_what_it_applied_and_then_nothing(empty_database_url: str) -> None:
    assert MIGRATIONS[0] == "0001_initial"
    assert await pending(empty_database_url) == MIGRATIONS
    assert await migrate(empty_database_url) == MIGRATIONS
    assert await pending(empty_database_url) == []
    assert await migrate(empty_database_url) == []


async def test_two_processes_migrating_at_once_both_succeed(empty_database_url: str) -> None:
    program = "import asyncio, sys; from models.migrate import migrate; print(asyncio.run(migrate(sys.argv[1])))"

    async def run() -> tuple[int | None, bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, empty_database_url, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return process.returncode, output.strip()

    assert sorted(await asyncio.gather(run(), run())) == [(0, str(MIGRATIONS).encode()), (0, b"[]")]


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE assets (a integer)")  # the last table of the migration
    with pytest.raises(OperationalError):
        await migrate(empty_database_url)
    assert await connection.fetchval(TABLES) == 1
    await connection.execute("DROP TABLE assets")
    assert await migrate(empty_database_url) == MIGRATIONS
    await connection.close()


async def test_transfers_that_waited_for_a_review_before_they_could_wait_too_long_get_72_hours(
    empty_database_url: str,
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    scripts = [(ROOT / "models" / "migrations" / "sql" / f"{name}.sql").read_text() for name in MIGRATIONS]
    before = MIGRATIONS.index("0014_free_renewals_and_reversals")
    for script in scripts[:before]:
        await connection.execute(script)
    await connection.execute("""INSERT INTO workspaces (id, name, slug, created_at, updated_at)
        VALUES (gen_random_uuid(), 'w', 'w', now(), now())""")
    for status in ("IN_REVIEW", "PAID"):
        await connection.execute(
            """INSERT INTO transfers (id, workspace_id, amount_micro, amount_usd_micro, status, grant_ids,
            grant_amounts_micro, requested_at, updated_at) SELECT gen_random_uuid(), id, 1, 1, $1, '{}', '{}',
            now() - interval '30 days', now() FROM workspaces""",
            status,
        )
    for script in scripts[before:]:
        await connection.execute(script)
    rows = await connection.fetch(
        "SELECT status, due_at BETWEEN now() + interval '71 hours' AND now() + interval '72 hours' FROM transfers"
    )
    assert dict(tuple(row) for row in rows) == {"IN_REVIEW": True, "PAID": None}
    await connection.close()


async def test_migrating_another_database_leaves_the_orm_of_the_open_one_alone(
    database: Database, empty_database_url: str
) -> None:
    await User.create(
        email="a@example.com",
        email_key="a",
        name="A",
        created_at="2026-01-01T00:00:00Z",
        updated_at="2026-01-01T00:00:00Z",
    )
    await migrate(empty_database_url)
    assert await User.all().count() == 1


async def test_the_schema_is_the_committed_snapshot(pg: asyncpg.Connection) -> None:
    assert await read_schema(pg) == expected_schema()


async def test_a_migrated_database_passes_the_start_up_check_with_an_index_of_the_operator(
    pg: asyncpg.Connection,
) -> None:
    await pg.execute("CREATE INDEX of_the_operator ON payments (failure_code)")
    await check_schema(pg)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE wallets DROP CONSTRAINT wallets_balance", "wallets.wallets_balance is missing"),
        ("DROP INDEX payments_one_open_recharge", "payments.payments_one_open_recharge is missing"),
        (
            "ALTER TABLE wallets DROP CONSTRAINT wallets_balance, ADD CONSTRAINT wallets_balance CHECK (balance_micro >= -1)",
            "wallets.wallets_balance is",
        ),
        (
            "ALTER TABLE wallets DROP CONSTRAINT wallets_balance, ADD CONSTRAINT wallets_balance CHECK (balance_micro >= 0) NOT VALID",
            "not valid",
        ),
        (
            "DROP INDEX subscriptions_one_live; CREATE INDEX subscriptions_one_live ON subscriptions (workspace_id)",
            "subscriptions.subscriptions_one_live is",
        ),
    ],
)
async def test_the_start_up_check_names_what_was_taken_away(pg: asyncpg.Connection, change: str, named: str) -> None:
    await pg.execute(change)
    with pytest.raises(SchemaError, match=named):
        await check_schema(pg)


async def test_the_start_up_check_refuses_an_empty_database(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(SchemaError, match="tollgate migrate"):
        await check_schema(connection)
    await connection.close()
