"""Measures hold + settle pairs a second: the ledger, one ORM transaction per call, and the raw limit, interleaved.

`python -m bench.ledger --help`. The raw limit inserts and deletes the same rows by bulk statements, with no lock, no
read and no decision. Ratios of one run count, not the numbers: the machine is shared.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import uvloop
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from app.collector import calm_collector
from app.embedded import EmbeddedServers
from kit import clock
from kit.ids import uuid7
from metering.ledger import Ledger
from metering.operations import Grant, PlaceHold, Settle, UsageFacts
from metering.views import HoldPlaced, Settled
from models.calls import Call
from models.database import Database
from models.migrate import migrate
from models.wallets import CreditGrant, Hold, LedgerEntry, Wallet

Account = tuple[UUID, UUID, UUID]
"""wallet, workspace, grant"""
USAGE = UsageFacts(input_tokens=120, output_tokens=80, requests=1, provider="sandbox")
HOLD_MICRO, COST_MICRO = 1_000, 640


async def open_accounts(conn: asyncpg.Connection, ledger: Ledger, count: int) -> list[Account]:
    accounts = [(uuid7(), uuid7(), uuid7()) for _ in range(count)]
    at = clock.now()
    await conn.executemany(
        "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'bench', $2, $3, $3)",
        [(workspace, f"b-{workspace.hex}", at) for _, workspace, _ in accounts],
    )
    await conn.executemany(
        "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, $3)",
        [(wallet, workspace, at) for wallet, workspace, _ in accounts],
    )
    grants = (
        Grant(grant, wallet, "TOP_UP", 10**15, at, None, "BENCH", str(grant), "bench", 4)
        for wallet, _, grant in accounts
    )
    await asyncio.gather(*(ledger.submit(grant) for grant in grants))
    return accounts


async def ledger_pair(ledger: Ledger, account: Account) -> None:
    wallet, workspace, _ = account
    call_id = uuid7()
    placed = await ledger.submit(
        PlaceHold(
            call_id,
            wallet,
            workspace,
            HOLD_MICRO,
            "sandbox-small",
            None,
            None,
            "req_bench",
            clock.now() + timedelta(minutes=10),
            {"discount_percent": 0, "prices": [["INPUT_TOKENS", 3, 1], ["OUTPUT_TOKENS", 15, 1]]},
        )
    )
    assert isinstance(placed, HoldPlaced), placed
    settled = await ledger.submit(Settle(call_id, wallet, workspace, COST_MICRO, USAGE))
    assert isinstance(settled, Settled), settled


async def orm_pair(account: Account) -> None:
    """The same rows as the ledger's, one transaction for the hold and one for the settlement."""
    wallet_id, workspace_id, grant_id = account
    call_id, at = uuid7(), clock.now()
    async with in_transaction() as conn:
        wallet = await Wallet.select_for_update().using_db(conn).get(id=wallet_id)
        await CreditGrant.filter(id=grant_id).using_db(conn).update(held_micro=F("held_micro") + HOLD_MICRO)
        await Wallet.filter(id=wallet.id).using_db(conn).update(held_micro=F("held_micro") + HOLD_MICRO)
        await Hold.create(
            using_db=conn,
            call_id=call_id,
            wallet_id=wallet_id,
            workspace_id=workspace_id,
            amount_micro=HOLD_MICRO,
            grant_ids=[grant_id],
            grant_amounts_micro=[HOLD_MICRO],
            model_slug="sandbox-small",
            request_id="req_bench",
            modality="TEXT",
            owner=call_id,
            terms={"discount_percent": 0, "prices": [["INPUT_TOKENS", 3, 1], ["OUTPUT_TOKENS", 15, 1]]},
            created_at=at,
            expires_at=at + timedelta(minutes=10),
        )
    async with in_transaction() as conn:
        wallet = await Wallet.select_for_update().using_db(conn).get(id=wallet_id)
        hold = await Hold.filter(call_id=call_id).using_db(conn).get()
        await (
            CreditGrant.filter(id=grant_id)
            .using_db(conn)
            .update(
                held_micro=F("held_micro") - HOLD_MICRO,
                remaining_micro=F("remaining_micro") - COST_MICRO,
                spent_micro=F("spent_micro") + COST_MICRO,
            )
        )
        await (
            Wallet.filter(id=wallet_id)
            .using_db(conn)
            .update(held_micro=F("held_micro") - HOLD_MICRO, balance_micro=F("balance_micro") - COST_MICRO)
        )
        await Hold.filter(call_id=call_id).using_db(conn).delete()
        await LedgerEntry.create(
            using_db=conn,
            wallet_id=wallet_id,
            grant_id=grant_id,
            kind="USAGE",
            amount_micro=-COST_MICRO,
            balance_after_micro=wallet.balance_micro - COST_MICRO,
            counter_account="REVENUE",
            call_id=call_id,
            reference_kind="REQUEST",
            reference_id="req_bench",
            description="sandbox-small",
            created_at=at,
        )
        # usage_events has a composite key, which Tortoise has no model for
        await conn.execute_query(
            "INSERT INTO usage_events (call_id, workspace_id, wallet_id, model_slug, modality, input_tokens, output_tokens,"
            " requests, cost_micro, charged_micro, estimated, provider, created_at)"
            " VALUES ($1, $2, $3, 'sandbox-small', 'TEXT', 120, 80, 1, $4, $4, false, 'sandbox', $5)",
            [call_id, workspace_id, wallet_id, COST_MICRO, at],
        )
        await Call.create(
            using_db=conn,
            id=call_id,
            workspace_id=workspace_id,
            model_slug="sandbox-small",
            status="SUCCEEDED",
            request_id="req_bench",
            created_at=hold.created_at,
            completed_at=at,
        )


