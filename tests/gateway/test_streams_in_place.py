"""A stream's place and hold are asked for before its task runs: however it ends, the place is free again and nothing is held."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import InsufficientCredits
from gateway.places import SPARE_PART, Place, Places, TooManyCalls
from gateway.streaming import Streams
from gateway.views import Caller, CallRequest, StreamedEnd, StreamedEvent
from kit.errors import RateLimited, Unavailable
from metering.reconcile import reconcile
from providers.base import Operation
from tests.gateway.conftest import CREDITS_MICRO
from tests.gateway.upstream import Theatre, asked, event, silent, streaming, theatre

LIMIT = 4 * SPARE_PART
"""Places of a workspace, of which four may wait for the next call."""
TURNS = 60
"""More turns of the event loop than a stream takes to its first output."""


@pytest.fixture
async def stage(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Theatre]:
    monkeypatch.setattr("gateway.places.monotonic", lambda: 1_000.0)  # a place that waits is not swept meanwhile
    credits_micro = 1 if "wallet_refuses" in request.node.name else CREDITS_MICRO
    more = "circuit_failures = 0\nretries = 0"
    async with theatre(database_url, redis_url, tmp_path, more, credits_micro=credits_micro) as made:
        yield made


@pytest.fixture
async def caller(stage: Theatre) -> Caller:
    facts = await stage.gate.services.workspaces.facts(stage.gate.seeded.workspace_id)
    key_id = stage.gate.seeded.api_key_id
    return Caller("r", facts.workspace_id, facts.wallet_id, facts.plan, api_key_id=key_id, concurrent_calls=LIMIT)


@pytest.fixture
async def waiting(places: Places, caller: Caller) -> Place:
    """A place that waits for the next call."""
    place = await places.take(caller)
    assert place is not None
    places.give_back(place)
    return place


@pytest.fixture
def streams(stage: Theatre) -> Streams:
    return stage.gate.services.streams


@pytest.fixture
def places(streams: Streams) -> Places:
    return streams._places


def call(key: str | None = None) -> CallRequest:
    return CallRequest("solo", Operation.CHAT, asked(stream=True), idempotency_key=key)


async def free(places: Places, caller: Caller) -> int:
    """How many places are free, once those given back are known of."""
    taken = []
    await released(places)
    with contextlib.suppress(TooManyCalls):
        while True:
            taken.append(await places.take(caller))
    for place in taken:
        places.give_back(place)
    await released(places)
    return len(taken)


async def released(places: Places) -> None:
    while releasing := places._releasing:
        await asyncio.wait(releasing)


async def nothing_is_left(stage: Theatre, places: Places, caller: Caller) -> None:
    """Of whatever has ended or is about to."""
    async with asyncio.timeout(30):
        while stage.gate.services.calls._in_flight._tasks:
            await asyncio.sleep(0.01)
    assert places._running == set()
    assert await free(places, caller) == LIMIT
    assert await stage.database.pool.fetchval("SELECT count(*) FROM holds") == 0
    assert await stage.database.pool.fetchval("SELECT sum(held_micro)::bigint FROM wallets") == 0
    assert (await reconcile(stage.database)).shown == []


class Closed:
    """A gate that seemed to be open."""

    is_likely = True

    def __init__(self) -> None:
        self.decision: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, self.decision.set_exception, RateLimited("too many", 1))

    async def passed(self) -> None:
        await asyncio.shield(self.decision)

    def deciding(self) -> asyncio.Future[None]:
        return self.decision


async def test_a_stream_takes_the_place_that_waits_and_gives_it_back(stage, streams, places, caller, waiting) -> None:
    stage.plays.plays = [streaming(event("word"))]
    stream = await streams.open(caller, call())
    assert places._running == {waiting}
    last = [each async for each in stream][-1]
    assert isinstance(last, StreamedEnd)
    await nothing_is_left(stage, places, caller)
    assert await stage.spent_micro() == last.result.charged_micro > 0


async def test_a_hold_that_the_wallet_refuses_gives_the_place_back(stage, streams, places, caller, waiting) -> None:
    with pytest.raises(InsufficientCredits):
        await streams.open(caller, call())
    await nothing_is_left(stage, places, caller)
    assert stage.alpha.requests == []


async def test_a_gate_that_closes_while_the_hold_is_placed_gives_the_place_back(
    stage, streams, places, caller, waiting
) -> None:
    with pytest.raises(RateLimited):
        await streams.open(caller, call(), Closed())
    await nothing_is_left(stage, places, caller)
    assert stage.alpha.requests == []


@pytest.mark.parametrize("fault", ["full", "closed"])
async def test_a_ledger_that_takes_no_hold_gives_the_place_back(stage, streams, places, caller, waiting, fault) -> None:
    ledger = streams._settling._ledger
    if fault == "full":
        ledger._lane._max_waiting = 0
    else:
        await ledger.close()
    with pytest.raises(Unavailable):
        await streams.open(caller, call())
    await nothing_is_left(stage, places, caller)
    assert stage.alpha.requests == []


async def test_where_no_place_is_free_nothing_is_held(stage, streams, places, caller) -> None:
    taken = [await places.take(caller) for _ in range(LIMIT)]
    with pytest.raises(TooManyCalls):
        await streams.open(caller, call())
    assert await stage.database.pool.fetchval("SELECT count(*) FROM calls") == 0
    for place in taken:
        places.give_back(place)
    await nothing_is_left(stage, places, caller)


async def test_who_leaves_at_any_turn_before_the_first_output_leaves_the_place_free(
    stage, streams, places, caller, waiting
) -> None:
    stage.plays.plays = [streaming(event("word"))]
    for turns in range(TURNS):
        opening = asyncio.create_task(streams.open(caller, call()))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await opening).leave()
    await nothing_is_left(stage, places, caller)


async def test_who_leaves_in_the_turn_in_which_another_call_is_handed_over_follows_it_no_longer(
    stage, streams, places, caller
) -> None:
    """Else that call goes on for nobody, and is paid for, once its own reader has left."""
    stage.plays.plays = [streaming(event("word"), then=silent)]
    first = await streams.open(caller, call("k"))
    follow, second = first.follow, None

    def followed_and_left():
        followed = follow()
        asyncio.get_running_loop().call_soon(second.cancel)
        return followed

    first.follow = followed_and_left
    second = asyncio.create_task(streams.open(caller, call("k")))
    with pytest.raises(asyncio.CancelledError):
        await second
    assert first._followers == set()
    assert isinstance(await anext(first), StreamedEvent)
    first.leave()
    assert (await stage.settled())["status"] == "CANCELED"
    await nothing_is_left(stage, places, caller)
