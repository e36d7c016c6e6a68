"""The ledger over a real database: the machine again, concurrency, and what one batch may not do to another."""

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from kit import clock
from kit.ids import uuid7
from metering.errors import CallEnded, StatementFailed
from metering.ledger import Ledger
from metering.operations import Adjust, Checkpoint, Freeze, Reap, Release, Thaw, UsageFacts
from metering.views import HoldPlaced, HoldRefused, Posted, Rejected, Released, Settled
from models.database import Database, transaction
from tests.metering.invariants import assert_invariants, broken_invariants
from tests.metering.machine import MoneyMachine
from tests.metering.money import HOUR, START, claim, grant, hold, open_wallet, settle, waiting_for_lock, wallet_locked

USAGE = UsageFacts(input_tokens=5, output_tokens=7, provider="sandbox")


@asynccontextmanager
async def ledger_on(url, **options):
    """The ledger at a clock that stands still at START."""
    database = await Database.open(url, max_size=4)
    with clock.installed(clock.VirtualClock(START)) as _:
        ledger = await Ledger.open(database, **options)
        try:
            yield ledger
        finally:
            await ledger.close()
            await database.close()


class DatabaseLedger:
    """The machine's driver over a real database: a wallet of its own in a database shared by all examples."""

    def __init__(self, url):
        self.runner = asyncio.Runner()
        self.run = self.runner.run
        self.conn = self.run(asyncpg.connect(url))
        self.ledger = Ledger(Database(url, None), earnings_rank=6, deadline_s=5)  # only `post`, which needs no lane
        self.wallet = self.run(open_wallet(self.conn))
        self.payee = self.run(open_wallet(self.conn))

    def post(self, operations, now):
        return self.run(self._post(operations, now))

    async def _post(self, operations, now):
        async with self.conn.transaction():
            return await self.ledger.post(self.conn, operations, now=now)

    def grants(self):
        sql = "SELECT id, remaining_micro, held_micro FROM credit_grants WHERE wallet_id = $1"
        return {row[0]: (row[1], row[2]) for row in self.run(self.conn.fetch(sql, self.wallet[0]))}

    def figures(self):
        sql = "SELECT w.balance_micro, w.held_micro, p.balance_micro FROM wallets w, wallets p WHERE w.id = $1 AND p.id = $2"
        return tuple(self.run(self.conn.fetchrow(sql, self.wallet[0], self.payee[0])))

    def check(self):
        pass

    def close(self):
        self.run(assert_invariants(self.conn))
        self.run(self.conn.close())
        self.runner.close()


def test_the_database_agrees_with_the_oracle_over_any_sequence(database_url):
    class DatabaseMachine(MoneyMachine):
        def open_driver(self):
            return DatabaseLedger(database_url)

    run_state_machine_as_test(
        DatabaseMachine,
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def test_fifty_holds_of_100_on_1000_give_exactly_ten_from_two_lanes(database_url, pg):
    async with ledger_on(database_url) as one, ledger_on(database_url) as two:
        wallet = await open_wallet(pg)
        await one.submit(grant(wallet[0], 1000))
        async with wallet_locked(pg, wallet):  # so that both lanes are at it when the wallet is free
            tasks = [asyncio.create_task((one, two)[n % 2].submit(hold(wallet, 100))) for n in range(50)]
            await waiting_for_lock(database_url, backends=2)
        outcomes = await asyncio.gather(*tasks)
    assert sum(isinstance(outcome, HoldPlaced) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, HoldRefused) for outcome in outcomes) == 40
    await assert_invariants(pg)


