"""The ways to the database keep their promises, above all when tasks are cancelled and when the server goes away."""

# ruff: noqa: PT012  the block is what is tested

import asyncio
import random
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

import models.pool
from kit.errors import Unavailable
from models.database import Database, connection, transaction
from models.enums import UnsubscribeSource
from models.people import MailPreference, User
from models.pool import checked_out, give_back, unavailable_on_loss
from models.workspaces import AuditEvent

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
POOL_SIZE = 4
PAIR = """
INSERT INTO mail_preferences (id, email_key, kind, unsubscribed_at, source) VALUES ($1, $2, $3, now(), 'VIEWER')
"""


async def test_jsonb_goes_in_and_out_as_python_objects(database: Database) -> None:
    facts = {"amount": 2**53 + 1, "of": [None, True, "ü"], "who": None}
    async with connection(database) as conn:
        row = await conn.fetchrow("SELECT $1::jsonb AS facts, $2::uuid AS id", facts | {"id": uuid4()}, uuid4())
        stored = await conn.fetchval("SELECT $1::jsonb -> 'of' ->> 2", facts)
    assert isinstance(row["id"], UUID)
    assert {key: row["facts"][key] for key in facts} == facts
    assert isinstance(row["facts"]["id"], str)
    assert stored == "ü"


async def test_dedicated_connections_have_the_codecs_and_outlive_the_pool(database: Database) -> None:
    lane = await database.dedicated()
    await database.pool.expire_connections()
    assert await lane.fetchval("""SELECT '{"a": 1}'::jsonb""") == {"a": 1}
    await lane.close()


async def test_a_transaction_is_committed_at_its_end(database: Database, pg: asyncpg.Connection) -> None:
    async with transaction(database) as conn:
        await conn.execute(PAIR, uuid4(), "a@example.com", "x")
        assert await pg.fetchval("SELECT count(*) FROM mail_preferences") == 0
    assert await pg.fetchval("SELECT count(*) FROM mail_preferences") == 1


async def test_a_transaction_left_by_an_exception_is_rolled_back(database: Database, pg: asyncpg.Connection) -> None:
    with pytest.raises(KeyError):
        async with transaction(database) as conn:
            await conn.execute(PAIR, uuid4(), "a@example.com", "x")
            raise KeyError
    assert await pg.fetchval("SELECT count(*) FROM mail_preferences") == 0


async def test_an_error_of_the_statement_stays_what_it_is(database: Database) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        async with transaction(database) as conn:
            await conn.execute(
                "INSERT INTO wallets (id, workspace_id, balance_micro, created_at) VALUES ($1, $1, -1, now())", uuid4()
            )
    async with transaction(database) as conn:
        assert await conn.fetchval("SELECT 1") == 1


async def write_pair(database: Database, name: str) -> None:
    async with transaction(database) as conn:
        await conn.execute(PAIR, uuid4(), name, "first")
        await conn.execute("SELECT pg_sleep(0.0005)")
        await conn.execute(PAIR, uuid4(), name, "second")


async def write_pair_with_orm(_database: Database, name: str) -> None:
    async with in_transaction() as _conn:
        for kind in ("first", "second"):
            await MailPreference.create(email_key=name, kind=kind, unsubscribed_at=NOW, source=UnsubscribeSource.VIEWER)


