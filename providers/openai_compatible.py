"""The adapter for any provider that speaks OpenAI's REST form."""

import re
from collections.abc import AsyncIterator
from typing import Final

import orjson

from kit.clock import now
from providers.base import JsonObject, Operation, ProviderAnswer, ProviderRequest, StreamChunk, Timeouts, Usage
from providers.errors import ProviderError, UpstreamGarbage, UpstreamRejected
from providers.openai_content import generated_bytes
from providers.openai_errors import error_in, error_object, error_of_object, error_of_status, retry_after_s
from providers.openai_usage import usage_of_answer, usage_of_openai
from providers.sse import EventReader, EventTooLongError
from providers.transport import USER_AGENT, Endpoint, Headers, HttpAnswer, HttpRequest, HttpTransport, endpoint_of

PATHS: Final = {
    Operation.CHAT: "/chat/completions",
    Operation.EMBEDDING: "/embeddings",
    Operation.IMAGE: "/images/generations",
}
MAX_ERROR_BYTES: Final = 64 * 1024
"""More of an error answer is not read."""

_LIST_FIELDS: Final = {Operation.CHAT: "choices", Operation.EMBEDDING: "data", Operation.IMAGE: "data"}
_END_MARK: Final = b"[DONE]"
_PLAIN_ID: Final = re.compile(r"[!-~]{1,128}")


class OpenAICompatibleProvider:
    """Serves Provider over a transport, which it does not own: several providers may share one."""

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None,
        transport: HttpTransport,
        headers: Headers = (),
        timeouts: Timeouts | None = None,
    ) -> None:
        """`base_url` is what comes before `/chat/completions`. Raises EndpointError where it cannot be used."""
        self.name = name
        self._transport = transport
        self._timeouts = timeouts or Timeouts()
        self._api_key = api_key
        fixed: Headers = (
            ("User-Agent", USER_AGENT),
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "identity"),
            *headers,
        )
        if api_key:
            fixed = (*fixed, ("Authorization", f"Bearer {api_key}"))
        self._whole = {
            operation: endpoint_of(base_url, path, (*fixed, ("Accept", "application/json")))
            for operation, path in PATHS.items()
        }
        self._streamed = {
            operation: endpoint_of(base_url, path, (*fixed, ("Accept", "text/event-stream")))
            for operation, path in PATHS.items()
        }

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """See Provider."""
        body = {key: value for key, value in request.body.items() if key not in ("stream", "stream_options")}
        body["model"] = request.upstream_model
        answer = await self._send(self._whole[request.operation], request, body)
        try:
            text = await _read_all(answer)
        finally:
            answer.close()
        parsed = _whole_answer(request.operation, text, self._api_key)
        return ProviderAnswer(
            body=parsed,
            raw=text,
            usage=usage_of_answer(request.operation, parsed),
            upstream_request_id=_upstream_request_id(answer),
            content_bytes=generated_bytes(parsed, "message"),
        )

    async def stream(self, request: ProviderRequest) -> "OpenAIStream":
        """See Provider. Usage is always asked for, whatever the caller's stream options say."""
        options = request.body.get("stream_options")
        asked: JsonObject = options if isinstance(options, dict) else {}  # pyright: ignore[reportUnknownVariableType]
        body = {
            **request.body,
            "model": request.upstream_model,
            "stream": True,
            "stream_options": {**asked, "include_usage": True},
        }
        answer = await self._send(self._streamed[request.operation], request, body)
        media_type = answer.header("content-type").partition(";")[0].strip().lower()
        if media_type not in ("text/event-stream", ""):
            try:
                text = await _read_some(answer, MAX_ERROR_BYTES)
            finally:
                answer.close()
            error = error_object(text, self._api_key)
            raise UpstreamGarbage("the provider's answer is not a stream") if error is None else error_of_object(error)
        return OpenAIStream(answer, self._api_key)

    async def aclose(self) -> None:
        """Nothing to do: the transport is closed by its owner."""

    async def _send(self, endpoint: Endpoint, request: ProviderRequest, body: JsonObject) -> HttpAnswer:
        """The answer, once it is known to be a success."""
        try:
            text = orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise UpstreamRejected(400, f"the request cannot be written as JSON: {error}") from error
        request_id = request.request_id if _PLAIN_ID.fullmatch(request.request_id) else "-"
        answer = await self._transport.send(
            HttpRequest(endpoint, request_id, text, request.timeouts or self._timeouts, headers=request.trace)
        )
        if answer.status != 200:
            raise await self._error_of(answer)
        encoding = answer.header("content-encoding")
        if encoding not in ("", "identity"):
            answer.close()
            raise UpstreamGarbage("the provider's answer is compressed, which was not asked for")
        return answer

    async def _error_of(self, answer: HttpAnswer) -> ProviderError:
        """The status decides; an error answer that breaks off or dawdles only loses its message."""
        try:
            text = await _read_some(answer, MAX_ERROR_BYTES)
        except ProviderError:
            text = b""
        finally:
            answer.close()
        wait_s = retry_after_s(answer.header("retry-after-ms"), answer.header("retry-after"), now())
        return error_of_status(answer.status, error_object(text, self._api_key), wait_s)


