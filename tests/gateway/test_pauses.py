"""Pauses that providers ask for: kept to by every process, shared through Redis, and by each alone while that is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.lifespan import open_services
from app.settings import Settings
from gateway.breakers import POLL_S
from gateway.pauses import MAX_SHARED, Pauses
from metering.redis_link import connect, script_link
from metering.redis_pipeline import LinkDown, Script, ScriptLink
from tests.gateway.conftest import SECRET_KEY, Gate
from tests.gateway.test_circuit import Clock
from tests.gateway.upstream import Theatre, asked, failing, theatre, used, whole
from tests.metering.redis_servers import Cluster, Server

GOOD = whole(usage=used(10, 5))


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[ScriptLink]:
    client = connect(redis_url)
    made = script_link(client, timeout_s=30)
    yield made
    await made.aclose()
    await client.aclose()


async def test_what_one_process_is_asked_for_the_others_hear_with_what_is_left_of_it(link: ScriptLink) -> None:
    one, other = Pauses(link, Clock()), Pauses(link, Clock())
    one.ask("groq", "openai/gpt-oss", 30.0)
    one.ask("other", "m", 2.0)
    await one.close()
    await asyncio.sleep(0.05)
    await other.look()
    left = {key: until - Clock()() for key, until in other.until.items()}
    assert left.keys() == {("groq", "openai/gpt-oss"), ("other", "m")}
    assert 20.0 < left["groq", "openai/gpt-oss"] <= 30.0
    assert 0.0 < left["other", "m"] <= 1.96
    await asyncio.sleep(2.0)
    third = Pauses(link, Clock())
    await third.look()
    assert third.until.keys() == {("groq", "openai/gpt-oss")}


async def test_a_longer_pause_stays_and_one_that_is_over_is_forgotten(link: ScriptLink) -> None:
    clock = Clock()
    one, other = Pauses(link, clock), Pauses(link, clock)
    start = clock()
    one.ask("up", "m", 30.0)
    one.ask("up", "m", 1.0)
    await one.close()
    other.ask("up", "m", 5.0)
    await other.close()
    for pauses in (one, other):
        await pauses.look()
        assert 20.0 < pauses.until["up", "m"] - start <= 30.1
    fresh = Pauses(link, clock)
    fresh.ask("brief", "m", 2.0)
    clock.seconds += 31
    await fresh.close()
    await fresh.look()
    assert ("brief", "m") not in fresh.until or fresh.until["brief", "m"] > clock()


async def test_an_answer_is_bounded(link: ScriptLink) -> None:
    one, other = Pauses(link), Pauses(link)
    for number in range(MAX_SHARED + 20):
        one.ask("up", f"m{number}", 10.0 + number / 100)
    await one.close()
    await other.look()
    assert len(other.until) == MAX_SHARED
    assert ("up", "m0") not in other.until


async def test_while_redis_is_away_each_process_keeps_to_its_own_and_tells_them_afterwards() -> None:
    server = Server().start()
    client = connect(server.url)
    link = script_link(client, timeout_s=5, pause_s=0.05)
    one, other = Pauses(link), Pauses(link)
    try:
        server.kill()
        one.ask("up", "m", 30.0)
        await one.close()
        await other.look()
        assert one.until.keys() == {("up", "m")}
        assert other.until == {}
        server.start()
        async with asyncio.timeout(30):
            while not other.until:
                await asyncio.sleep(0.06)
                await one.look()
                await other.look()
        assert other.until.keys() == {("up", "m")}
    finally:
        await link.aclose()
        await client.aclose()
        server.stop()


async def test_pauses_cross_a_cluster() -> None:
    cluster = Cluster().start()
    client = connect(cluster.url)
    link = script_link(client, timeout_s=5)
    one, other = Pauses(link), Pauses(link)
    try:
        async with asyncio.timeout(30):
            while not other.until:
                one.ask("up", "m", 30.0 + len(one.until))
                await one.close()
                await one.look()
                await other.look()
                await asyncio.sleep(0.05)
    finally:
        await link.aclose()
        await client.aclose()
        cluster.stop()


# Two gateways


@pytest.fixture
async def two(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[Theatre, Gate]]:
    """Two processes' parts, each with a router of its own."""
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(theatre(database_url, redis_url, tmp_path))
        stage.plays.plays = [failing("429 Slow", "Retry-After: 50\r\n"), GOOD]
        stage.beta_plays.plays = [GOOD]
        settings = Settings.from_environment(
            {
                "TOLLGATE_DATABASE_URL": database_url,
                "TOLLGATE_REDIS_URL": redis_url,
                "TOLLGATE_SECRET_KEY": SECRET_KEY,
                "TOLLGATE_DATA_DIR": str(tmp_path / "second"),
            }
        )
        yield stage, Gate(await stack.enter_async_context(open_services(settings)), stage.gate.seeded)


async def test_a_provider_that_asked_one_gateway_for_a_pause_gets_no_call_from_another(
    two: tuple[Theatre, Gate],
) -> None:
    stage, second = two
    assert (await stage.gate.ask(asked())).status == 502
    async with asyncio.timeout(30):
        while not second.services.calls._router._paused:
            await asyncio.sleep(0.02)
    assert (await second.ask(asked())).status == 502
    assert (await second.ask(asked("duo"))).status == 200
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 1)


async def test_a_call_that_is_answered_asks_redis_nothing_about_pauses(two: tuple[Theatre, Gate]) -> None:
    stage, _ = two
    stage.plays.plays = [GOOD]
    runs: list[object] = []
    pauses = stage.gate.services.calls._router._pauses

    class Noting:
        async def run(self, script: Script, *given: object) -> list[int]:
            runs.append(asyncio.current_task().get_name())
            raise LinkDown("away")

        async def aclose(self) -> None:
            return

    pauses._link = Noting()
    began = time.monotonic()
    for _ in range(5):
        assert (await stage.gate.ask(asked("duo"))).status == 200
    assert set(runs) <= {"pauses"}, "only what is asked once a second"
    assert len(runs) <= 1 + (time.monotonic() - began) / POLL_S