async def test_two_hundred_mixed_operations_with_duplicates_leave_every_invariant_true(database_url, pg):
    dice = random.Random(7)
    async with ledger_on(database_url) as one, ledger_on(database_url) as two:
        wallets = [await open_wallet(pg) for _ in range(3)]
        grants = [grant(wallet[0], 2000) for wallet in wallets for _ in range(2)]
        await asyncio.gather(*(one.submit(each) for each in grants))

        async def life(wallet):
            lane, other = (one, two) if dice.random() < 0.5 else (two, one)
            op = hold(wallet, dice.randint(0, 400), idempotency=claim(f"k{dice.randint(0, 30)}"))
            placed, again = await asyncio.gather(lane.submit(op), other.submit(op))
            assert type(placed) is type(again)
            if not isinstance(placed, HoldPlaced):
                return
            payee = dice.choice(wallets)[0]
            end = dice.choice(
                [
                    settle(wallet, op.call_id, dice.randint(0, 600), payee_wallet_id=payee),
                    Release(op.call_id, *wallet),
                    Checkpoint(op.call_id, wallet[0], 5, USAGE, START + HOUR),
                ]
            )
            await asyncio.gather(lane.submit(end), other.submit(end))

        async def disturb(each):
            await two.submit(Freeze(each.wallet_id, "DISPUTE", (each.grant_id,)))
            await one.submit(Thaw(each.wallet_id, "DISPUTE", (each.grant_id,)))

        await asyncio.gather(*(life(wallets[n % 3]) for n in range(60)), *(disturb(each) for each in grants))
    await assert_invariants(pg)


async def test_the_audit_sees_what_is_wrong(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        op = hold(wallet, 100)
        await ledger.submit(op)
        await ledger.submit(settle(wallet, op.call_id, 40))
    await assert_invariants(pg)
    await pg.execute("UPDATE wallets SET balance_micro = balance_micro + 1 WHERE id = $1", wallet[0])
    assert len(await broken_invariants(pg)) == 4
    await pg.execute("UPDATE wallets SET balance_micro = balance_micro - 1 WHERE id = $1", wallet[0])
    await pg.execute("DELETE FROM ledger_entries WHERE kind = 'USAGE'")
    assert await broken_invariants(pg)


async def test_an_operation_that_cannot_be_written_fails_alone(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 10_000))
        good = [hold(wallet, 100) for _ in range(20)]
        bad = hold(wallet, 100, request_id="a NUL \x00 is no text")
        worse = hold(wallet, 100, call_id="no uuid")
        outcomes = await asyncio.gather(
            *(ledger.submit(op) for op in (*good[:7], bad, *good[7:], worse)), return_exceptions=True
        )
        assert sum(isinstance(outcome, HoldPlaced) for outcome in outcomes) == 20
        assert isinstance(outcomes[7], Rejected)
        assert isinstance(outcomes[7].error, StatementFailed)
        assert isinstance(outcomes[-1], (Rejected, Exception))
        assert (await pg.fetchval("SELECT held_micro FROM wallets")) == 2000
    await assert_invariants(pg)


async def test_what_a_provider_sent_never_keeps_a_settlement_from_being_written(database_url, pg):
    usage = UsageFacts(input_tokens=1, provider="p\x00", details={"text": "\x00 and \ud800", 5: object})
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100))
        op = hold(wallet, 10)
        await ledger.submit(op)
        outcome = await ledger.submit(
            settle(wallet, op.call_id, 10, usage=usage, status="FAILED", error_message="\x00\ud800" * 5000)
        )
        assert isinstance(outcome, Settled)
    await assert_invariants(pg)


async def test_rows_of_a_call_say_what_happened(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet, payee = await open_wallet(pg), await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100))
        user_id, key_id = uuid7(), uuid7()
        op = hold(
            wallet, 80, user_id=user_id, api_key_id=key_id, modality="IMAGE", terms={"prices": [1]},
            payee_wallet_id=payee[0], payee_share_percent=50,
        )  # fmt: skip
        await ledger.submit(op)
        held = await pg.fetchrow("SELECT * FROM holds")
        assert (held["amount_micro"], held["terms"], held["created_at"]) == (80, '{"prices": [1]}', START)
        await ledger.submit(settle(wallet, op.call_id, 120, usage=USAGE, payee_wallet_id=payee[0]))
    event = await pg.fetchrow("SELECT * FROM usage_events")
    assert (event["cost_micro"], event["charged_micro"], event["modality"]) == (120, 100, "IMAGE")
    assert (event["input_tokens"], event["user_id"], event["api_key_id"]) == (5, user_id, key_id)
    entries = await pg.fetch(
        "SELECT kind, amount_micro, balance_after_micro, counter_account FROM ledger_entries ORDER BY id"
    )
    assert [tuple(entry) for entry in entries] == [
        ("GRANT", 100, 100, "ISSUED"),
        ("USAGE", -100, 0, "REVENUE"),
        ("SHORTFALL", -20, None, "REVENUE"),
        ("EARNING", 50, 50, "EARNINGS"),
    ]
    call = await pg.fetchrow("SELECT * FROM calls")
    assert (call["id"], call["status"], call["completed_at"]) == (op.call_id, "SUCCEEDED", START)


