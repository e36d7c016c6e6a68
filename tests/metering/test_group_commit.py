"""The lane: what it does when callers leave, connections die and the database is away."""

import asyncio

import asyncpg
import pytest

from metering.errors import LedgerUnavailable, SettlementDelayed
from metering.group_commit import GroupCommit, fault_kind
from metering.operations import Release
from metering.views import HoldPlaced, Settled
from tests.metering.invariants import assert_invariants
from tests.metering.money import grant, hold, open_wallet, settle, waiting_for_lock, wallet_locked
from tests.metering.test_ledger import ledger_on


async def test_several_hundred_callers_who_leave_leave_everything_usable(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100_000))
        operations = [hold(wallet, 10) for _ in range(400)]
        async with wallet_locked(pg, wallet):
            tasks = [asyncio.create_task(ledger.submit(op)) for op in operations]
            await waiting_for_lock(database_url)
            for task in tasks[::2]:
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 200
        assert sum(isinstance(outcome, HoldPlaced) for outcome in outcomes) == 200
        # Money goes on without its caller: all 400 stand, and each can be ended.
        assert await pg.fetchval("SELECT count(*) FROM holds") == 400
        ends = await asyncio.gather(*(ledger.submit(settle(wallet, op.call_id, 1)) for op in operations))
        assert all(isinstance(end, Settled) and not end.duplicate for end in ends)
        async with ledger._database.pool.acquire() as free:
            assert await free.fetchval("SELECT held_micro FROM wallets") == 0
    await assert_invariants(pg)


@pytest.mark.parametrize("moment", ["while it waits", "between batches"])
async def test_a_killed_connection_repeats_its_batch_exactly_once(database_url, pg, moment):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        operations = [hold(wallet, 10) for _ in range(20)]
        lane = ledger._lane._connection.get_server_pid()
        if moment == "while it waits":
            async with wallet_locked(pg, wallet):
                tasks = [asyncio.create_task(ledger.submit(op)) for op in operations]
                await waiting_for_lock(database_url)
                await pg.execute("SELECT pg_terminate_backend($1)", lane)
        else:
            await pg.execute("SELECT pg_terminate_backend($1, 30000)", lane)
            tasks = [asyncio.create_task(ledger.submit(op)) for op in operations]
        outcomes = await asyncio.gather(*tasks)
        assert all(isinstance(outcome, HoldPlaced) for outcome in outcomes)
        assert ledger._lane._connection.get_server_pid() != lane
    assert await pg.fetchval("SELECT held_micro FROM wallets") == 200
    await assert_invariants(pg)


