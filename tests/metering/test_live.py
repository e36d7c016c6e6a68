"""Announcements between processes, over a real Valkey that also goes away."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from kit.ids import uuid7
from kit.tasks import stop
from metering import live, live_hub
from metering.live import CHANNEL, IDS_PER_MESSAGE, MAX_UNSENT, Announcer, ids_of
from metering.live_hub import LiveHub, Watch
from metering.redis_link import connect_node
from tests.metering.redis_servers import Server

WALLET = UUID(int=1)


class Process:
    """What one process has of it, on connections of its own."""

    def __init__(self, url: str) -> None:
        self.redis = connect_node(url)
        self.announcer = Announcer(self.redis)
        self.hub = LiveHub(self.announcer, self.redis)


@contextlib.asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    made = Process(url)
    made.announcer.start()
    running = asyncio.create_task(made.hub.run())
    yield made
    await stop(running)
    await made.announcer.close()
    await made.redis.aclose()


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(process(redis_url)),
            await stack.enter_async_context(process(redis_url)),
        )


async def woken(watch: Watch) -> None:
    async with asyncio.timeout(30):
        await watch.changed()


async def is_quiet(watch: Watch) -> bool:
    try:
        async with asyncio.timeout(0.3):
            await watch.changed()
    except TimeoutError:
        return True
    return False


async def settled(watch: Watch, *heard_by: Process) -> None:
    """The wake that comes when listening begins, where it has not come yet."""
    async with asyncio.timeout(30):
        while not all(each.hub.is_following for each in heard_by):
            await asyncio.sleep(0.01)
    while not await is_quiet(watch):
        pass


async def test_an_announcement_wakes_those_who_watch_that_id_in_every_process(two) -> None:
    here, there = two
    async with here.hub.watch(WALLET) as mine, there.hub.watch(WALLET) as theirs, there.hub.watch(uuid7()) as another:
        for watch in (mine, theirs, another):
            await settled(watch, here, there)
        here.announcer.announce([WALLET])
        await woken(mine)
        await woken(theirs)
        assert await is_quiet(another)
        assert await is_quiet(mine), "its own message is not heard again over Redis"


async def test_many_ids_travel_in_few_messages(two, redis_url: str) -> None:
    here, there = two
    ids = [uuid7() for _ in range(IDS_PER_MESSAGE + 5)]
    async with connect_node(redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        async with there.hub.watch(ids[0]) as first, there.hub.watch(ids[-1]) as last:
            await settled(first, there)
            await settled(last, there)
            here.announcer.announce(ids)
            await woken(first)
            await woken(last)
        messages: list[bytes] = []
        async with asyncio.timeout(30):
            while (message := await pubsub.get_message(timeout=0.3)) or len(messages) < 2:
                if message and message["type"] == "message":
                    messages.append(message["data"])
    assert len(messages) == 2
    assert frozenset().union(*(ids_of(data[8:]) for data in messages)) == frozenset(ids)


async def test_listening_begins_with_the_first_watch_and_ends_some_time_after_the_last(
    two, redis_url, monkeypatch
) -> None:
    here, _ = two
    monkeypatch.setattr(live_hub, "LINGER_S", 0.2)
    async with connect_node(redis_url) as redis:

        async def listeners() -> int:
            return (await redis.pubsub_numsub(CHANNEL))[0][1]

        assert await listeners() == 0
        async with here.hub.watch(WALLET):
            assert here.hub.is_following
            assert await listeners() == 1
        async with asyncio.timeout(30):
            while await listeners():
                await asyncio.sleep(0.02)
        async with here.hub.watch(WALLET):
            assert here.hub.is_following


async def test_an_unreadable_message_makes_everybody_look(two, redis_url: str) -> None:
    here, _ = two
    async with connect_node(redis_url) as redis, here.hub.watch(WALLET) as watch:
        await settled(watch, here)
        await redis.publish(CHANNEL, b"nonsense of no length")
        await woken(watch)


async def test_without_redis_it_is_heard_within_the_process_and_by_looking_and_all_is_told_when_it_is_back(
    monkeypatch, caplog
) -> None:
    monkeypatch.setattr(live_hub, "POLL_S", 0.5)
    monkeypatch.setattr(live_hub, "READY_WAIT_S", 0.1)
    monkeypatch.setattr(live, "RETRY_PAUSE_S", 0.2)
    server = Server().start()
    try:
        async with (
            process(server.url) as here,
            process(server.url) as there,
            here.hub.watch(WALLET) as mine,
            there.hub.watch(WALLET) as theirs,
        ):
            assert there.hub.is_following
            server.kill()
            with caplog.at_level(logging.WARNING):
                async with asyncio.timeout(30):
                    while there.hub.is_following or here.hub.is_following:
                        await asyncio.sleep(0.01)
                await woken(theirs)  # by looking
                here.announcer.announce([WALLET])
                await woken(mine)
            assert "Watching wallets by looking" in caplog.text
            server.start()
            async with asyncio.timeout(30):
                while not (there.hub.is_following and here.hub.is_following):
                    await asyncio.sleep(0.01)
            monkeypatch.setattr(live_hub, "POLL_S", 1_000)
            await settled(theirs, there)
            here.announcer.announce([WALLET])
            await woken(theirs)
    finally:
        server.stop()


async def test_too_much_to_keep_for_a_redis_that_is_away_becomes_everything(monkeypatch) -> None:
    monkeypatch.setattr(live, "RETRY_PAUSE_S", 0.1)
    monkeypatch.setattr(live_hub, "RETRY_PAUSE_S", 0.1)
    server = Server().start()
    try:
        async with process(server.url) as here, process(server.url) as there:
            server.kill()
            here.announcer.announce([uuid7() for _ in range(MAX_UNSENT + 1)])
            await asyncio.sleep(0.3)
            async with there.hub.watch(WALLET) as theirs:
                here.announcer._retry_at = float("inf")  # not yet: first the other must hear again
                server.start()
                async with asyncio.timeout(30):
                    while not there.hub.is_following:
                        await asyncio.sleep(0.01)
                await settled(theirs, there)
                here.announcer._retry_at = float("-inf")
                here.announcer.announce([uuid7()])
                await woken(theirs)
    finally:
        server.stop()
