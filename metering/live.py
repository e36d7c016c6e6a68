"""Announces which wallets and calls have changed: in this process at once, to the others by Redis.

An announcement says that something is to be read again, never what it holds, so it may come twice, late or merged with
others; each id is announced at most ten times a second. Failure policy: while Redis is away this process still hears
its own, what could not be published is kept and published when Redis is back, and other processes look by themselves.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kit.tasks import stop

CHANNEL: Final = "tollgate:live"
PAUSE_S: Final = 0.1
"""Between two rounds of announcements."""
PUBLISH_TIMEOUT_S: Final = 0.5
RETRY_PAUSE_S: Final = 1.0
IDS_PER_MESSAGE: Final = 2_048
MAX_UNSENT: Final = 20_000
"""Ids kept for a Redis that is away; more become one message that says "everything"."""
ID_BYTES: Final = 16
SENDER_BYTES: Final = 8
AWAY: Final = (RedisError, OSError, TimeoutError)

_log = logging.getLogger(__name__)

Listener = Callable[[frozenset[UUID]], None]


class Announcer:
    """One per process. A message is the sender's mark, then 16 bytes for each id; without any it means everything."""

    def __init__(self, redis: Redis) -> None:
        """`redis` reaches one server or one node of a cluster, whose bus carries messages to all nodes."""
        self.sender = os.urandom(SENDER_BYTES)
        self._redis = redis
        self._listeners: list[Listener] = []
        self._changed: set[UUID] = set()
        self._arrived = asyncio.Event()
        self._unsent: set[UUID] = set()
        self._has_lost = False
        self._retry_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def listen(self, listener: Listener) -> None:
        """Call it with the ids of each round, in the event loop; it must be quick and must not raise."""
        self._listeners.append(listener)

    def announce(self, ids: Iterable[UUID]) -> None:
        """These have changed, and the change is committed. Costs an update of a set; never waits, never raises."""
        self._changed.update(ids)
        self._arrived.set()

    def start(self) -> None:
        """Begin to announce."""
        self._task = asyncio.create_task(self._run(), name="announcements")

    async def close(self) -> None:
        """Announce what waits, then stop."""
        if self._task is not None:
            await stop(self._task)
        self._retry_at = float("-inf")
        await self._round()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_PAUSE_S if self._unsent or self._has_lost else None):
                    await self._arrived.wait()
            await self._round()
            await asyncio.sleep(PAUSE_S)

    async def _round(self) -> None:
        self._arrived.clear()
        changed, self._changed = frozenset(self._changed), set()
        if changed:
            for listener in self._listeners:
                listener(changed)
            self._unsent |= changed
        if len(self._unsent) > MAX_UNSENT:
            self._unsent.clear()
            self._has_lost = True
        if (self._unsent or self._has_lost) and time.monotonic() >= self._retry_at:
            await self._publish()

    async def _publish(self) -> None:
        sending, self._unsent = self._unsent, set()
        try:
            for message in self._messages(sending):
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                    await self._redis.publish(CHANNEL, message)
        except BaseException as error:
            self._unsent |= sending
            if not isinstance(error, AWAY):
                raise
            self._retry_at = time.monotonic() + RETRY_PAUSE_S
            _log.warning("Changes wait for Redis to be told to other processes: %s", type(error).__name__)
        else:
            self._has_lost = False

    def _messages(self, ids: set[UUID]) -> Iterator[bytes]:
        if self._has_lost:
            yield self.sender
            return
        packed = b"".join([key.bytes for key in ids])
        size = IDS_PER_MESSAGE * ID_BYTES
        for start in range(0, len(packed), size):
            yield self.sender + packed[start : start + size]


def ids_of(payload: bytes) -> frozenset[UUID]:
    """The ids in a message behind the sender's mark; ValueError for what is none."""
    if len(payload) % ID_BYTES:
        raise ValueError("not a whole number of ids")
    return frozenset(UUID(bytes=payload[at : at + ID_BYTES]) for at in range(0, len(payload), ID_BYTES))
