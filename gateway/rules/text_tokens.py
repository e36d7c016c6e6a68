"""How much less than a byte's token the texts of a request count, where a tokenizer can say so."""

from collections.abc import Callable, Iterator
from typing import Final

from kit.json_values import is_list, is_object
from providers.base import JsonObject

MAX_COUNTED_BYTES: Final = 256 * 1024
"""Of one request; what is longer is bounded by its bytes: a tokenizer runs while others wait."""
_FIELDS: Final = ("messages", "system", "input", "instructions", "prompt")
_TEXTS: Final = frozenset({"content", "text", "input", "prompt", "instructions", "system"})
"""Where a text stands that is read as such. Names, arguments, schemas and files stay bounded by their bytes."""
_OTHERS: Final = frozenset({"image_url", "input_audio", "file", "video_url", "source", "input_schema", "arguments"})


def spared_bytes(body: JsonObject, count: Callable[[str], int]) -> int:
    """The bytes of the request's texts less their tokens; 0 where they are too long to be counted.

    `count` gives the tokens of one text: never too few. A count outside 0 to the text's bytes is taken for the bytes.
    """
    texts = [text for name in _FIELDS for text in _texts(body.get(name), name)]
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    if sum(sizes) > MAX_COUNTED_BYTES:
        return 0
    return sum(size - tokens for text, size in zip(texts, sizes, strict=True) if 0 <= (tokens := count(text)) <= size)


def _texts(value: object, name: str) -> Iterator[str]:
    if isinstance(value, str):
        if name in _TEXTS:
            yield value
    elif is_list(value):
        for each in value:
            yield from _texts(each, name)
    elif is_object(value):
        for key, each in value.items():
            if key not in _OTHERS:
                yield from _texts(each, key)
