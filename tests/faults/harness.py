"""One run: seeded providers, two gateways, clients with all their faults; then what is left over, and the audit."""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from models.database import Database
from models.migrate import migrate
from tests.chaos.servers import Process, Servers
from tests.faults.audit import PRICES, Findings, audit
from tests.faults.client import Attempt, make
from tests.faults.plan import PROVIDERS, PROVIDERS_PATIENCE_S, call_of
from tests.processes import ROOT, free_port
from tests.seeding import Seeded, apply_catalog, seed_workspace

WALLETS = 6
RICH_MICRO, POOR_MICRO = 10**12, 30_000_000
GROWTH = 0.10
MORE_FILES = 4
"""The pool of connections to PostgreSQL grows with the load, up to its bound."""
HOLD_TTL_S = 60
"""Nobody is killed: a gateway that gets no core for a while settles its calls itself."""
HOLD_PATIENCE_S = 60.0
IDLE_PATIENCE_S = 40.0
"""Connections to providers are kept for 15 s; sessions of Redis and PostgreSQL stay."""
LOOKS = 5
"""A gateway at rest polls: for a moment, a connection that is given back takes two tasks more."""
_PROVIDER = """
[providers.{name}]
kind = "openai_compatible"
base_url = "http://127.0.0.1:{port}/v1"
connect_timeout_s = 20
first_byte_timeout_s = {patience_s}
idle_timeout_s = {patience_s}
total_timeout_s = 40
retries = 2
circuit_failures = 8
circuit_cooldown_s = 1
"""
_CATALOG = """
name = "Faults"
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
"""
_MODEL = """
[models.{name}]
name = "{name}"
modality = "{modality}"
context_tokens = 100_000
{limit}
routes = [{routes}]
prices = [{prices}]
"""
_TEXT = ("TEXT", "max_output_tokens = 200")
_OTHERS = {"vectors": ("EMBEDDING", ""), "voice": ("AUDIO", "max_characters = 1_000")}
"""Modality and limit of the models that are not for texts."""
_METERS = {
    "input": "INPUT_TOKENS",
    "cached": "CACHED_INPUT_TOKENS",
    "written": "CACHE_WRITE_INPUT_TOKENS",
    "written_long": "LONG_CACHE_WRITE_INPUT_TOKENS",
    "output": "OUTPUT_TOKENS",
    "reasoning": "REASONING_TOKENS",
    "characters": "CHARACTERS",
}
_ROUTES = {
    "routed": (("alpha", 0, 2), ("beta", 0, 1), ("gamma", 1, 1)),
    "solo": (("alpha", 0, 1),),
    "vectors": (("alpha", 0, 1), ("gamma", 1, 1)),
    "voice": (("alpha", 0, 1), ("beta", 0, 1), ("gamma", 1, 1)),
}


@dataclass(frozen=True)
class Options:
    calls: int
    seed: int
    clients: int = 32
    warm_up: int = 500
    keep: bool = False
    control: bool = False


@dataclass(frozen=True)
class State:
    """A gateway at rest."""

    memory_kb: int
    tasks: int
    files: int
    in_flight: int
    connections: int


@dataclass
class Result:
    options: Options
    findings: Findings
    seconds: float
    before: list[State]
    after: list[State]
    faults: list[str] = field(default_factory=list)

    @property
    def leaks(self) -> list[str]:
        """What is left over in a gateway, or grew."""
        found = []
        for number, (before, after) in enumerate(zip(self.before, self.after, strict=True)):
            if after.in_flight or after.connections:
                found.append(f"gateway {number}: {after.in_flight} calls, {after.connections} connections are left")
            if after.tasks > before.tasks:
                found.append(f"gateway {number}: {before.tasks} tasks became {after.tasks}")
            if after.files > before.files + MORE_FILES:
                found.append(f"gateway {number}: {before.files} open files became {after.files}")
            if after.memory_kb > before.memory_kb * (1 + GROWTH):
                found.append(f"gateway {number}: {before.memory_kb} kB became {after.memory_kb} kB")
        return found

    @property
    def clean(self) -> bool:
        return not (self.findings.broken or self.leaks or self.faults)


async def run(options: Options, say: Callable[[str], None] = lambda _: None) -> Result:
    directory = Path(tempfile.mkdtemp(prefix="tgf-", dir="/tmp"))
    servers = Servers(directory, 2, "tests.faults.careless" if options.control else "app", hold_ttl_s=HOLD_TTL_S)
    try:
        await servers.start_stores()
        await migrate(servers.database_url)
        ports = [free_port() for _ in PROVIDERS]
        log = await _start_providers(servers, options, ports)
        catalog = directory / "catalog.toml"
        catalog.write_text(catalog_of(ports))
        database = await Database.open(servers.database_url, max_size=4)
        try:
            await apply_catalog(database, catalog)
            wallets = [await seed_workspace(database, RICH_MICRO, f"faults{n}") for n in range(WALLETS - 1)]
            wallets.append(await seed_workspace(database, POOR_MICRO, "poor"))
            await servers.start_gateways()
            say(f"two gateways, three providers, PostgreSQL and Valkey run in {directory}")
            return await _measured(options, servers, database, wallets, log, say)
        finally:
            await database.close()
    finally:
        await servers.stop()
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)


