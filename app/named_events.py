"""Server-sent events that are named by the `type` of their data, as both vendors' newer forms have them."""

import re
from typing import Final

import orjson

from providers.base import JsonObject

_NAME: Final = re.compile(r"[a-z0-9_.]{1,60}")


def named_event(event: JsonObject, data: bytes | None = None) -> bytes:
    """The event's text; `data` is its text as it came, where it goes on unchanged."""
    kind = event.get("type")
    name = kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "message"
    text = orjson.dumps(event) if data is None or b"\n" in data else data
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), text)
