"""Roll-ups and reports: whatever has been rolled up, committed late or corrected, the report is the sum of the events."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from kit import clock
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.pages import PageRequest
from metering import reports
from metering.operations import Checkpoint, Reap, UsageFacts
from metering.reports import UsageDimension, UsageQuery, usage_report
from metering.rollups import rebuild, roll_up
from metering.rules.intervals import UsageInterval
from models.database import Database
from tests.metering.money import HOUR, START, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on

DAY = timedelta(days=1)


@pytest.fixture(autouse=True, params=[1, 64, 30], ids=["every day has sums", "no day has sums", "busy days have sums"])
def busy_day_rows(request, monkeypatch):
    monkeypatch.setattr("metering.rollups.BUSY_DAY_ROWS", request.param)
    return request.param


@pytest.fixture
async def database(database_url):
    opened = await Database.open(database_url, max_size=4)
    yield opened
    await opened.close()


async def insert(conn, events):
    """(workspace, model, modality, user, key, at, sequence, charged) each; cost, tokens and calls follow from them."""
    await conn.executemany(
        "INSERT INTO usage_events (call_id, workspace_id, model_slug, modality, user_id, api_key_id, created_at, sequence,"
        " charged_micro, wallet_id, input_tokens, output_tokens, cost_micro, estimated, provider)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::bigint, $2, $9::bigint / 10, $9::bigint / 100, $9::bigint, false, 'p')",
        [(uuid7(), *event) for event in events],
    )


def some_events(workspace_id, count, seed=1):
    dice = random.Random(seed)
    users, keys = [uuid7(), None], [uuid7(), uuid7(), None]
    return [
        (
            workspace_id,
            dice.choice("abc"),
            dice.choice(["TEXT", "IMAGE"]),
            dice.choice(users),
            dice.choice(keys),
            START + timedelta(seconds=dice.randrange(0, 12 * 86_400)),
            0,
            dice.randrange(0, 10_000),
        )
        for _ in range(count)
    ]


def query(begin=START, end=START + 12 * DAY, interval=UsageInterval.DAY, group_by=(), zone="UTC"):
    return UsageQuery(begin, end, interval, frozenset(group_by), zone)


def summed(events, asked):
    """The report by counting events one by one."""
    starts, sums = asked.starts(), {}
    for _, model, modality, user, key, at, sequence, charged in events:
        if not asked.begin <= at < asked.end:
            continue
        start = max(each for each in starts if each <= at)
        dims = asked.group_by
        group = (
            start,
            model if UsageDimension.MODEL in dims else None,
            user if UsageDimension.MEMBER in dims else None,
            key if UsageDimension.API_KEY in dims else None,
            modality if UsageDimension.MODALITY in dims else None,
        )
        before = sums.get(group, (0, 0, 0, 0))
        more = (int(sequence == 0), charged // 10, charged // 100, charged)
        sums[group] = tuple(a + b for a, b in zip(before, more, strict=True))
    return {group: figures for group, figures in sums.items() if any(figures)}


def told(report):
    return {
        (each.start, each.model_slug, each.user_id, each.api_key_id, each.modality): (
            each.calls,
            each.input_tokens,
            each.output_tokens,
            each.charged_micro,
        )
        for each in report.buckets
    }


QUERIES = [
    query(),
    query(group_by=[UsageDimension.MODEL]),
    query(group_by=list(UsageDimension)),
    query(group_by=[UsageDimension.MEMBER, UsageDimension.MODALITY], zone="Asia/Kathmandu"),
    query(group_by=[UsageDimension.MODEL], zone="Asia/Kathmandu"),
    query(group_by=[UsageDimension.API_KEY], interval=UsageInterval.HOUR, end=START + DAY),
    query(
        begin=START + timedelta(hours=3, minutes=7, seconds=1),
        end=START + timedelta(days=5, minutes=52),
        group_by=[UsageDimension.MODEL, UsageDimension.MODALITY],
        interval=UsageInterval.HOUR,
        zone="Asia/Kolkata",
    ),
    query(begin=START + timedelta(minutes=1), end=START + timedelta(minutes=4)),
    query(interval=UsageInterval.MONTH, zone="America/New_York", group_by=[UsageDimension.MODEL]),
]


async def assert_right(database, workspace_id, events):
    for asked in QUERIES:
        report = await usage_report(database, workspace_id, asked)
        expected = summed(events, asked)
        assert told(report) == expected, asked
        assert report.calls == sum(each[0] for each in expected.values())
        assert report.charged_micro == sum(each[3] for each in expected.values())


async def test_a_report_is_the_sum_of_its_events_before_during_and_after_the_roll_up(database, pg):
    workspace_id, other = uuid7(), uuid7()
    events = some_events(workspace_id, 900)
    await insert(pg, events)
    await insert(pg, some_events(other, 50, seed=2))
    await assert_right(database, workspace_id, events)
    with clock.installed(clock.VirtualClock(START + 6 * DAY + timedelta(minutes=16))):
        assert await roll_up(database, limit=100) == 100
        await assert_right(database, workspace_id, events)
        while await roll_up(database, limit=200):
            pass
        assert await pg.fetchval("SELECT count(*) FROM usage_rollups") > 300
        assert await pg.fetchval("SELECT min(quarter_start) FROM usage_marks") > START + 6 * DAY - timedelta(minutes=16)
        await assert_right(database, workspace_id, events)
        late = some_events(workspace_id, 200, seed=3)  # into quarters rolled up already, and corrections among them
        late = [(*event[:6], index % 2, -event[7] if index % 2 else event[7]) for index, event in enumerate(late)]
        late = [(*event[:7], event[7] // 100 * 100) for event in late]
        await insert(pg, late)
        await assert_right(database, workspace_id, events + late)
    with clock.installed(clock.VirtualClock(START + 20 * DAY)):
        while await roll_up(database, limit=500):
            pass
    assert await pg.fetchval("SELECT count(*) FROM usage_marks") == 0
    await assert_right(database, workspace_id, events + late)


async def test_what_commits_after_its_quarter_was_rolled_up_is_counted_once(database, database_url, pg):
    workspace_id = uuid7()
    events = [(workspace_id, "a", "TEXT", None, None, START + timedelta(minutes=minute), 0, 100) for minute in range(3)]
    await insert(pg, events[:1])
    slow = await asyncpg.connect(database_url)
    block = slow.transaction()
    await block.start()
    await insert(slow, events[1:2])
    with clock.installed(clock.VirtualClock(START + HOUR)):
        assert await roll_up(database, limit=10) == 1
        await assert_right(database, workspace_id, events[:1])
        await block.commit()
        await assert_right(database, workspace_id, events[:2])
        assert await roll_up(database, limit=10) == 1
        await insert(slow, events[2:])
        await assert_right(database, workspace_id, events)
    await slow.close()


async def test_many_workers_and_writers_at_once_lose_and_double_nothing(database, pg, busy_day_rows):
    workspace_id = uuid7()
    events = some_events(workspace_id, 400)
    with clock.installed(clock.VirtualClock(START + 30 * DAY)):

        async def write(part):
            async with database.pool.acquire() as conn:
                for start in range(0, len(part), 20):
                    await insert(conn, part[start : start + 20])

        async def work():
            for _ in range(15):
                await roll_up(database, limit=7)

        await asyncio.gather(write(events[:200]), write(events[200:]), work(), work())
        await assert_right(database, workspace_id, events)
        while await roll_up(database, limit=100):
            pass
    assert await pg.fetchval("SELECT count(*) FROM usage_marks") == 0
    assert await pg.fetchval("SELECT sum(calls) FROM usage_rollups") == len(events)
    summed_up = await pg.fetchval("SELECT coalesce(sum(calls[97]), 0) FROM usage_days")
    assert (summed_up == len(events)) is (busy_day_rows == 1)


async def test_a_round_that_is_torn_leaves_the_marks(database, pg, monkeypatch):
    workspace_id = uuid7()
    events = some_events(workspace_id, 60)
    await insert(pg, events)
    with clock.installed(clock.VirtualClock(START + 30 * DAY)):
        monkeypatch.setattr(
            "metering.rollups._COMPUTE_DAYS",
            "SELECT 1 / (0 * cardinality($1::uuid[]) * cardinality($2::timestamptz[]) * $3::int)",
        )
        with pytest.raises(asyncpg.PostgresError):
            await roll_up(database, limit=100)
        monkeypatch.undo()
        await assert_right(database, workspace_id, events)
        await roll_up(database, limit=100)
        await assert_right(database, workspace_id, events)


async def test_the_marks_of_a_busy_quarter_are_compacted(database, pg):
    workspace_id = uuid7()
    event = (workspace_id, "a", "TEXT", None, None, START, 0, 100)
    for _ in range(5):
        await insert(pg, [event])
    with clock.installed(
        clock.VirtualClock(START + timedelta(minutes=15, seconds=29))
    ):  # its time to commit is not over
        assert await roll_up(database, limit=100) == 0
    assert await pg.fetchval("SELECT count(*) FROM usage_marks") == 1
    await assert_right(database, workspace_id, [event] * 5)


async def test_rebuilding_mends_what_was_spoilt(database, pg):
    workspace_id, other = uuid7(), uuid7()
    events = some_events(workspace_id, 100)
    await insert(pg, events)
    with clock.installed(clock.VirtualClock(START + 30 * DAY)):
        while await roll_up(database, limit=500):
            pass
        await pg.execute("UPDATE usage_rollups SET charged_micro = charged_micro + 1")
        await pg.execute("UPDATE usage_days SET charged_micro = calls")
        await pg.execute(
            "INSERT INTO usage_rollups (workspace_id, quarter_start, model_slug, modality, calls, input_tokens,"
            " output_tokens, charged_micro) VALUES ($1, $2, 'ghost', 'TEXT', 1, 1, 1, 1)",
            workspace_id,
            START - DAY,
        )
        assert await rebuild(database, other) == 0
        assert await rebuild(database, workspace_id) > 90
    assert await pg.fetchval("SELECT count(*) FROM usage_rollups WHERE model_slug = 'ghost'") == 0
    await assert_right(database, workspace_id, events)


async def test_A4_the_report_of_a_workspace_agrees_with_its_ledger_corrections_included(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        for cost in (40, 50):
            call = hold(wallet, 100)
            await ledger.submit(call)
            await ledger.submit(settle(wallet, call.call_id, cost))
        lost = hold(wallet, 100, expires_at=START + HOUR)
        await ledger.submit(lost)
        await ledger.submit(
            Checkpoint(lost.call_id, wallet[0], 70, UsageFacts(output_tokens=5, provider="x"), START + HOUR)
        )
        with clock.installed(clock.VirtualClock(START + HOUR)):
            await ledger.submit(Reap(lost.call_id, wallet[0]))
        with clock.installed(clock.VirtualClock(START + 2 * HOUR)):
            assert await roll_up(ledger._database, limit=10) == 2
            await ledger.submit(settle(wallet, lost.call_id, 30, usage=UsageFacts(output_tokens=2, provider="y")))
        asked = query(interval=UsageInterval.HOUR, end=START + DAY)
        report = await usage_report(ledger._database, wallet[1], asked)
        spent = await pg.fetchval("SELECT -sum(amount_micro) FROM ledger_entries WHERE kind = 'USAGE'")
        assert report.charged_micro == spent == 120
        assert report.calls == 3
        assert [each.output_tokens for each in report.buckets] == [40, 5, -3]  # the correction stands where it was made


async def test_pages_of_buckets_hold_each_once_in_order(database, pg):
    workspace_id = uuid7()
    await insert(pg, some_events(workspace_id, 300))
    asked = query(group_by=[UsageDimension.MODEL, UsageDimension.API_KEY])
    report = await usage_report(database, workspace_id, asked)
    found, after = [], None
    while True:
        page = report.page(PageRequest(7, after))
        found += page.items
        if not page.has_next:
            break
        after = page.cursors[-1]
    assert tuple(found) == report.buckets
    assert [each.start for each in found] == sorted(each.start for each in found)
    for rubbish in ("rubbish", "W10", "", "WzEsMl0", "bnVsbA"):
        if rubbish:
            with pytest.raises(InvalidInput):
                report.page(PageRequest(7, rubbish))


async def test_what_is_too_much_or_no_range_is_refused(database, pg, monkeypatch):
    workspace_id = uuid7()
    for wrong in (
        query(end=START),
        query(begin=datetime(1, 1, 1, tzinfo=UTC)),
        query(end=datetime(9999, 12, 31, tzinfo=UTC)),
        query(end=START + 3650 * DAY, interval=UsageInterval.HOUR),
        query(zone="Mars/Olympus"),
        query(zone="../../etc/passwd"),
        query(zone=""),
    ):
        with pytest.raises(InvalidInput):
            await usage_report(database, workspace_id, wrong)
    await insert(pg, some_events(workspace_id, 50))
    monkeypatch.setattr(reports, "MAX_ROWS", 10)
    with pytest.raises(InvalidInput, match="more than 10 rows"):
        await usage_report(database, workspace_id, query(group_by=list(UsageDimension)))


async def test_days_of_the_zone_with_a_change_of_clocks_have_their_own_hours(database, pg):
    workspace_id, zone = uuid7(), ZoneInfo("Europe/Berlin")
    sunday = datetime(2026, 3, 29, tzinfo=zone)
    at = [datetime(2026, 3, 29, 23, 59, tzinfo=zone), datetime(2026, 3, 30, 0, 0, tzinfo=zone)]
    await insert(pg, [(workspace_id, "a", "TEXT", None, None, each.astimezone(UTC), 0, 100) for each in at])
    asked = query(sunday.astimezone(UTC), sunday.astimezone(UTC) + 2 * DAY, zone="Europe/Berlin")
    report = await usage_report(database, workspace_id, asked)
    assert [each.start.astimezone(zone).day for each in report.buckets] == [29, 30]
