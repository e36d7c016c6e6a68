"""The simulated provider inside the process: what the sandbox server does, without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

import orjson

from kit.clock import now
from providers.base import (
    JsonObject,
    Operation,
    ProviderAnswer,
    ProviderRequest,
    ProviderStream,
    StreamChunk,
    Timeouts,
    Usage,
)
from providers.errors import ProviderError, UpstreamGarbage, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from providers.openai_audio import (
    speech_shown,
    speech_usage,
    transcription_asked,
    transcription_shown,
    transcription_usage,
)
from providers.openai_audio_stream import reader_for, sound_of
from providers.openai_content import generated_bytes
from providers.openai_errors import error_in, error_of_status, retry_after_s
from providers.openai_responses import ResponseReader
from providers.openai_usage import usage_of_answer, usage_of_openai
from providers.over_chat import OTHER_FORMS, answer_over_chat, stream_over_chat
from providers.response_content import bytes_of_response
from providers.sandbox_behaviour import Fault, SandboxBehaviour, behaviour_of
from providers.sandbox_call import SandboxReply, reply_to

_END: Final = StreamChunk(b"[DONE]", None, None, 0, done=True)


class SandboxProvider:
    """Serves Provider. A call's metadata says how to behave, see SandboxBehaviour; timeouts are kept as real ones."""

    def __init__(
        self,
        name: str = "sandbox",
        *,
        default: SandboxBehaviour | None = None,
        timeouts: Timeouts | None = None,
        responses: bool = False,
    ) -> None:
        """`default` is the behaviour of calls whose metadata says nothing. `responses`: it speaks the Responses API, too."""
        self.name = name
        self._translated = OTHER_FORMS - {Operation.RESPONSES} if responses else OTHER_FORMS
        self._default = default or SandboxBehaviour()
        self._timeouts = timeouts or Timeouts()

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """See Provider."""
        if request.operation in self._translated:
            return await answer_over_chat(self, request)
        behaviour, reply = await self._begin(request, streamed=False)
        _raise_fault(behaviour.fault)
        shown, usage = _shown(request, reply)
        return ProviderAnswer(
            body=shown,
            raw=None,
            usage=usage,
            upstream_request_id=f"sandbox-{request.request_id}",
            content_bytes=_content_bytes(request.operation, shown),
        )

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """See Provider."""
        if request.operation in self._translated:
            return await stream_over_chat(self, request)
        behaviour, reply = await self._begin(request, streamed=True)
        if reply.chunks is None:
            raise UpstreamGarbage("the provider's answer is not a stream")
        if behaviour.fault in (Fault.CLOSE, Fault.RESET, Fault.HTML):
            _raise_fault(behaviour.fault)
        return SandboxStream(request, behaviour, reply, request.timeouts or self._timeouts)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _begin(self, request: ProviderRequest, *, streamed: bool) -> tuple[SandboxBehaviour, SandboxReply]:
        """Wait as told, then the reply, once it is known to be a success."""
        behaviour = behaviour_of(request.body, self._default)
        timeouts = request.timeouts or self._timeouts
        hanging = behaviour.fault is Fault.HANG and not streamed
        if hanging or behaviour.delay_ms:
            await _wait(None if hanging else behaviour.delay_ms / 1000, timeouts, first=True)
        asked = request.body if request.operation is not Operation.TRANSCRIPTION else transcription_asked(request.body)
        body: JsonObject = {**asked, "model": request.upstream_model}
        if streamed and request.operation is Operation.CHAT:
            body["stream_options"] = {"include_usage": True}
        try:
            reply = reply_to(
                request.operation, body, behaviour, int(now().timestamp()), streamed=streamed, upload=request.upload
            )
        except orjson.JSONEncodeError as error:
            raise UpstreamRejected(400, f"the request cannot be written as JSON: {error}") from error
        if reply.status != 200:
            wait_s = retry_after_s("", behaviour.retry_after, now())
            raise error_of_status(reply.status, error_in(reply.body), wait_s)
        return behaviour, reply


