"""Tells every process within a second that a credential, role or workspace is not what it was.

Redis publish/subscribe carries it. Failure policy: while this process does not hear Redis, `is_healthy` is false and
its caches trust entries for seconds only; what it could not publish is kept and published when Redis is back; after
a gap every cache is emptied, as messages may have been missed.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

CHANNEL: Final = "tollgate:principals"
HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 3.0
PUBLISH_TIMEOUT_S: Final = 0.5
RETRY_PAUSE_S: Final = 0.5
MAX_BACKLOG: Final = 10_000
_TICK_S: Final = 0.25
_AWAY: Final = (RedisError, OSError, TimeoutError)
_log = logging.getLogger(__name__)


class ChangeKind(StrEnum):
    """What changed."""

    API_KEY = "key"
    SESSION = "session"
    USER = "user"
    ROLE = "role"
    WORKSPACE = "workspace"
    EVERYTHING = "all"


@dataclass(frozen=True, slots=True)
class Change:
    """One change: `id` of the key, session, user or workspace; for a role the user, and `workspace_id`."""

    kind: ChangeKind
    id: UUID | None = None
    workspace_id: UUID | None = None

    def as_text(self) -> str:
        """The message on the channel."""
        return ":".join([self.kind, *(key.hex for key in (self.id, self.workspace_id) if key is not None)])

    @staticmethod
    def of_text(text: str) -> "Change":
        """The change in a message; ValueError for what is none."""
        kind, *keys = text.split(":")
        ids = [UUID(hex=key) for key in keys]
        return Change(ChangeKind(kind), *ids[:2])


class Invalidations:
    """Publishes changes, and tells listeners in this process of everyone's."""

    def __init__(self, redis: Redis) -> None:
        """`redis` reaches one server or one node of a cluster, whose bus carries messages to all nodes."""
        self._redis = redis
        self._listeners: list[Callable[[Change], None]] = []
        self._backlog: deque[str] = deque()
        self._heard_at = float("-inf")

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call it with every change, in the event loop; it must be quick and must not raise."""
        self._listeners.append(listener)

    @property
    def is_healthy(self) -> bool:
        """Whether this process would have heard of changes made elsewhere."""
        return time.monotonic() - self._heard_at < SILENCE_S

    @property
    def unsent(self) -> int:
        """How many changes wait for Redis, and are not known to other processes yet."""
        return len(self._backlog)

    async def publish(self, *changes: Change) -> None:
        """Apply the changes here and tell all others. Call it after the commit. Never raises for Redis' sake."""
        for change in changes:
            self._tell(change)
            if len(self._backlog) >= MAX_BACKLOG:
                self._backlog.clear()
                self._backlog.append(Change(ChangeKind.EVERYTHING).as_text())
            self._backlog.append(change.as_text())
        await self._send_backlog()

    async def run(self) -> None:
        """Subscribe and stay subscribed, until cancelled."""
        while True:
            try:
                await self._subscribe()
            except _AWAY as error:
                self._heard_at = float("-inf")
                _log.warning("Not hearing of revocations for now: %s", type(error).__name__)
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _subscribe(self) -> None:
        async with self._redis.pubsub() as pubsub:
            async with asyncio.timeout(SILENCE_S):
                await pubsub.subscribe(CHANNEL)
            pinged_at = float("-inf")
            is_subscribed = False
            began_at = time.monotonic()
            while True:
                if time.monotonic() - pinged_at > HEARTBEAT_S:
                    pinged_at = time.monotonic()
                    async with asyncio.timeout(SILENCE_S):
                        await pubsub.ping()
                # redis-py leaves the type of a message's parts open.
                message: Mapping[str, bytes | str | None] | None = await pubsub.get_message(timeout=_TICK_S)  # pyright: ignore[reportUnknownVariableType]
                if message is not None:
                    if message["type"] == "subscribe":
                        is_subscribed = True
                        self._tell(Change(ChangeKind.EVERYTHING))
                    elif message["type"] == "message":
                        self._receive(message["data"] or b"")  # pyright: ignore[reportUnknownArgumentType] - as above
                    if is_subscribed:
                        self._heard_at = time.monotonic()
                if time.monotonic() - max(self._heard_at, began_at) > SILENCE_S:
                    raise TimeoutError
                await self._send_backlog()

    async def _send_backlog(self) -> None:
        while self._backlog:
            text = self._backlog.popleft()
            try:
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                    await self._redis.publish(CHANNEL, text)
            except _AWAY as error:
                self._backlog.appendleft(text)
                _log.warning("A revocation waits for Redis: %s", type(error).__name__)
                return
            except asyncio.CancelledError:
                self._backlog.appendleft(text)
                raise

    def _receive(self, payload: bytes | str) -> None:
        try:
            change = Change.of_text(payload.decode() if isinstance(payload, bytes) else payload)
        except (ValueError, TypeError):
            _log.warning("An unreadable message on %s; forgetting everything", CHANNEL)
            change = Change(ChangeKind.EVERYTHING)
        self._tell(change)

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)
