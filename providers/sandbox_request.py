"""One request as the sandbox server received it, and what it asks."""

from dataclasses import dataclass, field

import orjson

from kit.json_values import is_object
from providers.base import JsonObject, Operation, Upload
from providers.multipart import FormError, read_form


@dataclass(slots=True)
class Received:
    """What has come so far; `size` counts what is not kept as well."""

    path: bytes = b""
    method: bytes = b""
    request_id: bytes = b""
    authorization: bytes = b""
    content_type: bytes = b""
    host: bytes = b""
    key: bytes = b""
    parts: list[bytes] = field(default_factory=list[bytes])
    size: int = 0
    keep_alive: bool = True


def read_request(request: Received, operation: Operation) -> tuple[JsonObject | None, Upload | None]:
    """The request's fields and its file; no fields where it cannot be read."""
    content = b"".join(request.parts)
    if operation is Operation.TRANSCRIPTION:
        try:
            return read_form(content, request.content_type.decode("latin-1"))
        except FormError:
            return None, None
    try:
        parsed: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None, None
    return (parsed, None) if is_object(parsed) else (None, None)
