"""Asks a provider that speaks OpenAI's Responses API for responses, whole or streamed."""

from providers.base import ProviderAnswer, ProviderRequest, ProviderStream
from providers.openai_responses import RESPONSES_PATH, ResponsesStream, response_request, whole_response
from providers.openai_usage import usage_of_openai
from providers.response_content import bytes_of_response
from providers.transport import Headers, endpoint_of
from providers.wire import Wire, read_all, upstream_request_id


class OpenAIResponses:
    """The side of one provider that speaks the Responses API."""

    def __init__(self, wire: Wire, base_url: str, headers: Headers) -> None:
        """`headers` are those of all requests. Raises EndpointError where `base_url` cannot be used."""
        self._wire = wire
        of_json = (*headers, ("Content-Type", "application/json"))
        self._whole = endpoint_of(base_url, RESPONSES_PATH, (*of_json, ("Accept", "application/json")))
        self._streamed = endpoint_of(base_url, RESPONSES_PATH, (*of_json, ("Accept", "text/event-stream")))

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """See Provider."""
        body = response_request(request.body, request.upstream_model)
        for name in ("stream", "stream_options"):
            body.pop(name, None)
        answer = await self._wire.send(self._whole, request, body)
        text = await read_all(answer)
        response = whole_response(text, self._wire.secret)
        return ProviderAnswer(
            body=response,
            raw=text,
            usage=usage_of_openai(response.get("usage")),
            upstream_request_id=upstream_request_id(answer),
            content_bytes=bytes_of_response(response),
        )

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """See Provider."""
        body = {**response_request(request.body, request.upstream_model), "stream": True}
        answer = await self._wire.send(self._streamed, request, body)
        await self._wire.check_stream(answer)
        return ResponsesStream(answer, self._wire.secret)
