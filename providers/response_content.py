"""How many bytes of text a model generated in a response or stream event of OpenAI's Responses form."""

from typing import Final

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.openai_content import text_bytes

_TEXTS: Final = ("text", "refusal", "name", "arguments", "input", "encrypted_content")
_PARTS: Final = ("content", "summary")


def bytes_of_response(response: JsonObject) -> int:
    """The UTF-8 length of all items: text, refusals, reasoning (encrypted, too) and what tools are called with."""
    items = response.get("output")
    return sum(bytes_of_item(item) for item in items if is_object(item)) if is_list(items) else 0


def bytes_of_item(item: JsonObject) -> int:
    """The same of one item; shapes it does not know count 0."""
    size = _bytes_of_texts(item)
    for name in _PARTS:
        parts = item.get(name)
        size += sum(_bytes_of_texts(part) for part in parts if is_object(part)) if is_list(parts) else 0
    return size


def _bytes_of_texts(part: JsonObject) -> int:
    texts = [part.get(name) for name in _TEXTS]
    return sum(text_bytes(text) for text in texts if isinstance(text, str))


class StreamedBytes:
    """Counts the output of one stream, event by event; what was told in pieces is not counted again as a whole item."""

    __slots__ = ("_in_pieces",)

    def __init__(self) -> None:
        self._in_pieces: dict[int, int] = {}
        """By the item's place in the output."""

    def of_event(self, event: JsonObject) -> int:
        """The bytes that this event adds."""
        at = event.get("output_index")
        place = at if isinstance(at, int) else -1
        kind = event.get("type")
        if kind == "response.output_item.done":
            item = event.get("item")
            whole = bytes_of_item(item) if is_object(item) else 0
            return max(0, whole - self._in_pieces.pop(place, 0))
        piece = event.get("delta")
        if not isinstance(piece, str) or not isinstance(kind, str) or not kind.endswith(".delta"):
            return 0
        size = text_bytes(piece)
        self._in_pieces[place] = self._in_pieces.get(place, 0) + size
        return size
