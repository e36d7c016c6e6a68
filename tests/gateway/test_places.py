"""Places for calls at once: a busy workspace's are used again without asking Redis, and nobody else goes without."""

import asyncio
from dataclasses import replace

import pytest

from gateway.places import REUSE_S, SPARE_PART, SPARE_S, Places, TooManyCalls
from gateway.views import Caller
from metering.leases import Leases
from metering.redis_link import connect, script_link
from tests.gateway.conftest import Gate, taken

LIMIT = 4 * SPARE_PART
"""Of which four places may wait."""


class Time:
    """Stands still until moved: a slow machine makes nothing wait too long."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def __call__(self) -> float:
        return self.at_s


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr("gateway.places.monotonic", made)
    return made


class CountingLink:
    """The real link, with how often it was used."""

    def __init__(self, link) -> None:
        self.link = link
        self.runs = 0

    async def run(self, script, keys, arguments):
        self.runs += 1
        return await self.link.run(script, keys, arguments)


@pytest.fixture
async def link(redis_url: str):
    client = connect(redis_url)
    link = script_link(client, timeout_s=30)
    yield CountingLink(link)
    await link.aclose()
    await client.aclose()


@pytest.fixture
async def caller(gate: Gate) -> Caller:
    facts = await gate.services.workspaces.facts(gate.seeded.workspace_id)
    return Caller("r", facts.workspace_id, facts.wallet_id, facts.plan, concurrent_calls=LIMIT)


@pytest.fixture
async def places(link: CountingLink):
    places = Places(Leases(link), 30)
    yield places
    await places.close()


@pytest.fixture
async def elsewhere(link: CountingLink):
    """Another process's."""
    places = Places(Leases(link), 30)
    yield places
    await places.close()


async def released(places: Places) -> None:
    """What was given back, and waits for no other call, is free for all."""
    while releasing := places._releasing:
        await asyncio.wait(releasing)


async def take(places: Places, caller: Caller, count: int) -> list:
    return [await places.take(caller) for _ in range(count)]


async def free(places: Places, caller: Caller) -> int:
    """How many places are free, as another process finds it."""
    held = []
    try:
        while True:
            held.append(await places.take(caller))
    except TooManyCalls:
        return len(held)
    finally:
        for place in held:
            places.give_back(place)
        await places.close()


async def test_calls_one_after_another_ask_once(places: Places, link: CountingLink, caller: Caller) -> None:
    for _ in range(50):
        async with taken(places, caller):
            pass
    assert link.runs == 1


async def test_redis_is_asked_again_after_a_second(
    places: Places, link: CountingLink, caller: Caller, time: Time
) -> None:
    for _ in range(int(REUSE_S / 0.05) + 4):
        async with taken(places, caller):
            time.at_s += 0.05
    await released(places)
    assert link.runs == 3, "acquired, released after a second of use, acquired anew"


async def test_only_a_few_places_wait_and_not_for_long(
    places: Places, elsewhere: Places, caller: Caller, time: Time
) -> None:
    for place in await take(places, caller, 20):
        places.give_back(place)
    await released(places)
    assert await free(elsewhere, caller) == LIMIT - LIMIT // SPARE_PART
    time.at_s += SPARE_S
    async with asyncio.timeout(30):
        while await free(elsewhere, caller) < LIMIT:
            await asyncio.sleep(0.05)


async def test_no_place_waits_while_more_than_half_are_taken(places: Places, elsewhere: Places, caller: Caller) -> None:
    others = await take(elsewhere, caller, LIMIT // 2)
    for place in await take(places, caller, 4):
        places.give_back(place)
    await released(places)
    rest = await take(elsewhere, caller, LIMIT - LIMIT // 2)
    for place in [*others, *rest]:
        elsewhere.give_back(place)


async def test_where_there_are_few_places_none_waits(places: Places, elsewhere: Places, caller: Caller) -> None:
    single = replace(caller, concurrent_calls=1)
    for _ in range(5):
        for each in (places, elsewhere):
            place = await each.take(single)
            each.give_back(place)
            await released(each)


async def test_never_more_than_the_limit_however_they_come_and_go(
    places: Places, elsewhere: Places, caller: Caller
) -> None:
    running = most = refused = 0
    all_have_come = asyncio.Event()

    async def call(each: Places, pause_s: float) -> None:
        nonlocal running, most, refused
        try:
            async with taken(each, caller):
                running += 1
                most = max(most, running)
                if running + refused == LIMIT * 2:
                    all_have_come.set()
                await all_have_come.wait()  # of the first wave
                await asyncio.sleep(pause_s)
                running -= 1
        except TooManyCalls:
            refused += 1
            if running + refused == LIMIT * 2:
                all_have_come.set()

    for wave in range(12):
        calls = [
            call((places, elsewhere)[n % 2], 0.001 * (n % 7)) for n in range(LIMIT // 2 if wave % 3 else LIMIT * 2)
        ]
        await asyncio.gather(*calls)
    assert most == LIMIT
    assert refused > 0


async def test_a_lower_limit_counts_at_once(places: Places, caller: Caller) -> None:
    held = await take(places, caller, 3)
    places.give_back(held.pop())
    with pytest.raises(TooManyCalls):
        await places.take(replace(caller, concurrent_calls=2))
    for place in held:
        places.give_back(place)


async def test_at_the_end_every_place_is_free(places: Places, elsewhere: Places, caller: Caller) -> None:
    for place in await take(places, caller, 4):
        places.give_back(place)
    await places.close()
    assert await free(elsewhere, caller) == LIMIT
