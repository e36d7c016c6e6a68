"""Tells what a parsed JSON value is, in a way that the type checker follows."""

from typing import TypeGuard

JsonObject = dict[str, object]
"""A parsed JSON object."""


def is_object(value: object) -> TypeGuard[JsonObject]:
    """A JSON object: the parser's keys are texts."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """A JSON array."""
    return isinstance(value, list)
