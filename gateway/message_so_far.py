"""The events of a streamed message in Anthropic's form, put together again as the whole answer."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

import orjson

from kit.json_values import is_object
from providers.anthropic_usage import merged_usage
from providers.base import JsonObject

_PIECES: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


@dataclass(slots=True)
class MessageSoFar:
    """Takes up events in order."""

    _message: JsonObject = field(default_factory=dict[str, object])
    _blocks: dict[int, JsonObject] = field(default_factory=dict[int, JsonObject])
    _pieces: dict[tuple[int, str], list[str]] = field(default_factory=dict[tuple[int, str], list[str]])

    def add(self, event: JsonObject) -> None:
        """Take up one event; what it does not know changes nothing."""
        at = event.get("index")
        index = at if isinstance(at, int) else 0
        match event.get("type"):
            case "message_start" if is_object(event.get("message")):
                self._message = {**self._message, **_object(event["message"])}
            case "content_block_start" if is_object(event.get("content_block")):
                self._blocks[index] = dict(_object(event["content_block"]))
            case "content_block_delta" if is_object(event.get("delta")):
                self._add_delta(index, _object(event["delta"]))
            case "message_delta":
                delta = {name: value for name, value in _object(event.get("delta")).items() if value is not None}
                usage = merged_usage(_object(self._message.get("usage")), event.get("usage"))
                self._message = {**self._message, **delta, "usage": usage}
            case _:
                pass

    def _add_delta(self, index: int, delta: JsonObject) -> None:
        kind = str(delta.get("type"))
        if kind == "citations_delta":
            block = self._blocks.setdefault(index, {})
            kept = block.get("citations")
            block["citations"] = [*(kept if isinstance(kept, list) else []), delta.get("citation")]  # pyright: ignore[reportUnknownVariableType] -- parsed JSON
            return
        name = _PIECES.get(kind)
        piece = delta.get(name) if name is not None else None
        if name is not None and isinstance(piece, str):
            self._pieces.setdefault((index, name), []).append(piece)

    def copy(self) -> "MessageSoFar":
        """The same, to go its own way."""
        return deepcopy(self)

    def body(self) -> JsonObject:
        """The answer as it would have been without streaming."""
        blocks = {index: dict(block) for index, block in self._blocks.items()}
        for (index, name), pieces in self._pieces.items():
            block = blocks.setdefault(index, {})
            if name == "partial_json":
                block["input"] = _input_of("".join(pieces))
            else:
                begun = block.get(name)
                block[name] = (begun if isinstance(begun, str) else "") + "".join(pieces)
        return {**self._message, "content": [blocks[index] for index in sorted(blocks)]}


def _input_of(text: str) -> object:
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}


def _object(value: object) -> JsonObject:
    return value if is_object(value) else {}
