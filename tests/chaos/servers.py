"""The processes of a run: PostgreSQL, Valkey, the sandbox provider, gateways and the worker; each can be killed and comes back."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from app.embedded import EmbeddedServers
from tests.chaos.plan import Kill, Victim
from tests.processes import ROOT, SECRET_KEY, free_port

HOLD_TTL_S = 5
START_PATIENCE_S = 60.0
"""Without the time in which it waits for a core: on a busy machine that may be most of it."""
MOST_FAILED_STARTS = 10
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Process:
    """A command that is kept running: started again whenever it has ended, unless it is stopped or being killed."""

    name: str
    command: list[str]
    env: dict[str, str]
    log: Path
    url: str = ""
    child: subprocess.Popen | None = None
    wanted: bool = False
    starts: int = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_die_with_parent,
            )  # fmt: skip
        self.starts += 1
        self.wanted = True

    def kill(self) -> None:
        self.wanted = False
        assert self.child is not None
        self.child.kill()
        self.child.wait()

    async def stop(self) -> None:
        """Ask it to end in good order; kill it where it does not."""
        self.wanted = False
        if self.child is None or self.child.poll() is not None:
            return
        self.child.terminate()
        deadline = time.monotonic() + 15
        while self.child.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.name} did not stop; see {self.log}")
            await asyncio.sleep(0.02)

    def waited_for_a_core_s(self) -> float:
        """How long it could have run, and others did."""
        assert self.child is not None
        with _gone():
            waits = [
                int(each.read_text().split()[1]) for each in Path(f"/proc/{self.child.pid}/task").glob("*/schedstat")
            ]
            return max(waits, default=0) / 1e9
        return 0.0

    def keep(self) -> None:
        """Start it again where it ended by itself, as a supervisor would."""
        if self.wanted and self.child is not None and self.child.poll() is not None:
            self.start()


@dataclass
class Servers:
    """All of them. `entry` is the module that gateways run: the product's, or the write-behind control's."""

    directory: Path
    gateways: int
    entry: str = "app"
    hold_ttl_s: int = HOLD_TTL_S
    postgres: EmbeddedServers | None = None
    valkey: EmbeddedServers | None = None
    sandbox: Process | None = None
    worker: Process | None = None
    gateway: list[Process] = field(default_factory=list)
    killed: dict[Victim, int] = field(default_factory=lambda: dict.fromkeys(Victim, 0))
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _keeping: asyncio.Task | None = None

    @property
    def sandbox_log(self) -> Path:
        return self.directory / "sandbox.jsonl"

    @property
    def database_url(self) -> str:
        assert self.postgres is not None
        return self.postgres.database_url

    async def start_stores(self) -> None:
        self.directory.chmod(0o755)
        self.postgres, self.valkey = await asyncio.gather(self._start_postgres(), self._start_valkey())

    async def start_provider(self) -> str:
        port = free_port()
        url = f"http://127.0.0.1:{port}/v1"
        command = [
            sys.executable,
            "-m",
            "providers.sandbox_server",
            "--port",
            str(port),
            "--log",
            str(self.sandbox_log),
        ]
        self.sandbox = Process("sandbox", command, dict(os.environ), self.directory / "sandbox.log", url)
        self.sandbox.start()
        await self._until(self.sandbox, f"{url}/models")
        return url

    async def start_gateways(self) -> None:
        assert self.valkey is not None
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")},
            "TOLLGATE_DATABASE_URL": self.database_url,
            "TOLLGATE_REDIS_URL": self.valkey.redis_url,
            "TOLLGATE_SECRET_KEY": SECRET_KEY,
            "TOLLGATE_DATA_DIR": str(self.directory / "data"),
            "TOLLGATE_LOG_LEVEL": "warning",
            "TOLLGATE_HOLD_TTL_S": str(self.hold_ttl_s),
        }
        for number in range(self.gateways):
            port = free_port()
            self.gateway.append(
                Process(
                    f"gateway {number}",
                    [sys.executable, "-m", self.entry, "serve"],
                    {**env, "TOLLGATE_PORT": str(port)},
                    self.directory / f"gateway{number}.log",
                    f"http://127.0.0.1:{port}",
                )
            )
        self.worker = Process("worker", [sys.executable, "-m", "app", "worker"], env, self.directory / "worker.log")
        for process in (*self.gateway, self.worker):
            process.start()
        self._keeping = asyncio.create_task(self._keep())
        await self.until_ready()

    async def until_ready(self) -> None:
        await asyncio.gather(*(self._until(process, f"{process.url}/readyz") for process in self.gateway))

    async def restart_gateways(self) -> None:
        """In good order: what they have in flight ends, what they journalled is replayed at the start."""
        await asyncio.gather(*(process.stop() for process in self.gateway))
        for process in self.gateway:
            process.start()
        await self.until_ready()

    async def kill(self, kill: Kill) -> None:
        """Kill and start again after the pause; of one victim one at a time."""
        lock = self._locks.setdefault(
            f"{kill.victim} {kill.index if kill.victim is Victim.GATEWAY else 0}", asyncio.Lock()
        )
        async with lock:
            self.killed[kill.victim] += 1
            match kill.victim:
                case Victim.GATEWAY | Victim.WORKER:
                    process = self.gateway[kill.index] if kill.victim is Victim.GATEWAY else self.worker
                    assert process is not None
                    process.kill()
                    await asyncio.sleep(kill.pause_s)
                    process.start()
                case Victim.POSTGRES:
                    await self._kill_store(self.postgres, "postgres", kill.pause_s)
                    self.postgres = await self._start_postgres()
                case Victim.VALKEY:
                    await self._kill_store(self.valkey, "valkey", kill.pause_s)
                    self.valkey = await self._start_valkey()

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        for process in (*self.gateway, self.worker, self.sandbox):
            if process is not None and process.child is not None and process.child.poll() is None:
                process.kill()
        for store in (self.postgres, self.valkey):
            if store is not None:
                await store.stop()

    def faults(self) -> list[str]:
        """What the gateways logged as errors but starts that failed while PostgreSQL was away: what nobody foresaw."""
        return [
            f"{process.name}: {line[:300]}"
            for process in self.gateway
            for line in process.log.read_text(errors="replace").splitlines()
            if (" ERROR " in line or " CRITICAL " in line)
            and not line.endswith("could not start")
            and "uvicorn.error" not in line
        ]

    async def _start_postgres(self) -> EmbeddedServers:
        return await EmbeddedServers.start(self.directory / "pg", postgres=True, valkey=False, durable=True)

    async def _start_valkey(self) -> EmbeddedServers:
        return await EmbeddedServers.start(self.directory / "vk", postgres=False, valkey=True, durable=True)

    async def _kill_store(self, store: EmbeddedServers | None, name: str, pause_s: float) -> None:
        assert store is not None
        server = store.postgres if name == "postgres" else store.valkey
        assert server is not None
        pids = [server.child.pid, *_children_of(server.child.pid)]
        for pid in pids:
            with _gone():
                os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(server.child.wait, 10)
        await asyncio.sleep(pause_s)
        await store.stop()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(0.3)
            for process in (*self.gateway, self.worker):
                if process is not None:
                    process.keep()

    async def _until(self, process: Process, url: str) -> None:
        begun_at = time.monotonic()
        starts = process.starts
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                waited_s = time.monotonic() - begun_at - process.waited_for_a_core_s()
                if waited_s > START_PATIENCE_S or process.starts > starts + MOST_FAILED_STARTS:
                    tail = process.log.read_text(errors="replace")[-3000:]
                    raise AssertionError(f"{process.name} does not answer:\n{tail}")
                await asyncio.sleep(0.05)


class _gone:  # noqa: N801
    """Suppresses that a process is gone already."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, *_: object) -> bool:
        return kind in {ProcessLookupError, FileNotFoundError}


def _children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found
