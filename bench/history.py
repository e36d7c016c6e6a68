"""Measures whether a metered call costs more as history grows: the ledger over a long history and over none, interleaved.

Two databases of one embedded server, made alike; one gets `--rows` ledger entries, usage events and calls by SQL, a
tenth of them of the wallet that is measured. Each round measures both; the ratio is the median of the rounds' ratios, of
the rate and, since the machine is shared, of the CPU time that the server's process took for a pair (hold + settle).
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import uvloop

from app.collector import calm_collector
from app.embedded import EmbeddedServers
from bench.ledger import Account, concurrently, ledger_pair
from metering.ledger import Ledger
from models.database import Database
from models.migrate import migrate
from models.pool import open_pool
from tests.metering.invariants import broken_invariants

WORKSPACES = 1_000
GOAL = 0.10
GRANTED_MICRO = 10**15
COST_MICRO = 640
CHUNK = 500_000
TABLES = ("ledger_entries", "usage_events", "calls")

# Ids as uuid7() makes them, of made-up milliseconds and a number.
ID_OF = """
CREATE FUNCTION pg_temp.id_of(at timestamptz, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(number & 4095), 3, '0')
        || '8' || lpad(to_hex(number), 15, '0'))::uuid
$$
"""
ACCOUNTS = """
CREATE TEMP TABLE account AS
SELECT w, pg_temp.id_of(begun, w * 4) AS workspace_id, pg_temp.id_of(begun, w * 4 + 1) AS wallet_id,
    pg_temp.id_of(begun, w * 4 + 2) AS grant_id, pg_temp.id_of(begun, w * 4 + 3) AS entry_id, begun
FROM generate_series(0, {workspaces}) AS w, (SELECT now() - interval '40 days' AS begun) AS b;
CREATE UNIQUE INDEX ON account (w);
ANALYZE account;
INSERT INTO workspaces (id, name, slug, created_at, updated_at)
SELECT workspace_id, 'bench', 'h-' || w, begun, begun FROM account;
INSERT INTO wallets (id, workspace_id, balance_micro, created_at)
SELECT wallet_id, workspace_id, {granted}, begun FROM account;
INSERT INTO credit_grants (id, wallet_id, kind, burn_rank, amount_micro, remaining_micro, effective_at, source_kind,
    source_id, description, created_at)
SELECT grant_id, wallet_id, 'TOP_UP', 4, {granted}, {granted}, begun, 'BENCH', grant_id::text, 'bench', begun FROM account;
INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account,
    reference_kind, reference_id, description, created_at)
SELECT entry_id, wallet_id, grant_id, 'GRANT', {granted}, {granted}, 'ISSUED', 'GRANT', grant_id::text, 'bench', begun
FROM account;
"""
# Every tenth call is the hot wallet's (number 0); `k` counts a wallet's calls, so that balances run down as they should.
PAST_CALLS = """
CREATE TEMP TABLE past AS
SELECT pg_temp.id_of(s.at, s.i) AS call_id, pg_temp.id_of(s.at, s.i + {rows}) AS entry_id, s.at, s.k, a.workspace_id,
    a.wallet_id, a.grant_id
FROM (
    SELECT i, now() - interval '39 days' + i * (interval '38 days' / {rows}) AS at,
        CASE WHEN i % 10 = 0 THEN 0 ELSE 1 + (i / 10 * 9 + i % 10 - 1) % {workspaces} END AS w,
        CASE WHEN i % 10 = 0 THEN i / 10 ELSE (i / 10 * 9 + i % 10 - 1) / {workspaces} END AS k
    FROM generate_series({first}::bigint, {last}::bigint) AS i
) AS s JOIN account a ON a.w = s.w
ORDER BY s.i
"""
FROM_PAST = (
    """
INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account, call_id,
    reference_kind, reference_id, description, created_at)
SELECT entry_id, wallet_id, grant_id, 'USAGE', -{cost}, {granted} - (k + 1) * {cost}, 'REVENUE', call_id, 'REQUEST',
    'req_bench', 'sandbox-small', at FROM past
""",
    """
INSERT INTO usage_events (call_id, workspace_id, wallet_id, model_slug, modality, input_tokens, output_tokens, requests,
    cost_micro, charged_micro, estimated, provider, created_at)
SELECT call_id, workspace_id, wallet_id, 'sandbox-small', 'TEXT', 120, 80, 1, {cost}, {cost}, false, 'sandbox', at FROM past
""",
    """
INSERT INTO calls (id, workspace_id, model_slug, status, request_id, created_at, completed_at)
SELECT call_id, workspace_id, 'sandbox-small', 'SUCCEEDED', 'req_bench', at, at FROM past
""",
)
BALANCES = (
    """
UPDATE wallets w SET balance_micro = {granted} - s.spent
FROM (SELECT wallet_id, sum(charged_micro)::bigint AS spent FROM usage_events GROUP BY 1) AS s WHERE w.id = s.wallet_id
""",
    """
UPDATE credit_grants g SET remaining_micro = w.balance_micro, spent_micro = {granted} - w.balance_micro
FROM wallets w WHERE w.id = g.wallet_id AND g.source_kind = 'BENCH'
""",
)


@dataclass
class Side:
    """One of the two databases, with the ledger on it."""

    name: str
    pool: asyncpg.Pool
    ledger: Ledger
    conn: asyncpg.Connection
    backend: int
    hot: list[Account]
    many: list[Account]

    def server_seconds(self) -> float:
        """CPU time of the process that serves the ledger's connection."""
        return int(Path(f"/proc/{self.backend}/schedstat").read_text().split()[0]) / 1e9

    async def close(self) -> None:
        await self.conn.close()
        await self.ledger.close()
        await self.pool.close()


