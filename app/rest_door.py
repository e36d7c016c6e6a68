"""The door of every model call over REST: who asks, may they, what is asked; then one call, answered in the path's form."""

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from types import TracebackType
from typing import Final, Protocol
from uuid import UUID

from accounts.rules.roles import ApiScope
from accounts.views import Principal
from app.asgi import ClientGone, Headers, Receive, Scope, Send, header, read_body, says_any, send_bytes
from app.credentials import Credentials
from app.http_protocol import BEFORE_BODY
from app.rest_admission import of_scope
from app.rest_sound import send_sound, unwatched
from app.sdk_retries import SdkRetries, Sending
from app.throttle import Throttle
from gateway.callers import WorkspaceFacts, Workspaces, caller_of
from gateway.calls import Calls
from gateway.streaming import CallStream, Streams
from gateway.views import Caller, CallRequest, CallResult, Gate, StreamedEnd, StreamedEvent, StreamedFailure
from kit.errors import BadRequest, Refusal, RequestFailure
from kit.ids import encode_id
from kit.money import format_micro, usd_text
from providers.base import JsonObject, Operation

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""The largest body of a model call: room for a few pictures in a message."""


_WATCHED_AFTER_S: Final = 0.001
"""When a stream's client begins to be watched; one that left before is seen then."""
_FIT: Final = b"x-tollgate-fit"
"""`true`: rather than be refused for lack of credits, a call's output limit is lowered to what the wallet can pay."""
_CACHE: Final = b"x-tollgate-cache"
"""`on`: the answer to an equal call of the workspace will do; `off`: it will not; without either the key decides."""
_OF_CALLS: Final = frozenset({_FIT, _CACHE, b"idempotency-key", b"anthropic-beta"})
_FIT_WORDS: Final = {"true": True, "false": False}
_CACHE_WORDS: Final = {"on": True, "off": False}
_PLAIN: Final = re.compile(r"[ -~]{1,1000}")
"""A header's value that may travel on."""


class Writer(Protocol):
    """Writes the answer to one request in its form; of a stream the events, of which each may be none or several."""

    content_type: bytes

    def answer(self, result: CallResult) -> bytes:
        """The whole answer, with usage and charge (rule D2)."""
        ...

    def event(self, event: StreamedEvent) -> bytes:
        """A piece of the output."""
        ...

    def end(self, event: StreamedEnd) -> bytes:
        """The end of a stream, with usage and charge."""
        ...

    def failure(self, event: StreamedFailure) -> bytes:
        """The end of a stream that broke, with what was charged for the output before."""
        ...


class Form(Protocol):
    """What one path takes and gives."""

    max_body_bytes: int
    """The largest body of a request."""

    def parsed(self, raw: bytes, content_type: str) -> JsonObject:
        """The request. BadRequest where it cannot be read."""
        ...

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """The call that is asked for, and who writes its answer. Raises refusals and BadRequest."""
        ...


