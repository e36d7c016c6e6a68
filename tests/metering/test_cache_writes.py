"""What a call wrote to a provider's cache: kept with its event where there was any, and read back wherever usage is."""

from dataclasses import fields

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import clock
from kit.ids import uuid7
from metering.exporting import usage_pages
from metering.journal import settlement_json, settlement_of
from metering.operations import Checkpoint, Reap, UsageFacts
from metering.rows import json_text, usage_json
from metering.rules.cache_writes import usage_of
from metering.usage import usage_by_call
from models.database import transaction
from tests.metering.invariants import assert_invariants
from tests.metering.money import HOUR, START, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on

_ID = uuid7()
COUNT = st.integers(0, 10**9)
DETAILS = st.none() | st.dictionaries(st.sampled_from(["route", "test"]), st.integers(0, 99), min_size=1)


def wrote(written: int, long: int = 0, **more: object) -> UsageFacts:
    return UsageFacts(
        input_tokens=100, provider="x", cache_write_input_tokens=written, long_cache_write_input_tokens=long, **more
    )


async def read(ledger, call_id) -> tuple[int, int, int]:
    usage = (await usage_by_call(ledger._database, [call_id]))[call_id]
    return usage.input_tokens, usage.cache_write_input_tokens, usage.long_cache_write_input_tokens


@given(written=COUNT, long=COUNT, details=DETAILS, estimated=st.booleans())
def test_usage_reads_back_as_it_was_kept(written, long, details, estimated):
    usage = wrote(written, long, details=details, estimated=estimated)
    assert usage_of(orjson.loads(json_text(usage_json(usage)))) == usage


def test_a_process_that_knows_no_cache_writes_can_read_what_is_kept():
    names = {each.name for each in fields(UsageFacts)} - {"cache_write_input_tokens", "long_cache_write_input_tokens"}
    assert usage_json(wrote(60, 40)).keys() == names
    assert usage_json(wrote(0))["details"] is None


def test_a_journalled_settlement_keeps_them():
    op = settle((_ID, _ID), _ID, 5, usage=wrote(60, 40, details={"a": [1]}))
    assert settlement_of(orjson.loads(orjson.dumps(settlement_json(op), default=str))) == op


@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_an_event_keeps_them_beside_its_other_details_and_only_where_there_are_any(
    database_url, pg, in_one_batch
):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        usages = (wrote(0), wrote(60), wrote(60, 40), wrote(60, 40, details={"test": True}))
        ops = [(hold(wallet, 10), usage) for usage in usages]
        if in_one_batch:
            batch = [each for op, usage in ops for each in (op, settle(wallet, op.call_id, 1, usage=usage))]
            async with transaction(ledger._database) as conn:
                await ledger.post(conn, batch, now=START)
        else:
            for op, usage in ops:
                await ledger.submit(op)
                await ledger.submit(settle(wallet, op.call_id, 1, usage=usage))
        found = [await read(ledger, op.call_id) for op, _ in ops]
        assert found == [(100, 0, 0), (100, 60, 0), (100, 60, 40), (100, 60, 40)]
        kept = [await pg.fetchval("SELECT details FROM usage_events WHERE call_id = $1", op.call_id) for op, _ in ops]
        assert kept[0] is None
        assert orjson.loads(kept[1]) == {"cache_write_input_tokens": 60}
        assert orjson.loads(kept[3]) == {
            "test": True, "cache_write_input_tokens": 60, "long_cache_write_input_tokens": 40
        }  # fmt: skip
        rows = [row async for page in usage_pages(ledger._database, wallet[1], START, START + HOUR) for row in page]
        assert sorted((row["cache_write_input_tokens"], row["long_cache_write_input_tokens"]) for row in rows) == [
            (0, 0), (60, 0), (60, 40), (60, 40)
        ]  # fmt: skip
    await assert_invariants(pg)


@pytest.mark.parametrize("true", [wrote(0), wrote(60, 40), wrote(80, 10)])
async def test_a_dead_processs_checkpoint_is_charged_with_them_and_corrected_to_the_true_ones(database_url, pg, true):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        op = hold(wallet, 100, expires_at=START + HOUR)
        await ledger.submit(op)
        await ledger.submit(Checkpoint(op.call_id, wallet[0], 70, wrote(50, 30), START + HOUR))
        with clock.installed(clock.VirtualClock(START + HOUR)):
            await ledger.submit(Reap(op.call_id, wallet[0]))
            assert await read(ledger, op.call_id) == (100, 50, 30)
            late = settle(wallet, op.call_id, 30, usage=true)
            await ledger.submit(late)
            assert (await ledger.submit(late)).duplicate
        expected = (100, true.cache_write_input_tokens, true.long_cache_write_input_tokens)
        assert await read(ledger, op.call_id) == expected
    await assert_invariants(pg)
