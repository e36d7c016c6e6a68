"""Whole metered calls a second and CPU a call, beside the same upstream called directly.

One gateway process (`tollgate serve`), embedded PostgreSQL (durable) and Valkey, the stand-alone sandbox provider as
upstream and the load, all on this machine's cores. Each round measures the upstream directly and then through the
gateway; figures are the best and the median of the rounds. Around each the machine is measured too (bench.anchors): the
goal is set in absolute figures, on a machine where the anchors took a known time, and the last table says what is left of
it here: so many times slower a machine, so many calls fewer.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.embedded import EmbeddedServers
from bench import anchors
from models.database import Database
from models.migrate import migrate
from tests.processes import ROOT, Running, gateway_env, start_gateway, start_sandbox
from tests.seeding import apply_catalog, seed_workspace

BODY = {
    "model": "sandbox-chat",
    "messages": [{"role": "user", "content": "Hello, how are you today?"}],
    "max_tokens": 16,
}
CREDITS_MICRO = 10**17
REQUESTS_PER_HOUR = 1_000_000_000
CONCURRENT_CALLS = 100_000


async def load(port: int, key: str, connections: int, seconds: float) -> dict:
    """One run of the load generator in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", "--port", str(port), "--key", key, "--body", json.dumps(BODY),
        "--connections", str(connections), "--seconds", str(seconds),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    return json.loads(printed)


def port_of(url: str) -> int:
    return urlsplit(url).port


def catalog_without_limit(directory: Path) -> Path:
    """The example catalog with limits that a benchmark does not reach; bucket and places are asked all the same."""
    text = (ROOT / "catalogs" / "pay-as-you-go.toml").read_text()
    assert "requests_per_hour = 18_000" in text
    assert "concurrent_calls = 200" in text
    path = directory / "catalog.toml"
    text = text.replace("requests_per_hour = 18_000", f"requests_per_hour = {REQUESTS_PER_HOUR}")
    path.write_text(text.replace("concurrent_calls = 200", f"concurrent_calls = {CONCURRENT_CALLS}"))
    return path


@dataclass(frozen=True)
class House:
    """A gateway under measurement, its upstream, and a key that no limit stops."""

    gateway: Running
    sandbox: Running
    key: str
    database_url: str
    redis_url: str

    async def pace(self) -> anchors.Pace:
        """How fast this machine is now."""
        return await anchors.pace(self.redis_url, self.sandbox.url)


@asynccontextmanager
async def house(*command: str, entry: str = "app", **variables: str) -> AsyncGenerator[House]:
    """Everything that a call passes, embedded and durable. `command`: how the gateway is started, else `tollgate serve`;
    `variables` of its environment.
    """
    directory = Path(tempfile.mkdtemp(prefix="tollgate-bench-"))
    servers = await EmbeddedServers.start(directory / "data", postgres=True, valkey=True)
    try:
        await migrate(servers.database_url)
        database = await Database.open(servers.database_url)
        await apply_catalog(database, catalog_without_limit(directory))
        seeded = await seed_workspace(database, CREDITS_MICRO)
        await database.close()
        sandbox = await start_sandbox()
        env = gateway_env(
            servers.database_url,
            servers.redis_url,
            directory / "gateway",
            TOLLGATE_SANDBOX_URL=sandbox.url,
            **variables,
        )
        (directory / "gateway").mkdir()
        gateway = await start_gateway(env, *command, entry=entry)
        try:
            yield House(gateway, sandbox, seeded.api_key, servers.database_url, servers.redis_url)
        finally:
            await gateway.stop()
            await sandbox.stop()
    finally:
        await servers.stop()
        shutil.rmtree(directory)


GOAL_PER_SECOND = 3_000
GOAL_CPU_MS = 0.30
GOAL_CONNECTIONS = 64


async def measure(built: House, connections: int, seconds: float) -> dict:
    gateway, sandbox, key = built.gateway, built.sandbox, built.key
    direct = await load(port_of(sandbox.url), "", connections, seconds / 2)
    before = gateway.cpu_seconds()
    through = await load(port_of(gateway.url), key, connections, seconds)
    cpu = gateway.cpu_seconds() - before
    assert not through["others"], through
    return {
        "connections": connections,
        "direct_per_second": direct["per_second"],
        "metered_per_second": through["per_second"],
        "share_of_direct": through["per_second"] / direct["per_second"],
        "cpu_ms_per_call": cpu / through["answered"] * 1000,
        "p50_ms": through["p50_ms"],
        "p99_ms": through["p99_ms"],
    }


async def run(options: argparse.Namespace) -> None:
    async with house() as built:
        await measure(built, 16, 1.0)
        rounds = []
        paces = [await built.pace()]
        for number in range(options.rounds):
            for connections in options.connections:
                print(f"round {number + 1}, {connections} connections …", file=sys.stderr)
                round_ = await measure(built, connections, options.seconds)
                paces.append(await built.pace())
                round_["slower"] = (paces[-2].slower() + paces[-1].slower()) / 2
                rounds.append(round_)
    report(rounds, options)
    anchors.report(paces)
    report_goal([each for each in rounds if each["connections"] == GOAL_CONNECTIONS])


def report(rounds: list[dict], options: argparse.Namespace) -> None:
    print(
        "| connections | metered calls/s best (median) | CPU ms/call | p50 ms | p99 ms | direct calls/s | share of direct |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for connections in options.connections:
        of_size = [each for each in rounds if each["connections"] == connections]
        best = max(of_size, key=lambda each: each["metered_per_second"])
        median = statistics.median(each["metered_per_second"] for each in of_size)
        print(
            f"| {connections} | {best['metered_per_second']:,.0f} ({median:,.0f}) | {best['cpu_ms_per_call']:.3f} | "
            f"{best['p50_ms']:.2f} | {best['p99_ms']:.2f} | {best['direct_per_second']:,.0f} | {best['share_of_direct']:.2f} |"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(rounds, indent=1))


def report_goal(rounds: list[dict]) -> None:
    """The rounds at the goal's concurrency as they would be on the machine on which the goal was set."""
    if not rounds:
        return
    rates = [each["metered_per_second"] * each["slower"] for each in rounds]
    times = [each["cpu_ms_per_call"] / each["slower"] for each in rounds]
    print(f"\n| {GOAL_CONNECTIONS} connections, at that machine's pace | best | median | goal |")
    print("| --- | ---: | ---: | ---: |")
    print(f"| metered calls/s | {max(rates):,.0f} | {statistics.median(rates):,.0f} | ≥ {GOAL_PER_SECOND:,} |")
    print(f"| CPU ms/call | {min(times):.3f} | {statistics.median(times):.3f} | ≤ {GOAL_CPU_MS:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of load through the gateway, each round")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--json", help="also write every round to this file")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
