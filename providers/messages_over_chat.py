"""A call in Anthropic's Messages form, answered by a provider that only speaks OpenAI's chat form."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Protocol

import orjson

from kit.json_values import is_object
from providers.base import JsonObject, Operation, Provider, ProviderAnswer, ProviderRequest, ProviderStream, StreamChunk
from providers.errors import UpstreamGarbage
from providers.message_answers import message_of_chat
from providers.message_events import EventsOfChat
from providers.messages_to_chat import chat_request


async def message_over_chat(provider: Provider, request: ProviderRequest) -> ProviderAnswer:
    """The whole answer as a message; usage is what the provider reported of the chat."""
    answer = await provider.complete(_as_chat(request))
    return ProviderAnswer(
        body=message_of_chat(answer.body, with_thinking=_wants_thinking(request.body)),
        raw=None,
        usage=answer.usage,
        upstream_request_id=answer.upstream_request_id,
        content_bytes=answer.content_bytes,
    )


async def message_stream_over_chat(provider: Provider, request: ProviderRequest) -> ProviderStream:
    """The stream as the events of a message."""
    inner = await provider.stream(_as_chat(request))
    return TranslatedStream(inner, EventsOfChat(with_thinking=_wants_thinking(request.body)))


def _as_chat(request: ProviderRequest) -> ProviderRequest:
    body = chat_request(request.body, request.upstream_model)
    return replace(request, operation=Operation.CHAT, body=body, vendor_headers=())


def _wants_thinking(body: JsonObject) -> bool:
    thinking = body.get("thinking")
    return is_object(thinking) and thinking.get("type") in ("enabled", "adaptive")


class Translation(Protocol):
    """Turns the events of one form into those of another."""

    def translate(self, chunk: StreamChunk) -> list[StreamChunk]:
        """What this event becomes: nothing, one event or several."""
        ...


class TranslatedStream:
    """Serves ProviderStream in another form than the provider's."""

    def __init__(self, inner: ProviderStream, translation: Translation) -> None:
        self._inner = inner
        self._translation = translation
        self._ready: list[StreamChunk] = []

    @property
    def upstream_request_id(self) -> str | None:
        """See ProviderStream."""
        return self._inner.upstream_request_id

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        return self

    async def __anext__(self) -> StreamChunk:
        """The next event that the provider's events become."""
        while not self._ready:
            event = await anext(self._inner)
            try:
                self._ready = self._translation.translate(event)
            except orjson.JSONEncodeError as error:
                raise UpstreamGarbage("an event of the provider's stream is nested too deeply") from error
            self._ready.reverse()
        return self._ready.pop()

    async def aclose(self) -> None:
        """See ProviderStream."""
        await self._inner.aclose()
