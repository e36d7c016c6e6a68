"""A streamed call: chunks are forwarded as they come, the last one after its settlement is committed.

A reader that is slow slows the provider down (a bounded queue); one that leaves ends the provider's call, and what was
generated until then is settled.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from gateway.admission import Admitted
from gateway.audio_so_far import SoundSoFar, TranscriptSoFar
from gateway.call_stream import CallStream, Gathered
from gateway.calls import Calls, called, released, result_of, while_held
from gateway.errors import CallInterrupted, ClientLeft
from gateway.failures import as_refusal, end_of
from gateway.in_flight import InFlight, Running
from gateway.message_so_far import MessageSoFar
from gateway.metered import Metered, metered
from gateway.metrics import note_end
from gateway.places import Place, Places
from gateway.repeats import Repeats
from gateway.response_so_far import ResponseSoFar
from gateway.routed import Routed
from gateway.routing import Router
from gateway.rules.truth import End, Seen
from gateway.settling import Settling, held
from gateway.so_far import SoFar
from gateway.tracing import Step
from gateway.views import Caller, CallRequest, CallResult, Gate, StreamedEnd, StreamedEvent, StreamedFailure
from kit.clock import now
from kit.errors import Refusal, RequestFailure
from metering.operations import UsageFacts
from metering.views import Outcome, Repeat
from providers.base import JsonObject, Operation, StreamChunk, Usage
from providers.errors import ProviderError

logger = logging.getLogger(__name__)

_GATHERERS: Final = {
    Operation.MESSAGES: MessageSoFar,
    Operation.RESPONSES: ResponseSoFar,
    Operation.SPEECH: SoundSoFar,
    Operation.TRANSCRIPTION: TranscriptSoFar,
}


@dataclass(slots=True)
class _Progress:
    """What has been produced so far; the running cost is read from it."""

    routed: Routed = field(default_factory=lambda: Routed([]))
    content_bytes: int = 0
    bytes_after_usage: int = 0
    usage: Usage | None = None
    held_back: JsonObject | None = None

    def take(self, chunk: StreamChunk) -> None:
        """A chunk came: the last usage counts, with what came after it."""
        self.content_bytes += chunk.content_bytes
        if chunk.usage is not None:
            self.usage = chunk.usage
            self.bytes_after_usage = 0
        else:
            self.bytes_after_usage += chunk.content_bytes

    def seen(self) -> Seen:
        """All of it, for the truth table."""
        return Seen(self.usage, self.content_bytes, self.bytes_after_usage if self.usage is not None else 0)


class Streams:
    """Opens streamed calls."""

    def __init__(
        self,
        calls: Calls,
        router: Router,
        settling: Settling,
        in_flight: InFlight,
        repeats: Repeats,
        places: Places,
    ) -> None:
        """The parts of one process, made by app.lifespan."""
        self._calls = calls
        self._router = router
        self._settling = settling
        self._in_flight = in_flight
        self._repeats = repeats
        self._places = places
        self._followable: dict[UUID, CallStream] = {}
        """Running calls with an idempotency key, by call."""

    async def open(self, caller: Caller, request: CallRequest, gate: Gate | None = None) -> CallStream:
        """The stream, once the provider has sent its first chunk: until then a failure is an ordinary refusal.

        A repeat of a call that still runs in this process follows it; of one elsewhere it waits for the end.
        `gate` and what is raised: see gateway.calls.Calls.call.
        """
        meanwhile = while_held(gate)
        admitted = await self._calls.admitted(caller, request, gate if meanwhile is None else None)
        stream = CallStream(admitted.call_id, _gatherer(admitted), bound_micro=admitted.bound_micro)
        opened: asyncio.Future[CallStream] = asyncio.get_running_loop().create_future()
        place, asked = self._places.at_once(caller), None
        if place is not None or caller.concurrent_calls is None:  # begun here, a turn of the event loop sooner
            asked = self._settling.begin(admitted, meanwhile)
        task = self._in_flight.own(self._run_in_place(admitted, meanwhile, place, asked, stream, opened))
        task.add_done_callback(lambda done: _tell(opened, stream, done))
        try:
            return await opened
        except asyncio.CancelledError:
            # Mostly `opened` is cancelled too, and what would open it leaves it; but it may have come in the same turn.
            came = not opened.cancelled() and opened.exception() is None
            (opened.result() if came else stream).leave()
            raise

    async def _run_in_place(
        self,
        admitted: Admitted,
        gate: Gate | None,
        place: Place | None,
        asked: "asyncio.Future[Outcome] | None",
        stream: CallStream,
        opened: "asyncio.Future[CallStream]",
    ) -> None:
        with admitted.trace:
            if asked is None:
                place = await self._places.take(admitted.caller)
            try:
                asked = asked or self._settling.begin(admitted, gate)
                progress = _Progress()
                running = Running(
                    admitted.call_id,
                    admitted.caller.wallet_id,
                    self._in_flight.expiry(admitted.created_at),
                    read_cost=lambda: _running_cost(admitted, progress),
                )
                with admitted.trace.step(Step.HOLD):
                    placed = held(admitted, await asked)
                if isinstance(placed, Repeat):
                    await self._repeat(admitted, placed, stream, opened)
                else:
                    await self._run(admitted, progress, running, stream, opened)
            finally:
                if place is not None:
                    self._places.give_back(place)

    async def _repeat(
        self, admitted: Admitted, placed: Repeat, stream: CallStream, opened: "asyncio.Future[CallStream]"
    ) -> None:
        followed = None if placed.completed or placed.call_id is None else self._followable.get(placed.call_id)
        if followed is not None:
            _open(opened, followed.follow())
            return
        result = await self._repeats.result(admitted, placed)
        stream.call_id = result.call_id
        stream.end(StreamedEnd(result, None))
        _open(opened, stream)

    async def _run(
        self,
        admitted: Admitted,
        progress: _Progress,
        running: Running,
        stream: CallStream,
        opened: "asyncio.Future[CallStream]",
    ) -> None:
        self._in_flight.add(running)
        self._calls.write_after_steps(admitted)
        if stream.so_far is not None:
            self._followable[admitted.call_id] = stream
        try:
            end, refusal = await self._produced(admitted, progress, stream, opened)
            await self._finish(admitted, progress, end, refusal, stream, opened)
        finally:
            self._in_flight.remove(admitted.call_id)
            self._followable.pop(admitted.call_id, None)

    async def _produced(
        self, admitted: Admitted, progress: _Progress, stream: CallStream, opened: "asyncio.Future[CallStream]"
    ) -> tuple[End, Refusal | None]:
        """Forward until the end: how it ended, and the reason when that is not a good one.

        Without a task of its own, which would delay the first output: who leaves cancels this one, and only meanwhile.
        """
        task = asyncio.current_task()
        assert task is not None, "it runs in a task of the gateway's own"
        ended: tuple[End, Refusal | None] | None = None
        if stream.produced_by(task):
            try:
                await self._forward(admitted, progress, stream, opened)
                ended = End.FINISHED, None
            except ProviderError as error:
                admitted.trace.provider_failed(error)
                ended = end_of(error), as_refusal(error)
            except asyncio.CancelledError:
                if not stream.produced() or task.cancelling() > 1:
                    raise  # the gateway's own end
            finally:
                if stream.produced():
                    task.uncancel()
        admitted.trace.answered(progress.usage)
        return (End.LEFT, ClientLeft()) if ended is None else ended

    async def _forward(
        self, admitted: Admitted, progress: _Progress, stream: CallStream, opened: "asyncio.Future[CallStream]"
    ) -> None:
        begun = await self._router.stream(admitted, progress.routed)
        async with contextlib.aclosing(begun.rest):
            for chunk in begun.head:
                await _pass_on(admitted, progress, stream, chunk)
                _open(opened, stream)
            await asyncio.sleep(0)  # the reader's turn: the first output is on its way before more is read
            try:
                async for chunk in begun.rest:
                    await _pass_on(admitted, progress, stream, chunk)
            except ProviderError as error:
                self._router.broke(progress.routed, error)
                raise

    async def _finish(
        self,
        admitted: Admitted,
        progress: _Progress,
        end: End,
        refusal: Refusal | None,
        stream: CallStream,
        opened: "asyncio.Future[CallStream]",
    ) -> None:
        ended = metered(admitted, end, progress.seen(), progress.routed)
        if ended.usage is None:
            assert refusal is not None, "a call that finished is charged"
            await self._settling.release(released(admitted, ended.told, refusal))
            note_end(admitted.counted_as, admitted.request.operation, admitted.created_at, ended.told, 0)
            stream.end(StreamedFailure(admitted.call_id, refusal, None))
            admitted.trace.failed(refusal)
            if not opened.done():
                raise called(refusal, admitted)
            return
        result = await self._settle(admitted, ended, ended.usage, refusal, stream.so_far, progress)
        if refusal is None:
            stream.end(StreamedEnd(result, progress.held_back))
        else:
            stream.end(StreamedFailure(admitted.call_id, refusal, result))
            admitted.trace.failed(refusal)
        _open(opened, stream)

    async def _settle(
        self,
        admitted: Admitted,
        ended: Metered,
        usage: UsageFacts,
        refusal: Refusal | None,
        so_far: Gathered | None,
        progress: _Progress,
    ) -> CallResult:
        whole = _whole(so_far, progress) if so_far is not None and refusal is None else None
        operation = self._calls.settlement(admitted, ended.told, usage, ended.cost_micro, whole, refusal)
        with admitted.trace.step(Step.SETTLEMENT):
            settled = await self._settling.settle(operation)
        note_end(admitted.counted_as, admitted.request.operation, admitted.created_at, ended.told, operation.cost_micro)
        result = result_of(admitted, None, usage, operation, settled, now())
        admitted.trace.settled(usage, result.charged_micro)
        return result


async def _pass_on(admitted: Admitted, progress: _Progress, stream: CallStream, chunk: StreamChunk) -> None:
    """Hand on a chunk, but for the last one with usage and no output, which waits for the charge it will carry."""
    if chunk.parsed is None:
        return
    progress.take(chunk)
    if progress.held_back is not None:
        await stream.put(StreamedEvent(admitted.call_id, None, progress.held_back))
        progress.held_back = None
    if chunk.usage is not None and not chunk.content_bytes:
        progress.held_back = chunk.parsed
    else:
        await stream.put(StreamedEvent(admitted.call_id, chunk.data, chunk.parsed))


def _gatherer(admitted: Admitted) -> Gathered | None:
    """What keeps the output of a call that may be repeated, or whose workspace stores outputs."""
    if not admitted.keeps_output:
        return None
    return _GATHERERS.get(admitted.request.operation, SoFar)()


def _whole(so_far: Gathered, progress: _Progress) -> JsonObject:
    """The whole output, with what the last event says that is held back for the charge."""
    if progress.held_back is None:
        return so_far.body()
    whole = so_far.copy()
    whole.add(progress.held_back)
    return whole.body()


def _running_cost(admitted: Admitted, progress: _Progress) -> tuple[int, UsageFacts | None]:
    """What is charged where the process dies now: as if the reader had left."""
    ended = metered(admitted, End.LEFT, progress.seen(), progress.routed)
    return ended.cost_micro, ended.usage


def _open(opened: "asyncio.Future[CallStream]", stream: CallStream) -> None:
    """Whoever waits has the stream; one that left while it waited has left it."""
    if opened.cancelled():
        stream.leave()
    elif not opened.done():
        opened.set_result(stream)


def _tell(opened: "asyncio.Future[CallStream]", stream: CallStream, done: "asyncio.Task[None]") -> None:
    """What ended the call unforeseen reaches the one who waits, for the stream or for its last event; else it is logged."""
    error = None if done.cancelled() else done.exception()
    if not opened.done():
        opened.set_exception(error if error is not None else ClientLeft())
        opened.exception()  # the reader may be gone: then nobody else retrieves it
    elif opened.cancelled():  # of a refusal nobody wants to hear any more
        if error is not None and not isinstance(error, (Refusal, RequestFailure)):
            _log_broken(stream, error)
    elif error is not None or done.cancelled():
        _log_broken(stream, error)
    else:
        return
    stream.end(StreamedFailure(stream.call_id, CallInterrupted(), None))  # for those who follow, too


def _log_broken(stream: CallStream, error: BaseException | None) -> None:
    logger.error(
        "the streamed call %s could not be ended; its hold is left to the reaper", stream.call_id, exc_info=error
    )
