"""What a request must say for a price to be its price: fields, and the values that count as equal."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

MAX_VALUE: Final = 64
"""Characters of a value that is compared."""
_MAX_NUMBER: Final = 10**12
_NUMBER: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,16})?")
"""28 digits at most, which a Decimal keeps exactly."""
_TRUTH: Final = re.compile(r"true|false")


@dataclass(frozen=True, slots=True)
class Condition:
    """A field of a request's body, dots before nested ones, has one of these values.

    `values`: sorted, each once, as `compared` writes them.
    """

    field: str
    values: tuple[str, ...]


Conditions = tuple[Condition, ...]
"""All of them together, sorted by field; none for an ordinary price."""


def conditions_of(values: Mapping[str, Sequence[str]]) -> Conditions:
    """Conditions of fields and their values, as `conditions_json` writes them."""
    return tuple(Condition(field, tuple(sorted(set(values[field])))) for field in sorted(values))


def conditions_json(conditions: Conditions) -> dict[str, list[str]]:
    """The form in which a price's row keeps them."""
    return {condition.field: list(condition.values) for condition in conditions}


def compared(value: object) -> str | None:
    """A value as values are compared: "HD" is hd, "10" and 10.0 are 10; None for what no condition can name."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = _number(repr(value)) if abs(value) < _MAX_NUMBER else ""  # what is no number is below nothing
    elif isinstance(value, str) and len(value) <= MAX_VALUE and value.isprintable():
        text = value.strip().casefold()
        text = _number(text) if _NUMBER.fullmatch(text) else text
    else:
        return None
    return text if 0 < len(text) <= MAX_VALUE else None


def kind_of(values: Iterable[str]) -> re.Pattern[str] | None:
    """How values of the kind that all of these are look, as they are compared: numbers, or true and false; None for texts."""
    given = list(values)
    return next((kind for kind in (_NUMBER, _TRUTH) if given and all(kind.fullmatch(value) for value in given)), None)


def _number(text: str) -> str:
    return f"{Decimal(text).normalize() + 0:f}"