class RestDoor:
    """Admits requests with an API key and carries out their calls."""

    def __init__(
        self,
        credentials: Credentials,
        workspaces: Workspaces,
        throttle: Throttle,
        calls: Calls,
        streams: Streams,
        retries: SdkRetries,
    ) -> None:
        """The parts of one process."""
        self._credentials = credentials
        self._workspaces = workspaces
        self._throttle = throttle
        self._streams = streams
        self._retries = retries
        self.calls = calls

    async def admit(self, scope: Scope, scope_needed: ApiScope) -> tuple[Principal, WorkspaceFacts]:
        """The key's principal and its workspace. Unauthenticated, Forbidden without the scope."""
        return await of_scope(self._credentials, self._workspaces, scope, scope_needed)

    async def pass_through(
        self, principal: Principal, facts: WorkspaceFacts, headers: Headers, model: str | None = None
    ) -> None:
        """Take one request from the buckets and put the rate-limit headers; RateLimited."""
        known = None if model is None else self.calls.snapshot.models_by_slug.get(model)
        passage = await self._throttle.take(principal, facts, model=known)
        headers.extend(passage.headers)

    async def asked(
        self, form: Form, scope: Scope, receive: Receive, request_id: str, headers: Headers
    ) -> tuple[Caller, str, JsonObject]:
        """Who asks for a call, of which model, and the body; a request that cannot be read counts as well."""
        principal, facts = await self.admit(scope, ApiScope.CALLS_WRITE)
        raw = await read_body(scope, receive, form.max_body_bytes)
        model, body, mistake = _asked(form, raw, scope)
        await self.pass_through(principal, facts, headers, model)
        if mistake is not None:
            raise mistake
        return caller_of(principal, facts, request_id), model, body

    async def call(
        self, form: Form, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers
    ) -> None:
        """One call from its request to the last byte of its answer. Raises what is to be told before the answer began."""
        principal, facts = await self.admit(scope, ApiScope.CALLS_WRITE)
        raw = await read_body(scope, receive, form.max_body_bytes)
        model, body, mistake = _asked(form, raw, scope)
        streamed = body.get("stream") is True
        with self._retries.none if streamed else await self._retries.begin(scope, principal, raw) as sending:
            known = self.calls.snapshot.models_by_slug.get(model)
            passing = self._throttle.passing(principal, facts, headers, model=known)
            try:
                if mistake is not None:
                    raise mistake
                request, writer = form.read(model, body)
                request = _by_headers(request, scope)
                if known is None or known.chain is not None or request.fit or sending.is_repeat:
                    # Beyond lies the database, or an answer.
                    await passing.passed()
                caller = caller_of(principal, facts, request_id)
                if request.body.get("stream") is True:
                    async with Watched(receive, self._streams.open(caller, request, passing)) as stream:
                        await _stream(stream, writer, send, headers)
                    return
                if request.flows and not (caller.cache_answers if request.cache is None else request.cache):
                    asked = (caller, request, passing)
                    result = await self._sound(asked, writer, sending, receive, send, headers)
                    if result is None:
                        return
                else:
                    result = await sending.result(self.calls, caller, request, passing)
            except (Refusal, RequestFailure):
                await passing.passed()  # a request that is over a limit hears of that before anything else
                raise
        told = call_headers(result, self.calls)
        await send_bytes(send, 200, writer.answer(result), writer.content_type, [*headers, *told])

    async def _sound(
        self,
        asked: tuple[Caller, CallRequest, Gate],
        writer: Writer,
        sending: Sending,
        receive: Receive,
        send: Send,
        headers: Headers,
    ) -> CallResult | None:
        """Sound as it comes, its charge told before it: it depends on the text alone. The answer, where there is an earlier one.

        `asked`: what gateway.streaming.Streams.open is given.
        """
        caller, request, gate = asked
        earlier = await sending.earlier(self.calls, caller, request)
        if earlier is not None:
            return earlier
        request = sending.own(request)
        opening = self._streams.open(caller, request, gate)
        asked_again = request.idempotency_key is not None or request.call_id is not None
        async with unwatched(opening) if asked_again else Watched(receive, opening) as stream:
            rate = self.calls.snapshot.credits_per_usd
            told = _call_headers(stream.call_id, stream.bound_micro, rate)
            return await send_sound(stream, writer, send, [*told, *headers])


@lru_cache(maxsize=1_024)
def charge_texts(charged_micro: int, credits_per_usd: Decimal) -> tuple[str, str]:
    """A charge in credits and in USD as exact texts; they stand in an answer's headers and in its usage."""
    return format_micro(charged_micro), usd_text(charged_micro, credits_per_usd)


def call_headers(result: CallResult, calls: Calls) -> Headers:
    """The call's id and charge, and whether this answer was given before."""
    headers = _call_headers(result.call_id, result.charged_micro, calls.snapshot.credits_per_usd)
    if result.repeated:
        headers.append((b"idempotent-replayed", b"true"))
    if result.cached is not None:
        headers.append((b"x-tollgate-cache", b"hit" if result.cached else b"miss"))
    return headers


