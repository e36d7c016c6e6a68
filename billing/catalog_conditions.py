"""Reads which requests a model's price is for: fields of their bodies, and the values that count."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from billing.catalog_reader import Section, join_path, shown
from kit.json_values import is_list, is_object
from metering.rules.conditions import MAX_VALUE, Conditions, compared, conditions_of

MAX_FIELDS: Final = 6
MAX_VALUES: Final = 32
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}(\.[A-Za-z_][A-Za-z0-9_-]{0,63}){0,4}")
_TEXTS: Final = frozenset({"messages", "prompt", "instructions", "system", "contents"})
_OTHERS: Final = frozenset({"input", "model", "file"})
"""A setting below `input` may decide a price, an `input` itself, which is a text or many, may not."""


def read_conditions(price: Section) -> Conditions:
    """A price's `when`, none where it is left out. What cannot stand is noted, and counts as left out."""
    given = price.raw("when")
    if given is None:
        return ()
    path = join_path(price.path, "when")
    if not is_object(given) or not given:
        price.add("when", f'expected a table of fields and values, such as {{ quality = "hd" }}, found {shown(given)}')
        return ()
    read: dict[str, list[str]] = {}
    for field, values in _fields(given, ""):
        problem = _mistake(field, read)
        if problem is None:
            problem, read[field] = _values(values)
        if problem is not None:
            price.findings.add(join_path(path, field), problem)
    if len(read) > MAX_FIELDS:
        price.add("when", f"expected at most {MAX_FIELDS} fields, found {len(read)}")
    return conditions_of(read) if price.sound else ()


def _fields(given: Mapping[str, object], before: str) -> Iterator[tuple[str, object]]:
    """Fields with their values: `{ a.b = 1 }` and `{ "a.b" = 1 }` are the same."""
    for name, value in given.items():
        field = f"{before}{name}"
        if is_object(value) and value:
            yield from _fields(value, f"{field}.")
        else:
            yield field, value


def _mistake(field: str, read: Mapping[str, object]) -> str | None:
    if not _FIELD.fullmatch(field):
        return "expected the name of a field of the request, dots before nested ones, such as output.resolution"
    folded, others = field.casefold(), {other.casefold() for other in read}
    if folded in others:
        return "the field is named twice"
    if any(folded.startswith(f"{other}.") or other.startswith(f"{folded}.") for other in others):
        return "a field and one below it cannot both have a value"
    if folded.partition(".")[0] in _TEXTS or folded in _OTHERS:
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
