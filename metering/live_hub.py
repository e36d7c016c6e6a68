"""Wakes those of this process who watch a wallet or a call, when any process announces a change of it.

A watch is a flag and no queue: who reads slowly reads the newest state, and nothing piles up behind them. Failure
policy: while Redis is away every watch is woken every POLL_S seconds, with one warning, and when it is back all are,
as messages may have been missed. Even with Redis there all are woken every LOOK_S seconds.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from metering.live import AWAY, CHANNEL, PAUSE_S, SENDER_BYTES, Announcer, ids_of

POLL_S: Final = 2.0
LOOK_S: Final = 30.0
READY_WAIT_S: Final = 1.0
"""How long a new watch waits for Redis to confirm that messages will come."""
LINGER_S: Final = 5.0
"""How long the process goes on listening when its last watch has ended."""
HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 3.0
RETRY_PAUSE_S: Final = 0.5
_TICK_S: Final = 0.25

_log = logging.getLogger(__name__)


class Watch:
    """One subscriber's view on its ids."""

    def __init__(self) -> None:
        """Made by LiveHub.watch; nothing has changed yet."""
        self._event = asyncio.Event()
        self._told_at = float("-inf")

    async def changed(self) -> None:
        """Wait until something may have changed since the last time; at most ten times a second."""
        await self._event.wait()
        pause = self._told_at + PAUSE_S - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        self._event.clear()
        self._told_at = time.monotonic()

    def wake(self) -> None:
        """Something may have changed."""
        self._event.set()


class LiveHub:
    """One per process; listens to Redis only while somebody watches."""

    def __init__(self, announcer: Announcer, redis: Redis) -> None:
        """`redis` reaches one server or one node of a cluster, whose bus carries messages to all nodes."""
        self._redis = redis
        self._own = announcer.sender
        self._watches: dict[UUID, set[Watch]] = {}
        self._wanted = asyncio.Event()
        self._following = asyncio.Event()
        self._last_watch_at = float("-inf")
        announcer.listen(self.wake)

    @property
    def is_following(self) -> bool:
        """Whether this process hears what others announce."""
        return self._following.is_set()

    @property
    def count(self) -> int:
        """Ids that somebody watches."""
        return len(self._watches)

    @asynccontextmanager
    async def watch(self, *ids: UUID) -> AsyncGenerator[Watch]:
        """A watch on these ids. What is read within the block and then watched is never stale for long."""
        watch = Watch()
        for key in ids:
            self._watches.setdefault(key, set()).add(watch)
        self._wanted.set()
        try:
            if not self.is_following:
                with suppress(TimeoutError):
                    async with asyncio.timeout(READY_WAIT_S):
                        await self._following.wait()
            yield watch
        finally:
            for key in ids:
                left = self._watches[key]
                left.discard(watch)
                if not left:
                    del self._watches[key]
            self._last_watch_at = time.monotonic()

    def wake(self, ids: Iterable[UUID]) -> None:
        """Tell those who watch one of these."""
        watches = self._watches
        if not watches:
            return
        for key in ids:
            for watch in watches.get(key, ()):
                watch.wake()

    def wake_all(self) -> None:
        """Tell everybody: anything may have changed."""
        for watching in self._watches.values():
            for watch in watching:
                watch.wake()

    async def run(self) -> None:
        """Listen while somebody watches, until cancelled."""
        polling = asyncio.create_task(self._poll(), name="live-polling")
        try:
            while True:
                await self._wanted.wait()
                try:
                    await self._follow()
                except AWAY as error:
                    _log.warning("Watching wallets by looking every %g s: %s", POLL_S, type(error).__name__)
                    self._following.clear()
                    await asyncio.sleep(RETRY_PAUSE_S)
        finally:
            polling.cancel()

    async def _follow(self) -> None:
        async with self._redis.pubsub() as pubsub:
            async with asyncio.timeout(SILENCE_S):
                await pubsub.subscribe(CHANNEL)
            try:
                await self._hear(pubsub)
            finally:
                self._following.clear()

    async def _hear(self, pubsub: PubSub) -> None:
        """Pass messages on until nobody watches any more; TimeoutError where Redis says nothing, not even to a ping."""
        heard_at, pinged_at = time.monotonic(), float("-inf")
        while self._is_wanted():
            if time.monotonic() - pinged_at > HEARTBEAT_S:
                pinged_at = time.monotonic()
                async with asyncio.timeout(SILENCE_S):
                    await pubsub.ping()
            # redis-py leaves the type of a message's parts open.
            message: Mapping[str, bytes | str | None] | None = await pubsub.get_message(timeout=_TICK_S)  # pyright: ignore[reportUnknownVariableType]
            if message is not None:
                heard_at = time.monotonic()
                if message["type"] == "subscribe":
                    self._following.set()
                    self.wake_all()
                elif message["type"] == "message":
                    self._receive(message["data"])  # pyright: ignore[reportUnknownArgumentType]  as above
            if time.monotonic() - heard_at > SILENCE_S:
                raise TimeoutError

    def _is_wanted(self) -> bool:
        if self._watches or time.monotonic() - self._last_watch_at < LINGER_S:
            return True
        self._wanted.clear()
        return False

    def _receive(self, payload: bytes | str | None) -> None:
        assert isinstance(payload, bytes), "this client decodes nothing"
        sender, packed = payload[:SENDER_BYTES], payload[SENDER_BYTES:]
        if sender == self._own:
            return  # heard without Redis
        try:
            ids = ids_of(packed)
        except ValueError:
            _log.warning("An unreadable message on %s; looking at everything", CHANNEL)
            ids = frozenset[UUID]()
        if ids:
            self.wake(ids)
        else:
            self.wake_all()

    async def _poll(self) -> None:
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            if time.monotonic() - looked_at >= (LOOK_S if self.is_following else POLL_S):
                looked_at = time.monotonic()
                self.wake_all()
