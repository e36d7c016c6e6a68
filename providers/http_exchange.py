"""One request under way on a connection, with what has come of its answer."""

import asyncio
from typing import Final, Protocol

from providers.base import Timeouts
from providers.errors import ProviderError, TimeoutPhase

PAUSE_AT_BYTES: Final = 256 * 1024
"""Reading pauses while this much of an answer waits to be taken."""

_FINISH_WITHIN_S: Final = 0.25


class Line(Protocol):
    """What an exchange asks of its connection."""

    def resume(self, exchange: "Exchange") -> None:
        """There is room for more of the answer."""
        ...

    def abandon(self, exchange: "Exchange") -> None:
        """Nobody wants the rest of the answer."""
        ...


class Exchange:
    """A request under way with what has come of its answer; serves HttpAnswer."""

    __slots__ = (
        "_buffered_bytes",
        "_connection",
        "_loop",
        "_parts",
        "_waiter",
        "complete",
        "ends_with_connection",
        "error",
        "headers",
        "headers_done",
        "last_at",
        "max_answer_bytes",
        "received_bytes",
        "sent_at",
        "started_at",
        "status",
        "timeouts",
    )

    def __init__(
        self,
        connection: Line,
        loop: asyncio.AbstractEventLoop,
        timeouts: Timeouts,
        max_answer_bytes: int,
        started_at: float,
    ) -> None:
        """`started_at`, `sent_at` and `last_at` are the loop's monotonic seconds; `last_at` 0 before the body."""
        self._connection = connection
        self._loop = loop
        self._parts: list[bytes] = []
        self._buffered_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.headers_done = False
        self.complete = False
        self.ends_with_connection = False
        self.error: ProviderError | None = None
        self.timeouts = timeouts
        self.max_answer_bytes = max_answer_bytes
        self.received_bytes = 0
        self.started_at = started_at
        self.sent_at = loop.time()
        self.last_at = 0.0

    def header(self, name: str) -> str:
        """See HttpAnswer."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    async def until_headers(self) -> None:
        """Returns when status and headers are known."""
        while not self.headers_done:
            if self.error is not None:
                raise self.error
            await self._wait()

    async def next_part(self) -> bytes:
        """See HttpAnswer."""
        while not self._parts:
            if self.complete:
                return b""
            if self.error is not None:
                raise self.error
            await self._wait()
        part = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._buffered_bytes = 0
        self._connection.resume(self)
        return part

    async def finish(self) -> None:
        """See HttpAnswer."""
        try:
            async with asyncio.timeout(_FINISH_WITHIN_S):
                while await self.next_part():
                    pass
        except (TimeoutError, ProviderError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """See HttpAnswer."""
        if not self.complete:
            self._connection.abandon(self)

    def add(self, part: bytes) -> bool:
        """Take a part of the body; True where reading should pause."""
        self._parts.append(part)
        self._buffered_bytes += len(part)
        return self._buffered_bytes >= PAUSE_AT_BYTES

    def wake(self) -> None:
        """Let the one who waits look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def overdue(self, at: float) -> TimeoutPhase | None:
        """Which timeout is over at this instant of the loop's clock."""
        timeouts = self.timeouts
        if at - self.started_at >= timeouts.total_s:
            return "total"
        if self.last_at:
            return "idle" if at - self.last_at >= timeouts.idle_s else None
        return "first_byte" if at - self.sent_at >= timeouts.first_byte_s else None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
