"""One connection of the sandbox server: HTTP/1.1 in, scripted answers out, in order."""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import httptools
import orjson

from kit.clock import now
from providers.base import JsonObject, Operation
from providers.openai_audio_stream import SOUND_DELTA, sound_of
from providers.sandbox_behaviour import Fault, SandboxBehaviour, behaviour_of
from providers.sandbox_call import SandboxReply, reply_to
from providers.sandbox_jobs_http import SandboxJobServer
from providers.sandbox_model import models
from providers.sandbox_request import Received, read_request

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_OPERATIONS: Final = {
    b"/v1/chat/completions": Operation.CHAT,
    b"/v1/responses": Operation.RESPONSES,
    b"/v1/embeddings": Operation.EMBEDDING,
    b"/v1/images/generations": Operation.IMAGE,
    b"/v1/audio/speech": Operation.SPEECH,
    b"/v1/audio/transcriptions": Operation.TRANSCRIPTION,
}
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
_CLOSE: Final = b"Connection: close\r\n"
_EVENTS: Final = b"text/event-stream; charset=utf-8"
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n"
    b"X-Request-Id: sandbox-%b\r\n\r\n"
)


class AuditLog:
    """Appends one JSON line per call served; each line is one write, so that a kill of the process loses none."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, record: JsonObject) -> None:
        """Add a line."""
        os.write(self._descriptor, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What the command line says; `authorization` is the whole header that calls must carry, None lets all in."""

    behaviour: SandboxBehaviour
    authorization: bytes | None = field(default=None, repr=False)
    log: AuditLog | None = None
    jobs: SandboxJobServer | None = None


@dataclass(slots=True)
class _Serving:
    """A model call being answered; `streamed_tokens` of its output have been written."""

    request: Received
    operation: Operation
    behaviour: SandboxBehaviour
    reply: SandboxReply
    model: object
    position: int = 0
    streamed_tokens: int = 0


