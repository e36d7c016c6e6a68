"""What one upstream call costs in the gateway's process: our keep-alive client beside aiohttp, same adapter, same upstream.

    .venv/bin/python -m bench.upstream_client [--calls 20000] [--concurrency 64]

The upstream is the sandbox server as a process on loopback. CPU time is this process's own (user and system).
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import time

import aiohttp
import orjson
import uvloop

from providers.aiohttp_transport import AiohttpTransport
from providers.base import Operation, ProviderRequest
from providers.http_client import KeepAliveTransport
from providers.openai_compatible import OpenAICompatibleProvider


def start_sandbox(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "providers.sandbox_server", *arguments], stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    return process, line.split()[-1]


def request_of(number: int) -> ProviderRequest:
    body = {"messages": [{"role": "user", "content": "a short question about metering"}], "max_tokens": 16}
    return ProviderRequest(Operation.CHAT, "sandbox-chat", body, f"bench-{number}")


async def one_round(
    provider: OpenAICompatibleProvider, calls: int, concurrency: int, stream: bool
) -> tuple[float, float]:
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            if stream:
                async for _ in await provider.stream(request_of(number)):
                    pass
            else:
                await provider.complete(request_of(number))

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return time.process_time() - cpu, time.perf_counter() - wall


async def bare_aiohttp(url: str, calls: int, concurrency: int) -> tuple[float, float]:
    """aiohttp by itself: no adapter, no timeouts of ours, only post and parse. The fairest case for it."""
    numbers = iter(range(calls))
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())

    async def worker() -> None:
        for number in numbers:
            request = request_of(number)
            text = orjson.dumps({**request.body, "model": request.upstream_model})
            async with session.post(url + "/chat/completions", data=text) as response:
                orjson.loads(await response.read())

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    spent = time.process_time() - cpu, time.perf_counter() - wall
    await session.close()
    return spent


async def measure(url: str, calls: int, concurrency: int, rounds: int) -> None:
    transports = {"ours": KeepAliveTransport(), "aiohttp": AiohttpTransport()}
    for stream in (False, True):
        best: dict[str, tuple[float, float]] = {}
        for _ in range(rounds):
            for name, transport in transports.items():
                provider = OpenAICompatibleProvider("bench", base_url=url, api_key="k", transport=transport)
                await one_round(provider, 200, concurrency, stream)
                cpu, wall = await one_round(provider, calls, concurrency, stream)
                best[name] = min(best.get(name, (9e9, 9e9)), (cpu / calls * 1e6, wall / calls * 1e6))
            if not stream:
                cpu, wall = await bare_aiohttp(url, calls, concurrency)
                best["bare aiohttp"] = min(
                    best.get("bare aiohttp", (9e9, 9e9)), (cpu / calls * 1e6, wall / calls * 1e6)
                )
        what = "stream" if stream else "whole "
        for name, (cpu_us, wall_us) in best.items():
            print(f"{what} {name:12} {cpu_us:7.1f} µs CPU a call, {1e6 / wall_us:8.0f} calls/s")
        print(f"{what} aiohttp/ours by CPU: {best['aiohttp'][0] / best['ours'][0]:.2f}")
    for transport in transports.values():
        await transport.aclose()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    process, url = start_sandbox()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(url, options.calls, options.concurrency, options.rounds))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


if __name__ == "__main__":
    main()
