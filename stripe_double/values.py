"""The shape of what this server keeps and answers."""

from typing import Any, TypeGuard

Json = dict[str, Any]
"""A JSON object. Any: each kind of Stripe object has its own fields, and tests judge them by the SDK's annotations."""

LIVEMODE = False
API_VERSION = "2026-10-28.endive"


def is_object(value: object) -> TypeGuard[Json]:
    """A JSON object: what parses JSON and forms gives it text keys."""
    return isinstance(value, dict)


def part(of: Json, name: str) -> Json:
    """An object within, {} where there is none."""
    found = of.get(name)
    return found if is_object(found) else {}


def listed(url: str, data: list[Json], *, has_more: bool = False) -> Json:
    """Stripe's list object around one page."""
    return {"object": "list", "url": url, "has_more": has_more, "data": data}
