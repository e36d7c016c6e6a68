"""A chat with a model that only speaks OpenAI's Responses API, at a provider that speaks it."""

from dataclasses import replace
from typing import Final

from providers.base import Operation, Provider, ProviderAnswer, ProviderRequest, ProviderStream
from providers.chat_of_response import ChunksOfResponse, chat_of_response
from providers.chat_to_responses import response_of_request
from providers.over_chat import TranslatedStream, answer_over_chat, stream_over_chat


class OverResponses:
    """Serves Provider: a chat becomes a response, a message a chat before that; all else goes to the provider as it is."""

    __slots__ = ("_provider", "name")

    def __init__(self, provider: Provider) -> None:
        """`provider` speaks the Responses API and is closed by its owner."""
        self.name: Final = provider.name
        self._provider = provider

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """See Provider."""
        match request.operation:
            case Operation.CHAT:
                answer = await self._provider.complete(_as_response(request))
                return replace(answer, body=chat_of_response(answer.body), raw=None)
            case Operation.MESSAGES:
                return await answer_over_chat(self, request)
            case _:
                return await self._provider.complete(request)

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """See Provider."""
        match request.operation:
            case Operation.CHAT:
                return TranslatedStream(await self._provider.stream(_as_response(request)), ChunksOfResponse())
            case Operation.MESSAGES:
                return await stream_over_chat(self, request)
            case _:
                return await self._provider.stream(request)

    async def aclose(self) -> None:
        """Nothing to do: the provider is closed by its owner."""


def _as_response(request: ProviderRequest) -> ProviderRequest:
    return replace(request, operation=Operation.RESPONSES, body=response_of_request(request.body), vendor_headers=())
