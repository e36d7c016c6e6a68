"""How fast this machine is beside the one on which the goals in absolute figures were set.

3,000 calls a second, 0.30 ms of CPU and 0.5 ms to the first token were asked for on two shared cores where two things
known to everybody took the times below (shared/notes/data.md). The same two things, measured in the same run, tell how
many times slower this machine is at that moment, so that the goals can be judged as the ratios that they are.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import orjson
import uvloop

from metering.redis_link import connect
from tests.processes import ROOT

CONCURRENCY = 64
REQUEST = {"model": "sandbox-chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}


@dataclass(frozen=True)
class Anchor:
    """What was measured: the client's CPU time each, in microseconds."""

    then_us: float
    what: str


ANCHORS = {
    "ping": Anchor(45.0, "redis-py PING, 64 at once, CPU"),
    "aiohttp": Anchor(64.0, "aiohttp call of the upstream, 64 at once, CPU"),
}


@dataclass(frozen=True)
class Pace:
    """What each anchor took in one measurement, in microseconds."""

    took_us: dict[str, float]

    def slower(self) -> float:
        """How many times slower than the goals' machine, by the anchor that says so least."""
        return min(self.took_us[name] / anchor.then_us for name, anchor in ANCHORS.items())


async def pace(redis_url: str, upstream_url: str, seconds: float = 0.6) -> Pace:
    """One measurement, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.anchors", redis_url, upstream_url, "--seconds", str(seconds),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    return Pace(json.loads(printed))


async def cpu_us(ask: Callable[[], Awaitable[object]], seconds: float) -> float:
    """This process's CPU time for each `ask`, of 64 tasks that each ask again once they are answered."""
    asked = 0
    until = 0.0

    async def one() -> None:
        nonlocal asked
        while time.perf_counter() < until:
            await ask()
            asked += 1

    for share in (0.2, 1.0):  # the first warms up
        asked, until, before = 0, time.perf_counter() + seconds * share, time.process_time()
        await asyncio.gather(*(one() for _ in range(CONCURRENCY)))
    return (time.process_time() - before) / asked * 1e6


async def measure(options: argparse.Namespace) -> dict[str, float]:
    found: dict[str, float] = {}
    client = connect(options.redis_url)
    found["ping"] = await cpu_us(client.ping, options.seconds)
    await client.aclose()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def post() -> None:
            async with session.post(f"{options.upstream_url}/chat/completions", data=orjson.dumps(REQUEST)) as response:
                assert response.status == 200, await response.text()
                orjson.loads(await response.read())

        found["aiohttp"] = await cpu_us(post, options.seconds)

    return found


def report(measured: list[Pace]) -> None:
    """A table of what the anchors took, best and median, beside what they took on the goals' machine."""
    print("\n| this machine | µs, best (median) | where the goals were set | times slower |")
    print("| --- | ---: | ---: | ---: |")
    for name, anchor in ANCHORS.items():
        took = [each.took_us[name] for each in measured]
        median = statistics.median(took)
        slower = f"{min(took) / anchor.then_us:.1f} ({median / anchor.then_us:.1f})"
        print(f"| {anchor.what} | {min(took):.0f} ({median:.0f}) | {anchor.then_us:.0f} | {slower} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("redis_url")
    parser.add_argument("upstream_url", help="of the sandbox provider")
    parser.add_argument("--seconds", type=float, default=0.6, help="of each")
    print(json.dumps(uvloop.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
