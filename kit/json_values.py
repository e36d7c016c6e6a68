"""Tells what a parsed JSON value is, in a way that the type checker follows."""

from typing import Final, TypeGuard

import orjson

JsonObject = dict[str, object]
"""A parsed JSON object."""
WRITTEN_LEVELS: Final = 254
"""Objects and lists within each other that orjson writes; it reads 1,024."""
MAX_LEVELS: Final = 128
"""The same of a body that is sent to us: half of it, as a body is sent on within others."""


def is_object(value: object) -> TypeGuard[JsonObject]:
    """A JSON object: the parser's keys are texts."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """A JSON array."""
    return isinstance(value, list)


def is_deeper(parsed: object, text: bytes, levels: int) -> bool:
    """Whether what was read of a text has more than so many levels, which are WRITTEN_LEVELS at most.

    The writer finds it, a tenth of the time of a walk in Python, and is asked only where the text has that many brackets.
    """
    if len(text) <= 2 * levels or text.count(b"{") + text.count(b"[") <= levels:
        return False
    for _ in range(WRITTEN_LEVELS - levels):
        parsed = [parsed]
    try:
        orjson.dumps(parsed)
    except orjson.JSONEncodeError:  # what was read as JSON can be written, but for its depth
        return True
    return False


def has_nul(parsed: object) -> bool:
    """Whether a text in it, a name too, has the character U+0000, which PostgreSQL does not store."""
    waiting = [parsed]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            if "\0" in each:
                return True
        elif is_object(each):
            waiting += [*each.keys(), *each.values()]
        elif is_list(each):
            waiting += each
    return False


def folded(name: str) -> str:
    """A field's name as names are compared: providers read them in any letters, and `imageSize` as `image_size`."""
    return name.casefold().replace("_", "").replace("-", "")
