"""The adapter for Anthropic's Messages API."""

from typing import Final

import orjson

from kit.clock import now
from kit.json_values import is_list, is_object
from providers.anthropic_content import bytes_of_event, bytes_of_message
from providers.anthropic_usage import merged_usage, usage_of_anthropic
from providers.base import JsonObject, Operation, ProviderAnswer, ProviderRequest, ProviderStream, StreamChunk, Timeouts
from providers.chat_to_messages import messages_request
from providers.errors import (
    ProviderError,
    ProviderNotConfigured,
    UpstreamAuthFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.message_answers import chat_of_message
from providers.message_events import STREAM_END, ChunksOfMessage
from providers.openai_errors import error_in, error_object, error_of_status
from providers.over_chat import TranslatedStream, answer_over_chat, stream_over_chat
from providers.transport import USER_AGENT, Headers, HttpAnswer, HttpTransport, endpoint_of
from providers.wire import EventStream, Wire, event_of, read_all, upstream_request_id

API_VERSION: Final = "2023-06-01"


class AnthropicProvider:
    """Serves Provider over a transport, which it does not own. A chat in another form is translated, and its answer back."""

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
        """`base_url` is what comes before `/v1/messages`. Raises EndpointError where it cannot be used."""
        self.name = name
        self._wire = Wire(transport, timeouts or Timeouts(), api_key)
        fixed: Headers = (
            ("User-Agent", USER_AGENT),
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "identity"),
            ("anthropic-version", API_VERSION),
            *headers,
        )
        if api_key:
            fixed = (*fixed, ("x-api-key", api_key))
        root = base_url.rstrip("/").removesuffix("/v1")
        self._whole = endpoint_of(root, "/v1/messages", (*fixed, ("Accept", "application/json")))
        self._streamed = endpoint_of(root, "/v1/messages", (*fixed, ("Accept", "text/event-stream")))

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """See Provider."""
        if request.operation is Operation.RESPONSES:
            return await answer_over_chat(self, request)
        body = self._body(request)
        body.pop("stream", None)
        answer = await self._wire.send(self._whole, request, body, request.vendor_headers)
        text = await read_all(answer)
        message = self._wire.parsed(text)
        content = message.get("content")
        if not is_list(content) or not all(is_object(block) for block in content):
            raise UpstreamGarbage("the provider's answer has no list of content")
        asked = request.operation is Operation.MESSAGES
        try:
            shown = message if asked else chat_of_message(message, _created())
            content_bytes = bytes_of_message(message)
        except orjson.JSONEncodeError as error:
            raise UpstreamGarbage("the provider's answer is nested too deeply") from error
        return ProviderAnswer(
            body=shown,
            raw=text if asked else None,
            usage=usage_of_anthropic(message.get("usage")),
            upstream_request_id=upstream_request_id(answer),
            content_bytes=content_bytes,
        )

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """See Provider."""
        if request.operation is Operation.RESPONSES:
            return await stream_over_chat(self, request)
        body = {**self._body(request), "stream": True}
        answer = await self._wire.send(self._streamed, request, body, request.vendor_headers)
        await self._wire.check_stream(answer)
        stream = AnthropicStream(answer, self._wire.secret)
        if request.operation is Operation.MESSAGES:
            return stream
        return TranslatedStream(stream, ChunksOfMessage(_created()))

    async def aclose(self) -> None:
        """Nothing to do: the transport is closed by its owner."""

    def _body(self, request: ProviderRequest) -> JsonObject:
        match request.operation:
            case Operation.MESSAGES:
                return {**request.body, "model": request.upstream_model}
            case Operation.CHAT:
                body = messages_request(request.body, request.max_output_tokens)
                return {"model": request.upstream_model, **body}
            case _:
                raise ProviderNotConfigured(f"provider {self.name!r} serves chats only")


class AnthropicStream(EventStream):
    """Usage is told with the stop reason; before it the input alone, with the first output, should the message not end.

    Pings after the stop reason are not forwarded.
    """

    __slots__ = ("_api_key", "_stopped", "_usage")

    def __init__(self, answer: HttpAnswer, api_key: str | None) -> None:
        super().__init__(answer)
        self._api_key = api_key
        self._usage: JsonObject = {}
        self._stopped = False

    def _cut_off(self) -> StreamChunk:
        """The answer ended without `message_stop`; taken for one after a stop reason."""
        if not self._stopped:
            raise UpstreamGarbage("the provider's stream ended in the middle")
        return self._end()

    def _end(self) -> StreamChunk:
        self._ended = True
        return STREAM_END

    def _chunk_of(self, data: bytes) -> StreamChunk | None:
        event = event_of(data)
        kind = event.get("type")
        if kind == "error" or error_in(event) is not None:
            raise error_of_event(error_object(data, self._api_key) or {})
        if kind == "message_stop":
            return self._end()
        if kind == "ping" and self._stopped:
            return None
        if kind == "message_start":
            message = event.get("message")
            self._usage = merged_usage(self._usage, message.get("usage") if is_object(message) else None)
        elif kind == "message_delta":
            told, delta = event.get("usage"), event.get("delta")
            self._usage = merged_usage(self._usage, told)
            self._stopped = self._stopped or (is_object(delta) and delta.get("stop_reason") is not None)
            if not is_object(told) or told.get("output_tokens") is None:  # what the message began with is not all of it
                return StreamChunk(data, event, None, 0)
            event = {**event, "usage": self._usage}
            return StreamChunk(data, event, usage_of_anthropic(self._usage), 0)
        try:
            content_bytes = bytes_of_event(event)
        except orjson.JSONEncodeError as error:
            raise UpstreamGarbage("an event of the provider's stream is nested too deeply") from error
        usage = None
        if content_bytes and not self._produced:
            usage = usage_of_anthropic({**self._usage, "output_tokens": 0})
            self._produced = True
        return StreamChunk(data, event, usage, content_bytes)


def error_of_event(error: JsonObject) -> ProviderError:
    """The failure that an `error` inside a stream stands for, by its type."""
    match error.get("type"):
        case "invalid_request_error" | "not_found_error" | "request_too_large":
            return error_of_status(400, error, None)
        case "authentication_error" | "permission_error" | "billing_error":
            return UpstreamAuthFailed(403)
        case "rate_limit_error":
            return UpstreamRateLimited(None)
        case "timeout_error":
            return UpstreamTimeout("upstream")
        case "overloaded_error":
            return UpstreamUnavailable("the provider is overloaded", status=529)
        case _:
            return UpstreamUnavailable("the provider answered with an error")


def _created() -> int:
    return int(now().timestamp())
