"""The journal: what it keeps, when it refuses, and that replaying charges once."""

import asyncio
import fcntl
import os
from dataclasses import replace

import pytest

from metering.errors import JournalUnusable
from metering.journal import Journal, settlement_json, settlement_of
from metering.operations import SealedOutput, UsageFacts
from metering.views import Settled
from tests.metering.invariants import assert_invariants
from tests.metering.money import START, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on


async def held_calls(ledger, pg, count):
    wallet = await open_wallet(pg)
    await ledger.submit(grant(wallet[0], 1000))
    operations = [hold(wallet, 10) for _ in range(count)]
    await asyncio.gather(*(ledger.submit(op) for op in operations))
    return wallet, operations


async def left_by_a_dead_process(folder, settlements):
    journal = await Journal.open(folder)
    for each in settlements:
        await journal.append(each)
    await journal.close()
    return journal._path


async def test_what_a_dead_process_left_is_charged_once_by_two_that_start(database_url, pg, tmp_path):
    async with ledger_on(database_url) as ledger:
        wallet, operations = await held_calls(ledger, pg, 5)
        ends = [settle(wallet, op.call_id, 7) for op in operations]
        await ledger.submit(ends[0])  # it had been written, only the answer was lost
        await left_by_a_dead_process(tmp_path, [*ends[:3], ends[1]])
        await left_by_a_dead_process(tmp_path, ends[3:])
        one, two = await Journal.open(tmp_path), await Journal.open(tmp_path)
        counts = await asyncio.gather(one.replay(ledger), two.replay(ledger))
        assert sum(counts) == 6
        assert await one.replay(ledger) == 0
        await one.close()
        await two.close()
        assert list(tmp_path.iterdir()) == []
    assert await pg.fetchval("SELECT sum(charged_micro) FROM usage_events") == 35
    await assert_invariants(pg)


async def test_a_live_process_replays_its_own_as_soon_as_it_can(database_url, pg, tmp_path):
    async with ledger_on(database_url) as ledger:
        wallet, [op] = await held_calls(ledger, pg, 1)
        journal = await Journal.open(tmp_path)
        await journal.replay(ledger)
        await journal.append(settle(wallet, op.call_id, 7))
        await journal._retry
        assert (await ledger.submit(settle(wallet, op.call_id, 7))).duplicate
        await journal.close()


async def test_a_torn_line_and_rubbish_do_not_stop_the_others(database_url, pg, tmp_path):
    async with ledger_on(database_url) as ledger:
        wallet, operations = await held_calls(ledger, pg, 2)
        path = await left_by_a_dead_process(tmp_path, [settle(wallet, operations[0].call_id, 7)])
        with path.open("ab") as file:
            file.write(b'{"call_id": 5}\n')
        await left_by_a_dead_process(tmp_path, [settle(wallet, operations[1].call_id, 7)])
        with path.open("ab") as file:
            file.write(b'{"call_id": "0190')
        journal = await Journal.open(tmp_path)
        assert await journal.replay(ledger) == 2
        await journal.close()
    assert [file.suffix for file in tmp_path.iterdir()] == [".refused"]
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 2


async def test_a_file_of_a_live_process_is_left_alone(database_url, pg, tmp_path):
    async with ledger_on(database_url) as ledger:
        wallet, [op] = await held_calls(ledger, pg, 1)
        path = await left_by_a_dead_process(tmp_path, [settle(wallet, op.call_id, 7)])
        fd = os.open(path, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        journal = await Journal.open(tmp_path)
        assert await journal.replay(ledger) == 0
        os.close(fd)
        assert await journal.replay(ledger) == 1
        await journal.close()


async def test_a_database_that_is_away_keeps_the_file(database_url, pg, tmp_path):
    async with ledger_on(database_url) as ledger:
        wallet, [op] = await held_calls(ledger, pg, 1)
        await left_by_a_dead_process(tmp_path, [settle(wallet, op.call_id, 7)])
    closed = ledger
    journal = await Journal.open(tmp_path)
    assert await journal.replay(closed) == 0
    await journal.close()
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_folder_that_cannot_be_written_is_said_at_start(tmp_path):
    (tmp_path / "journal").write_text("a file stands where the folder should")
    with pytest.raises(JournalUnusable, match="journal"):
        await Journal.open(tmp_path / "journal")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has the device that is always full")
async def test_a_full_disk_is_said_at_start_and_at_the_append(tmp_path, monkeypatch):
    journal = await Journal.open(tmp_path)
    own, journal._fd = journal._fd, os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(JournalUnusable, match="No space left"):
        await journal.append(settle((START, START), START, 1))
    os.close(journal._fd)
    journal._fd = own
    await journal.close()
    real = os.open

    def full(path, flags, mode=0o777):
        return real("/dev/full", os.O_RDWR) if str(path).endswith(".jsonl") else real(path, flags, mode)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(JournalUnusable, match="No space left"):
        await Journal.open(tmp_path)


async def test_ids_as_the_database_gives_them_are_journalled(database_url, pg, tmp_path):
    """asyncpg answers a UUID class of its own, which the JSON writer does not know."""
    async with ledger_on(database_url) as ledger:
        wallet, [op] = await held_calls(ledger, pg, 1)
        wallet_id = await pg.fetchval("SELECT id FROM wallets")
        assert type(wallet_id).__module__ != "uuid"
        await left_by_a_dead_process(tmp_path, [replace(settle(wallet, op.call_id, 7), wallet_id=wallet_id)])
        journal = await Journal.open(tmp_path)
        assert await journal.replay(ledger) == 1
        await journal.close()
    assert await pg.fetchval("SELECT sum(charged_micro) FROM usage_events") == 7


def test_a_settlement_reads_back_as_it_was_written():
    import orjson

    from kit.ids import uuid7

    op = settle(
        (uuid7(), uuid7()), uuid7(), 5, usage=UsageFacts(input_tokens=3, details={"a": [1]}, estimated=True),
        payee_wallet_id=uuid7(), payee_share_percent=5, answer={"x": None}, error_message="é",
        sealed_output=SealedOutput(b"\x00\xff", 2, START),
    )  # fmt: skip
    assert settlement_of(orjson.loads(orjson.dumps(settlement_json(op), default=str))) == op


async def test_what_is_no_json_is_journalled_without_its_details(database_url, pg, tmp_path):
    async with ledger_on(database_url) as ledger:
        wallet, [op] = await held_calls(ledger, pg, 1)
        odd = settle(wallet, op.call_id, 7, usage=UsageFacts(details={"x": object()}), error_message="\ud800")
        await left_by_a_dead_process(tmp_path, [odd])
        journal = await Journal.open(tmp_path)
        assert await journal.replay(ledger) == 1
        await journal.close()
        assert isinstance(await ledger.submit(odd), Settled)