RAW_HOLDS = """
INSERT INTO holds (call_id, wallet_id, workspace_id, amount_micro, grant_ids, grant_amounts_micro, model_slug, request_id,
    owner, terms, created_at, expires_at)
SELECT c, $2, $3, 1000, ARRAY[$4::uuid], ARRAY[1000::bigint], 'sandbox-small', 'req_bench', c,
    '{"discount_percent": 0, "prices": [["INPUT_TOKENS", 3, 1], ["OUTPUT_TOKENS", 15, 1]]}', $5, $5
FROM unnest($1::uuid[]) AS c
"""
RAW_ENDS = """
WITH gone AS (DELETE FROM holds WHERE call_id = ANY ($1)),
usage AS (INSERT INTO usage_events (call_id, workspace_id, wallet_id, model_slug, modality, input_tokens, output_tokens,
        requests, cost_micro, charged_micro, estimated, provider, created_at)
    SELECT c, $3, $2, 'sandbox-small', 'TEXT', 120, 80, 1, 640, 640, false, 'sandbox', $5 FROM unnest($1::uuid[]) AS c),
ended AS (INSERT INTO calls (id, workspace_id, model_slug, status, request_id, created_at, completed_at)
    SELECT c, $3, 'sandbox-small', 'SUCCEEDED', 'req_bench', $5, $5 FROM unnest($1::uuid[]) AS c)
INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account, call_id,
    reference_kind, reference_id, description, created_at)
SELECT e, $2, $4, 'USAGE', -640, 0, 'REVENUE', c, 'REQUEST', 'req_bench', 'sandbox-small', $5
FROM unnest($1::uuid[], $6::uuid[]) AS n (c, e)
"""


async def raw_pairs(conn: asyncpg.Connection, account: Account, pairs: int, batch: int) -> float:
    wallet, workspace, grant = account
    started = time.perf_counter()
    done = 0
    while done < pairs:
        calls = [uuid7() for _ in range(batch)]
        at = clock.now()
        await conn.execute(RAW_HOLDS, calls, wallet, workspace, grant, at)
        await conn.execute(RAW_ENDS, calls, wallet, workspace, grant, at, [uuid7() for _ in calls])
        done += batch
    return done / (time.perf_counter() - started)


async def concurrently(
    pair: Callable[[Account], Awaitable[None]], accounts: list[Account], concurrency: int, pairs: int
) -> tuple[float, float]:
    """(pairs a second, median milliseconds of a pair)"""
    latencies: list[float] = []
    counter = iter(range(pairs))

    async def client() -> None:
        for number in counter:
            began = time.perf_counter()
            await pair(accounts[number % len(accounts)])
            latencies.append(time.perf_counter() - began)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return pairs / (time.perf_counter() - started), statistics.median(latencies) * 1000


async def measure(arguments: argparse.Namespace, url: str) -> None:
    await migrate(url)
    database = await Database.open(url, max_size=arguments.orm_connections)
    ledger = await Ledger.open(database)
    conn = await database.dedicated()
    hot = await open_accounts(conn, ledger, 1)
    many = await open_accounts(conn, ledger, 1000)
    calm_collector()  # as `tollgate serve` does
    rates: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}

    async def run(name: str, measured: Awaitable[tuple[float, float]]) -> None:
        rate, latency = await measured
        rates.setdefault(name, []).append(rate)
        latencies.setdefault(name, []).append(latency)

    async def pair(account: Account) -> None:
        await ledger_pair(ledger, account)

    for _ in range(arguments.rounds):
        raw = await raw_pairs(conn, hot[0], arguments.pairs, 32)
        rates.setdefault("raw bulk, batches of 32", []).append(raw)
        for concurrency in arguments.concurrency:
            pairs = max(arguments.pairs // 20, 50) if concurrency == 1 else arguments.pairs
            await run(f"ledger, 1 wallet, {concurrency} at once", concurrently(pair, hot, concurrency, pairs))
            await run(f"ledger, 1,000 wallets, {concurrency} at once", concurrently(pair, many, concurrency, pairs))
            if not arguments.no_orm:
                some = max(arguments.pairs // 20, 50)
                await run(f"ORM, 1 wallet, {concurrency} at once", concurrently(orm_pair, hot, concurrency, some))
    print(f"{'pairs a second':40} {'best':>9} {'median':>9} {'p50 ms':>8}")
    for name, found in rates.items():
        latency = min(latencies[name]) if name in latencies else float("nan")
        print(f"{name:40} {max(found):9,.0f} {statistics.median(found):9,.0f} {latency:8.2f}")
    for concurrency in arguments.concurrency:
        ours = statistics.median(rates[f"ledger, 1 wallet, {concurrency} at once"])
        raw = statistics.median(rates["raw bulk, batches of 32"])
        line = f"at {concurrency}: {ours / raw:.2f} of the raw limit"
        if not arguments.no_orm:
            line += f", {ours / statistics.median(rates[f'ORM, 1 wallet, {concurrency} at once']):.1f} times the ORM"
        print(line)
    await conn.close()
    await ledger.close()
    await database.close()


async def main(arguments: argparse.Namespace) -> None:
    if arguments.url:
        await measure(arguments, arguments.url)
        return
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-", dir=arguments.dir) as directory:
        Path(directory).chmod(0o755)
        servers = await EmbeddedServers.start(Path(directory) / "data", postgres=True, valkey=False)
        try:
            await measure(arguments, servers.database_url)
        finally:
            await servers.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a PostgreSQL database of its own; default: an embedded server, durable")
    parser.add_argument("--dir", help="where the embedded server keeps its files", default=tempfile.gettempdir())
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--orm-connections", type=int, default=16)
    parser.add_argument("--no-orm", action="store_true", help="leave the ORM out")
    uvloop.run(main(parser.parse_args()))
