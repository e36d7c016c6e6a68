"""Reads values out of Stripe's objects, in the shapes of API version 2026-10-28.endive; money in cents becomes micro-dollars."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast
from uuid import UUID

CENT_MICRO: Final = 10_000
"""Micro-dollars of a cent: Stripe counts in the smallest unit of a currency."""

StripeJson = Mapping[str, object]
_NOTHING: Final[StripeJson] = {}


def part(value: object, *path: str) -> StripeJson:
    """The object at a path of keys; an empty one where there is none."""
    found = _object(value)
    for key in path:
        found = _object(found.get(key))
    return found


def text(value: object, *path: str) -> str | None:
    """The text at a path of keys; None where there is none."""
    found = part(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else None


def number(value: object, *path: str) -> int | None:
    """The whole number at a path of keys; None where there is none."""
    found = part(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def flag(value: object, *path: str) -> bool:
    """Whether a truth at a path of keys is so; False where there is none."""
    return part(value, *path[:-1]).get(path[-1]) is True


def entries(value: object, *path: str) -> Sequence[StripeJson]:
    """The objects of a list, or of Stripe's list object, at a path of keys."""
    held = part(value, *path)
    found = held.get("data") if held else (part(value, *path[:-1]).get(path[-1]) if path else value)
    items = cast("list[object]", found) if isinstance(found, list) else []
    return [item for item in map(_object, items) if item]


def first(value: object, *path: str) -> StripeJson:
    """The first object of a list at a path; an empty one where there is none."""
    return next(iter(entries(value, *path)), _NOTHING)


def id_of(value: object, *path: str) -> str | None:
    """The id at a path, where Stripe gives an id or, expanded, the object itself."""
    held = part(value, *path)
    found = held.get("id") if held else part(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else None


def required_id(value: StripeJson) -> str:
    """The id of an object; KeyError for what is none."""
    found = value["id"]
    assert isinstance(found, str), "Stripe's ids are texts"
    return found


def instant(value: object, *path: str) -> datetime | None:
    """The instant at a path, which Stripe gives in whole seconds."""
    found = number(value, *path)
    return None if found is None else datetime.fromtimestamp(found, UTC)


def usd_micro(value: object, *path: str) -> int | None:
    """The amount at a path, in micro-dollars."""
    cents = number(value, *path)
    return None if cents is None else cents * CENT_MICRO


def cents_of(amount_usd_micro: int) -> int:
    """Micro-dollars in cents, rounded up: amounts that are sold are whole cents (the catalog's check)."""
    return -(-amount_usd_micro // CENT_MICRO)


def our_id(value: object, name: str) -> UUID | None:
    """An id of ours that we put into an object's metadata; None where there is none, or another's text."""
    found = text(value, "metadata", name)
    try:
        return None if found is None else UUID(found)
    except ValueError:
        return None


def _object(value: object) -> StripeJson:
    return cast("StripeJson", value) if isinstance(value, Mapping) else _NOTHING  # JSON: its keys are texts