async def test_earnings_of_a_day_are_one_grant(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet, payee = await open_wallet(pg), await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        for _ in range(3):
            op = hold(wallet, 10, payee_wallet_id=payee[0], payee_share_percent=50)
            await ledger.submit(op)
            await ledger.submit(settle(wallet, op.call_id, 10))  # the payee is known from the hold alone
    assert await pg.fetchval("SELECT count(*) FROM credit_grants WHERE kind = 'EARNINGS'") == 1
    assert await pg.fetchval("SELECT balance_micro FROM wallets WHERE id = $1", payee[0]) == 15
    await assert_invariants(pg)


async def test_a_wallet_with_hundreds_of_grants_spends_them_all_in_order(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        grants = [grant(wallet[0], 10, expires_at=START + (300 - n) * HOUR) for n in range(150)]
        await asyncio.gather(*(ledger.submit(each) for each in grants))
        placed = await ledger.submit(hold(wallet, 1495))
        assert [grant_id for grant_id, _ in placed.allocation] == [each.grant_id for each in reversed(grants)]
        refused = await ledger.submit(hold(wallet, 6))
        assert (refused.available_micro, refused.reason) == (5, "HELD")
        assert (await ledger.submit(Adjust("a", wallet[0], -100, "x"))).amount_micro == 5
    await assert_invariants(pg)


async def test_post_joins_the_callers_transaction(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        try:
            async with transaction(ledger._database) as conn:
                [outcome] = await ledger.post(conn, [grant(wallet[0], 100)])
                assert isinstance(outcome, Posted)
                assert outcome.changed
                raise LookupError
        except LookupError:
            pass
        assert await pg.fetchval("SELECT count(*) FROM credit_grants") == 0
    await assert_invariants(pg)


async def test_a_presumed_charge_is_corrected_from_what_the_database_remembers(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet, payee = await open_wallet(pg), await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 30, "CYCLE", expires_at=START + 2 * HOUR))
        await ledger.submit(grant(wallet[0], 100))
        op = hold(wallet, 60, payee_wallet_id=payee[0], payee_share_percent=50, expires_at=START + HOUR)
        await ledger.submit(op)
        await ledger.submit(Checkpoint(op.call_id, wallet[0], 50, USAGE, START + HOUR))
        with clock.installed(clock.VirtualClock(START + HOUR)):
            reaped = await ledger.submit(Reap(op.call_id, wallet[0]))
        assert (reaped.presumed, reaped.charged_micro, reaped.earned_micro) == (True, 50, 25)
        with clock.installed(clock.VirtualClock(START + 3 * HOUR)):
            late = settle(
                wallet,
                op.call_id,
                10,
                usage=UsageFacts(input_tokens=2),
                payee_wallet_id=payee[0],
                payee_share_percent=50,
            )
            outcome = await ledger.submit(late)
            assert (outcome.charged_micro, outcome.earned_micro, outcome.duplicate) == (10, 5, False)
            assert (await ledger.submit(late)).duplicate
    totals = await pg.fetchrow("SELECT sum(cost_micro), sum(charged_micro), sum(input_tokens) FROM usage_events")
    assert tuple(totals) == (10, 10, 2)
    assert await pg.fetchval("SELECT expired_micro FROM credit_grants WHERE kind = 'CYCLE'") == 20
    assert await pg.fetchval("SELECT status FROM calls") == "SUCCEEDED"
    await assert_invariants(pg)


async def test_a_late_settlement_of_a_released_call_charges_what_is_there(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100))
        op = hold(wallet, 60, expires_at=START + HOUR, idempotency=claim("k"))
        await ledger.submit(op)
        with clock.installed(clock.VirtualClock(START + HOUR + timedelta(seconds=1))):
            assert isinstance(await ledger.submit(Reap(op.call_id, wallet[0])), Released)
            outcome = await ledger.submit(settle(wallet, op.call_id, 130, modality="AUDIO", answer={"ok": 1}))
            assert (outcome.charged_micro, outcome.shortfall_micro) == (100, 30)
    assert await pg.fetchval("SELECT modality FROM usage_events") == "AUDIO"
    assert await pg.fetchval("SELECT answer FROM idempotency_keys") == '{"ok": 1}'
    await assert_invariants(pg)


async def test_a_hold_sent_again_after_its_call_has_ended_is_refused(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100))
        op = hold(wallet, 60)
        await ledger.submit(op)
        await ledger.submit(Release(op.call_id, *wallet))
        async with transaction(ledger._database) as conn:
            [outcome] = await ledger.post(conn, [op])
        assert isinstance(outcome.error, CallEnded)
    await assert_invariants(pg)


