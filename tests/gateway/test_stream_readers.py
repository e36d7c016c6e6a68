"""Readers of a stream that come, follow and leave at every moment: nobody stays behind, and the first output goes out at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from app.asgi import ClientGone
from app.openai_form import OpenAIWriter
from app.rest_door import Watched, _stream
from gateway.call_stream import CHUNK_BYTES, QUEUE_CHUNKS, CallStream
from gateway.errors import ClientLeft
from gateway.views import Caller, CallRequest, StreamedEvent, StreamedFailure
from kit.ids import uuid7
from providers.base import Operation
from tests.gateway.upstream import Theatre, asked, event, silent, streaming, theatre


@pytest.fixture
async def stage(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Theatre]:
    async with theatre(database_url, redis_url, tmp_path, "circuit_failures = 0\nretries = 0") as made:
        yield made


async def caller_of(stage: Theatre) -> Caller:
    facts = await stage.gate.services.workspaces.facts(stage.gate.seeded.workspace_id)
    return Caller("r", facts.workspace_id, facts.wallet_id, facts.plan, api_key_id=stage.gate.seeded.api_key_id)


def request(key: str | None = None) -> CallRequest:
    return CallRequest("solo", Operation.CHAT, asked(stream=True), idempotency_key=key)


async def test_who_leaves_while_it_waits_to_follow_a_call_stays_nowhere_and_the_call_goes_on(stage: Theatre) -> None:
    stage.plays.plays = [streaming(event("word"), then=silent)]
    streams, caller = stage.gate.services.streams, await caller_of(stage)
    first, left_early = await streams.open(caller, request("k")), 0
    for ticks in range(0, 40, 3):
        second = asyncio.create_task(streams.open(caller, request("k")))
        for _ in range(ticks):
            await asyncio.sleep(0)
        second.cancel()
        try:
            (await second).leave()
        except asyncio.CancelledError:
            left_early += 1
    assert left_early >= 3
    await asyncio.sleep(0.3)
    assert first._followers == set()
    assert isinstance(await first.__anext__(), StreamedEvent)
    assert len(stage.alpha.requests) == 1
    first.leave()
    assert (await stage.settled())["status"] == "CANCELED"


async def test_who_leaves_before_a_refusal_comes_is_told_nothing_and_nothing_is_logged(stage: Theatre, caplog) -> None:
    stage.plays.plays = [silent]
    opening = asyncio.create_task(stage.gate.services.streams.open(await caller_of(stage), request()))
    async with asyncio.timeout(30):
        while not stage.alpha.requests:
            await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (await stage.settled())["status"] == "CANCELED"
    assert "could not be ended" not in caplog.text


async def test_a_call_that_cannot_be_ended_is_logged_though_its_reader_left_before_the_first_output(
    stage: Theatre, caplog
) -> None:
    async def broken(operation) -> None:
        raise RuntimeError("a fault of our own")

    stage.plays.plays = [silent]
    streams = stage.gate.services.streams
    streams._settling.release = broken
    opening = asyncio.create_task(streams.open(await caller_of(stage), request()))
    async with asyncio.timeout(30):
        while not stage.alpha.requests:
            await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(30):
        while "could not be ended" not in caplog.text:
            await asyncio.sleep(0.01)
    assert "a fault of our own" in caplog.text


async def test_the_first_output_reaches_its_reader_before_more_is_read(stage: Theatre) -> None:
    stage.plays.plays = [streaming(*[event("word") for _ in range(50)], then=silent)]
    stream = await stage.gate.services.streams.open(await caller_of(stage), request())
    assert len(stream._events) == 1
    stream.leave()
    await stage.settled()


async def test_a_reader_may_leave_at_any_moment_and_the_call_is_ended_all_the_same(stage: Theatre, caplog) -> None:
    stage.plays.plays = [streaming(*[event("word") for _ in range(5)])]
    streams, caller = stage.gate.services.streams, await caller_of(stage)
    for ticks in range(0, 300, 4):  # while it is opened: admitted, held, asked, its first output on the way
        opening = asyncio.create_task(streams.open(caller, request()))
        for _ in range(ticks):
            await asyncio.sleep(0)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await opening).leave()
    for ticks in range(0, 300, 4):  # while it is read, and while its end is settled
        stream = await streams.open(caller, request())
        for _ in range(ticks):
            await asyncio.sleep(0)
        stream.leave()
    ended = "SELECT array_agg(DISTINCT status ORDER BY status) FROM calls"
    async with asyncio.timeout(30):
        while await stage.database.pool.fetchval("SELECT count(*) FROM holds"):
            await asyncio.sleep(0.02)
    assert await stage.database.pool.fetchval(ended) == ["CANCELED", "SUCCEEDED"]
    assert await stage.database.pool.fetchval("SELECT sum(held_micro)::bigint FROM wallets") == 0
    charged = await stage.database.pool.fetchval("SELECT sum(charged_micro)::bigint FROM usage_events")
    assert await stage.spent_micro() == charged > 0
    assert stage.gate.services.calls._in_flight.count == 0
    assert "could not be ended" not in caplog.text


async def test_who_left_while_the_hold_was_placed_has_the_provider_asked_for_nothing(stage: Theatre) -> None:
    stage.plays.plays = [silent]
    services = stage.gate.services
    begin, held, may_go_on = services.streams._settling.begin, asyncio.Event(), asyncio.Event()

    async def slow(admitted, gate):
        placed = await begin(admitted, gate)
        held.set()
        await may_go_on.wait()
        return placed

    services.streams._settling.begin = slow
    opening = asyncio.create_task(services.streams.open(await caller_of(stage), request()))
    await held.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    may_go_on.set()
    assert (await stage.settled())["status"] == "CANCELED"
    assert stage.alpha.requests == []
    assert await stage.spent_micro() == 0


# A client's disconnection


async def test_a_client_that_disconnects_before_the_stream_ends_its_opening_and_leaves_the_task_usable() -> None:
    messages: asyncio.Queue[dict] = asyncio.Queue()
    left = asyncio.Event()

    async def opening() -> CallStream:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise
        raise AssertionError

    asyncio.get_running_loop().call_later(0.01, messages.put_nowait, {"type": "http.disconnect"})
    with pytest.raises(ClientGone):
        async with Watched(messages.get, opening()):
            raise AssertionError
    assert left.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_server_that_stops_is_no_client_that_left() -> None:
    messages: asyncio.Queue[dict] = asyncio.Queue()

    async def serve() -> None:
        async with Watched(messages.get, asyncio.Event().wait()):
            raise AssertionError

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize(("size", "most"), [(1, QUEUE_CHUNKS), (CHUNK_BYTES, QUEUE_CHUNKS // 2), (10 * 1024 * 1024, 1)])
async def test_a_slow_reader_holds_up_the_provider_by_what_waits_for_it_and_one_that_leaves_does_not(
    size, most
) -> None:
    stream, sent = CallStream(uuid7()), 0

    async def produce() -> None:
        nonlocal sent
        for _ in range(3 * QUEUE_CHUNKS):
            await stream.put(StreamedEvent(stream.call_id, b"x" * size, {}))
            sent += 1

    producing = asyncio.create_task(produce())
    for read in range(3):
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent == most + read
        await stream.__anext__()
    stream.leave()
    await asyncio.wait_for(producing, 30)


async def test_pieces_that_came_together_are_sent_in_one_and_make_room_for_as_many() -> None:
    stream, sent, first_is_sent, may_go_on = CallStream(uuid7()), [], asyncio.Event(), asyncio.Event()

    async def send(message: dict) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not first_is_sent.is_set():
            first_is_sent.set()
            await may_go_on.wait()

    async def produce() -> None:
        for number in range(2 * QUEUE_CHUNKS):
            await stream.put(StreamedEvent(stream.call_id, b"%d" % number, {}))
        stream.end(StreamedFailure(stream.call_id, ClientLeft(), None))

    producing = asyncio.create_task(produce())
    sending = asyncio.create_task(_stream(stream, OpenAIWriter(lambda: Decimal(1)), send, []))
    await first_is_sent.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.wait_for(asyncio.gather(producing, sending), 30)
    start, *pieces, end = sent
    assert start["type"] == "http.response.start"
    assert b"".join(piece["body"] for piece in pieces) == b"".join(b"data: %d\n\n" % n for n in range(2 * QUEUE_CHUNKS))
    assert len(pieces) == 2
    assert all(piece["more_body"] for piece in pieces)
    assert not end.get("more_body")


async def test_a_client_that_disconnects_later_leaves_the_stream() -> None:
    messages: asyncio.Queue[dict] = asyncio.Queue()
    stream = CallStream(uuid7())

    async def opening() -> CallStream:
        return stream

    async with Watched(messages.get, opening()):
        assert not stream._left
        messages.put_nowait({"type": "http.disconnect"})
        await asyncio.sleep(0.01)
        assert stream._left