class SandboxProtocol(asyncio.Protocol):
    """Requests may be pipelined: each is answered after the one before it, whatever the delays."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settings: SandboxSettings, connections: "set[SandboxProtocol]"
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._received = Received()
        self._waiting: deque[Received] = deque()
        self._serving: _Serving | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody called."""
        # uvloop's transports are asyncio's by shape, not by class.
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone: what was streamed is what was served."""
        del exc
        self._connections.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._serving is not None:
            self._record(complete=False)
        self._waiting.clear()

    def close(self) -> None:
        """The server stops."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._respond(400, _error("the request is not HTTP"), keep_alive=False)
            return
        if self._waiting and not self._busy:
            self._answer(self._waiting.popleft())

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A new request."""
        self._received = Received()

    def on_url(self, url: bytes) -> None:
        """The path, perhaps in pieces."""
        self._received.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Five headers matter."""
        lower = name.lower()
        if lower == b"x-request-id":
            self._received.request_id = value
        elif lower == b"authorization":
            self._received.authorization = value
        elif lower == b"content-type":
            self._received.content_type = value
        elif lower == b"host":
            self._received.host = value
        elif lower == b"idempotency-key":
            self._received.key = value

    def on_body(self, body: bytes) -> None:
        """A piece of the body; too much is not kept."""
        received = self._received
        received.size += len(body)
        if received.size <= MAX_BODY_BYTES:
            received.parts.append(body)

    def on_message_complete(self) -> None:
        """Wait for its turn, which is outside the parser's callbacks so that no error of ours looks like the caller's."""
        received = self._received
        received.method = self._parser.get_method()
        received.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(received)

    def _answer(self, request: Received) -> None:
        self._busy = True
        wanted = self._settings.authorization
        if wanted is not None and request.authorization != wanted:
            self._finish(request, 401, _error("incorrect API key provided"))
            return
        path = request.path.partition(b"?")[0]
        jobs = self._settings.jobs
        if jobs is not None and jobs.serves(path.decode("latin-1")):
            self._answer_job(jobs, request, path.decode("latin-1"))
            return
        operation = _OPERATIONS.get(path)
        if operation is None:
            if request.method == b"GET" and request.path.startswith(b"/v1/models"):
                self._finish(request, 200, models(0))
            else:
                self._finish(request, 404, _error("there is nothing at this address"))
            return
        if request.method != b"POST":
            self._finish(request, 405, _error("POST only"))
            return
        if request.size > MAX_BODY_BYTES:
            self._finish(request, 413, _error("the request is too long"))
            return
        body, upload = read_request(request, operation)
        if body is None:
            self._finish(request, 400, _error("the body is not a JSON object, or not a form"))
            return
        behaviour = behaviour_of(body, self._settings.behaviour)
        streamed = _is_streamed(operation, body)
        try:
            reply = reply_to(operation, body, behaviour, int(now().timestamp()), streamed=streamed, upload=upload)
        except orjson.JSONEncodeError:
            self._finish(request, 400, _error("the body is nested too deeply"))
            return
        self._serving = _Serving(request, operation, behaviour, reply, body.get("model"))
        self._after(behaviour.delay_ms, self._begin)

    def _answer_job(self, jobs: SandboxJobServer, request: Received, path: str) -> None:
        text = b"".join(request.parts)
        method, host, key = request.method.decode(), request.host.decode("latin-1"), request.key.decode("latin-1")
        reply = jobs.answer(method, path, host, key, text)

        def send() -> None:
            self._write(_head(reply.status, len(reply.body), reply.media_type) + reply.body)
            self._next(keep_alive=request.keep_alive)

        self._after(reply.delay_ms, send)

    def _begin(self) -> None:
        serving = self._serving
        assert serving is not None
        fault = serving.behaviour.fault
        if fault in (Fault.CLOSE, Fault.RESET, Fault.HTML, Fault.EMPTY):
            self._break_before(fault)
        elif serving.reply.chunks is not None:
            media_type = b"audio/wav" if serving.reply.plain else _EVENTS
            self._write(_STREAM_HEAD % (media_type, serving.request.request_id))
            self._stream()
        elif fault is Fault.NONE or serving.reply.status != 200:
            self._record(complete=serving.reply.status == 200)
            self._finish(serving.request, serving.reply.status, serving.reply.body, serving.behaviour.retry_after)
        else:
            self._break_answer(fault, serving)

    def _stream(self) -> None:
        """Write chunks until a delay, a fault or the end."""
        serving = self._serving
        assert serving is not None
        chunks = serving.reply.chunks
        assert chunks is not None
        behaviour = serving.behaviour
        pieces: list[bytes] = []
        while serving.position < len(chunks):
            if behaviour.fault is not Fault.NONE and serving.position == behaviour.fault_after:
                self._write(b"".join(pieces))
                self._break_stream(behaviour.fault)
                return
            chunk = chunks[serving.position]
            event = chunk.event
            named = event.get("type") if serving.operation is Operation.RESPONSES else None
            pieces.append(_sound(event) if serving.reply.plain else _event(orjson.dumps(event), named))
            serving.position += 1
            serving.streamed_tokens += chunk.tokens
            if behaviour.chunk_delay_ms:
                self._write(b"".join(pieces))
                self._after(behaviour.chunk_delay_ms, self._stream)
                return
        if serving.operation in (
            Operation.CHAT,
            Operation.TRANSCRIPTION,
        ):  # the others' last event says that it is the last
            pieces.append(_event(b"[DONE]"))
        pieces.append(b"0\r\n\r\n")
        self._record(complete=True)
        self._write(b"".join(pieces))
        self._next(keep_alive=serving.request.keep_alive)

    def _break_before(self, fault: Fault) -> None:
        self._record(complete=False)
        if fault is Fault.HTML:
            self._write(_head(200, 35, "text/html", _CLOSE) + b"<html><body>502 ...</body></html>\r\n")
        elif fault is Fault.EMPTY:
            self._write(_head(200, 0, "application/json", _CLOSE))
        self._next(keep_alive=False, abort=fault is Fault.RESET)

    def _break_answer(self, fault: Fault, serving: _Serving) -> None:
        if fault is Fault.HANG:
            return
        text = orjson.dumps(serving.reply.body)
        self._record(complete=False)
        if fault is Fault.HALF:
            self._write(_head(200, len(text), "application/json") + text[: len(text) // 2])
            self._next(keep_alive=False)
        elif fault is Fault.GARBAGE:
            self._write(_head(200, 12, "application/json") + b"{'oops': nil")
            self._next(keep_alive=True)
        else:
            answer: JsonObject = _error("something broke") if fault is Fault.ERROR_EVENT else {"hello": ["world"]}
            self._finish(serving.request, 200, answer)

    def _break_stream(self, fault: Fault) -> None:
        if fault is Fault.HANG:
            return
        plain = self._serving is not None and self._serving.reply.plain
        self._record(complete=False)
        if plain:  # sound has no way of saying that something went wrong
            pass
        elif fault is Fault.GARBAGE:
            self._write(_event(b"{'oops': nil"))
        elif fault is Fault.SHAPE:
            self._write(_event(b'["hello"]'))
        elif fault is Fault.ERROR_EVENT:
            self._write(_event(orjson.dumps(_error("something broke"))))
        self._next(keep_alive=False)

    def _finish(self, request: Received, status: int, body: JsonObject, retry_after: str = "") -> None:
        self._respond(status, body, keep_alive=request.keep_alive, retry_after=retry_after, ident=request.request_id)

    def _respond(
        self, status: int, body: JsonObject, *, keep_alive: bool, retry_after: str = "", ident: bytes = b""
    ) -> None:
        text = orjson.dumps(body)
        extra = b"X-Request-Id: sandbox-" + ident + b"\r\n" if ident else b""
        if retry_after:
            extra += b"Retry-After: " + retry_after.encode() + b"\r\n"
        if not keep_alive:
            extra += _CLOSE
        self._write(_head(status, len(text), "application/json", extra) + text)
        self._next(keep_alive=keep_alive)

    def _next(self, *, keep_alive: bool, abort: bool = False) -> None:
        """The request is over; go on with the one that waits, in a turn of its own so that a long line is no recursion."""
        self._serving = None
        if not keep_alive:
            self._waiting.clear()
            if self._transport is not None:
                if abort:
                    self._transport.abort()
                else:
                    self._transport.close()
        elif self._waiting:
            self._loop.call_soon(self._take_waiting)
        else:
            self._busy = False

    def _take_waiting(self) -> None:
        if self._waiting:
            self._answer(self._waiting.popleft())
        else:
            self._busy = False

    def _after(self, delay_ms: int, step: Callable[[], None]) -> None:
        if delay_ms:
            self._timer = self._loop.call_later(delay_ms / 1000, step)
        else:
            step()

    def _write(self, text: bytes) -> None:
        if self._transport is not None and text:
            self._transport.write(text)

    def _record(self, *, complete: bool) -> None:
        log = self._settings.log
        serving = self._serving
        if log is None or serving is None:
            return
        usage = serving.reply.usage
        log.write(
            {
                "request_id": serving.request.request_id.decode("latin-1"),
                "operation": serving.operation.value,
                "model": serving.model,
                "status": serving.reply.status,
                "complete": complete,
                "streamed": serving.reply.chunks is not None,
                "streamed_tokens": serving.streamed_tokens,
                "input_tokens": usage.input_tokens,
                "cached_tokens": usage.cached_tokens,
                "output_tokens": usage.output_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
                "images": usage.images,
                "characters": usage.characters,
                "seconds": usage.seconds,
                "fault": serving.behaviour.fault.value,
                "usage": serving.behaviour.usage.value,
            }
        )


def _error(message: str) -> JsonObject:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def _is_streamed(operation: Operation, body: JsonObject) -> bool:
    """Sound always is: piece by piece, or as events. A form says with a text that it wants a stream."""
    stream = body.get("stream")
    return (
        operation is Operation.SPEECH
        or (operation in (Operation.CHAT, Operation.RESPONSES) and stream is True)
        or (operation is Operation.TRANSCRIPTION and stream == "true")
    )


def _sound(event: JsonObject) -> bytes:
    """A piece of sound as one HTTP chunk; nothing for the event that ends it."""
    if event.get("type") != SOUND_DELTA:
        return b""
    sound = sound_of(event)
    return b"%x\r\n%b\r\n" % (len(sound), sound)


def _event(data: bytes, kind: object = None) -> bytes:
    """A server-sent event as one HTTP chunk; one of a `kind` is named by it."""
    name = f"event: {kind}\n".encode() if isinstance(kind, str) else b""
    return b"%x\r\n%bdata: %b\n\n\r\n" % (len(name) + len(data) + 8, name, data)


def _head(status: int, length: int, media_type: str, extra: bytes = b"") -> bytes:
    line = f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\nContent-Type: {media_type}\r\n"
    return f"{line}Content-Length: {length}\r\n".encode() + extra + b"\r\n"
