"""One run: start everything, load and kill, let holds lapse, restart, audit."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kit.ids import uuid7
from metering.ledger import Ledger
from metering.operations import BURN_ORDER, Grant
from models.database import Database
from models.migrate import migrate
from tests.chaos.audit import Findings, audit
from tests.chaos.client import Attempt, Came
from tests.chaos.load import Load, kill_by_schedule
from tests.chaos.plan import PlannedCall, Victim, call_of, kills_of, leaver_of, plain_of
from tests.chaos.servers import HOLD_TTL_S, Servers
from tests.seeding import Seeded, apply_catalog, seed_workspace

RICH_WALLETS = 8
LAPSE_PATIENCE_S = 30.0
BURST_CALLS = 200
_CATALOG = """
name = "Chaos"
credits_per_usd = "1000"
default_plan = "all"

[plans.all]
name = "All"
rank = 0
models = ["*"]
[plans.all.entitlements]
requests_per_hour = 1_000_000_000
api_access = true
support_level = "STANDARD"

[top_up]
min = "5"
max = "10000"

[providers.upstream]
kind = "openai_compatible"
base_url = "{url}"

[models.chaos-chat]
name = "Chat"
modality = "TEXT"
context_tokens = 8_000
max_output_tokens = 400
routes = [{{ provider = "upstream", upstream_model = "sandbox-chat" }}]
prices = [
    {{ meter = "INPUT_TOKENS", credits = "0.37", per = 1_000 }},
    {{ meter = "OUTPUT_TOKENS", credits = "1.21", per = 1_000 }},
]

[models.chaos-embedding]
name = "Embedding"
modality = "EMBEDDING"
context_tokens = 8_000
routes = [{{ provider = "upstream", upstream_model = "sandbox-embedding" }}]
prices = [{{ meter = "INPUT_TOKENS", credits = "0.11", per = 1_000 }}]
"""


@dataclass(frozen=True)
class Options:
    calls: int
    kills: int
    seed: int
    gateways: int = 2
    clients: int = 32
    seconds: float = 300.0
    leavers: int = 300
    control: bool = False
    keep: bool = False


@dataclass
class Result:
    """What a run came to. `passed`: the audit found nothing; a control passes where it found lost debits."""

    options: Options
    findings: Findings
    made: int
    seconds: float
    killed: dict[Victim, int]
    burst_failures: list[Attempt] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.findings.broken and not self.burst_failures


async def run(options: Options, say: Callable[[str], None] = lambda _: None) -> Result:
    directory = Path(tempfile.mkdtemp(prefix="tgc-", dir="/tmp"))
    entry = "tests.chaos.write_behind" if options.control else "app"
    servers = Servers(directory, options.gateways, entry)
    try:
        await servers.start_stores()
        await migrate(servers.database_url)
        catalog = directory / "catalog.toml"
        catalog.write_text(_CATALOG.format(url=await servers.start_provider()))
        async with _opened(servers.database_url) as database:
            await apply_catalog(database, catalog)
            wallets = [await _wallet(database, number) for number in range(RICH_WALLETS + 1)]
        await servers.start_gateways()
        say(f"{options.gateways} gateways, a worker, the sandbox, PostgreSQL and Valkey run in {directory}")
        return await _measured(options, servers, wallets, say)
    finally:
        await servers.stop()
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)


async def _measured(options: Options, servers: Servers, wallets: list[Seeded], say: Callable[[str], None]) -> Result:
    load = Load([process.url for process in servers.gateway], [each.api_key for each in wallets])
    started = time.monotonic()
    schedule = kills_of(options.seed, options.calls, options.kills, options.gateways)
    killing = asyncio.create_task(kill_by_schedule(servers, load, schedule))
    planned = (call_of(options.seed, number, len(wallets), options.gateways) for number in range(options.calls))
    await load.run(planned, options.clients, until=started + options.seconds, tell=_teller(options, started, say))
    if load.ended < options.calls:
        killing.cancel()
    await asyncio.wait({killing})
    if not killing.cancelled():
        killing.result()
    made, seconds = load.ended, time.monotonic() - started
    say(f"{made} calls made in {seconds:.1f} s ({made / seconds:.0f}/s); {sum(servers.killed.values())} kills")
    await servers.until_ready()
    burst = await _leave_and_burst(options, load, say)
    await asyncio.sleep(0.2)
    await servers.restart_gateways()
    await _holds_gone(servers)
    async with _opened(servers.database_url) as database:
        findings = await audit(database, load.attempts, servers.sandbox_log, str(wallets[-1].wallet_id))
    return Result(options, findings, made, seconds, dict(servers.killed), burst, servers.faults())


async def _leave_and_burst(options: Options, load: Load, say: Callable[[str], None]) -> list[Attempt]:
    """Several hundred clients go away in the middle; then all of a burst must succeed. What of it failed."""
    if not options.leavers:
        return []
    first = options.calls
    wallets = RICH_WALLETS
    leavers = (leaver_of(options.seed, first + n, wallets, options.gateways) for n in range(options.leavers))
    await load.run(leavers, 64, until=time.monotonic() + 60)
    first += options.leavers
    start = len(load.attempts)
    burst: Iterator[PlannedCall] = (plain_of(first + n, wallets, options.gateways) for n in range(BURST_CALLS))
    await load.run(burst, 64, until=time.monotonic() + 60)
    failed = [attempt for attempt in load.attempts[start:] if attempt.came is not Came.ANSWERED]
    say(f"{options.leavers} clients left in the middle; of the burst after them {len(failed)} of {BURST_CALLS} failed")
    return failed


async def _holds_gone(servers: Servers) -> None:
    """Until every hold is settled or reaped, at most its life and some rounds of the worker."""
    deadline = time.monotonic() + HOLD_TTL_S + LAPSE_PATIENCE_S
    async with _opened(servers.database_url) as database:
        while time.monotonic() < deadline:
            if not await database.pool.fetchval("SELECT count(*) FROM holds"):
                return
            await asyncio.sleep(0.2)


async def _wallet(database: Database, number: int) -> Seeded:
    """A workspace. Its credits lie on many grants, so that charges cross them; the last wallet runs dry on the way."""
    seeded = await seed_workspace(database, 0, f"chaos{number}")
    at = datetime.now(UTC)
    dry = number == RICH_WALLETS
    ledger = await Ledger.open(database)
    try:
        for each in range(20):
            kind = BURN_ORDER[each % len(BURN_ORDER)]
            grant = Grant(
                grant_id=uuid7(),
                wallet_id=seeded.wallet_id,
                kind=kind,
                amount_micro=30_000 + 7_919 * each if dry or each else 10**12,
                effective_at=at - timedelta(days=1),
                expires_at=at + timedelta(days=1, hours=each) if each else None,
                source_kind="CHAOS",
                source_id=f"{number}:{each}",
                description="chaos",
                burn_rank=BURN_ORDER.index(kind) if each else len(BURN_ORDER),
            )
            await ledger.submit(grant)
    finally:
        await ledger.close()
    return seeded


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[Database]:
    database = await Database.open(url, max_size=4)
    try:
        yield database
    finally:
        await database.close()


def _teller(options: Options, started: float, say: Callable[[str], None]) -> Callable[[int], None]:
    every = max(1, options.calls // 20)

    def tell(ended: int) -> None:
        if ended % every == 0:
            seconds = time.monotonic() - started
            say(f"{ended} of {options.calls} calls, {ended / seconds:.0f}/s, load {os.getloadavg()[0]:.1f}")

    return tell
