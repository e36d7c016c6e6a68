"""The share of authentication in a metered call's CPU, with a warm cache.

In one process on embedded PostgreSQL and Valkey: credential to principal, workspace and plan, scopes, and the limiter's
one round trip, beside whole calls to the simulated provider. Both are run alone, `--concurrency` at a time, and their
CPU is this process's own; the servers' is not in it. That nothing is asked of the database is a test
(tests/gateway/test_authentication_cost.py), not a figure.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import uvloop

from app.embedded import EmbeddedServers
from app.lifespan import Services, open_services
from app.settings import Settings
from bench.gateway import BODY, CREDITS_MICRO, catalog_without_limit
from models.database import Database
from models.migrate import migrate
from tests.processes import SECRET_KEY
from tests.seeding import apply_catalog, seed_workspace

RAW = orjson.dumps(BODY)


def scope_of(key: str) -> dict:
    """A request as the server hands it over."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "headers": [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")],
    }


async def cpu_us(work: Callable[[], Awaitable[object]], times: int, concurrency: int) -> float:
    """Microseconds of this process's CPU for each run of the work."""

    async def lane() -> None:
        for _ in range(times // concurrency):
            await work()

    began = time.process_time()
    await asyncio.gather(*(lane() for _ in range(concurrency)))
    return (time.process_time() - began) / (times // concurrency * concurrency) * 1e6


async def measure(services: Services, key: str, options: argparse.Namespace) -> None:
    scope = scope_of(key)

    async def principal_only() -> None:
        await services.credentials.of_api_key(scope)

    async def authenticate() -> None:
        principal = await services.credentials.of_api_key(scope)
        facts = await services.workspaces.facts(principal.workspace_id)
        await services.throttle.take(principal, facts)

    async def receive() -> dict:
        return {"type": "http.request", "body": RAW, "more_body": False}

    async def send(message: dict) -> None:
        assert message.get("status", 200) == 200, message

    async def call() -> None:
        await services.rest(scope, receive, send)

    await cpu_us(call, 200, options.concurrency)
    rounds = {"credential to principal": [], "authentication with limiter": [], "whole call": []}
    for _ in range(options.rounds):
        for name, work in zip(rounds, (principal_only, authenticate, call), strict=True):
            rounds[name].append(await cpu_us(work, options.times, options.concurrency))
    whole = statistics.median(rounds["whole call"])
    print("| part | CPU µs, median (best) | share of a call |")
    print("| --- | ---: | ---: |")
    for name, figures in rounds.items():
        median = statistics.median(figures)
        print(f"| {name} | {median:.1f} ({min(figures):.1f}) | {median / whole:.1%} |")


async def run(options: argparse.Namespace) -> None:
    directory = Path(tempfile.mkdtemp(prefix="tollgate-bench-"))
    servers = await EmbeddedServers.start(directory / "data", postgres=True, valkey=True)
    try:
        await migrate(servers.database_url)
        database = await Database.open(servers.database_url)
        await apply_catalog(database, catalog_without_limit(directory))
        seeded = await seed_workspace(database, CREDITS_MICRO)
        await database.close()
        settings = Settings.from_environment(
            {
                "TOLLGATE_DATABASE_URL": servers.database_url,
                "TOLLGATE_REDIS_URL": servers.redis_url,
                "TOLLGATE_SECRET_KEY": SECRET_KEY,
                "TOLLGATE_DATA_DIR": str(directory / "gateway"),
            }
        )
        (directory / "gateway").mkdir()
        async with open_services(settings) as services:
            await measure(services, seeded.api_key, options)
    finally:
        await servers.stop()
        shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=4_000, help="runs of each part in a round")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
