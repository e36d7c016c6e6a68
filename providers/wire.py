"""One JSON request to a provider and the reading of its answer, whatever the vendor's form."""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Final

import orjson

from kit.clock import now
from kit.json_values import is_deeper, is_object
from providers.base import JsonObject, ProviderRequest, StreamChunk, Timeouts
from providers.errors import ProviderError, UpstreamGarbage, UpstreamRejected
from providers.openai_errors import error_in, error_object, error_of_object, error_of_status, retry_after_s
from providers.sse import EventReader, EventTooLongError
from providers.transport import Endpoint, Headers, HttpAnswer, HttpRequest, HttpTransport

MAX_ERROR_BYTES: Final = 64 * 1024
"""More of an error answer is not read."""
MAX_ANSWER_LEVELS: Final = 240
"""Objects and lists within each other in an answer: those that are written, less some that it is told within."""

_PLAIN_ID: Final = re.compile(r"[!-~]{1,128}")


class Wire:
    """Sends to one provider with one key, which is blotted out of all that is told of its errors."""

    __slots__ = ("_timeouts", "_transport", "secret")

    def __init__(self, transport: HttpTransport, timeouts: Timeouts, secret: str | None) -> None:
        """`transport` is not owned: several providers may share one."""
        self._transport = transport
        self._timeouts = timeouts
        self.secret = secret

    async def send(
        self, endpoint: Endpoint, request: ProviderRequest, body: JsonObject, headers: Headers = ()
    ) -> HttpAnswer:
        """The answer to a body written as JSON, once it is known to be a success."""
        try:
            text = orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise UpstreamRejected(400, f"the request cannot be written as JSON: {error}") from error
        return await self.send_bytes(endpoint, request, text, headers)

    async def send_bytes(
        self, endpoint: Endpoint, request: ProviderRequest, content: bytes, headers: Headers = ()
    ) -> HttpAnswer:
        """The same for a body that is written already."""
        request_id = request.request_id if _PLAIN_ID.fullmatch(request.request_id) else "-"
        answer = await self._transport.send(
            HttpRequest(
                endpoint, request_id, content, request.timeouts or self._timeouts, headers=(*request.trace, *headers)
            )
        )
        if answer.status != 200:
            raise await self._error_of(answer)
        encoding = answer.header("content-encoding")
        if encoding not in ("", "identity"):
            answer.close()
            raise UpstreamGarbage("the provider's answer is compressed, which was not asked for")
        return answer

    async def check_stream(self, answer: HttpAnswer) -> None:
        """Raises what an answer that is no event stream stands for, and closes it."""
        if media_type_of(answer) in ("text/event-stream", ""):
            return
        try:
            text = await _read_some(answer, MAX_ERROR_BYTES)
        finally:
            answer.close()
        error = error_object(text, self.secret)
        raise UpstreamGarbage("the provider's answer is not a stream") if error is None else error_of_object(error)

    def parsed(self, text: bytes) -> JsonObject:
        """The object of a whole answer. Raises what an error inside a success stands for."""
        body = object_in(text)
        if error_in(body) is not None:
            raise error_of_object(error_object(text, self.secret) or {})
        return body

    async def _error_of(self, answer: HttpAnswer) -> ProviderError:
        """The status decides; an error answer that breaks off or dawdles only loses its message."""
        try:
            text = await _read_some(answer, MAX_ERROR_BYTES)
        except ProviderError:
            text = b""
        finally:
            answer.close()
        wait_s = retry_after_s(answer.header("retry-after-ms"), answer.header("retry-after"), now())
        return error_of_status(answer.status, error_object(text, self.secret), wait_s)


