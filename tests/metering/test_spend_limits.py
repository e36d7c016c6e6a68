"""Spend limits: never overshot, exact over periods, ends and late charges."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg

from kit import clock
from kit.ids import uuid7
from metering.operations import Checkpoint, Reap, Release, UsageFacts
from metering.spend_limits import clear_limit, limits_of, set_limit
from metering.views import HoldPlaced, HoldRefusal, HoldRefused
from models.database import transaction
from tests.metering.invariants import assert_invariants
from tests.metering.money import HOUR, START, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on


async def limit(ledger, wallet, kind, subject, period, amount, now=START):
    async with transaction(ledger._database) as conn:
        await set_limit(conn, wallet[1], kind, subject, period, amount, now)


async def member_of(pg: asyncpg.Connection, wallet):
    user_id, member_id = uuid7(), uuid7()
    await pg.execute(
        "INSERT INTO users (id, email, email_key, name, created_at, updated_at) VALUES ($1, $2, $2, 'n', now(), now())",
        user_id,
        f"{user_id}@example.com",
    )
    await pg.execute(
        "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, 'MEMBER', now())",
        member_id,
        wallet[1],
        user_id,
    )
    return user_id, member_id


async def test_a_limit_is_not_overshot_under_concurrency(database_url, pg):
    async with ledger_on(database_url) as one, ledger_on(database_url) as two:
        wallet = await open_wallet(pg)
        await one.submit(grant(wallet[0], 10_000))
        key = uuid7()
        await limit(one, wallet, "API_KEY", key, "MONTH", 1000)
        calls = [hold(wallet, 150, api_key_id=key) for _ in range(20)]
        outcomes = await asyncio.gather(*((one, two)[n % 2].submit(op) for n, op in enumerate(calls)))
        assert sum(isinstance(outcome, HoldPlaced) for outcome in outcomes) == 6
        refused = next(outcome for outcome in outcomes if isinstance(outcome, HoldRefused))
        assert refused.reason is HoldRefusal.SPEND_LIMIT
        assert refused.limit.subject_id == key
        assert isinstance(await one.submit(hold(wallet, 150, api_key_id=uuid7())), HoldPlaced)
    await assert_invariants(pg)


async def test_settlement_moves_held_to_spent_and_release_gives_it_back(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        user_id, member_id = await member_of(pg, wallet)
        await ledger.submit(grant(wallet[0], 10_000))
        await limit(ledger, wallet, "MEMBER", member_id, "MONTH", 100)
        first, second = hold(wallet, 60, user_id=user_id), hold(wallet, 40, user_id=user_id)
        await asyncio.gather(ledger.submit(first), ledger.submit(second))
        await ledger.submit(settle(wallet, first.call_id, 25))
        await ledger.submit(Release(second.call_id, *wallet))
        [found] = await limits_of(pg, "MEMBER", [member_id], START)
        assert (found.spent_micro, found.held_micro) == (25, 0)
        assert isinstance(await ledger.submit(hold(wallet, 76, user_id=user_id)), HoldRefused)
        assert isinstance(await ledger.submit(hold(wallet, 75, user_id=user_id)), HoldPlaced)
    await assert_invariants(pg)


async def test_a_period_begins_anew_at_midnight_utc_and_keeps_what_is_held(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 10_000))
        await limit(ledger, wallet, "WORKSPACE", wallet[1], "DAY", 100)
        spent, held = hold(wallet, 60), hold(wallet, 40)
        await ledger.submit(spent)
        await ledger.submit(held)
        await ledger.submit(settle(wallet, spent.call_id, 60))
        last = START.replace(hour=23, minute=59, second=59)
        with clock.installed(clock.VirtualClock(last)):
            assert isinstance(await ledger.submit(hold(wallet, 1)), HoldRefused)
        with clock.installed(clock.VirtualClock(last + timedelta(seconds=1))):
            assert isinstance(await ledger.submit(hold(wallet, 61)), HoldRefused)
            assert isinstance(await ledger.submit(hold(wallet, 60)), HoldPlaced)
            await ledger.submit(settle(wallet, held.call_id, 30))
            [found] = await limits_of(pg, "WORKSPACE", [wallet[1]])
            assert (found.spent_micro, found.held_micro) == (30, 60)
    await assert_invariants(pg)


async def test_a_new_limit_counts_what_is_spent_and_held_already(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 10_000))
        key = uuid7()
        with clock.installed(clock.VirtualClock(START - timedelta(days=40))):
            before = hold(wallet, 500, api_key_id=key)
            await ledger.submit(before)
            await ledger.submit(settle(wallet, before.call_id, 500))
        spent, held, others = (hold(wallet, 70, api_key_id=each) for each in (key, key, uuid7()))
        for op in (spent, held, others):
            await ledger.submit(op)
        await ledger.submit(settle(wallet, spent.call_id, 30))
        await limit(ledger, wallet, "API_KEY", key, "MONTH", 150)
        [found] = await limits_of(pg, "API_KEY", [key], START)
        assert (found.spent_micro, found.held_micro) == (30, 70)
        await assert_invariants(pg)
        await ledger.submit(settle(wallet, held.call_id, 70))
        [found] = await limits_of(pg, "API_KEY", [key], START)
        assert (found.spent_micro, found.held_micro) == (100, 0)
        await limit(ledger, wallet, "API_KEY", key, "MONTH", 90)
        assert isinstance(await ledger.submit(hold(wallet, 1, api_key_id=key)), HoldRefused)
        async with transaction(ledger._database) as conn:
            assert await clear_limit(conn, "API_KEY", key, "MONTH")
            assert not await clear_limit(conn, "API_KEY", key, "MONTH")
        assert isinstance(await ledger.submit(hold(wallet, 1, api_key_id=key)), HoldPlaced)
    await assert_invariants(pg)


async def test_a_late_charge_counts_too(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 10_000))
        key = uuid7()
        await limit(ledger, wallet, "API_KEY", key, "MONTH", 150)
        op = hold(wallet, 100, api_key_id=key, expires_at=START + HOUR)
        await ledger.submit(op)
        with clock.installed(clock.VirtualClock(START + HOUR)):
            await ledger.submit(Reap(op.call_id, wallet[0]))
            await ledger.submit(settle(wallet, op.call_id, 90))
        [found] = await limits_of(pg, "API_KEY", [key], START)
        assert (found.spent_micro, found.held_micro) == (90, 0)
    await assert_invariants(pg)


async def test_what_last_months_correction_gives_back_makes_no_room_in_this_month(database_url, pg):
    last, this = datetime(2026, 1, 31, 23, tzinfo=UTC), datetime(2026, 2, 1, 1, tzinfo=UTC)
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        key = uuid7()
        with clock.installed(clock.VirtualClock(last)):
            await ledger.submit(grant(wallet[0], 100_000, at=last))
            await limit(ledger, wallet, "API_KEY", key, "MONTH", 1_000, last)
            lapses = last + timedelta(minutes=5)
            presumed = hold(wallet, 900, api_key_id=key, expires_at=lapses)
            await ledger.submit(presumed)
            await ledger.submit(Checkpoint(presumed.call_id, wallet[0], 900, UsageFacts(output_tokens=2), lapses))
        with clock.installed(clock.VirtualClock(last + timedelta(minutes=10))):
            await ledger.submit(Reap(presumed.call_id, wallet[0]))
        with clock.installed(clock.VirtualClock(this)):
            own = hold(wallet, 900, api_key_id=key, expires_at=this + HOUR)
            assert isinstance(await ledger.submit(own), HoldPlaced)
            await ledger.submit(settle(wallet, own.call_id, 900))
            assert (await ledger.submit(settle(wallet, presumed.call_id, 100))).charged_micro == 100
            [found] = await limits_of(pg, "API_KEY", [key], this)
            assert found.spent_micro == 900
            refused = await ledger.submit(hold(wallet, 900, api_key_id=key, expires_at=this + HOUR))
            assert isinstance(refused, HoldRefused)
    await assert_invariants(pg)
