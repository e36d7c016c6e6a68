"""A call in another form of a chat, answered by a provider that only speaks OpenAI's chat form."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final, Protocol

import orjson

from kit.json_values import is_object
from kit.records import record
from providers.base import JsonObject, Operation, Provider, ProviderAnswer, ProviderRequest, ProviderStream, StreamChunk
from providers.errors import UpstreamGarbage
from providers.message_answers import message_of_chat
from providers.message_events import EventsOfChat
from providers.messages_to_chat import chat_request
from providers.response_of_chat import ResponseOfChat, response_of_chat
from providers.responses_to_chat import chat_of_request


class Translation(Protocol):
    """Turns the events of one form into those of another."""

    def translate(self, chunk: StreamChunk) -> list[StreamChunk]:
        """What this event becomes: nothing, one event or several."""
        ...


@record
class _Form:
    """How a form and a chat become each other.

    `asked`: the chat for a request and the model's name. `answered`: the whole answer to a request, made of the chat's.
    `streamed`: what tells a chat's chunks as the events that answer a request.
    """

    asked: Callable[[JsonObject, str], JsonObject]
    answered: Callable[[JsonObject, JsonObject], JsonObject]
    streamed: Callable[[JsonObject], Translation]


def _wants_thinking(body: JsonObject) -> bool:
    thinking = body.get("thinking")
    return is_object(thinking) and thinking.get("type") in ("enabled", "adaptive")


_FORMS: Final = {
    Operation.MESSAGES: _Form(
        asked=chat_request,
        answered=lambda body, chat: message_of_chat(chat, with_thinking=_wants_thinking(body)),
        streamed=lambda body: EventsOfChat(with_thinking=_wants_thinking(body)),
    ),
    Operation.RESPONSES: _Form(asked=chat_of_request, answered=response_of_chat, streamed=ResponseOfChat),
}
OTHER_FORMS: Final = frozenset(_FORMS)
"""The forms of a chat that are not OpenAI's chat form."""


def as_chat(operation: Operation, body: JsonObject, model: str) -> JsonObject:
    """A request in one of OTHER_FORMS as a chat, without the model's name. Raises NotInThisForm."""
    return _FORMS[operation].asked(body, model)


def told_of_chat(operation: Operation, body: JsonObject, answer: ProviderAnswer) -> ProviderAnswer:
    """A chat's whole answer as the answer to the request `body` in one of OTHER_FORMS; usage is what was reported of the chat."""
    try:
        return replace(answer, body=_FORMS[operation].answered(body, answer.body), raw=None)
    except orjson.JSONEncodeError as error:
        raise UpstreamGarbage("the provider's answer is nested too deeply") from error


def translation_to(operation: Operation, body: JsonObject) -> Translation:
    """What tells a chat's chunks as the events that answer the request `body` in one of OTHER_FORMS."""
    return _FORMS[operation].streamed(body)


async def answer_over_chat(provider: Provider, request: ProviderRequest) -> ProviderAnswer:
    """The whole answer in the request's form."""
    return told_of_chat(request.operation, request.body, await provider.complete(_as_chat(request)))


async def stream_over_chat(provider: Provider, request: ProviderRequest) -> ProviderStream:
    """The stream as the events of the request's form."""
    inner = await provider.stream(_as_chat(request))
    return TranslatedStream(inner, translation_to(request.operation, request.body))


def _as_chat(request: ProviderRequest) -> ProviderRequest:
    body = as_chat(request.operation, request.body, request.upstream_model)
    return replace(request, operation=Operation.CHAT, body=body, vendor_headers=())


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
