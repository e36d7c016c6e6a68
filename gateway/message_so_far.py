"""The events of a streamed message in Anthropic's form, merged into fewer events, or put together as the whole answer."""

from typing import Final

import orjson

from gateway.events_so_far import EventsSoFar, Piece
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


class MessageSoFar(EventsSoFar):
    """Takes up events in order."""

    __slots__ = ()

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

    def _says_nothing(self, event: JsonObject) -> bool:
        return event.get("type") == "ping"

    def _piece_of(self, event: JsonObject) -> Piece | None:
        if event.get("type") != "content_block_delta":
            return None
        delta = _object(event.get("delta"))
        name = _PIECES.get(str(delta.get("type")))
        piece = None if name is None else delta.get(name)
        return Piece((name, _index_of(event)), piece) if isinstance(piece, str) else None

    def _with_text(self, event: JsonObject, text: str) -> JsonObject:
        delta = _object(event.get("delta"))
        return {**event, "delta": {**delta, _PIECES[str(delta["type"])]: text}}


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