class OpenAIStream:
    """Serves ProviderStream."""

    __slots__ = ("_answer", "_api_key", "_ended", "_events", "_finished_choice", "_position", "_produced", "_reader")

    def __init__(self, answer: HttpAnswer, api_key: str | None) -> None:
        self._answer = answer
        self._api_key = api_key
        self._reader = EventReader()
        self._events: list[bytes] = []
        self._position = 0
        self._produced = False
        self._finished_choice = False
        self._ended = False

    @property
    def upstream_request_id(self) -> str | None:
        """See ProviderStream."""
        return _upstream_request_id(self._answer)

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        return self

    async def __anext__(self) -> StreamChunk:
        """The next event; several that arrived together are given without a wait between them."""
        if self._ended:
            await self._answer.finish()
            raise StopAsyncIteration
        try:
            data = await self._next_event()
            return self._chunk_of(data)
        except ProviderError as error:
            self._answer.close()
            self._ended = True
            error.produced = self._produced
            raise

    async def aclose(self) -> None:
        """See ProviderStream."""
        if self._ended:
            await self._answer.finish()
        else:
            self._ended = True
            self._answer.close()

    async def _next_event(self) -> bytes:
        while self._position >= len(self._events):
            part = await self._answer.next_part()
            try:
                self._events = self._reader.feed(part) if part else self._last_event()
            except EventTooLongError as error:
                raise UpstreamGarbage(str(error)) from error
            self._position = 0
        data = self._events[self._position]
        self._position += 1
        return data

    def _last_event(self) -> list[bytes]:
        """What is left when the answer ends: an event without its blank line, or an end mark never sent.

        Some providers never send the mark; a clean end after a finish reason is taken for one.
        """
        rest = self._reader.finish()
        if rest:
            return [rest]
        if self._finished_choice:
            return [_END_MARK]
        raise UpstreamGarbage("the provider's stream ended in the middle")

    def _chunk_of(self, data: bytes) -> StreamChunk:
        if data == _END_MARK:
            self._ended = True
            return StreamChunk(_END_MARK, None, None, 0, done=True)
        try:
            parsed: object = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise UpstreamGarbage("an event of the provider's stream is not JSON") from error
        if not isinstance(parsed, dict):
            raise UpstreamGarbage("an event of the provider's stream is not an object")
        event: JsonObject = parsed  # pyright: ignore[reportUnknownVariableType] -- keys of JSON are texts
        error_body = error_in(event)
        if error_body is not None:
            raise error_of_object(error_object(data, self._api_key) or error_body)
        content_bytes = generated_bytes(event, "delta")
        if content_bytes:
            self._produced = True
        if not self._finished_choice:
            self._finished_choice = b'"finish_reason"' in data and _has_finish_reason(event)
        reported = event.get("usage")
        usage: Usage | None = None if reported is None else usage_of_openai(reported)
        return StreamChunk(data, event, usage, content_bytes)


async def _read_all(answer: HttpAnswer) -> bytes:
    part = await answer.next_part()
    following = await answer.next_part() if part else b""
    if not following:
        return part
    parts = [part]
    while following:
        parts.append(following)
        following = await answer.next_part()
    return b"".join(parts)


async def _read_some(answer: HttpAnswer, limit_bytes: int) -> bytes:
    text = b""
    while len(text) < limit_bytes:
        part = await answer.next_part()
        if not part:
            break
        text += part
    return text[:limit_bytes]


def _whole_answer(operation: Operation, text: bytes, secret: str | None) -> JsonObject:
    try:
        parsed: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UpstreamGarbage("the provider's answer is not JSON") from error
    if not isinstance(parsed, dict):
        raise UpstreamGarbage("the provider's answer is not an object")
    body: JsonObject = parsed  # pyright: ignore[reportUnknownVariableType] -- keys of JSON are texts
    if error_in(body) is not None:
        raise error_of_object(error_object(text, secret) or {})
    field = _LIST_FIELDS[operation]
    items = body.get(field)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):  # pyright: ignore[reportUnknownVariableType]
        raise UpstreamGarbage(f"the provider's answer has no list of {field}")
    return body


def _has_finish_reason(event: JsonObject) -> bool:
    choices = event.get("choices")
    if not isinstance(choices, list):
        return False
    items: list[object] = choices  # pyright: ignore[reportUnknownVariableType] -- judged here
    return any(bool(choice.get("finish_reason")) for choice in items if isinstance(choice, dict))  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType,reportUnknownArgumentType]


def _upstream_request_id(answer: HttpAnswer) -> str | None:
    found = answer.header("x-request-id") or answer.header("request-id")
    return found if _PLAIN_ID.fullmatch(found) else None
