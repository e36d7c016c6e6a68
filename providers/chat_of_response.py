"""A response told in OpenAI's chat form: the whole one as a chat completion, its events as chunks."""

from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from kit.clock import now
from kit.json_values import is_list, is_object
from providers.base import JsonObject, StreamChunk, Usage
from providers.message_events import STREAM_END

_FINISH_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""A chat's words for why a response is incomplete."""
_CALLS: Final = ("function_call", "custom_tool_call")
_PIECES: Final = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning_content",
    "response.reasoning_summary_text.delta": "reasoning_content",
    "response.function_call_arguments.delta": "arguments",
}
"""Events with a piece of text, and what a chat calls that."""


def chat_of_response(response: JsonObject) -> JsonObject:
    """A response as a chat completion: texts, refusals, shown reasoning, tool calls, why it ended, and usage where it has some."""
    texts: dict[str, list[str]] = {}
    calls: list[JsonObject] = []
    items = response.get("output")
    for item in items if is_list(items) else []:
        if is_object(item) and item.get("type") in _CALLS:
            calls.append(_call(item))
        elif is_object(item):
            for name, text in _texts(item).items():
                texts.setdefault(name, []).append(text)
    message: JsonObject = {"role": "assistant", "content": None if calls or "refusal" in texts else ""}
    message |= {name: "".join(pieces) for name, pieces in texts.items()}
    if calls:
        message["tool_calls"] = calls
    reason = _finish_reason(response, calls=bool(calls))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    chat = {**_head(response), "object": "chat.completion", "choices": [choice]}
    usage = _usage(response.get("usage"))
    return chat if usage is None else {**chat, "usage": usage}


@dataclass(slots=True)
class _Told:
    """What has been told of an item that grows: characters by the name of the text, and of a call its number."""

    characters: dict[str, int] = field(default_factory=dict[str, int])
    number: int | None = None


class ChunksOfResponse:
    """Turns the events of one response into chunks of a chat, each as it comes; a custom tool's call when it is whole."""

    def __init__(self) -> None:
        self._frame: JsonObject | None = None
        self._items: dict[int, _Told] = {}
        """By the item's place in the output."""
        self._calls = 0
        self._untold_bytes = 0
        """Of output that became no chunk, such as encrypted reasoning: it counts all the same."""

    def translate(self, chunk: StreamChunk) -> list[StreamChunk]:
        """The chunks that one event becomes; the last one says why it ended, then the usage as it came, and is the end."""
        event = chunk.parsed
        if event is None:
            return [STREAM_END]
        given = event.get("response")
        response = given if is_object(given) else {}
        told: list[JsonObject] = []
        if self._frame is None:
            self._frame = {**_head(response), "object": "chat.completion.chunk"}
            told.append(self._chunk({"role": "assistant", "content": ""}))
        told.extend(self._chunk(delta) for delta in self._deltas(event))
        if chunk.done:
            told.append(self._chunk({}, _finish_reason(response, calls=self._calls > 0)))
        chunks = [StreamChunk(orjson.dumps(each), each, None, 0) for each in told]
        self._untold_bytes += chunk.content_bytes
        if chunks:
            chunks[0] = replace(chunks[0], content_bytes=self._untold_bytes)
            self._untold_bytes = 0
        usage = _usage(response.get("usage"))
        if usage is not None and (chunk.done or chunk.usage is not None):
            chunks.append(self._with_usage(usage, chunk.usage))
        return [*chunks, STREAM_END] if chunk.done else chunks

    def _with_usage(self, usage: JsonObject, believed: Usage | None) -> StreamChunk:
        told: JsonObject = {**(self._frame or {}), "choices": [], "usage": usage}
        return StreamChunk(orjson.dumps(told), told, believed, 0)

    def _chunk(self, delta: JsonObject, finish_reason: str | None = None) -> JsonObject:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**(self._frame or {}), "choices": [choice]}

    def _deltas(self, event: JsonObject) -> list[JsonObject]:
        at, kind, item = event.get("output_index"), event.get("type"), event.get("item")
        place = at if isinstance(at, int) else -1
        if kind == "response.output_item.added" and is_object(item):
            return self._begun(place, item)
        if kind == "response.output_item.done" and is_object(item):
            return self._whole(place, item)
        piece = event.get("delta")
        name = _PIECES.get(kind) if isinstance(kind, str) else None
        return self._added(place, name, piece) if name is not None and isinstance(piece, str) and piece else []

    def _begun(self, place: int, item: JsonObject) -> list[JsonObject]:
        """The beginning of a function's call that has none yet; nothing of any other item."""
        told = self._items.setdefault(place, _Told())
        if item.get("type") != "function_call" or told.number is not None:
            return []
        told.number = self._number()
        return [{"tool_calls": [{"index": told.number, **_call({**item, "arguments": ""})}]}]

    def _added(self, place: int, name: str, piece: str) -> list[JsonObject]:
        told = self._items.setdefault(place, _Told())
        if name == "arguments" and told.number is None:
            return []  # of a call that nobody began: it is told when it is whole
        told.characters[name] = told.characters.get(name, 0) + len(piece)
        if name == "arguments":
            return [{"tool_calls": [{"index": told.number, "function": {"arguments": piece}}]}]
        return [{name: piece}]

    def _whole(self, place: int, item: JsonObject) -> list[JsonObject]:
        """What of the item was not told in pieces."""
        if item.get("type") == "custom_tool_call":
            return [{"tool_calls": [{"index": self._number(), **_call(item)}]}]
        deltas = self._begun(place, item)
        arguments = item.get("arguments")
        texts = {"arguments": arguments} if isinstance(arguments, str) else _texts(item)
        told = self._items[place].characters
        for name, text in texts.items():
            rest = text[told.get(name, 0) :]
            deltas.extend(self._added(place, name, rest) if rest else [])
        del self._items[place]
        return deltas

    def _number(self) -> int:
        self._calls += 1
        return self._calls - 1


