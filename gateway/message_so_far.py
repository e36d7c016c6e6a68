"""The events of a streamed message in Anthropic's form, merged into fewer events, or put together as the whole answer."""

from dataclasses import dataclass, field
from typing import Final

import orjson

from kit.json_values import is_list, is_object
from providers.anthropic_usage import merged_usage
from providers.base import JsonObject

_PARTIAL: Final = "partial_json"
_PIECES: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": _PARTIAL,
}


@dataclass(slots=True)
class _Told:
    """An event; of a piece of text also `name`, where it stands, and `pieces`: those that followed it directly with it."""

    event: JsonObject
    name: str | None = None
    pieces: list[str] = field(default_factory=list[str])

    def goes_on_with(self, event: JsonObject, name: str) -> bool:
        """Whether the event's piece continues this one: of the same block, under the same name."""
        return self.name == name and _index_of(self.event) == _index_of(event)

    def whole(self) -> JsonObject:
        """One event in place of all."""
        if self.name is None:
            return self.event
        return {**self.event, "delta": {**_object(self.event.get("delta")), self.name: "".join(self.pieces)}}


@dataclass(slots=True)
class MessageSoFar:
    """Takes up events in order."""

    _told: list[_Told] = field(default_factory=list[_Told])

    @property
    def is_empty(self) -> bool:
        """Nothing was taken up."""
        return not self._told

    def add(self, event: JsonObject) -> None:
        """Take up one event; a ping says nothing that could be told later."""
        if event.get("type") == "ping":
            return
        name, piece = _piece_of(event)
        if name is None:
            self._told.append(_Told(event))
        elif self._told and self._told[-1].goes_on_with(event, name):
            self._told[-1].pieces.append(piece)
        else:
            self._told.append(_Told(event, name, [piece]))

    def copy(self) -> "MessageSoFar":
        """The same, to go its own way."""
        return MessageSoFar([_Told(told.event, told.name, [*told.pieces]) for told in self._told])

    def chunks(self) -> list[JsonObject]:
        """Events that say the same: pieces that followed each other are one."""
        return [told.whole() for told in self._told]

    def body(self) -> JsonObject:
        """The answer as it would have been without streaming; an event that is not known changes nothing of it."""
        message: JsonObject = {}
        blocks: dict[int, JsonObject] = {}
        for event in self.chunks():
            match event.get("type"):
                case "message_start":
                    message = {**message, **_object(event.get("message"))}
                case "content_block_start" if is_object(event.get("content_block")):
                    blocks[_index_of(event)] = dict(_object(event["content_block"]))
                case "content_block_delta":
                    _add_delta(blocks, _index_of(event), _object(event.get("delta")))
                case "message_delta":
                    delta = {name: value for name, value in _object(event.get("delta")).items() if value is not None}
                    usage = merged_usage(_object(message.get("usage")), event.get("usage"))
                    message = {**message, **delta, "usage": usage}
                case _:
                    pass
        for block in blocks.values():
            if _PARTIAL in block:
                block["input"] = _input_of(str(block.pop(_PARTIAL)))
        return {**message, "content": [blocks[index] for index in sorted(blocks)]}


def _add_delta(blocks: dict[int, JsonObject], index: int, delta: JsonObject) -> None:
    kind = str(delta.get("type"))
    if kind == "citations_delta":
        block = blocks.setdefault(index, {})
        kept = block.get("citations")
        block["citations"] = [*(kept if is_list(kept) else []), delta.get("citation")]
        return
    name = _PIECES.get(kind)
    piece = None if name is None else delta.get(name)
    if name is not None and isinstance(piece, str):
        block = blocks.setdefault(index, {})
        begun = block.get(name)
        block[name] = (begun if isinstance(begun, str) else "") + piece


def _piece_of(event: JsonObject) -> tuple[str | None, str]:
    """Where in the event's delta a piece of text stands, and the piece; None for any other event."""
    if event.get("type") != "content_block_delta":
        return None, ""
    delta = _object(event.get("delta"))
    name = _PIECES.get(str(delta.get("type")))
    piece = None if name is None else delta.get(name)
    return (name, piece) if isinstance(piece, str) else (None, "")


def _index_of(event: JsonObject) -> int:
    at = event.get("index")
    return at if isinstance(at, int) else 0


def _input_of(text: str) -> object:
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}


def _object(value: object) -> JsonObject:
    return value if is_object(value) else {}
