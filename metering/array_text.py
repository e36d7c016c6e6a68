"""Columns of values as texts in PostgreSQL's array notation.

asyncpg looks at each element of an array several times; this costs a fifth of it. JSON's notation of a list is, its
brackets changed to braces, PostgreSQL's as well, `null` and escaped quotes and backslashes included; other escapes are
not, so that a text with any goes the long way.
"""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

import orjson

from models.pool import dump_json


def array_text(values: Sequence[object]) -> str | None:
    """An array of whole numbers, booleans, UUIDs, instants or texts; None where it holds only NULL, zero, false or ''."""
    if not any(values):
        return None
    text = orjson.dumps(values, default=_plain).decode()
    if "\\" in text:
        return f"{{{','.join([_element(value) for value in values])}}}"
    return f"{{{text[1:-1]}}}"


def array_texts(rows: Sequence[tuple[object, ...]], width: int) -> Iterable[str | None]:
    """Rows as columns."""
    if not rows:
        return (None,) * width
    return [array_text(column) for column in zip(*rows, strict=True)]


def braces(values: Iterable[object]) -> str:
    """An array of values whose texts need no quotes, as one element of an array of texts."""
    return f"{{{','.join([str(value) for value in values])}}}"


def json_array(values: Sequence[object], one: Callable[[object], str]) -> str:
    """A JSON array of jsonb values; `one` writes a value where not all can be written at once."""
    try:
        text = dump_json(values).decode()
    except (orjson.JSONEncodeError, TypeError):
        text = ""
    if not text or "\\u0000" in text:
        return f"[{','.join([one(value) for value in values])}]"
    return text


def _element(value: object) -> str:
    if not isinstance(value, str):
        return orjson.dumps(value, default=_plain).decode()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in an array")
