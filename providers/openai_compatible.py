"""The adapter for any provider that speaks OpenAI's REST form."""

import re
from typing import Final

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
from providers.errors import UpstreamGarbage
from providers.openai_audio_calls import OpenAIAudio
from providers.openai_content import generated_bytes
from providers.openai_errors import error_in, error_object, error_of_object
from providers.openai_responses_calls import OpenAIResponses
from providers.openai_usage import usage_of_answer, usage_of_openai
from providers.over_chat import OTHER_FORMS, answer_over_chat, stream_over_chat
from providers.transport import USER_AGENT, Headers, HttpAnswer, HttpTransport, endpoint_of
from providers.wire import EventStream, Wire, event_of, read_all, upstream_request_id

PATHS: Final = {
    Operation.CHAT: "/chat/completions",
    Operation.EMBEDDING: "/embeddings",
    Operation.IMAGE: "/images/generations",
}

_LIST_FIELDS: Final = {Operation.CHAT: "choices", Operation.EMBEDDING: "data", Operation.IMAGE: "data"}
_AUDIO: Final = frozenset({Operation.SPEECH, Operation.TRANSCRIPTION})
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
"""What chats call the limit of their output; OpenAI takes the newer name, most others both, some the older alone."""
_END_MARK: Final = b"[DONE]"
_FINISH_REASON: Final = re.compile(rb'"finish_reason"\s*:\s*[^\sn]')
"""Where a chunk may have one: most have none, or null."""


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
        responses: bool = False,
        max_tokens_only: bool = False,
    ) -> None:
        """`base_url` is what comes before `/chat/completions`. Raises EndpointError where it cannot be used.

        `responses`: it speaks the Responses API, too; else that is put into a chat. `max_tokens_only`: what a chat calls
        `max_completion_tokens` is called so there.
        """
        self._max_tokens_only = max_tokens_only
        self.name = name
        self._translated = OTHER_FORMS - {Operation.RESPONSES} if responses else OTHER_FORMS
        self._wire = Wire(transport, timeouts or Timeouts(), api_key)
        fixed: Headers = (
            ("User-Agent", USER_AGENT),
            ("Accept-Encoding", "identity"),
            *headers,
        )
        if api_key:
            fixed = (*fixed, ("Authorization", f"Bearer {api_key}"))
        self._responses = OpenAIResponses(self._wire, base_url, fixed)
        self._audio = OpenAIAudio(self._wire, base_url, fixed)
        fixed = (*fixed, ("Content-Type", "application/json"))
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
        if request.operation in self._translated:
            return await answer_over_chat(self, request)
        if request.operation is Operation.RESPONSES:
            return await self._responses.complete(request)
        if request.operation in _AUDIO:
            return await self._audio.complete(request)
        body = {key: value for key, value in self._said(request).items() if key not in ("stream", "stream_options")}
        body["model"] = request.upstream_model
        answer = await self._wire.send(self._whole[request.operation], request, body)
        text = await read_all(answer)
        parsed = self._whole_answer(request.operation, text)
        return ProviderAnswer(
            body=parsed,
            raw=text,
            usage=usage_of_answer(request.operation, parsed),
            upstream_request_id=upstream_request_id(answer),
            content_bytes=generated_bytes(parsed, "message"),
        )

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """See Provider. Usage is always asked for, whatever the caller's stream options say."""
        if request.operation in self._translated:
            return await stream_over_chat(self, request)
        if request.operation is Operation.RESPONSES:
            return await self._responses.stream(request)
        if request.operation in _AUDIO:
            return await self._audio.stream(request)
        options = request.body.get("stream_options")
        asked: JsonObject = options if isinstance(options, dict) else {}  # pyright: ignore[reportUnknownVariableType]
        body = {
            **self._said(request),
            "model": request.upstream_model,
            "stream": True,
            "stream_options": {**asked, "include_usage": True},
        }
        answer = await self._wire.send(self._streamed[request.operation], request, body)
        await self._wire.check_stream(answer)
        return OpenAIStream(answer, self._wire.secret)

    async def aclose(self) -> None:
        """Nothing to do: the transport is closed by its owner."""

    def _said(self, request: ProviderRequest) -> JsonObject:
        """The body with the lower of its limits under the name that is known here."""
        body = request.body
        if not self._max_tokens_only or _LIMITS[0] not in body:
            return body
        limits = [limit for name in _LIMITS if isinstance(limit := body.get(name), int)]
        rest = {name: value for name, value in body.items() if name not in _LIMITS}
        return {**rest, _LIMITS[1]: min(limits)} if limits else rest

    def _whole_answer(self, operation: Operation, text: bytes) -> JsonObject:
        body = self._wire.parsed(text)
        field = _LIST_FIELDS[operation]
        items = body.get(field)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):  # pyright: ignore[reportUnknownVariableType]
            raise UpstreamGarbage(f"the provider's answer has no list of {field}")
        return body


class OpenAIStream(EventStream):
    """The chunks of a chat, up to `[DONE]`."""

    __slots__ = ("_api_key", "_finished_choice")

    def __init__(self, answer: HttpAnswer, api_key: str | None) -> None:
        super().__init__(answer)
        self._api_key = api_key
        self._finished_choice = False

    def _cut_off(self) -> StreamChunk:
        """Some providers never send an end mark: a clean end after a finish reason is taken for one."""
        if self._finished_choice:
            return self._chunk_of(_END_MARK)
        raise UpstreamGarbage("the provider's stream ended in the middle")

    def _chunk_of(self, data: bytes) -> StreamChunk:
        if data == _END_MARK:
            self._ended = True
            return StreamChunk(_END_MARK, None, None, 0, done=True)
        event = event_of(data)
        error_body = error_in(event)
        if error_body is not None:
            raise error_of_object(error_object(data, self._api_key) or error_body)
        content_bytes = generated_bytes(event, "delta")
        if content_bytes:
            self._produced = True
        if not self._finished_choice:
            self._finished_choice = _FINISH_REASON.search(data) is not None and _has_finish_reason(event)
        reported = event.get("usage")
        usage: Usage | None = None if reported is None else usage_of_openai(reported)
        return StreamChunk(data, event, usage, content_bytes)


def _has_finish_reason(event: JsonObject) -> bool:
    choices = event.get("choices")
    if not isinstance(choices, list):
        return False
    items: list[object] = choices  # pyright: ignore[reportUnknownVariableType] -- judged here
    return any(bool(choice.get("finish_reason")) for choice in items if isinstance(choice, dict))  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType,reportUnknownArgumentType]