async def _measured(
    options: Options, servers: Servers, database: Database, wallets: list[Seeded], log: Path, say: Callable[[str], None]
) -> Result:
    attempts: list[Attempt] = []
    urls = [process.url for process in servers.gateway]
    total = options.warm_up + options.calls
    numbers = iter(range(total))
    started = time.monotonic()

    async def until(last: int) -> None:
        async def one() -> None:
            for number in numbers:
                call = call_of(options.seed, number, len(wallets), len(urls))
                attempts.extend(await make(call, urls, wallets[call.wallet].api_key))
                if number % max(1, total // 10) == 0:
                    say(f"{number} of {total} calls, {number / (time.monotonic() - started):.0f}/s")
                if number >= last:
                    return

        await asyncio.gather(*(one() for _ in range(options.clients)))

    await until(options.warm_up)
    looks = [await _at_rest(servers, lambda _, state: state.in_flight) for _ in range(LOOKS)]
    before = [min(of_one, key=lambda state: state.tasks) for of_one in zip(*looks, strict=True)]
    await until(total)
    seconds = time.monotonic() - started
    # The control is about charges; kept connections take 15 s to grow old.
    after = before if options.control else await _at_rest(servers, lambda n, state: _is_more(before[n], state))
    await _holds_gone(database)
    findings = await audit(database, attempts, log)
    return Result(options, findings, seconds, before, after, servers.faults())


async def _start_providers(servers: Servers, options: Options, ports: list[int]) -> Path:
    log = servers.directory / "provider.jsonl"
    command = [
        sys.executable, "-m", "tests.faults.provider", "--seed", str(options.seed), "--log", str(log),
        "--calls", str(options.warm_up + options.calls), "--ports", ",".join(map(str, ports)),
    ]  # fmt: skip
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    servers.sandbox = Process("providers", command, env, servers.directory / "provider.log")
    servers.sandbox.start()
    deadline = time.monotonic() + 60
    while "ready" not in servers.sandbox.log.read_text():
        assert time.monotonic() < deadline, servers.sandbox.log.read_text()
        await asyncio.sleep(0.05)
    return log


def catalog_of(ports: list[int]) -> str:
    text = _CATALOG + "".join(
        _PROVIDER.format(name=name, port=port, patience_s=PROVIDERS_PATIENCE_S)
        for name, port in zip(PROVIDERS, ports, strict=True)
    )
    for model, prices in PRICES.items():
        route = '{{ provider = "{}", upstream_model = "up", order = {}, weight = {} }}'.format
        modality, limit = _OTHERS.get(model, _TEXT)
        text += _MODEL.format(
            name=model,
            modality=modality,
            limit=limit,
            routes=", ".join(route(*each) for each in _ROUTES[model]),
            prices=", ".join(
                f'{{ meter = "{_METERS[meter]}", credits = "{price}", per = 1_000 }}' for meter, price in prices.items()
            ),
        )
    return text


async def _holds_gone(database: Database) -> None:
    """What clients left behind ends by itself within a call's time."""
    deadline = time.monotonic() + HOLD_PATIENCE_S
    while await database.pool.fetchval("SELECT count(*) FROM holds") and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


def _is_more(before: State, state: State) -> bool:
    """Something of the calls is still there, or of what a gateway does by itself now and then."""
    return bool(state.in_flight or state.connections) or state.tasks > before.tasks


async def _at_rest(servers: Servers, busy: Callable[[int, State], object]) -> list[State]:
    """Each gateway once none is busy, by its number, or after the patience."""
    deadline = time.monotonic() + IDLE_PATIENCE_S
    while True:
        states = [await _state(process) for process in servers.gateway]
        if not any(busy(number, state) for number, state in enumerate(states)) or time.monotonic() > deadline:
            return states
        await asyncio.sleep(0.5)


async def _state(process: Process) -> State:
    assert process.child is not None
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/metrics") as answer:
        text = await answer.text()
    figures = {name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines()) if name and name[0] != "#"}  # fmt: skip
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    memory_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return State(
        memory_kb,
        int(figures["tollgate_tasks"]),
        len(list(Path(f"/proc/{process.child.pid}/fd").iterdir())),
        int(figures["tollgate_calls_in_flight"]),
        int(figures["tollgate_provider_connections"]),
    )
