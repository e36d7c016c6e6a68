"""The stream of a chain's last step, told as the chain's own."""

from collections.abc import AsyncIterator, Callable

import orjson

from kit.json_values import JsonObject, is_list, is_object
from metering.operations import UsageFacts
from providers.base import ProviderAnswer, ProviderStream, ReadyStream, StreamChunk, Usage
from providers.openai_content import delta_of_message


class LastStream:
    """Serves ProviderStream over another: chunks carry the chain's name, the one with the usage that of all steps."""

    def __init__(self, upstream: ProviderStream, slug: str, total: Callable[[Usage], UsageFacts]) -> None:
        """`total`: the usage of all steps, with what the last one reports."""
        self._upstream = upstream
        self._slug = slug
        self._total = total

    @staticmethod
    def of_answer(answer: ProviderAnswer, slug: str, total: UsageFacts) -> ProviderStream:
        """The stream of an answer that is there already, in one chunk with its usage after it."""
        return ReadyStream(answer.upstream_request_id, _chunks(answer, slug, total))

    @property
    def upstream_request_id(self) -> str | None:
        """See ProviderStream."""
        return self._upstream.upstream_request_id

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        """Itself."""
        return self

    async def __anext__(self) -> StreamChunk:
        """See ProviderStream."""
        return self.told(await self._upstream.__anext__())

    def told(self, chunk: StreamChunk) -> StreamChunk:
        """A chunk as the chain's own."""
        if chunk.parsed is None:
            return chunk
        parsed = {**chunk.parsed, "model": self._slug}
        if chunk.usage is not None and "usage" in parsed:  # an input that is told ahead is not shown
            parsed["usage"] = _usage(parsed.get("usage"), self._total(chunk.usage))
        return StreamChunk(orjson.dumps(parsed), parsed, chunk.usage, chunk.content_bytes, chunk.done)

    async def aclose(self) -> None:
        """See ProviderStream."""
        await self._upstream.aclose()


def _chunks(answer: ProviderAnswer, slug: str, total: UsageFacts) -> list[StreamChunk]:
    frame: JsonObject = {name: answer.body.get(name) for name in ("id", "created")}
    frame |= {"object": "chat.completion.chunk", "model": slug}
    choices = answer.body.get("choices")
    deltas = [
        {
            "index": each.get("index", 0),
            "delta": delta_of_message(each.get("message")),
            "finish_reason": each.get("finish_reason"),
        }
        for each in (choices if is_list(choices) else ())
        if is_object(each)
    ]
    spoken: JsonObject = {**frame, "choices": deltas}
    counted: JsonObject = {**frame, "choices": [], "usage": _usage(None, total)}
    return [
        StreamChunk(orjson.dumps(spoken), spoken, None, max(1, answer.content_bytes)),
        StreamChunk(orjson.dumps(counted), counted, answer.usage or Usage(reported=False), 0),
        StreamChunk(b"[DONE]", None, None, 0, done=True),
    ]


def _usage(given: object, total: UsageFacts) -> JsonObject:
    return {
        **(given if is_object(given) else {}),
        "prompt_tokens": total.input_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.input_tokens + total.output_tokens,
    }
