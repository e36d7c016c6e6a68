"""Real processes for tests and benchmarks: the gateway, its worker and the stand-alone sandbox provider."""

import asyncio
import contextlib
import itertools
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
SECRET_KEY = "a secret key for tests, thirty-two characters and more"


_FIRST_PORT = 11_000
_PORTS_OF_A_WORKER = 2_000
_CLUSTER_BUS = 10_000
"""Where a node of a Valkey cluster listens for its fellows, above its own port."""


def _ports() -> Iterator[int]:
    """Below the range from which the kernel takes the near ends of connections; each test worker has a part of it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw4").removeprefix("gw")) % 5
    first = _FIRST_PORT + worker * _PORTS_OF_A_WORKER
    start = os.getpid() * 7
    return (first + (start + step) % _PORTS_OF_A_WORKER for step in itertools.count())


_ports_to_try = _ports()


def free_port() -> int:
    """A loopback port that nobody listens on, not given out before by this process; its cluster bus is free too."""
    for port in _ports_to_try:
        with contextlib.suppress(OSError), socket.socket() as own, socket.socket() as bus:
            own.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + _CLUSTER_BUS))
            return port
    raise AssertionError("unreachable: the ports to try do not end")


@dataclass
class Running:
    """A child process with what it printed; end it with `stop`, or `kill` to see what survives."""

    process: asyncio.subprocess.Process
    url: str
    lines: list[str] = field(default_factory=list)
    reading: list[asyncio.Task] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self._ended()

    async def kill(self) -> int:
        self.process.send_signal(signal.SIGKILL)
        return await self._ended()

    async def _ended(self, within_s: float = 60) -> int:
        code = await asyncio.wait_for(self.process.wait(), within_s)
        await asyncio.gather(*self.reading)
        return code

    def cpu_seconds(self) -> float:
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def start(*command: str, env: Mapping[str, str] | None = None) -> Running:
    """Start a command in the repository's root with only the given environment of ours."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Running(process, "")

    async def read(stream: asyncio.StreamReader) -> None:
        async for line in stream:
            running.lines.append(line.decode(errors="replace").rstrip())

    running.reading = [asyncio.create_task(read(process.stdout)), asyncio.create_task(read(process.stderr))]
    return running


async def start_sandbox(*options: str) -> Running:
    """The stand-alone sandbox provider on a free port."""
    running = await start(sys.executable, "-m", "providers.sandbox_server", "--port", "0", *options)
    async with asyncio.timeout(30):
        while not running.url:
            await asyncio.sleep(0.01)
            assert running.process.returncode is None, running.lines
            for line in running.lines:
                if found := re.search(r"sandbox provider on (http://\S+)", line):
                    running.url = found[1]
    return running


def gateway_env(database_url: str, redis_url: str, data_dir: Path, **more: str) -> dict[str, str]:
    """What a gateway process needs."""
    return {
        "TOLLGATE_DATABASE_URL": database_url,
        "TOLLGATE_REDIS_URL": redis_url,
        "TOLLGATE_SECRET_KEY": SECRET_KEY,
        "TOLLGATE_DATA_DIR": str(data_dir),
        "TOLLGATE_LOG_LEVEL": "warning",
        **more,
    }


async def start_worker(env: Mapping[str, str], *options: str) -> Running:
    """`tollgate worker`, once it says that it runs."""
    running = await start(sys.executable, "-m", "app", "worker", *options, env=env)
    async with asyncio.timeout(60):
        while not running.lines:
            assert running.process.returncode is None
            await asyncio.sleep(0.01)
    return running


async def start_gateway(env: Mapping[str, str], *command: str, entry: str = "app") -> Running:
    """`tollgate serve` (or another command) on the port of `env` or a free one, once /readyz says so."""
    port = int(env.get("TOLLGATE_PORT") or free_port())
    running = await start(
        sys.executable, "-m", entry, *(command or ("serve",)), env={**env, "TOLLGATE_PORT": str(port)}
    )
    running.url = f"http://127.0.0.1:{port}"
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            assert running.process.returncode is None, running.lines
            try:
                async with session.get(f"{running.url}/readyz") as answer:
                    if answer.status == 200:
                        return running
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.03)
