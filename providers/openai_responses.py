"""OpenAI's Responses form as a provider speaks it: what is sent, and what its answers and events mean."""

from typing import Final

import orjson

from kit.json_values import is_list, is_object
from providers.base import JsonObject, StreamChunk
from providers.errors import ProviderError, UpstreamGarbage
from providers.openai_errors import error_in, error_object, error_of_object, error_of_status
from providers.openai_usage import usage_of_openai
from providers.response_content import StreamedBytes
from providers.transport import HttpAnswer
from providers.wire import EventStream, event_of, object_in

RESPONSES_PATH: Final = "/responses"
LAST_EVENTS: Final = frozenset({"response.completed", "response.incomplete"})
"""The events with which a response comes to its end."""

_FAILED: Final = "response.failed"
_OPERATORS_FAULT: Final = frozenset({"insufficient_quota", "invalid_api_key", "billing_hard_limit_reached"})
_CALLERS_FAULT: Final = (
    "invalid_",
    "image_",
    "unsupported_",
    "empty_image",
    "failed_to_download_image",
    "context_length",
)


def response_request(body: JsonObject, upstream_model: str) -> JsonObject:
    """The request as it came, but for the model, and for what would be kept or read in the account, which all share.

    A reasoning item without its own content would be looked up there, where it is not kept: it is left out.
    """
    request: JsonObject = {**body, "model": upstream_model, "store": False}
    items = body.get("input")
    if is_list(items):
        request["input"] = [item for item in items if not _is_mere_reference(item)]
    return request


def _is_mere_reference(item: object) -> bool:
    return (
        is_object(item)
        and item.get("type") == "reasoning"
        and not item.get("encrypted_content")
        and not item.get("content")
    )


def whole_response(text: bytes, secret: str | None) -> JsonObject:
    """The response in a whole answer. Raises what a failed one stands for; `secret` is blotted out of that."""
    response = object_in(text)
    if error_in(response) is not None:
        raise error_of_response(error_object(text, secret) or {})
    items = response.get("output")
    if not is_list(items) or not all(is_object(item) for item in items):
        raise UpstreamGarbage("the provider's answer has no list of output")
    if response.get("status", "completed") not in ("completed", "incomplete"):
        raise UpstreamGarbage("the provider's response has not ended")
    return response


def error_of_response(error: JsonObject) -> ProviderError:
    """The failure that the `error` of a response or of its stream stands for, by its code."""
    code = error.get("code")
    if not isinstance(code, str):
        return error_of_object(error)
    if code.startswith("rate_limit"):
        return error_of_status(429, error, None)
    if code in _OPERATORS_FAULT:
        return error_of_status(403, error, None)
    return error_of_status(400 if code.startswith(_CALLERS_FAULT) else 500, error, None)


class ResponseReader:
    """Reads the events of one response. `failure` is what a failed one stands for, once its last usage was read."""

    __slots__ = ("_count", "_secret", "failure")

    def __init__(self, secret: str | None) -> None:
        """`secret` is blotted out of failures."""
        self._secret = secret
        self._count = StreamedBytes()
        self.failure: ProviderError | None = None

    def read(self, data: bytes, event: JsonObject) -> StreamChunk:
        """The event with what it says of output and usage; the response's last is `done`. Raises an `error` event's failure."""
        kind = event.get("type")
        if kind == "error" or error_in(event) is not None:
            blotted = self._blotted(data)
            raise error_of_response(error_in(blotted) or blotted)
        response = event.get("response")
        if not is_object(response) or not isinstance(kind, str) or (kind != _FAILED and kind not in LAST_EVENTS):
            return StreamChunk(data, event, None, self._count.of_event(event))
        usage = usage_of_openai(response.get("usage"))
        if kind == _FAILED:
            told = self._blotted(data).get("response")
            self.failure = error_of_response((error_in(told) if is_object(told) else None) or {})
            if usage is None:
                raise self.failure
        return StreamChunk(data, event, usage, 0, done=kind != _FAILED)

    def _blotted(self, data: bytes) -> JsonObject:
        return object_in(data.replace(self._secret.encode(), b"[key]") if self._secret else data)


class ResponsesStream(EventStream):
    """The events of a response, up to the one it ends with: some providers send an end mark after it, most do not."""

    __slots__ = ("_reader",)

    def __init__(self, answer: HttpAnswer, api_key: str | None) -> None:
        super().__init__(answer)
        self._reader = ResponseReader(api_key)

    async def __anext__(self) -> StreamChunk:
        """The next event; a failed response's failure after the event that reports its usage."""
        failure = self._reader.failure
        if failure is not None and not self._ended:
            self._ended = True
            self._answer.close()
            failure.produced = self._produced
            raise failure
        return await super().__anext__()

    def _cut_off(self) -> StreamChunk:
        raise UpstreamGarbage("the provider's stream ended in the middle")

    def _chunk_of(self, data: bytes) -> StreamChunk | None:
        try:
            chunk = self._reader.read(data, event_of(data))
        except orjson.JSONEncodeError as error:
            raise UpstreamGarbage("an event of the provider's stream is nested too deeply") from error
        self._produced = self._produced or chunk.content_bytes > 0
        self._ended = chunk.done
        return chunk
