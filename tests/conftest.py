"""The servers the tests run on: one PostgreSQL and one Valkey for each worker process, a fresh database for each test."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings

from app.collector import calm_collector
from app.embedded import EmbeddedServers

if TYPE_CHECKING:
    from tests.stripe_shop import Shop

settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("tollgate", settings.get_profile("explore"), derandomize=True)
settings.load_profile("tollgate")
"""The same examples in every run, however slow the machine; others with `pytest --hypothesis-profile explore`."""

_PREFIX = "tollgate-test-"
_MEMORY = Path("/dev/shm")
_MEMORY_WANTED_BYTES = 2_000_000_000
_LEFT_OVER_AFTER_S = 300
_TEMPLATE = "tollgate_template"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one of them would leave the other worker without work."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """As a process that serves calls does: what was collected stays, and is not looked through again and again."""
    calm_collector()


async def build_template(url: str) -> None:
    """What every test finds in its database."""
    from models.migrate import migrate

    await migrate(url)


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[EmbeddedServers]:
    """A server without durability, in memory where there is enough: cloning a database takes a fifth of the time there."""
    directory = _scratch_directory()
    servers = await EmbeddedServers.start(directory, postgres=True, valkey=False, durable=False)
    yield servers
    await servers.stop()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
async def valkey_server() -> AsyncIterator[EmbeddedServers]:
    """A server without an append-only file."""
    directory = _scratch_directory()
    servers = await EmbeddedServers.start(directory, postgres=False, valkey=True, durable=False)
    yield servers
    await servers.stop()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
async def database_clones(postgres_server: EmbeddedServers) -> AsyncIterator["DatabaseClones"]:
    """Migrated databases, cloned from one template."""
    clones = DatabaseClones(postgres_server.database_url)
    await clones.open()
    yield clones
    await clones.close()


@pytest.fixture
async def database_url(database_clones: "DatabaseClones") -> AsyncIterator[str]:
    """The address of a fresh, migrated database of this test's own; for asyncpg and Tortoise alike."""
    name = await database_clones.take()
    yield database_clones.url_of(name)
    await database_clones.drop(name)


@pytest.fixture
async def pg(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A plain connection to the test's database, to look at what is really there."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="session", autouse=True)
def patient_links() -> None:
    """What runs in this process waits for a Valkey that a busy machine made slow; tests of one that is away say how long."""
    from metering.redis_link import script_link

    assert script_link.__kwdefaults__ is not None
    script_link.__kwdefaults__["timeout_s"] = 10.0


@pytest.fixture
async def redis_url(valkey_server: EmbeddedServers) -> str:
    """The address of an empty Valkey."""
    async with redis.asyncio.from_url(valkey_server.redis_url) as client:
        await client.flushall()
        await client.script_flush()
    return valkey_server.redis_url


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """An empty directory whose path is short enough for sockets, entered by everybody."""
    directory = _scratch_directory()
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


class DatabaseClones:
    """Clones one template; the next clone is made by the server while a test still uses the last one."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._made = 0

    async def open(self) -> None:
        self._cloning = await asyncpg.connect(self.url_of("postgres"))
        self._dropping = await asyncpg.connect(self.url_of("postgres"))
        await self._cloning.execute(f"CREATE DATABASE {_TEMPLATE}")
        await build_template(self.url_of(_TEMPLATE))
        self._next = asyncio.create_task(self._clone())

    async def take(self) -> str:
        name = await self._next
        self._next = asyncio.create_task(self._clone())
        return name

    async def drop(self, name: str) -> None:
        await self._dropping.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def close(self) -> None:
        await asyncio.wait([self._next])
        await self._cloning.close()
        await self._dropping.close()

    def url_of(self, name: str) -> str:
        return self._server_url.replace("@/tollgate?", f"@/{name}?")

    async def _clone(self) -> str:
        self._made += 1
        name = f"test_{self._made}"
        await self._cloning.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY")
        return name


def _scratch_directory() -> Path:
    in_memory = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _MEMORY_WANTED_BYTES
    parent = _MEMORY if in_memory else Path(tempfile.gettempdir())
    _remove_left_over(parent)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def _remove_left_over(parent: Path) -> None:
    """What a killed test run left: its servers died with it, which freed the lock; its files are still there."""
    for directory in parent.glob(f"{_PREFIX}*"):
        try:
            if time.time() - directory.stat().st_mtime < _LEFT_OVER_AFTER_S:
                continue
            with contextlib.ExitStack() as held:
                for lock in directory.glob("**/lock"):
                    fcntl.flock(held.enter_context(lock.open("r+")), fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            continue


@pytest.fixture(scope="session")
async def running_stripe_double() -> AsyncIterator["Shop"]:
    """A Stripe double as a process of its own; imported here, since few runs need it."""
    from tests.stripe_shop import start_shop

    shop = await start_shop()
    yield shop
    await shop.close()


@pytest.fixture
async def stripe_double(running_stripe_double: "Shop") -> "Shop":
    """The Stripe double, empty, its clock running with the real one; see tests.stripe_shop."""
    await running_stripe_double.reset()
    return running_stripe_double
