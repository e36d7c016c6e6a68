"""Measures limiter decisions as ratios to a bare PING, in one run: one bucket, four buckets, one at a time and 64 at once.

Two PINGs are the measure: redis-py's own client (the one every other part of the gateway uses, and the one the goals are
set against), and, stricter, a PING sent over the limiter's own link. The rounds of all subjects are interleaved, each
ratio is taken within its round, and best and median are printed.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from metering.limiter import Bucket, BucketKind, Limiter
from metering.redis_link import connect
from metering.redis_pipeline import PipelineLink, _Call, _packed
from tests.metering.redis_servers import Server

CAPACITY = 2_000_000
REFILL_PER_HOUR = 3_600_000_000
FOUR_KINDS = [BucketKind.ADDRESS, BucketKind.API_KEY, BucketKind.WORKSPACE, BucketKind.MODEL_CLASS]
GOALS = {("one bucket", 1): 0.9, ("four buckets", 1): 0.6, ("one bucket", 64): 2.0}


async def rate(ask: Callable[[], Awaitable[object]], concurrency: int, seconds: float) -> float:
    """Calls a second of `ask`, from so many tasks that each wait for their answer before asking again."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def one() -> int:
        asked = 0
        while loop.time() < until:
            await ask()
            asked += 1
        return asked

    started = time.perf_counter()
    counts = await asyncio.gather(*[one() for _ in range(concurrency)])
    return sum(counts) / (time.perf_counter() - started)


async def measure(url: str, rounds: int, seconds: float) -> None:
    client = connect(url)
    link = PipelineLink(client)
    limiter = Limiter(link)
    one = [Bucket(BucketKind.WORKSPACE, "bench", CAPACITY, REFILL_PER_HOUR)]
    four = [Bucket(kind, "bench", CAPACITY, REFILL_PER_HOUR) for kind in FOUR_KINDS]
    loop = asyncio.get_running_loop()
    ping_command = _packed(b"PING")

    async def link_ping() -> None:
        call = _Call(ping_command, loop.create_future(), None, loop.time() + 1)
        link._enqueue(loop, call)
        await call.answered

    async def decide(buckets: list[Bucket]) -> None:
        decision = await limiter.take(buckets, tag="bench")
        assert decision.allowed
        assert not decision.degraded

    subjects: dict[str, Callable[[], Awaitable[object]]] = {
        "PING, redis-py": client.ping,
        "PING, same link": link_ping,
        "one bucket": lambda: decide(one),
        "four buckets": lambda: decide(four),
    }
    await decide(one)  # opens the link
    for ask in subjects.values():
        await rate(ask, 8, 0.1)
    for concurrency in (1, 64):
        seen: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(rounds):
            for name, ask in subjects.items():
                seen[name].append(await rate(ask, concurrency, seconds))
        report(concurrency, seen)
    await link.aclose()
    await client.aclose()


def report(concurrency: int, seen: dict[str, list[float]]) -> None:
    print(f"\nconcurrency {concurrency}: per second (median), ratio to each PING (median, best)")
    for name, rates in seen.items():
        line = f"  {name:16} {statistics.median(rates):9,.0f}"
        if not name.startswith("PING"):
            for base in ("PING, redis-py", "PING, same link"):
                ratios = [ours / ping for ours, ping in zip(rates, seen[base], strict=True)]
                line += f"   {statistics.median(ratios):5.2f} {max(ratios):5.2f} of {base}"
            goal = GOALS.get((name, concurrency))
            line += f"   goal {goal} of redis-py" if goal else ""
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a Redis or Valkey to measure; by default one is started on a unix socket")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default 7)")
    parser.add_argument("--seconds", type=float, default=0.4, help="of each subject in each round (default 0.4)")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="event loop (default uvloop)")
    options = parser.parse_args()
    server = None if options.url else Server().start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if options.loop == "uvloop" else None) as runner:
            runner.run(measure(options.url or server.url, options.rounds, options.seconds))
    finally:
        if server:
            server.stop()


if __name__ == "__main__":
    main()