async def accounts(conn: asyncpg.Connection) -> list[Account]:
    """The first is the hot one."""
    rows = await conn.fetch("SELECT wallet_id, workspace_id, grant_id FROM account ORDER BY w")
    return [(UUID(int=row[0].int), row[1], row[2]) for row in rows]


async def make_history(conn: asyncpg.Connection, rows: int) -> list[Account]:
    """Accounts and, of `rows` calls, an entry, an event and a row each; indexes are built afterwards, all at once."""
    values = {"workspaces": WORKSPACES, "granted": GRANTED_MICRO, "cost": COST_MICRO, "rows": max(rows, 1)}
    await conn.execute(ID_OF)
    await conn.execute(ACCOUNTS.format(**values))
    found = await accounts(conn)
    if not rows:
        return found
    indexes = await conn.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY ($1) AND indexname NOT LIKE '%\\_pkey'",
        TABLES,
    )
    for index in indexes:
        await conn.execute(f'DROP INDEX "{index["indexname"]}"')
    # The roll-ups' triggers would note millions of events that no worker here is to add up.
    for table in TABLES:
        await conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    began = time.monotonic()
    for first in range(0, rows, CHUNK):
        last = min(first + CHUNK, rows) - 1
        await conn.execute(PAST_CALLS.format(**values, first=first, last=last), timeout=600)
        for statement in FROM_PAST:
            await conn.execute(statement.format(**values), timeout=600)
        await conn.execute("DROP TABLE past")
        print(f"{last + 1:,} of {rows:,} calls, {time.monotonic() - began:.0f} s", file=sys.stderr)
    for statement in BALANCES:
        await conn.execute(statement.format(**values), timeout=600)
    for index in indexes:
        await conn.execute(index["indexdef"], timeout=600)
    for table in TABLES:
        await conn.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    print(f"a history of {rows:,} calls in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


async def open_side(name: str, url: str, rows: int) -> Side:
    await migrate(url)
    pool = await open_pool(url, min_size=1, max_size=2, codecs=True)
    database = Database(url, pool)  # without the ORM, which belongs to one database of a process
    conn = await database.dedicated()
    found = await make_history(conn, rows)
    await conn.execute("VACUUM ANALYZE", timeout=600)
    await conn.execute("CHECKPOINT", timeout=600)
    before = {row[0] for row in await conn.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")}
    ledger = await Ledger.open(database)
    after = await conn.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    [backend] = {row[0] for row in after} - before
    return Side(name, pool, ledger, conn, backend, found[:1], found[1:])


async def measure(side: Side, where: list[Account], arguments: argparse.Namespace) -> tuple[float, float]:
    """(pairs a second, server's CPU microseconds a pair)"""

    async def pair(account: Account) -> None:
        await ledger_pair(side.ledger, account)

    before = side.server_seconds()
    rate, _ = await concurrently(pair, where, arguments.concurrency, arguments.pairs)
    return rate, (side.server_seconds() - before) / arguments.pairs * 1e6


async def compare(arguments: argparse.Namespace, urls: list[str]) -> None:
    sides = [await open_side("none", urls[0], 0), await open_side("long", urls[1], arguments.rows)]
    calm_collector()  # as `tollgate serve` does
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(arguments.rounds + 1):
        for kind in ("1 wallet", "1,000 wallets"):
            for side in sides if number % 2 else reversed(sides):
                took = await measure(side, side.hot if kind == "1 wallet" else side.many, arguments)
                if number:  # the first round warms both
                    found.setdefault((kind, side.name), []).append(took)
    report(arguments, found)
    if arguments.check:
        for side in sides:
            print(f"history {side.name}: broken invariants: {await broken_invariants(side.conn) or 'none'}")
    for side in sides:
        await side.close()


def report(arguments: argparse.Namespace, found: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    print(f"hold + settle, {arguments.concurrency} at once; history: {arguments.rows:,} entries, events and calls")
    print()
    print("| | pairs/s without | with history | ratio | server CPU µs a pair without | with history | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("1 wallet", "1,000 wallets"):
        none, long = found[kind, "none"], found[kind, "long"]
        cells = []
        for which, form in ((0, ",.0f"), (1, ".1f")):
            ratio = statistics.median(b[which] / a[which] for a, b in zip(none, long, strict=True))
            middles = [statistics.median(each[which] for each in side) for side in (none, long)]
            cells += [f"{middle:{form}}" for middle in middles] + [f"{ratio:.3f}"]
        print(f"| {kind} | {' | '.join(cells)} |")
    print()
    print(f"Goal: with history within {GOAL:.0%} of without.")


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-", dir=arguments.dir) as directory:
        Path(directory).chmod(0o755)
        servers = await EmbeddedServers.start(Path(directory) / "data", postgres=True, valkey=False)
        try:
            conn = await asyncpg.connect(servers.database_url)
            await conn.execute("CREATE DATABASE history")
            await conn.close()
            await compare(arguments, [servers.database_url, servers.database_url.replace("/tollgate?", "/history?")])
        finally:
            await servers.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="ledger entries, usage events and calls, of each")
    parser.add_argument("--pairs", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--dir", help="where the embedded server keeps its files", default=tempfile.gettempdir())
    parser.add_argument("--check", action="store_true", help="ask both databases for their invariants at the end")
    uvloop.run(main(parser.parse_args()))