class Events:
    """The `data` of a streamed answer's events, one by one; several that arrived together without a wait between."""

    __slots__ = ("_answer", "_events", "_position", "_reader")

    def __init__(self, answer: HttpAnswer) -> None:
        self._answer = answer
        self._reader = EventReader()
        self._events: list[bytes] = []
        self._position = 0

    async def next(self) -> bytes | None:
        """The next event's data; None at the end of the answer. Raises ProviderError."""
        while self._position >= len(self._events):
            part = await self._answer.next_part()
            if not part:
                return self._reader.finish()
            try:
                self._events = self._reader.feed(part)
            except EventTooLongError as error:
                raise UpstreamGarbage(str(error)) from error
            self._position = 0
        data = self._events[self._position]
        self._position += 1
        return data


class AnswerStream(ABC):
    """Serves ProviderStream over an answer that comes piece by piece; a subclass says what is in the pieces."""

    __slots__ = ("_answer", "_ended", "_produced")

    def __init__(self, answer: HttpAnswer) -> None:
        """`answer` is closed or finished by the stream."""
        self._answer = answer
        self._produced = False
        """Output has come, which makes a failure after it one that is charged for."""
        self._ended = False
        """The end mark has come, or the stream was given up."""

    @property
    def upstream_request_id(self) -> str | None:
        """See ProviderStream."""
        return upstream_request_id(self._answer)

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        return self

    async def __anext__(self) -> StreamChunk:
        """The next chunk that is forwarded."""
        if self._ended:
            await self._answer.finish()
            raise StopAsyncIteration
        try:
            return await self._next()
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

    @abstractmethod
    async def _next(self) -> StreamChunk:
        """The next chunk; sets `_ended` with the last. Raises ProviderError."""


class EventStream(AnswerStream):
    """The events of an answer; a vendor's form says what each is and how the answer may end."""

    __slots__ = ("_events",)

    def __init__(self, answer: HttpAnswer) -> None:
        """As AnswerStream."""
        super().__init__(answer)
        self._events = Events(answer)

    async def _next(self) -> StreamChunk:
        while True:
            data = await self._events.next()
            chunk = self._cut_off() if data is None else self._chunk_of(data)
            if chunk is not None:
                return chunk

    @abstractmethod
    def _cut_off(self) -> StreamChunk:
        """The last chunk of an answer that ended without an end mark. Raises UpstreamGarbage where that is no end."""

    @abstractmethod
    def _chunk_of(self, data: bytes) -> StreamChunk | None:
        """One event; None for one that is not forwarded. Raises ProviderError."""


def event_of(data: bytes) -> JsonObject:
    """The object that an event's data is. Raises UpstreamGarbage for anything else."""
    return object_in(data, "an event of the provider's stream")


def object_in(text: bytes, what: str = "the provider's answer") -> JsonObject:
    """The JSON object that `text` is. Raises UpstreamGarbage, which names it as `what`, for anything else."""
    try:
        parsed: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UpstreamGarbage(f"{what} is not JSON") from error
    if not is_object(parsed):
        raise UpstreamGarbage(f"{what} is not an object")
    if is_deeper(parsed, text, MAX_ANSWER_LEVELS):  # found here, before it is charged and cannot be told
        raise UpstreamGarbage(f"{what} is nested too deeply")
    return parsed


async def read_all(answer: HttpAnswer) -> bytes:
    """The whole body, after which the connection is free again or closed."""
    try:
        part = await answer.next_part()
        following = await answer.next_part() if part else b""
        if not following:
            return part
        parts = [part]
        while following:
            parts.append(following)
            following = await answer.next_part()
        return b"".join(parts)
    finally:
        answer.close()


def media_type_of(answer: HttpAnswer) -> str:
    """The answer's Content-Type without its parameters, in lower case."""
    return answer.header("content-type").partition(";")[0].strip().lower()


def upstream_request_id(answer: HttpAnswer) -> str | None:
    """The provider's own id of the call, from the answer's headers."""
    found = answer.header("x-request-id") or answer.header("request-id")
    return found if _PLAIN_ID.fullmatch(found) else None


async def _read_some(answer: HttpAnswer, limit_bytes: int) -> bytes:
    text = b""
    while len(text) < limit_bytes:
        part = await answer.next_part()
        if not part:
            break
        text += part
    return text[:limit_bytes]