@pytest.mark.parametrize("write", [write_pair, write_pair_with_orm])
async def test_hundreds_of_cancelled_transactions_leak_nothing_and_tear_nothing(
    database: Database, pg: asyncpg.Connection, write
) -> None:
    chance = random.Random(7)
    outcomes = {"finished": 0, "cancelled": 0}
    longest_s = 0.02

    async def client(number: int) -> None:
        task = asyncio.create_task(write(database, f"{number}@example.com"))
        await asyncio.sleep(chance.random() * longest_s)
        task.cancel()
        try:
            await task
            outcomes["finished"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1

    start = 0
    while start < 400 or outcomes["cancelled"] <= 50 or outcomes["finished"] <= 10:
        finished = outcomes["finished"]
        await asyncio.gather(*(client(number) for number in range(start, start + 10)))
        start += 10
        longest_s *= {0: 1.5, 10: 0.7}.get(outcomes["finished"] - finished, 1.0)  # as fast as this machine is now

    pairs = await pg.fetch("SELECT email_key, count(*) AS rows FROM mail_preferences GROUP BY email_key")
    assert {row["rows"] for row in pairs} == {2}
    assert len(pairs) >= outcomes["finished"]
    held_open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    async with asyncio.timeout(30):  # the server hears of a connection that was cut a moment later
        while await pg.fetchval(held_open):
            await asyncio.sleep(0.01)
    await assert_all_connections_are_free(database)
    assert await MailPreference.all().count() == 2 * len(pairs)


async def all_answer(database: Database) -> bool:
    lent = [await checked_out(database.pool) for _ in range(POOL_SIZE)]
    try:
        with unavailable_on_loss():
            assert [await conn.fetchval("SELECT 1") for conn in lent] == [1] * POOL_SIZE
            assert not any(conn.is_in_transaction() for conn in lent)
            return True
    except Unavailable:
        return False
    finally:
        for conn in lent:
            await give_back(database.pool, conn)


async def assert_all_connections_are_free(database: Database) -> None:
    async with asyncio.timeout(30):
        while not await all_answer(database):  # a connection that was cut off is noticed, and replaced, at its next use
            await asyncio.sleep(0.01)

        async def orm_transaction(meet: asyncio.Barrier) -> None:
            async with in_transaction() as conn:
                await conn.execute_query("SELECT 1")
                await meet.wait()

        meet = asyncio.Barrier(POOL_SIZE)
        await asyncio.gather(*(orm_transaction(meet) for _ in range(POOL_SIZE)))


async def test_a_cancelled_commit_is_finished_and_the_cancellation_still_arrives(
    database: Database, pg: asyncpg.Connection
) -> None:
    at_the_end = asyncio.Event()

    async def work() -> None:
        async with transaction(database) as conn:
            await conn.execute(
                "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON mail_preferences DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep_a_bit()"
            )
            await conn.execute(PAIR, uuid4(), "a@example.com", "x")
            at_the_end.set()

    await pg.execute(
        "CREATE FUNCTION sleep_a_bit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'"
    )
    task = asyncio.create_task(work())
    await at_the_end.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pg.fetchval("SELECT count(*) FROM mail_preferences") == 1


async def test_an_empty_pool_is_unavailable_after_a_while(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.pool, "CHECKOUT_TIMEOUT_S", 0.05)
    lent = [await database.pool.acquire() for _ in range(POOL_SIZE)]
    with pytest.raises(Unavailable):
        async with connection(database):
            pass
    await asyncio.gather(*(database.pool.release(conn) for conn in lent))
    async with connection(database) as conn:
        assert await conn.fetchval("SELECT 1") == 1


async def test_opening_without_a_server_is_unavailable(tmp_path) -> None:
    with pytest.raises(Unavailable):
        await Database.open(f"postgresql://nobody:secret@/nothing?host={tmp_path}")


async def cut_off_everyone_else(pg: asyncpg.Connection) -> None:
    await pg.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_a_connection_lost_in_a_transaction_is_unavailable_and_the_pool_recovers(
    database: Database, pg: asyncpg.Connection
) -> None:
    with pytest.raises(Unavailable):
        async with transaction(database) as conn:
            await conn.execute(PAIR, uuid4(), "a@example.com", "x")
            await cut_off_everyone_else(pg)
            await conn.execute("SELECT 1")
    async with transaction(database) as conn:
        assert await conn.fetchval("SELECT count(*) FROM mail_preferences") == 0
    await assert_all_connections_are_free(database)


async def test_a_connection_lost_under_the_orm_is_unavailable_and_its_pool_recovers(
    database: Database, pg: asyncpg.Connection
) -> None:
    with pytest.raises(Unavailable):
        async with in_transaction(), in_transaction():
            await User.all().count()
            await cut_off_everyone_else(pg)
            await User.all().count()
    assert await User.all().count() == 0
    await assert_all_connections_are_free(database)


@pytest.mark.parametrize("begin", [transaction, lambda _database: in_transaction()], ids=["raw", "orm"])
async def test_a_commit_on_a_lost_connection_is_never_taken_for_success(
    database: Database, pg: asyncpg.Connection, begin
) -> None:
    with pytest.raises(Unavailable):
        async with begin(database):
            await cut_off_everyone_else(pg)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("begin", [transaction, lambda _database: in_transaction()], ids=["raw", "orm"])
async def test_an_exception_of_the_block_outlives_the_loss_of_its_connection(
    database: Database, pg: asyncpg.Connection, begin
) -> None:
    with pytest.raises(KeyError):
        async with begin(database):
            await cut_off_everyone_else(pg)
            raise KeyError
    await assert_all_connections_are_free(database)


async def test_the_orm_works_in_tasks_and_returns_enums_json_and_aware_times(database: Database) -> None:
    event_id = uuid4()

    async def write() -> None:
        await AuditEvent.create(
            id=event_id,
            actor_kind="SYSTEM",
            action="grant.expired",
            subject_kind="grant",
            facts={"a": [1]},
            created_at=NOW,
        )

    await asyncio.create_task(write())
    event = await AuditEvent.get(id=event_id)
    assert (event.facts, event.created_at, event.workspace_id) == ({"a": [1]}, NOW, None)
    assert event.actor_kind.name == "SYSTEM"
    with pytest.raises(IntegrityError):
        await AuditEvent.create(id=event_id, actor_kind="SYSTEM", action="x", subject_kind="y", created_at=NOW)


async def test_a_second_database_of_the_process_shares_the_orm_of_the_same_address_only(
    database: Database, database_url: str
) -> None:
    second = await Database.open(database_url, max_size=1)
    await second.close()
    assert await User.all().count() == 0
    with pytest.raises(RuntimeError):
        await Database.open(database_url + "&application_name=other", max_size=1)
    assert await User.all().count() == 0