def _call_headers(call_id: UUID, charged_micro: int, credits_per_usd: Decimal) -> Headers:
    credits_text, usd = charge_texts(charged_micro, credits_per_usd)
    return [
        (b"x-tollgate-call-id", encode_id("call", call_id).encode("ascii")),
        (b"x-tollgate-credits", credits_text.encode("ascii")),
        (b"x-tollgate-usd", usd.encode("ascii")),
    ]


async def _stream(stream: CallStream, writer: Writer, send: Send, headers: Headers) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            BEFORE_BODY: True,
            "headers": [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
                (b"x-tollgate-call-id", encode_id("call", stream.call_id).encode("ascii")),
                *headers,
            ],
        }
    )
    async for event in stream:
        match event:
            case StreamedEvent():
                text = writer.event(event)
                while (event := stream.at_hand()) is not None:  # what comes together goes together: one write
                    text += writer.event(event)
                if text:
                    await send({"type": "http.response.body", "body": text, "more_body": True})
            case StreamedEnd():
                await send({"type": "http.response.body", "body": writer.end(event)})
            case StreamedFailure():
                await send({"type": "http.response.body", "body": writer.failure(event)})


class Watched:
    """Entered it gives the stream, once it has begun. A client that disconnects ends the provider's call, before its first output too.

    So does leaving the block by an exception. Raises ClientGone where the client left before the stream had begun.
    """

    __slots__ = ("_beginning", "_opener", "_opening", "_receive", "_stream", "_watcher")

    def __init__(self, receive: Receive, opening: Coroutine[None, None, CallStream]) -> None:
        """`receive` of ASGI tells of the disconnection."""
        self._receive = receive
        self._opening = opening
        self._stream: CallStream | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> CallStream:
        self._opener = asyncio.current_task()
        # A moment later, while the call waits for its hold: until then every step delays the first output.
        self._beginning = asyncio.get_running_loop().call_later(_WATCHED_AFTER_S, self._watch)
        try:
            self._stream = await self._opening
        except BaseException as error:
            gone = isinstance(error, asyncio.CancelledError) and self._is_gone()
            await self._unwatch()
            if gone:
                raise ClientGone from None
            raise
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._stream is not None:
            self._stream.leave()
        await self._unwatch()

    def _watch(self) -> None:
        self._watcher = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._stream is not None:
            self._stream.leave()
        elif self._opener is not None:
            self._opener.cancel()

    def _is_gone(self) -> bool:
        """The opening was cancelled by the watcher, and by nobody else."""
        assert self._opener is not None, "a request runs in a task"
        return self._watcher is not None and self._watcher.done() and not self._opener.uncancel()

    async def _unwatch(self) -> None:
        self._beginning.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher


def _by_headers(request: CallRequest, scope: Scope) -> CallRequest:
    """The call with what headers say of it, the same on every path."""
    if not says_any(scope, _OF_CALLS):
        return request
    key = header(scope, b"idempotency-key")
    if key is not None:
        request = replace(request, idempotency_key=key)
    fit = header(scope, _FIT)
    if fit is not None:
        request = replace(request, fit=_meant("X-Tollgate-Fit", fit, _FIT_WORDS))
    cache = header(scope, _CACHE)
    if cache is not None:
        request = replace(request, cache=_meant("X-Tollgate-Cache", cache, _CACHE_WORDS))
    beta = header(scope, b"anthropic-beta") if request.operation is Operation.MESSAGES else None
    if beta is not None and _PLAIN.fullmatch(beta):
        request = replace(request, vendor_headers=(("anthropic-beta", beta),))
    return request


def _meant(name: str, given: str, words: Mapping[str, bool]) -> bool:
    """What a header's word says; BadRequest for any other."""
    meant = words.get(given.strip().lower())
    if meant is None:
        raise BadRequest(f"the header {name} must be {' or '.join(words)}")
    return meant


def _asked(form: Form, raw: bytes, scope: Scope) -> tuple[str, JsonObject, RequestFailure | None]:
    """The model's name and the body, or what is wrong with them."""
    try:
        body = form.parsed(raw, header(scope, b"content-type") or "")
    except RequestFailure as failure:
        return "", {}, failure
    model = body.get("model")
    if not isinstance(model, str):
        return "", {}, BadRequest("model must be the name of a model, as a text")
    return model, body, None