def _shown(request: ProviderRequest, reply: SandboxReply) -> tuple[JsonObject, Usage | None]:
    if reply.sound is not None:
        return speech_shown(reply.sound, "audio/wav"), speech_usage(request.body, {})
    if request.operation is Operation.TRANSCRIPTION and request.upload is not None:
        usage = transcription_usage(reply.body, request.upload)
        return transcription_shown(request.body, reply.body), usage
    return reply.body, usage_of_answer(request.operation, reply.body)


def _content_bytes(operation: Operation, shown: JsonObject) -> int:
    return bytes_of_response(shown) if operation is Operation.RESPONSES else generated_bytes(shown, "message")


class SandboxStream:
    """Serves ProviderStream."""

    def __init__(
        self, request: ProviderRequest, behaviour: SandboxBehaviour, reply: SandboxReply, timeouts: Timeouts
    ) -> None:
        assert reply.chunks is not None
        self.upstream_request_id: str | None = f"sandbox-{request.request_id}"
        self._read = _reader_for(request)
        self._plain = reply.plain
        self._behaviour = behaviour
        self._chunks = reply.chunks
        self._timeouts = timeouts
        self._position = 0
        self._produced = False
        self._ended = False

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        return self

    async def __anext__(self) -> StreamChunk:
        """The next word."""
        if self._ended:
            raise StopAsyncIteration
        try:
            return await self._next()
        except ProviderError as error:
            self._ended = True
            error.produced = self._produced
            raise

    async def aclose(self) -> None:
        """See ProviderStream."""
        self._ended = True

    async def _next(self) -> StreamChunk:
        behaviour = self._behaviour
        if behaviour.fault is not Fault.NONE and self._position == behaviour.fault_after:
            if behaviour.fault is Fault.HANG:
                await _wait(None, self._timeouts, first=self._position == 0)
            _raise_fault(behaviour.fault)
        if behaviour.chunk_delay_ms and self._position:
            await _wait(behaviour.chunk_delay_ms / 1000, self._timeouts, first=False)
        if self._position == len(self._chunks):
            self._ended = True
            return _END
        event = self._chunks[self._position].event
        self._position += 1
        chunk = self._read(orjson.dumps(event), event)
        self._produced = self._produced or chunk.content_bytes > 0
        self._ended = chunk.done
        return replace(chunk, data=sound_of(event)) if self._plain and chunk.content_bytes else chunk


def _reader_for(request: ProviderRequest) -> Callable[[bytes, JsonObject], StreamChunk]:
    match request.operation:
        case Operation.RESPONSES:
            return ResponseReader(None).read
        case Operation.SPEECH | Operation.TRANSCRIPTION:
            return reader_for(request)
        case _:
            return _chat_chunk


def _chat_chunk(data: bytes, event: JsonObject) -> StreamChunk:
    usage = usage_of_openai(event["usage"]) if event.get("usage") is not None else None
    return StreamChunk(data, event, usage, generated_bytes(event, "delta"))


async def _wait(seconds: float | None, timeouts: Timeouts, *, first: bool) -> None:
    """Pause (None: for ever), and fail as a silent provider does where that is too long."""
    bound_s = timeouts.first_byte_s if first else timeouts.idle_s
    if seconds is not None and seconds < bound_s:
        await asyncio.sleep(seconds)
        return
    await asyncio.sleep(min(bound_s, timeouts.total_s))
    if timeouts.total_s <= bound_s:
        raise UpstreamTimeout("total")
    raise UpstreamTimeout("first_byte" if first else "idle")


def _raise_fault(fault: Fault) -> None:
    match fault:
        case Fault.NONE | Fault.HANG:
            return
        case Fault.CLOSE | Fault.RESET:
            raise UpstreamUnavailable("the provider closed the connection without an answer")
        case Fault.ERROR_EVENT:
            raise UpstreamUnavailable("the provider answered with an error")
        case Fault.HALF:
            raise UpstreamGarbage("the provider broke off in the middle of its answer")
        case Fault.GARBAGE | Fault.SHAPE | Fault.HTML | Fault.EMPTY:
            raise UpstreamGarbage("the provider's answer is not JSON")
