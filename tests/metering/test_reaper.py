"""What has lapsed is ended, once, by any number of reapers."""

import asyncio
from datetime import timedelta

from kit import clock
from metering.operations import Checkpoint, SealedOutput, UsageFacts
from metering.reaper import purge_outputs, reap_holds, sweep_grants
from tests.metering.invariants import assert_invariants
from tests.metering.money import HOUR, START, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on


async def test_lapsed_holds_end_once_at_their_last_checkpoint(database_url, pg):
    async with ledger_on(database_url) as one, ledger_on(database_url) as two:
        wallet = await open_wallet(pg)
        await one.submit(grant(wallet[0], 1000))
        lapsing = [hold(wallet, 10, expires_at=START + HOUR) for _ in range(7)]
        await asyncio.gather(*(one.submit(op) for op in lapsing), one.submit(hold(wallet, 10)))
        await one.submit(Checkpoint(lapsing[0].call_id, wallet[0], 4, UsageFacts(output_tokens=2), START + HOUR))
        assert await reap_holds(one._database, one) == 0
        with clock.installed(clock.VirtualClock(START + HOUR)):
            counts = await asyncio.gather(*(reap_holds(one._database, lane, limit=4) for lane in (one, two)))
            assert max(counts) <= 4 <= sum(counts)
            while await reap_holds(one._database, one, limit=4):
                pass
    assert await pg.fetchval("SELECT count(*) FROM holds") == 1
    [event] = await pg.fetch("SELECT charged_micro, presumed, output_tokens FROM usage_events")
    assert tuple(event) == (4, True, 2)
    statuses = await pg.fetch("SELECT status, count(*) FROM calls GROUP BY 1")
    assert [tuple(row) for row in statuses] == [("FAILED", 7)]
    await assert_invariants(pg)


async def test_expired_grants_are_swept_but_for_what_is_held(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        for _ in range(3):
            await ledger.submit(grant(wallet[0], 100, expires_at=START + HOUR))
        op = hold(wallet, 150)
        await ledger.submit(op)
        assert await sweep_grants(ledger._database, ledger) == 0
        with clock.installed(clock.VirtualClock(START + HOUR)):
            assert await sweep_grants(ledger._database, ledger) == 2
            assert await sweep_grants(ledger._database, ledger) == 0
            assert await pg.fetchval("SELECT balance_micro FROM wallets") == 150
            await ledger.submit(settle(wallet, op.call_id, 120))
    assert await pg.fetchval("SELECT balance_micro FROM wallets") == 0
    await assert_invariants(pg)


async def test_sealed_outputs_are_forgotten_in_time(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100))
        for life in (timedelta(minutes=10), None):
            op = hold(wallet, 1)
            await ledger.submit(op)
            expires_at = None if life is None else START + life
            await ledger.submit(settle(wallet, op.call_id, 1, sealed_output=SealedOutput(b"x", 1, expires_at)))
        assert await purge_outputs(ledger._database) == 0
        with clock.installed(clock.VirtualClock(START + timedelta(minutes=10))):
            assert await purge_outputs(ledger._database) == 1
    assert await pg.fetchval("SELECT count(*) FROM call_outputs") == 1