async def test_a_commit_whose_answer_was_lost_is_not_done_twice(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        commit, lost = ledger._lane._commit, []

        async def commit_and_lose(connection, operations, resent, choose):
            outcomes = await commit(connection, operations, resent, choose)
            if len(lost) % 2 == 0:
                lost.append(operations)
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            lost.append(None)
            return outcomes

        ledger._lane._commit = commit_and_lose
        op = hold(wallet, 100)
        placed = await ledger.submit(op)
        assert placed.duplicate
        assert placed.allocation
        settled = await ledger.submit(settle(wallet, op.call_id, 30))
        assert (settled.duplicate, settled.charged_micro) == (True, 30)
        other = hold(wallet, 50)
        await ledger.submit(other)
        assert (await ledger.submit(Release(other.call_id, *wallet))).duplicate
        given = await ledger.submit(grant(wallet[0], 5))
        assert not given.changed
        assert given.total_micro == 5
    assert await pg.fetchval("SELECT balance_micro FROM wallets") == 975
    await assert_invariants(pg)


async def test_a_database_that_stays_away_is_said_in_time(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        op = hold(wallet, 100)
        await ledger.submit(op)
        lane = ledger._lane
        connect = lane._connect

        async def refuse():
            raise ConnectionRefusedError("no server")

        usual_s, lane._deadline_s = lane._deadline_s, 0.3
        lane._connect = refuse
        lane._drop_connection()
        outcomes = await asyncio.gather(
            ledger.submit(hold(wallet, 1)), ledger.submit(settle(wallet, op.call_id, 1)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [LedgerUnavailable, SettlementDelayed]
        lane._connect, lane._deadline_s = connect, usual_s
        assert isinstance(await ledger.submit(settle(wallet, op.call_id, 1)), Settled)
    await assert_invariants(pg)


async def test_close_commits_what_waits_and_refuses_what_comes(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        async with wallet_locked(pg, wallet):
            tasks = [asyncio.create_task(ledger.submit(hold(wallet, 10))) for _ in range(30)]
            await waiting_for_lock(database_url)
            closing = asyncio.create_task(ledger.close())
            await asyncio.sleep(0)
            with pytest.raises(LedgerUnavailable):
                await ledger.submit(hold(wallet, 1))
        await closing
        assert all(isinstance(outcome, HoldPlaced) for outcome in await asyncio.gather(*tasks))


async def test_a_full_queue_refuses():
    never = asyncio.Event()

    async def connect():
        return None

    async def commit(connection, operations, resent, choose):
        await never.wait()
        return [None] * len(choose())

    lane = GroupCommit(connect, commit, max_waiting=2, max_batch=1, deadline_s=60)
    await lane.open()
    wallet = (None, None)
    tasks = [asyncio.create_task(lane.submit(hold(wallet, 1))) for _ in range(4)]
    await asyncio.sleep(0.01)
    tasks.append(asyncio.create_task(lane.submit(hold(wallet, 1))))
    await asyncio.sleep(0.01)
    full = [task for task in tasks if task.done()]
    assert full
    assert all(isinstance(task.exception(), LedgerUnavailable) for task in full)
    never.set()
    await asyncio.gather(*(task for task in tasks if task not in full))
    await lane.close()


class NotNow(Exception):
    pass


def gates(number: int) -> list[asyncio.Future[None]]:
    return [asyncio.get_running_loop().create_future() for _ in range(number)]


async def test_what_its_gate_holds_up_holds_up_nobody_else(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        passes, refuses, given_up = gates(3)
        operations = [hold(wallet, 10) for _ in range(3)]
        waiting = [
            asyncio.create_task(ledger.submit(each, lambda gate=gate: gate))
            for each, gate in zip(operations, (passes, refuses, given_up), strict=True)
        ]
        assert isinstance(await ledger.submit(hold(wallet, 10)), HoldPlaced)  # of the same batch
        assert not any(task.done() for task in waiting)
        assert await pg.fetchval("SELECT count(*) FROM holds") == 1
        passes.set_result(None)
        assert isinstance(await waiting[0], HoldPlaced)
        refuses.set_exception(NotNow())
        with pytest.raises(NotNow):
            await waiting[1]
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[2]
        assert {row["call_id"] for row in await pg.fetch("SELECT call_id FROM holds")} > {operations[0].call_id}
        assert await pg.fetchval("SELECT held_micro FROM wallets") == 20
    await assert_invariants(pg)


@pytest.mark.parametrize("ends", ["before its batch", "while its batch is loaded"])
async def test_a_gate_that_ends_in_time_costs_no_second_batch(database_url, pg, ends):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        commit, batches = ledger._lane._commit, []

        async def counted(connection, operations, resent, choose):
            batches.append(len(operations))
            return await commit(connection, operations, resent, choose)

        ledger._lane._commit = counted
        passes, refuses = gates(2)
        async with wallet_locked(pg, wallet):
            if ends == "before its batch":
                passes.set_result(None)
                refuses.set_exception(NotNow())
            both = asyncio.gather(
                ledger.submit(hold(wallet, 10), lambda: passes),
                ledger.submit(hold(wallet, 10), lambda: refuses),
                return_exceptions=True,
            )
            await waiting_for_lock(database_url)
            if ends != "before its batch":
                passes.set_result(None)
                refuses.set_exception(NotNow())
        placed, refused = await both
        assert isinstance(placed, HoldPlaced)
        assert isinstance(refused, NotNow)
        assert batches == [2]
    assert await pg.fetchval("SELECT held_micro FROM wallets") == 10
    await assert_invariants(pg)


async def test_close_waits_for_gates(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        (gate,) = gates(1)
        waiting = asyncio.create_task(ledger.submit(hold(wallet, 10), lambda: gate))
        await ledger.submit(hold(wallet, 1))
        closing = asyncio.create_task(ledger.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        gate.set_result(None)
        assert isinstance(await waiting, HoldPlaced)
        await closing


async def test_a_lost_commit_is_repeated_with_those_that_had_passed(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        commit, lost = ledger._lane._commit, []
        passes, late, refuses = gates(3)
        passes.set_result(None)

        async def commit_and_lose(connection, operations, resent, choose):
            outcomes = await commit(connection, operations, resent, choose)
            if not lost:
                lost.append(outcomes)
                late.set_result(None)
                refuses.set_exception(NotNow())
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            return outcomes

        ledger._lane._commit = commit_and_lose
        first, second, third = await asyncio.gather(
            *(ledger.submit(hold(wallet, 10), lambda gate=gate: gate) for gate in (passes, late, refuses)),
            return_exceptions=True,
        )
        assert [first.duplicate, second.duplicate] == [True, False]
        assert isinstance(third, NotNow)
    assert await pg.fetchval("SELECT held_micro FROM wallets") == 20
    await assert_invariants(pg)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.UniqueViolationError("x"), "statement"),
        (asyncpg.RaiseError("x"), "statement"),
        (asyncpg.DeadlockDetectedError("x"), "conflict"),
        (asyncpg.InternalClientError("x"), "unknown"),
        (asyncpg.ConnectionDoesNotExistError("x"), "unknown"),
        (asyncpg.AdminShutdownError("x"), "unknown"),
        (asyncpg.DiskFullError("x"), "unknown"),
        (asyncpg.InterfaceError("connection is closed"), "unknown"),
        (ConnectionResetError(), "unknown"),
        (TimeoutError(), "unknown"),
        (TypeError(), "statement"),
    ],
)
def test_whose_fault_an_error_is(error, kind):
    assert fault_kind(error) == kind
