"""Keys: one effect and one answer for each, whatever runs at the same time."""

import asyncio
from datetime import timedelta

import pytest

from kit import clock
from metering.errors import IdempotencyKeyReused
from metering.idempotency import purge_keys, run_once
from metering.operations import Release, SealedOutput
from metering.views import HoldPlaced, Repeat
from tests.metering.invariants import assert_invariants
from tests.metering.money import START, claim, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on


async def test_twenty_at_once_with_one_key_hold_once_and_all_get_the_answer(database_url, pg):
    async with ledger_on(database_url) as one, ledger_on(database_url) as two:
        wallet = await open_wallet(pg)
        await one.submit(grant(wallet[0], 1000))
        requests = [hold(wallet, 100, idempotency=claim("k")) for _ in range(20)]
        outcomes = await asyncio.gather(*((one, two)[n % 2].submit(op) for n, op in enumerate(requests)))
        [placed] = [outcome for outcome in outcomes if isinstance(outcome, HoldPlaced)]
        repeats = [outcome for outcome in outcomes if isinstance(outcome, Repeat)]
        assert len(repeats) == 19
        assert all(each.call_id == placed.call_id and not each.completed for each in repeats)
        waits = [
            asyncio.create_task(lane.wait_for(wallet[1], "k", placed.call_id)) for lane in (one, two) for _ in range(3)
        ]
        await asyncio.sleep(0.01)
        sealed = SealedOutput(b"secret", 1, START + timedelta(minutes=10))
        await one.submit(settle(wallet, placed.call_id, 10, answer={"figures": [1, 2]}, sealed_output=sealed))
        for found in await asyncio.gather(*waits):
            assert found.completed
            assert found.answer == {"figures": [1, 2]}
        assert not one._ends
        assert not two._ends
    assert await pg.fetchval("SELECT sealed FROM call_outputs") == b"secret"
    await assert_invariants(pg)


async def test_a_repeat_after_the_end_gets_the_stored_answer_and_another_input_is_told(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        first = hold(wallet, 100, idempotency=claim("k"))
        await ledger.submit(first)
        await ledger.submit(Release(first.call_id, *wallet, error_code="UPSTREAM_ERROR"))
        again = await ledger.submit(hold(wallet, 100, idempotency=claim("k")))
        assert again.completed
        assert again.answer["error_code"] == "UPSTREAM_ERROR"
        other = await ledger.submit(hold(wallet, 100, idempotency=claim("k", b"other")))
        assert not other.input_matches
        assert other.answer is None


async def test_waiting_is_bounded(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        op = hold(wallet, 100, idempotency=claim("k"))
        await ledger.submit(op)
        found = await ledger.wait_for(wallet[1], "k", op.call_id, timeout_s=0.05)
        assert not found.completed
        assert await ledger.wait_for(wallet[1], "no such key", None) is None


async def test_a_key_is_reusable_after_seven_days_and_purged(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        first = hold(wallet, 100, idempotency=claim("k"))
        await ledger.submit(first)
        await ledger.submit(Release(first.call_id, *wallet))
        with clock.installed(clock.VirtualClock(START + timedelta(days=7))):
            assert isinstance(await ledger.submit(hold(wallet, 1, idempotency=claim("k"))), HoldPlaced)
            assert await purge_keys(ledger._database) == 0
        with clock.installed(clock.VirtualClock(START + timedelta(days=14))):
            assert await purge_keys(ledger._database) == 1


async def test_a_mutation_runs_once_and_repeats_wait_for_its_answer(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        runs = []

        async def effect(conn):
            runs.append(1)
            [outcome] = await ledger.post(conn, [grant(wallet[0], 100)])
            return {"amount": outcome.amount_micro}

        async def ask(digest=b"d"):
            return await run_once(ledger._database, wallet[1], "key", "grant", digest, effect)

        answers = await asyncio.gather(*(ask() for _ in range(8)))
        assert answers == [{"amount": 100}] * 8
        assert len(runs) == 1
        with pytest.raises(IdempotencyKeyReused):
            await ask(b"other")
    await assert_invariants(pg)


async def test_an_effect_that_fails_leaves_the_key_free(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)

        async def fails(conn):
            await ledger.post(conn, [grant(wallet[0], 100)])
            raise LookupError

        async def works(conn):
            return {"fine": True}

        with pytest.raises(LookupError):
            await run_once(ledger._database, wallet[1], "key", "x", b"d", fails)
        assert await run_once(ledger._database, wallet[1], "key", "x", b"d", works) == {"fine": True}
    assert await pg.fetchval("SELECT count(*) FROM ledger_entries") == 0
