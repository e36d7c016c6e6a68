"""A process on a Redis cluster: limits work, and a revocation is heard by a process that listens to another node."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from accounts.invalidation import Change, ChangeKind, Invalidations
from app.lifespan import open_services
from app.settings import Settings
from kit.ids import uuid7
from metering.redis_link import connect_node
from models.database import Database
from tests.gateway.conftest import CREDITS_MICRO, SECRET_KEY, Gate, chat
from tests.metering.redis_servers import Cluster
from tests.seeding import apply_catalog, seed_workspace


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    running = Cluster().start()
    yield running
    running.stop()


@pytest.fixture
async def on_cluster(database_url: str, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Gate]:
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, CREDITS_MICRO)
    await database.close()
    settings = Settings.from_environment(
        {
            "TOLLGATE_DATABASE_URL": database_url,
            "TOLLGATE_REDIS_URL": cluster.url,
            "TOLLGATE_SECRET_KEY": SECRET_KEY,
            "TOLLGATE_DATA_DIR": str(tmp_path),
        }
    )
    async with open_services(settings) as services:
        yield Gate(services, seeded)


async def test_calls_pass_and_revocations_cross_the_cluster(on_cluster: Gate, cluster: Cluster) -> None:
    assert (await on_cluster.ask(chat())).status == 200
    heard: list[Change] = []
    elsewhere = connect_node(f"redis+cluster://127.0.0.1:{cluster.nodes[2].port}")
    other = Invalidations(elsewhere)
    other.listen(heard.append)
    listening = asyncio.create_task(other.run())
    try:
        async with asyncio.timeout(30):
            while not (other.is_healthy and on_cluster.services.accounts.invalidations.is_healthy):
                await asyncio.sleep(0.01)
            change = Change(ChangeKind.API_KEY, uuid7())
            await on_cluster.services.accounts.invalidations.publish(change)
            while change not in heard:
                await asyncio.sleep(0.01)
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        await elsewhere.aclose()
    assert on_cluster.services.accounts.invalidations.unsent == 0
