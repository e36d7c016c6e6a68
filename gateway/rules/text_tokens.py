"""How much less than a byte's token the texts of a request count, where a tokenizer can say so."""

from collections.abc import Callable, Iterator
from typing import Final

from kit.json_values import is_list, is_object
from providers.base import JsonObject, Operation

MAX_COUNTED_BYTES: Final = 256 * 1024
"""Of one request; what is longer is bounded by its bytes: a tokenizer runs while others wait."""
_FIELDS: Final = {
    Operation.CHAT: ("messages",),
    Operation.MESSAGES: ("system", "messages"),
    Operation.RESPONSES: ("input", "instructions"),
    Operation.EMBEDDING: ("input",),
    Operation.SPEECH: ("input",),
    Operation.IMAGE: ("prompt",),
    Operation.VIDEO: ("prompt",),
    Operation.TRANSCRIPTION: ("prompt",),
}
"""What an operation's shape weighs. Nothing is spared of a text that was not weighed: it would make the bound too small."""
_TEXTS: Final = frozenset({"content", "text", "input", "prompt", "instructions", "system"})
"""Where a text stands that is read as such. Names, arguments, schemas and files stay bounded by their bytes."""
_OTHERS: Final = frozenset({"image_url", "input_audio", "file", "video_url", "source", "input_schema", "arguments"})


def spared_bytes(operation: Operation, body: JsonObject, count: Callable[[str], int]) -> int:
    """The bytes of the request's texts less their tokens; 0 where they are too long to be counted.

    `count` gives the tokens of one text: never too few. A count outside 0 to the text's bytes is taken for the bytes.
    """
    texts = [text for name in _FIELDS[operation] for text in _texts(_weighed(operation, body, name), name)]
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    if sum(sizes) > MAX_COUNTED_BYTES:
        return 0
    counts = [count(text) for text in texts]
    return sum(size - tokens for size, tokens in zip(sizes, counts, strict=True) if 0 <= tokens <= size)


def _weighed(operation: Operation, body: JsonObject, name: str) -> object:
    """Of a message in Anthropic's form its content alone is weighed, of a transcription's form a prompt that is one text."""
    value = body.get(name)
    if operation is Operation.TRANSCRIPTION and not isinstance(value, str):
        return None
    if operation is Operation.MESSAGES and name == "messages" and is_list(value):
        return [{"content": each.get("content")} for each in value if is_object(each)]
    return value


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
