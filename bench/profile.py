"""Where the gateway's CPU time of a whole metered call goes: by part, by function, by line.

The gateway runs under a sampling timer (bench.profiled) while bench.gateway's load passes through it. A sample counts for
the innermost frame whose file names a part, and for the innermost function of all; the microseconds are shares of the
process's CPU time a call, the sampling's own included.
"""

import argparse
import asyncio
import json
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path

from bench.gateway import house, measure
from tests.processes import ROOT

PARTS = {
    "limiter": ("metering/limiter.py", "metering/redis_", "metering/leases.py", "metering/rules/bucket.py", "app/throttle.py", "gateway/places.py"),
    "ledger": ("metering/", "asyncpg/", "models/", "gateway/settling.py"),
    "upstream call": ("providers/", "gateway/routing.py", "gateway/routed.py", "gateway/breakers.py"),
    "admission": ("gateway/admission.py", "gateway/offers.py", "gateway/rules/estimate.py", "gateway/rules/requests.py", "billing/"),
    "authentication": ("app/credentials.py", "app/rest_admission.py", "accounts/", "gateway/callers.py"),
    "gateway": ("gateway/",),
    "HTTP": ("app/http_protocol.py", "app/asgi.py", "app/main.py", "uvicorn/"),
    "REST form": ("app/",),
}  # fmt: skip
"""The first whose prefix is a file's: of ours from the checkout's root, of others from site-packages."""


def place(frame: str) -> str:
    path, function, line = frame.rsplit(":", 2)
    for root in (f"{ROOT}/.venv/lib/python3.11/site-packages/", f"{ROOT}/"):
        path = path.removeprefix(root)
    return f"{path.rpartition('/lib/python3.11/')[2]}:{function}:{line}"


def part_of(stack: list[str]) -> str:
    for frame in stack:
        for part, prefixes in PARTS.items():
            if frame.startswith(prefixes):
                return part
    return "rest"


def table(title: str, found: Counter[str], samples: int, call_us: float, most: int) -> None:
    print(f"\n| {title} | share | µs |\n| --- | ---: | ---: |")
    for name, count in found.most_common(most):
        print(f"| {name} | {count / samples:.1%} | {count / samples * call_us:.1f} |")


async def run(options: argparse.Namespace) -> None:
    with tempfile.NamedTemporaryFile(suffix=".json") as kept:
        async with house(kept.name, "serve", entry="bench.profiled") as built:
            await measure(built, options.connections, 2.0)
            os.kill(built.gateway.pid, signal.SIGUSR2)
            figures = await measure(built, options.connections, options.seconds)
        stacks = [
            ([place(frame) for frame in stack], count) for stack, count in json.loads(Path(kept.name).read_text())
        ]
    samples = sum(count for _, count in stacks)
    call_us = figures["cpu_ms_per_call"] * 1000
    print(f"{figures['metered_per_second']:,.0f} calls/s, {call_us:.0f} µs of CPU a call, {samples} samples")
    parts, own, lines, within = Counter(), Counter(), Counter(), Counter()
    for stack, count in stacks:
        functions = [frame.rpartition(":")[0] for frame in stack]
        parts[part_of(stack)] += count
        own[functions[0]] += count
        lines[stack[0]] += count
        for function in set(functions):
            within[function] += count
    table("part", parts, samples, call_us, 20)
    table("function, itself", own, samples, call_us, options.most)
    table("function, with what it calls", within, samples, call_us, options.most)
    table("line", lines, samples, call_us, options.most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="of load that is sampled")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--most", type=int, default=40, help="rows of a table")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
