"""Concurrent calls of a workspace, counted by leases that lapse."""

import asyncio

import pytest

from kit.errors import Unavailable
from metering.leases import Lease, Leases
from metering.limiter import FailurePolicy
from metering.redis_link import connect, script_link
from tests.metering.redis_servers import Server

EPOCH_US = 1_790_000_000_000_000
SECOND_US = 1_000_000


@pytest.fixture(scope="module")
def server():
    server = Server().start()
    yield server
    server.stop()


@pytest.fixture
async def client(server):
    client = connect(server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def link(client):
    link = script_link(client, timeout_s=5)
    yield link
    await link.aclose()


class Clock:
    at_us = EPOCH_US

    def __call__(self) -> int:
        return self.at_us


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leases(link, clock):
    return Leases(link, test_clock=clock)


async def test_no_more_calls_run_at_once_than_the_limit(link):
    leases = Leases(link)
    granted = await asyncio.gather(*[leases.acquire("w", f"call{n}", 7, 30) for n in range(40)])
    assert sorted(taken for taken in granted if taken) == [1, 2, 3, 4, 5, 6, 7]


async def test_a_released_place_is_free_again(leases):
    assert await leases.acquire("w", "a", 1, 30)
    assert not await leases.acquire("w", "b", 1, 30)
    await leases.release([Lease("w", "a")])
    assert await leases.acquire("w", "b", 1, 30)


async def test_workspaces_do_not_share_places(leases):
    assert await leases.acquire("one", "a", 1, 30)
    assert await leases.acquire("two", "a", 1, 30)


async def test_asking_again_with_the_same_id_takes_one_place(leases):
    assert await leases.acquire("w", "a", 2, 30)
    assert await leases.acquire("w", "a", 2, 30)
    assert await leases.acquire("w", "b", 2, 30)
    assert await leases.acquire("w", "a", 2, 30)
    assert not await leases.acquire("w", "c", 2, 30)


async def test_a_dead_workers_lease_lapses_and_a_renewed_one_does_not(leases, clock):
    assert await leases.acquire("w", "dead", 2, 30)
    assert await leases.acquire("w", "alive", 2, 30)
    clock.at_us += 20 * SECOND_US
    await leases.renew([Lease("w", "alive")], 30)
    clock.at_us += 10 * SECOND_US - 1
    assert not await leases.acquire("w", "next", 2, 30)
    clock.at_us += 1
    assert await leases.acquire("w", "next", 2, 30)
    assert not await leases.acquire("w", "another", 2, 30)


async def test_a_lease_lapses_on_the_servers_clock(link):
    leases = Leases(link)
    assert await leases.acquire("w", "dead", 1, 1)
    assert not await leases.acquire("w", "next", 1, 1)
    async with asyncio.timeout(30):
        while not await leases.acquire("w", "next", 1, 1):
            await asyncio.sleep(0.05)


async def test_a_call_whose_lease_was_forgotten_counts_again_after_its_renewal(leases, client):
    assert await leases.acquire("one", "a", 1, 30)
    assert await leases.acquire("two", "a", 1, 30)
    await client.flushall()
    await leases.renew([Lease("one", "a"), Lease("two", "a")], 30)
    assert not await leases.acquire("one", "b", 1, 30)
    assert not await leases.acquire("two", "b", 1, 30)


async def test_a_limit_of_none_lets_no_call_run(leases):
    assert not await leases.acquire("w", "a", 0, 30)


async def test_a_clock_that_steps_back_does_not_prolong_leases_for_hours(leases, clock):
    assert await leases.acquire("w", "dead", 1, 30)
    clock.at_us -= 5 * 3600 * SECOND_US
    assert await leases.acquire("w", "next", 1, 30)


async def test_the_key_outlives_its_longest_lease_and_then_lapses(leases, client):
    assert await leases.acquire("w", "long", 5, 600)
    assert await leases.acquire("w", "short", 5, 10)
    assert 600_000 < await client.pttl("tollgate:{w}:leases") <= 601_000


@pytest.mark.parametrize("ttl_s", [0, 3601])
async def test_a_lease_outside_its_bounds_is_an_error(leases, ttl_s):
    with pytest.raises(ValueError, match="a lease lasts"):
        await leases.acquire("w", "a", 1, ttl_s)


async def test_without_redis_the_policy_answers():
    server = Server().start()
    client = connect(server.url)
    link = script_link(client, timeout_s=5, pause_s=0.05)
    server.kill()
    assert await Leases(link).acquire("w", "a", 0, 30)
    with pytest.raises(Unavailable):
        await Leases(link, FailurePolicy.CLOSED).acquire("w", "a", 0, 30)
    await Leases(link).renew([Lease("w", "a")], 30)
    await Leases(link).release([Lease("w", "a")])
    await link.aclose()
    await client.aclose()
    server.stop()
