"""Pages of lists that can grow: keyset cursors, never offsets."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar
from uuid import UUID

from kit.errors import InvalidInput

MAX_PAGE_SIZE: Final = 100
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`first` items after the keyset position; `None` starts at the beginning."""

    first: int
    after: str | None = None

    def __post_init__(self) -> None:
        """Raises InvalidInput where `first` is not 1 to 100."""
        if not 1 <= self.first <= MAX_PAGE_SIZE:
            raise InvalidInput(f"first must be 1 to {MAX_PAGE_SIZE}, not {self.first}", field=["first"])


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list in order, each with its cursor, and whether there are more on either side."""

    items: tuple[T, ...]
    cursors: tuple[str, ...]
    has_next: bool
    has_previous: bool = False


def pages_of(
    parents: Iterable[UUID], found: Iterable[tuple[UUID, T]], request: PageRequest, cursor: Callable[[T], str]
) -> dict[UUID, Page[T]]:
    """A page for each parent, from what was read for all of them: up to `first` + 1 items of each, in order."""
    items: dict[UUID, list[T]] = {parent: [] for parent in parents}
    for parent, item in found:
        items[parent].append(item)
    return {parent: _page(own, request, cursor) for parent, own in items.items()}


def _page(items: list[T], request: PageRequest, cursor: Callable[[T], str]) -> Page[T]:
    shown = tuple(items[: request.first])
    return Page(
        items=shown,
        cursors=tuple([cursor(item) for item in shown]),
        has_next=len(items) > request.first,
        has_previous=request.after is not None,
    )


def encode_cursor(at: datetime, key: UUID) -> str:
    """An opaque cursor over (created_at, id)."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{key.hex}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The position in a cursor; InvalidInput when it is not one of ours."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        at, _, key = raw.partition("|")
        instant = datetime.fromisoformat(at)
        position = instant.astimezone(UTC), UUID(hex=key)
    except (ValueError, OverflowError) as error:  # decoding errors are ValueErrors
        raise InvalidInput("this is not a cursor of this list", field=["after"]) from error
    if instant.tzinfo is None:
        raise InvalidInput("this is not a cursor of this list", field=["after"])
    return position
