"""The events of a streamed call on their way to its readers: the one who asked, and those who attach to it meanwhile."""

import asyncio
from collections import deque
from typing import Final
from uuid import UUID

from gateway.audio_so_far import SoundSoFar, TranscriptSoFar
from gateway.events_so_far import EventsSoFar
from gateway.so_far import SoFar
from gateway.views import StreamedEnd, StreamedEvent, StreamedFailure
from providers.base import JsonObject

QUEUE_CHUNKS: Final = 64
"""Chunks that wait for a slow reader before the provider is made to wait."""
CHUNK_BYTES: Final = 16 * 1024
"""A larger chunk, of sound, counts as several."""

Gathered = SoFar | EventsSoFar | SoundSoFar | TranscriptSoFar
"""What has come so far, by the operation's form."""
Event = StreamedEvent | StreamedEnd | StreamedFailure


class CallStream:
    """The events of one streamed call, in order; ends after StreamedEnd or StreamedFailure. `leave` it when you go."""

    def __init__(self, call_id: UUID, so_far: Gathered | None = None, *, bound_micro: int = 0) -> None:
        """Made by Streams.open. `so_far` gathers what comes; with it the stream can be followed. `bound_micro`: the most
        that the call can cost, in micro-credits.
        """
        self.call_id = call_id
        self.bound_micro = bound_micro
        self.so_far = so_far
        self._events: deque[Event] = deque()
        self._arrival: asyncio.Future[None] | None = None
        """What the reader waits for. This and `_reading`, of one reader and one writer each, do what a queue and a semaphore
        would, at a third of their time: the first output of a call passes here."""
        self._room = QUEUE_CHUNKS
        self._reading: asyncio.Future[None] | None = None
        """What the writer waits for: that something is read, or the reader gone."""
        self._ended = False
        self._producing: asyncio.Task[None] | None = None
        self._left = False
        self._stopped = False
        self._followers: set[Follower] = set()

    def __aiter__(self) -> "CallStream":
        """Itself: it is read once."""
        return self

    async def __anext__(self) -> Event:
        """The next event, StopAsyncIteration after the last."""
        if self._ended:
            raise StopAsyncIteration
        while not self._events:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        event = self.at_hand()
        if event is not None:
            return event
        self._ended = True
        return self._events.popleft()

    def at_hand(self) -> StreamedEvent | None:
        """The next piece of the output where it has come already; None where it must be waited for, or is the end."""
        event = self._events[0] if self._events else None
        if not isinstance(event, StreamedEvent):
            return None
        self._events.popleft()
        self._room += _weight(event)
        _wake(self._reading)
        return event

    def leave(self) -> None:
        """The reader is gone: the provider is stopped and what was generated is settled, without waiting here.

        Unless others follow: then the call goes on until they have left too.
        """
        self._left = True
        _wake(self._reading)
        self._stop_if_alone()

    def follow(self) -> "CallStream":
        """Another reader: of what has come so far, merged, then of the rest."""
        assert self.so_far is not None, "only a stream that gathers what comes can be followed"
        follower = Follower(self, self.so_far.copy())
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: "Follower") -> None:
        """That reader is gone."""
        self._followers.discard(follower)
        if self._left:
            self._stop_if_alone()

    def produced_by(self, task: "asyncio.Task[None]") -> bool:
        """`task` fills the stream until `produced`; leaving cancels it meanwhile. False where the reader left already."""
        if self._left and not self._followers:
            return False
        self._producing = task
        return True

    def produced(self) -> bool:
        """No more is filled in, and leaving cancels nothing any more. True where the task was cancelled, as nobody read."""
        self._producing = None
        return self._stopped

    async def put(self, event: StreamedEvent) -> None:
        """Hand on a chunk; waits while the reader is QUEUE_CHUNKS behind. Followers are not waited for."""
        if self.so_far is not None:
            self.so_far.add(event.parsed)
            for follower in self._followers:
                follower.take(event)
        if self._left:
            return
        weight = _weight(event)
        while self._room < weight:
            self._reading = asyncio.get_running_loop().create_future()
            await self._reading
            if self._left:
                return
        self._room -= weight
        self._hand(event)

    def end(self, event: StreamedEnd | StreamedFailure) -> None:
        """Hand on the last event; never waits."""
        self._hand(event)
        for follower in self._followers:
            follower.end(event)

    def _hand(self, event: Event) -> None:
        self._events.append(event)
        _wake(self._arrival)

    def _stop_if_alone(self) -> None:
        if self._producing is not None and not self._followers:
            producing, self._producing = self._producing, None
            self._stopped = producing.cancel()


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _weight(event: StreamedEvent) -> int:
    """How much of the queue's room an event takes."""
    data = event.data
    return 1 if data is None else min(1 + len(data) // CHUNK_BYTES, QUEUE_CHUNKS)


class Follower(CallStream):
    """Reads a call that another reader began. What it has not read yet is merged: it slows nobody."""

    def __init__(self, followed: CallStream, so_far: Gathered) -> None:
        """Made by CallStream.follow."""
        super().__init__(followed.call_id, bound_micro=followed.bound_micro)
        self._followed = followed
        self._unread = so_far
        self._next: deque[JsonObject] = deque()
        """Merged, and to be read one by one."""
        self._last: StreamedEnd | StreamedFailure | None = None
        self._arrived = asyncio.Event()
        if not so_far.is_empty:
            self._arrived.set()

    async def __anext__(self) -> Event:
        """The next event, StopAsyncIteration after the last."""
        if self._ended:
            raise StopAsyncIteration
        if not self._next:
            await self._arrived.wait()
            if not self._unread.is_empty:
                self._next.extend(self._unread.chunks())
                self._unread = type(self._unread)()
            if self._last is None:
                self._arrived.clear()
        if self._next:
            return StreamedEvent(self.call_id, None, self._next.popleft())
        assert self._last is not None, "woken for a chunk or for the end"
        self._ended = True
        self._followed.unfollow(self)
        return self._last

    def take(self, event: StreamedEvent) -> None:
        """A chunk came."""
        self._unread.add(event.parsed)
        self._arrived.set()

    def end(self, event: StreamedEnd | StreamedFailure) -> None:
        """The last event came; a second one is not heard."""
        self._last = self._last or event
        self._arrived.set()

    def leave(self) -> None:
        """The call goes on for the others."""
        self._followed.unfollow(self)
