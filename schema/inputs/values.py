"""Reads of an input what was left out, what was null and what was given."""

from typing import TypeVar

import strawberry

from kit.unchanged import UNCHANGED, Unchanged

T = TypeVar("T")


def given(value: T | None) -> T | None:
    """The value; None also for one left out."""
    return None if value is strawberry.UNSET else value


def changed(value: T | None) -> T | Unchanged | None:
    """The value, None where it was null, UNCHANGED where it was left out."""
    return UNCHANGED if value is strawberry.UNSET else value


def as_tuple(value: list[T] | None) -> tuple[T, ...] | None:
    """The list's items; None for null and for one left out."""
    return None if value is None or value is strawberry.UNSET else tuple(value)


def changed_tuple(value: list[T] | None) -> tuple[T, ...] | Unchanged | None:
    """Like `changed`, for lists."""
    return UNCHANGED if value is strawberry.UNSET else as_tuple(value)