def _head(response: JsonObject) -> JsonObject:
    name, created = response.get("id"), response.get("created_at")
    return {
        "id": f"chatcmpl-{name.removeprefix('resp_') if isinstance(name, str) else ''}",
        "created": created if isinstance(created, int) else int(now().timestamp()),
        "model": response.get("model"),
    }


def _texts(item: JsonObject) -> dict[str, str]:
    """The texts of a message or of a reasoning, as far as it is shown, by their names in a chat."""
    pieces: dict[str, list[str]] = {}
    thought = item.get("type") == "reasoning"
    for group in ("summary", "content"):
        parts = item.get(group)
        for part in parts if is_list(parts) else []:
            for key in ("text", "refusal"):
                text = part.get(key) if is_object(part) else None
                if isinstance(text, str) and text:
                    name = "reasoning_content" if thought else "content" if key == "text" else "refusal"
                    pieces.setdefault(name, []).append(text)
    return {name: "".join(texts) for name, texts in pieces.items()}


def _call(item: JsonObject) -> JsonObject:
    if item.get("type") == "custom_tool_call":
        custom = {"name": item.get("name"), "input": item.get("input")}
        return {"id": item.get("call_id"), "type": "custom", "custom": custom}
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _finish_reason(response: JsonObject, *, calls: bool) -> str:
    details = response.get("incomplete_details")
    reason = details.get("reason") if is_object(details) else None
    if response.get("status") == "incomplete":
        return _FINISH_REASONS.get(str(reason), "length")
    return "tool_calls" if calls else "stop"


def _usage(usage: object) -> JsonObject | None:
    """A response's usage under a chat's names, with the numbers as they came."""
    if not is_object(usage):
        return None
    told: JsonObject = {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
    }
    for ours, theirs in (("prompt", "input"), ("completion", "output")):
        if usage.get(f"{theirs}_tokens_details") is not None:
            told[f"{ours}_tokens_details"] = usage[f"{theirs}_tokens_details"]
    return told
