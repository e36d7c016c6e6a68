"""Whether the money's tables agree with each other and with the invariants: one walk over each, in bounded memory.

All pages are read in one REPEATABLE READ, READ ONLY transaction: a snapshot, so that it runs beside traffic and sees no
half of anything. What disagrees is answered with ids and figures, the first of each kind, and counted in full.
"""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg

from metering.reconcile_checks import (
    ACCOUNTS_CHECK,
    CALL_CHECKS,
    ENTRY_CHECKS,
    KEY_CHECKS,
    USAGE_CHECKS,
    WALLET_CHECKS,
    Check,
)
from metering.reconcile_repair import Repaired, repair_caches
from models.database import Database

SHOWN_OF_A_KIND: Final = 20
WALLETS_PER_PAGE: Final = 200
"""Their entries are aggregated in the server: what one page costs here does not depend on how many there are."""
ROWS_PER_PAGE: Final = 5_000
_STATEMENT_LIMIT: Final = "1h"
_FEW_ROWS: Final = 100_000
"""Tables that the statistics call smaller than this are counted for the progress, larger ones estimated."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One thing that is not as promised: `id` says which row, `figures` what is there and what should be."""

    kind: str
    id: str
    figures: str


@dataclass(slots=True)
class Report:
    """What was found. `counts` is complete; `shown` has the first of each kind; `accounts` sums by account."""

    shown: list[Disagreement] = field(default_factory=list[Disagreement])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    checked: dict[str, int] = field(default_factory=dict[str, int])
    accounts: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def agrees(self) -> bool:
        """Whether every promise holds."""
        return not self.counts


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a walk is: `total_rows` is an estimate for large tables."""

    walk: str
    done_rows: int
    total_rows: int
    elapsed_s: float

    @property
    def share(self) -> float:
        """Of all rows, 0 to 1."""
        return min(1.0, self.done_rows / self.total_rows) if self.total_rows else 1.0

    @property
    def rows_per_s(self) -> float:
        """Since the start."""
        return self.done_rows / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float:
        """Seconds that the rest takes at this rate."""
        rate = self.rows_per_s
        return max(0.0, self.total_rows - self.done_rows) / rate if rate else 0.0


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class _Walk:
    """Pages of keys in order. `page` takes the last key's parts, then the page's size, then the workspace if one is asked for."""

    name: str
    tables: tuple[str, ...]
    start: tuple[object, ...]
    page: str
    workspace_page: str | None
    rows_per_page: int
    checks: tuple[Check, ...]
    weight: str = ""


_LEAST: Final = UUID(int=0)
_WALKS: Final = (
    _Walk(
        "wallets",
        ("ledger_entries",),
        (_LEAST,),
        "SELECT id FROM wallets WHERE id > $1 ORDER BY id LIMIT $2",
        "SELECT id FROM wallets WHERE id > $1 AND workspace_id = $3 ORDER BY id LIMIT $2",
        WALLETS_PER_PAGE,
        WALLET_CHECKS,
        "SELECT count(*) FROM ledger_entries WHERE wallet_id = ANY ($1)",
    ),
    _Walk(
        "usage",
        ("usage_events",),
        (_LEAST,),
        "SELECT DISTINCT call_id FROM usage_events WHERE call_id > $1 ORDER BY call_id LIMIT $2",
        "SELECT id FROM calls WHERE id > $1 AND workspace_id = $3 ORDER BY id LIMIT $2",
        ROWS_PER_PAGE,
        USAGE_CHECKS,
    ),
    _Walk(
        "calls",
        ("calls",),
        (_LEAST,),
        "SELECT id FROM calls WHERE id > $1 ORDER BY id LIMIT $2",
        "SELECT id FROM calls WHERE id > $1 AND workspace_id = $3 ORDER BY id LIMIT $2",
        ROWS_PER_PAGE,
        CALL_CHECKS,
    ),
    _Walk(
        "idempotency keys",
        ("idempotency_keys",),
        (_LEAST, ""),
        "SELECT workspace_id, key FROM idempotency_keys WHERE (workspace_id, key) > ($1, $2) ORDER BY workspace_id, key LIMIT $3",
        "SELECT workspace_id, key FROM idempotency_keys WHERE (workspace_id, key) > ($1, $2) AND workspace_id = $4"
        " ORDER BY workspace_id, key LIMIT $3",
        ROWS_PER_PAGE,
        KEY_CHECKS,
    ),
    _Walk(
        "entries",
        ("ledger_entries",),
        (_LEAST,),
        "SELECT id FROM ledger_entries WHERE id > $1 ORDER BY id LIMIT $2",
        None,
        ROWS_PER_PAGE,
        ENTRY_CHECKS,
    ),
)
_ACCOUNTS: Final = """
SELECT counter_account, -sum(amount_micro)::numeric, sum(amount_micro) FILTER (WHERE wallet_id IS NULL)::numeric
FROM ledger_entries WHERE id = ANY ($1) GROUP BY counter_account
"""


async def reconcile(
    database: Database,
    *,
    workspace_id: UUID | None = None,
    repair: bool = False,
    tell: Tell | None = None,
    told: Callable[[Repaired], None] | None = None,
) -> Report:
    """Check everything, or all of one workspace; with `repair`, first recompute the kept sums from the facts.

    `tell` hears of the progress after each page, `told` of each change of a repair. Unavailable where the database is away.
    """
    connection = await database.dedicated()
    try:
        if repair:
            await repair_caches(connection, workspace_id=workspace_id, told=told)
        async with _snapshot(connection):
            return await _Run(connection, workspace_id, tell or _tell_nobody).everything()
    finally:
        await connection.close()


@asynccontextmanager
async def _snapshot(connection: asyncpg.Connection) -> AsyncGenerator[None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_LIMIT}'")
        yield


def _tell_nobody(_: Progress) -> None:
    return


class _Run:
    def __init__(self, connection: asyncpg.Connection, workspace_id: UUID | None, tell: Tell) -> None:
        self._connection = connection
        self._workspace_id = workspace_id
        self._tell = tell
        self._report = Report()
        self._started = time.monotonic()
        self._done = 0
        self._total = 0

    async def everything(self) -> Report:
        walks = [walk for walk in _WALKS if self._workspace_id is None or walk.workspace_page is not None]
        for walk in walks:
            for table in walk.tables:
                self._total += await self._size(table)
        for walk in walks:
            await self._walk(walk)
        if self._workspace_id is None:
            await self._sum_accounts()
        self._total = self._done
        self._tell(Progress("all", self._done, self._done, time.monotonic() - self._started))
        return self._report

    async def _size(self, table: str) -> int:
        estimate = await self._connection.fetchval(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = $1::regclass", table
        )
        if estimate >= _FEW_ROWS:
            return estimate
        return await self._connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608  a name of this file

    async def _walk(self, walk: _Walk) -> None:
        last = walk.start
        limit = walk.rows_per_page
        of_one = self._workspace_id is not None
        sql = walk.workspace_page if of_one and walk.workspace_page is not None else walk.page
        checked = 0
        while True:
            asked = (*last, limit, self._workspace_id) if of_one else (*last, limit)
            rows = await self._connection.fetch(sql, *asked)
            if rows:
                checked += len(rows)
                await self._check_page(walk, [list(column) for column in zip(*rows, strict=True)])
                last = tuple(rows[-1])
            if len(rows) < limit:
                break
        self._report.checked[walk.name] = checked

    async def _check_page(self, walk: _Walk, page: Sequence[Sequence[object]]) -> None:
        for check in walk.checks:
            await self._check(check, page)
        if walk.checks is ENTRY_CHECKS:
            await self._count_accounts(page)
        self._done += await self._connection.fetchval(walk.weight, *page) if walk.weight else len(page[0])
        self._tell(Progress(walk.name, self._done, self._total, time.monotonic() - self._started))

    async def _check(self, check: Check, page: Sequence[Sequence[object]]) -> None:
        report = self._report
        room = max(0, SHOWN_OF_A_KIND - report.counts.get(check.kind, 0))
        rows = await self._connection.fetch(
            f"SELECT b.*, count(*) OVER () FROM ({check.sql}) AS b (id, figures) LIMIT {max(1, room)}",  # noqa: S608
            *page,
        )
        if rows:
            report.shown.extend(Disagreement(check.kind, row[0], row[1]) for row in rows[:room])
            report.counts[check.kind] = report.counts.get(check.kind, 0) + rows[0][2]

    async def _count_accounts(self, page: Sequence[Sequence[object]]) -> None:
        accounts = self._report.accounts
        for account, countered, borne in await self._connection.fetch(_ACCOUNTS, *page):
            accounts[account] = accounts.get(account, 0) + int(countered)
            if borne is not None:
                accounts["SHORTFALL"] = accounts.get("SHORTFALL", 0) + int(borne)

    async def _sum_accounts(self) -> None:
        accounts = self._report.accounts
        accounts["WALLETS"] = int(
            await self._connection.fetchval("SELECT coalesce(sum(balance_micro), 0)::numeric FROM wallets")
        )
        total = sum(accounts.values())
        if total:
            figures = ", ".join(f"{name} {amount}" for name, amount in sorted(accounts.items()))
            self._report.shown.append(Disagreement(ACCOUNTS_CHECK.kind, "all accounts", f"sum {total}: {figures}"))
            self._report.counts[ACCOUNTS_CHECK.kind] = 1