async def test_a_late_settlement_of_nothing_ends_the_call_as_well(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 1000))
        op = hold(wallet, 10)
        await ledger.submit(op)
        await ledger.submit(Release(op.call_id, wallet[0], wallet[1]))
        assert not (await ledger.submit(settle(wallet, op.call_id, 0))).duplicate
        again = await ledger.submit(settle(wallet, op.call_id, 7))
        assert (again.duplicate, again.charged_micro) == (True, 0)
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 1
    await assert_invariants(pg)


async def test_a_call_that_begins_and_ends_in_one_batch_is_written_whole(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100))
        op, other, released = hold(wallet, 40), hold(wallet, 30), hold(wallet, 30)
        await ledger.submit(other)
        await ledger.submit(released)
        database = await Database.open(database_url)
        async with transaction(database) as conn:
            await ledger.post(
                conn,
                [
                    op,
                    settle(wallet, op.call_id, 25, usage=USAGE),
                    settle(wallet, other.call_id, 0, usage=UsageFacts(provider='a "provider"\n', details={"a": [1]})),
                    Release(released.call_id, *wallet, error_code="UPSTREAM_ERROR", error_message="it's\n{broken}, \\"),
                ],
                now=START,
            )
        await database.close()
    assert await pg.fetchval("SELECT count(*) FROM holds") == 0
    events = {row["call_id"]: row for row in await pg.fetch("SELECT * FROM usage_events")}
    assert {key: row["charged_micro"] for key, row in events.items()} == {op.call_id: 25, other.call_id: 0}
    assert events[op.call_id]["output_tokens"] == 7
    assert (events[other.call_id]["provider"], events[other.call_id]["details"]) == ('a "provider"\n', '{"a": [1]}')
    assert events[op.call_id]["details"] is None
    assert await pg.fetchval("SELECT error_message FROM calls WHERE status = 'FAILED'") == "it's\n{broken}, \\"
    assert await pg.fetchval("SELECT count(*) FROM calls") == 3
    await assert_invariants(pg)


async def test_a_charge_over_several_grants_has_an_entry_of_each(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 30, "PROMO"))
        await ledger.submit(grant(wallet[0], 100))
        op = hold(wallet, 60)
        await ledger.submit(op)
        await ledger.submit(settle(wallet, op.call_id, 50, usage=USAGE))
    entries = await pg.fetch("SELECT * FROM ledger_entries WHERE kind = 'USAGE' ORDER BY id")
    assert [(row["amount_micro"], row["balance_after_micro"]) for row in entries] == [(-30, 100), (-20, 80)]
    assert (
        len({(row["call_id"], row["reference_kind"], row["reference_id"], row["description"]) for row in entries}) == 1
    )
    await assert_invariants(pg)


async def test_a_hold_that_is_reaped_and_settled_in_one_batch_ends_once(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        await ledger.submit(grant(wallet[0], 100))
        presumed, let_go = hold(wallet, 40, expires_at=START), hold(wallet, 40, expires_at=START)
        await ledger.submit(presumed)
        await ledger.submit(let_go)
        await ledger.submit(Checkpoint(presumed.call_id, wallet[0], 10, USAGE, START))
        database = await Database.open(database_url)
        async with transaction(database) as conn:
            ends = [
                end
                for op in (presumed, let_go)
                for end in (Reap(op.call_id, wallet[0]), settle(wallet, op.call_id, 25, usage=USAGE))
            ]
            outcomes = await ledger.post(conn, ends, now=START)
        await database.close()
    assert [outcome.charged_micro for outcome in outcomes if isinstance(outcome, Settled)] == [10, 25, 25]
    assert await pg.fetchval("SELECT count(*) FROM holds") == 0
    assert await pg.fetchval("SELECT sum(charged_micro) FROM usage_events") == 50
    assert await pg.fetchval("SELECT count(*) FROM calls WHERE status = 'SUCCEEDED'") == 2
    await assert_invariants(pg)
