"""Which conditions of a price can stand: settings of a request and the values that are compared."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from billing.catalog_reader import shown
from kit.json_values import folded, is_list
from metering.rules.conditions import MAX_VALUE, Conditions, compared, conditions_of

MAX_FIELDS: Final = 6
MAX_VALUES: Final = 32
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}(\.[A-Za-z_][A-Za-z0-9_-]{0,63}){0,4}")
_TEXTS: Final = frozenset({"messages", "prompt", "instructions", "system", "contents"})
_OTHERS: Final = frozenset({"input", "model", "file"})
"""A setting below `input` may decide a price, an `input` itself, which is a text or many, may not."""


def conditions_in(given: Iterable[tuple[str, object]]) -> tuple[Conditions, tuple[tuple[str, str], ...]]:
    """The conditions of fields, each with a value or a list of them; and which field is wrong, with what is wrong with it.

    An empty field names the whole.
    """
    fields = list(given)
    if len(fields) > MAX_FIELDS:
        return (), (("", f"expected at most {MAX_FIELDS} fields, found {len(fields)}"),)
    read: dict[str, list[str]] = {}
    problems: list[tuple[str, str]] = []
    for field, values in fields:
        problem = _mistake(field, read)
        if problem is None:
            problem, read[field] = _values(values)
        if problem is not None:
            problems.append((field, problem))
    return conditions_of(read), tuple(problems)


def _mistake(field: str, read: Mapping[str, object]) -> str | None:
    if not _FIELD.fullmatch(field):
        return "expected the name of a field of the request, dots before nested ones, such as output.resolution"
    name, others = folded(field), {folded(other) for other in read}
    if name in others:
        return "the field is named twice"
    if any(name.startswith(f"{other}.") or other.startswith(f"{name}.") for other in others):
        return "a field and one below it cannot both have a value"
    if name.partition(".")[0] in _TEXTS or name in _OTHERS:
        return "a price depends on settings of a request, not on its texts, its file or its model"
    return None


def _values(given: object) -> tuple[str | None, list[str]]:
    """What is wrong with the values, and as many as could be read."""
    values = given if is_list(given) else [given]
    if not 0 < len(values) <= MAX_VALUES:
        return f"expected a value or a list of 1 to {MAX_VALUES} values, found {len(values)}", []
    read: list[str] = []
    for value in values:
        text = compared(value)
        if text is None:
            kinds = f"a text of 1 to {MAX_VALUE} characters, a number, true or false"
            return f"expected {kinds}, found {shown(value)}", read
        if text in read:
            return f"{shown(value)} is listed twice", read
        read.append(text)
    return None, read
