"""A streamed call: chunks are forwarded as they come, the last one after its settlement is committed.

A reader that is slow slows the provider down (a bounded queue); one that leaves ends the provider's call, and what was
generated until then is settled.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from uuid import UUID

from gateway.admission import Admitted
from gateway.call_stream import CallStream
from gateway.calls import Calls, called, ended_by, released, result_of
from gateway.errors import CallInterrupted, ClientLeft
from gateway.failures import as_refusal
from gateway.in_flight import InFlight, Running
from gateway.metered import metered
from gateway.places import Places
from gateway.repeats import Repeats
from gateway.routing import stream_of
from gateway.settling import Settling
from gateway.so_far import SoFar
from gateway.views import Caller, CallRequest, CallResult, StreamedEnd, StreamedEvent, StreamedFailure
from kit.clock import now
from kit.errors import Refusal
from metering.operations import UsageFacts
from metering.views import Repeat
from providers.base import JsonObject, Usage
from providers.errors import ProviderError
from providers.registry import Registry

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """What has been produced so far; the running cost is read from it."""

    provider: str = ""
    content_bytes: int = 0
    usage: Usage | None = None
    held_back: JsonObject | None = None


class Streams:
    """Opens streamed calls."""

    def __init__(
        self,
        calls: Calls,
        providers: Registry,
        settling: Settling,
        in_flight: InFlight,
        repeats: Repeats,
        places: Places,
    ) -> None:
        """The parts of one process, made by app.lifespan."""
        self._calls = calls
        self._providers = providers
        self._settling = settling
        self._in_flight = in_flight
        self._repeats = repeats
        self._places = places
        self._followable: dict[UUID, CallStream] = {}
        """Running calls with an idempotency key, by call."""

    async def open(self, caller: Caller, request: CallRequest) -> CallStream:
        """The stream, once the provider has sent its first chunk: until then a failure is an ordinary refusal.

        A repeat of a call that still runs in this process follows it; of one elsewhere it waits for the end.
        Raises what gateway.calls.Calls.call raises.
        """
        admitted = await self._calls.offers.admit(caller, request, now())
        stream = CallStream(admitted.call_id, gathers=admitted.claim is not None)
        opened: asyncio.Future[CallStream] = asyncio.get_running_loop().create_future()
        task = self._in_flight.own(self._run_in_place(admitted, stream, opened))
        task.add_done_callback(lambda done: _tell(opened, stream, done))
        try:
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            stream.leave()
            opened.add_done_callback(_leave)
            raise

    async def _run_in_place(self, admitted: Admitted, stream: CallStream, opened: "asyncio.Future[CallStream]") -> None:
        async with self._places.taken(admitted.caller):
            await self._run(admitted, stream, opened)

    async def _run(self, admitted: Admitted, stream: CallStream, opened: "asyncio.Future[CallStream]") -> None:
        placed = await self._settling.hold(admitted)
        if isinstance(placed, Repeat):
            running = None if placed.completed or placed.call_id is None else self._followable.get(placed.call_id)
            if running is not None:
                _open(opened, running.follow())
                return
            result = await self._repeats.result(admitted, placed)
            stream.call_id = result.call_id
            stream.end(StreamedEnd(result, None))
            _open(opened, stream)
            return
        progress = _Progress()
        self._in_flight.add(
            Running(
                admitted.call_id,
                admitted.caller.wallet_id,
                self._in_flight.expiry(admitted.created_at),
                read_cost=lambda: _running_cost(admitted, progress),
            )
        )
        self._calls.write_after_steps(admitted)
        if admitted.claim is not None:
            self._followable[admitted.call_id] = stream
        try:
            refusal = await self._produced(admitted, progress, stream, opened)
            await self._finish(admitted, progress, refusal, stream, opened)
        finally:
            self._in_flight.remove(admitted.call_id)
            self._followable.pop(admitted.call_id, None)

    async def _produced(
        self, admitted: Admitted, progress: _Progress, stream: CallStream, opened: "asyncio.Future[CallStream]"
    ) -> Refusal | None:
        """Forward until the end; the reason when it did not come to a good one."""
        task = asyncio.create_task(self._forward(admitted, progress, stream, opened))
        stream.produced_by(task)
        await asyncio.wait({task})
        if task.cancelled():
            return ClientLeft()
        error = task.exception()
        if error is None:
            return None
        if isinstance(error, ProviderError):
            return as_refusal(error)
        raise error

    async def _forward(
        self, admitted: Admitted, progress: _Progress, stream: CallStream, opened: "asyncio.Future[CallStream]"
    ) -> None:
        progress.provider, upstream = await stream_of(self._providers, admitted)
        async with contextlib.aclosing(upstream):
            async for chunk in upstream:
                if chunk.parsed is None:
                    continue
                progress.content_bytes += chunk.content_bytes
                if progress.held_back is not None:
                    await stream.put(StreamedEvent(admitted.call_id, None, progress.held_back))
                    progress.held_back = None
                if chunk.usage is not None:
                    progress.usage = chunk.usage
                    progress.held_back = chunk.parsed
                else:
                    await stream.put(StreamedEvent(admitted.call_id, chunk.data, chunk.parsed))
                _open(opened, stream)

    async def _finish(
        self,
        admitted: Admitted,
        progress: _Progress,
        refusal: Refusal | None,
        stream: CallStream,
        opened: "asyncio.Future[CallStream]",
    ) -> None:
        produced = progress.content_bytes > 0 or progress.usage is not None or _stepped(admitted)
        if refusal is not None and not produced:
            await self._settling.release(released(admitted, refusal))
            stream.end(StreamedFailure(admitted.call_id, refusal, None))
            if not opened.done():
                raise called(refusal, admitted)
            return
        result = await self._settle(admitted, progress, refusal, stream.so_far)
        if refusal is None:
            stream.end(StreamedEnd(result, progress.held_back))
        else:
            stream.end(StreamedFailure(admitted.call_id, refusal, result))
        _open(opened, stream)

    async def _settle(
        self, admitted: Admitted, progress: _Progress, refusal: Refusal | None, so_far: SoFar | None
    ) -> CallResult:
        usage, cost = metered(admitted, progress.usage, progress.content_bytes, progress.provider)
        whole = so_far.body() if so_far is not None and refusal is None else None
        operation = self._calls.settlement(admitted, usage, cost, whole)
        if refusal is not None:
            operation = ended_by(operation, refusal)
        settled = await self._settling.settle(operation)
        return result_of(admitted, None, usage, operation, settled, now())


def _stepped(admitted: Admitted) -> bool:
    """Whether a step of a chain has ended."""
    return admitted.chain is not None and admitted.chain.so_far(None, 0)[0].requests > 0


def _running_cost(admitted: Admitted, progress: _Progress) -> tuple[int, UsageFacts]:
    usage, cost = metered(admitted, None, progress.content_bytes, progress.provider)
    return (0 if progress.content_bytes == 0 and admitted.chain is None else cost), usage


def _open(opened: "asyncio.Future[CallStream]", stream: CallStream) -> None:
    if not opened.done():
        opened.set_result(stream)


def _leave(opened: "asyncio.Future[CallStream]") -> None:
    """Nobody waits for the stream any more."""
    if not opened.cancelled() and opened.exception() is None:
        opened.result().leave()


def _tell(opened: "asyncio.Future[CallStream]", stream: CallStream, done: "asyncio.Task[None]") -> None:
    """What ended the call unforeseen reaches the one who waits: for the stream, or for its last event."""
    error = None if done.cancelled() else done.exception()
    if not opened.done():
        opened.set_exception(error if error is not None else ClientLeft())
        opened.exception()  # the reader may be gone: then nobody else retrieves it
        stream.end(StreamedFailure(stream.call_id, CallInterrupted(), None))  # for those who follow
    elif error is not None or done.cancelled():
        logger.error(
            "the streamed call %s could not be ended; its hold is left to the reaper", stream.call_id, exc_info=error
        )
        stream.end(StreamedFailure(stream.call_id, CallInterrupted(), None))
