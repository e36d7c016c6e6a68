"""The scalars of the API: how exact values travel as JSON."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from kit.money import AmountError, format_micro, parse_micro

Credits = NewType("Credits", int)
"""Micro-credits inside, an exact decimal number of credits outside."""
Usd = NewType("Usd", str)
"""The text of an exact decimal amount of dollars, on both sides; see kit.money."""
BigInt = NewType("BigInt", int)
"""A whole number beyond 32 bits."""
Json = NewType("Json", object)
"""Any JSON value, bounded in depth where it comes in."""
Vector = NewType("Vector", list[object])
"""The numbers of an embedding, as the provider sent them."""

MAX_JSON_DEPTH: Final = 64
MAX_BIG_INT: Final = 2**63 - 1
_LEAST_JSON_INT: Final = -(2**63)
_MOST_JSON_INT: Final = 2**64 - 1
_INTEGER_TEXT: Final = re.compile(r"-?[0-9]{1,19}")
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_SHOWN: Final = 40


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _decimal_reader(name: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise GraphQLError(f'{name} is a text such as "12.5", not {_shown(value)}.')
        try:
            parse_micro(value)
        except AmountError as error:
            raise GraphQLError(f"{name}: {error}, not {_shown(value)}.") from error
        return value

    return read


_credits_text: Final = _decimal_reader("Credits")


def _read_credits(value: object) -> int:
    return parse_micro(_credits_text(value))


def _write_big_int(value: object) -> str:
    return str(value)


def _read_big_int(value: object) -> int:
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and _INTEGER_TEXT.fullmatch(value):
        number = int(value)
    if number is None or abs(number) > MAX_BIG_INT:
        raise GraphQLError(f'BigInt is a whole number of at most 63 bits, as a text such as "12", not {_shown(value)}.')
    return number


def write_date_time(value: datetime) -> str:
    """RFC 3339 in UTC, ending in Z."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_date_time(value: object) -> datetime:
    if isinstance(value, str) and _DATE_TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise GraphQLError(f'DateTime is an instant of RFC 3339 such as "2026-01-31T12:00:00Z", not {_shown(value)}.')


def _read_json(value: object) -> object:
    _check_json(value)
    return value


def _check_json(value: object) -> None:
    """GraphQL's literals may be numbers that JSON's readers and writers do not have."""
    level: list[object] = [value]
    for _ in range(MAX_JSON_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())  # pyright: ignore[reportUnknownArgumentType] -- parsed JSON
            elif isinstance(item, list):
                below.extend(item)  # pyright: ignore[reportUnknownArgumentType] -- parsed JSON
            elif isinstance(item, int) and not _LEAST_JSON_INT <= item <= _MOST_JSON_INT:
                raise GraphQLError(f"JSON has whole numbers of at most 64 bits here, not {_shown(item)}.")
        if not below:
            return
        level = below
    raise GraphQLError(f"JSON may be nested {MAX_JSON_DEPTH} levels deep at most.")


def _as_it_is(value: object) -> object:
    return value


def _read_vector(value: object) -> object:
    if isinstance(value, list) and all(  # parsed JSON
        isinstance(item, int | float) and not isinstance(item, bool)
        for item in value  # pyright: ignore[reportUnknownVariableType] -- parsed JSON
    ):
        return value  # pyright: ignore[reportUnknownVariableType] -- parsed JSON
    raise GraphQLError("Vector is a list of numbers.")


SCALARS: Final[dict[object, ScalarDefinition]] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339, UTC",
        specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        serialize=write_date_time,
        parse_value=_read_date_time,
    ),
    Credits: strawberry.scalar(
        name="Credits",
        description="An exact decimal number of credits, as a string; at most 6 fraction digits",
        serialize=format_micro,
        parse_value=_read_credits,
    ),
    Usd: strawberry.scalar(
        name="Usd",
        description="An exact decimal amount of US dollars, as a string",
        serialize=_as_it_is,
        parse_value=_decimal_reader("Usd"),
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number of at most 63 bits, as a string",
        serialize=_write_big_int,
        parse_value=_read_big_int,
    ),
    Json: strawberry.scalar(
        name="JSON",
        description="Any JSON value",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=_as_it_is,
        parse_value=_read_json,
    ),
    Vector: strawberry.scalar(
        name="Vector",
        description="A list of numbers, passed through whole",
        serialize=_as_it_is,
        parse_value=_read_vector,
    ),
}
"""For StrawberryConfig.scalar_map."""
