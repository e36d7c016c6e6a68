"""How many bytes of text a model generated in a message or stream event of Anthropic's form."""

from typing import Final

import orjson

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.openai_content import text_bytes

_TEXTS: Final = ("text", "thinking", "partial_json", "data")


def bytes_of_message(message: JsonObject) -> int:
    """The UTF-8 length of all blocks: text, thinking and the input of tools; shapes it does not know count 0."""
    content = message.get("content")
    return sum(_bytes_of_block(block) for block in content if is_object(block)) if is_list(content) else 0


def bytes_of_event(event: JsonObject) -> int:
    """The same of one event of a stream."""
    match event.get("type"):
        case "content_block_delta":
            delta = event.get("delta")
            return _bytes_of_texts(delta) if is_object(delta) else 0
        case "content_block_start":
            block = event.get("content_block")
            return _bytes_of_block(block) if is_object(block) else 0
        case _:
            return 0


def _bytes_of_block(block: JsonObject) -> int:
    size = _bytes_of_texts(block)
    if str(block.get("type")).endswith("tool_use"):
        name, given = block.get("name"), block.get("input")
        size += text_bytes(name) if isinstance(name, str) else 0
        size += len(orjson.dumps(given)) if given else 0
    return size


def _bytes_of_texts(part: JsonObject) -> int:
    texts = [part.get(name) for name in _TEXTS]
    return sum(text_bytes(text) for text in texts if isinstance(text, str))
