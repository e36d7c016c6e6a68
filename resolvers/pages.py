"""Reads a page's arguments, and cuts pages from lists held in memory."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from kit.errors import BadRequest, Refusal
from kit.pages import Page, PageRequest

DEFAULT_FIRST: Final = 20
T = TypeVar("T")


def page_request(first: int | None, after: str | None, default: int = DEFAULT_FIRST) -> PageRequest:
    """The request; BadRequest where `first` is not 1 to 100."""
    try:
        return PageRequest(default if first is None else first, after or None)
    except Refusal as refusal:
        raise BadRequest(refusal.message) from refusal


def page_of(items: Sequence[T], key: Callable[[T], str], request: PageRequest) -> Page[T]:
    """A page of items sorted by their key, which is unique. BadRequest for a cursor that is none."""
    start = 0
    if request.after is not None:
        position = _position(request.after)
        start = next((index for index, item in enumerate(items) if key(item) > position), len(items))
    shown = tuple(items[start : start + request.first])
    return Page(
        items=shown,
        cursors=tuple(_cursor(key(item)) for item in shown),
        has_next=start + request.first < len(items),
        has_previous=start > 0,
    )


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _position(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error, UnicodeError) as error:
        raise BadRequest("this is not a cursor of this list") from error
