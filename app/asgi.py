"""The few words of ASGI that the hot path speaks without a framework: read a bounded body, send JSON, send a stream."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import orjson

from kit.errors import RequestFailure
from kit.ids import uuid7

# ASGI's own types: scopes and messages are open mappings by its specification.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_NAMED: Final = "tollgate.headers"
"""Where a scope keeps its headers by name, once one was asked for."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


_PLAIN: Final = frozenset({None, "identity"})
"""Content encodings of a body that is read as it came."""


class BodyTooLarge(RequestFailure):
    """The request's body is above the limit of its path."""

    code = "BAD_REQUEST"
    http_status = 413


class EncodedBody(RequestFailure):
    """The request's body is compressed; nothing here unpacks one."""

    code = "BAD_REQUEST"
    http_status = 415

    def __init__(self) -> None:
        """Says what to do."""
        super().__init__("send the body without a content encoding")


class MethodNotAllowed(RequestFailure):
    """The path takes another method: `allowed`, which the answer's Allow header names."""

    code = "BAD_REQUEST"
    http_status = 405

    def __init__(self, allowed: str) -> None:
        """`allowed` is one method, in capitals."""
        super().__init__(f"this path takes {allowed} only")
        self.allowed = allowed


class ClientGone(Exception):
    """The client closed the connection before its request was whole; nobody is there to answer."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a request header, latin-1 as HTTP has it; `name` in lower case."""
    named: dict[bytes, bytes] | None = scope.get(_NAMED)
    if named is None:
        named = scope[_NAMED] = dict(reversed(scope["headers"]))
    value = named.get(name)
    return None if value is None else value.decode("latin-1")


def says_any(scope: Scope, names: frozenset[bytes]) -> bool:
    """Whether a request has one of these headers at least; `names` in lower case."""
    return not names.isdisjoint(scope.get(_NAMED) or dict(scope["headers"]))


def header_lines(scope: Scope, name: bytes) -> str | None:
    """All values of a request header that is a list, in their order, as the one line that they stand for (RFC 9110, 5.2)."""
    if header(scope, name) is None:
        return None
    return b",".join(value for each, value in scope["headers"] if each == name).decode("latin-1")


def request_id_of(scope: Scope) -> str:
    """The id that the client or a proxy gave the request, where it has the form of one, else a new one."""
    given = header(scope, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"req_{uuid7().hex}"


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body; BodyTooLarge above `limit` bytes, EncodedBody, ClientGone when the client left."""
    if header(scope, b"content-encoding") not in _PLAIN:
        raise EncodedBody
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared[:20]) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
        return body
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()


async def send_bytes(send: Send, status: int, body: bytes, content_type: bytes, headers: Headers) -> None:
    """One whole response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode("ascii")),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, value: object, headers: Headers) -> None:
    """One whole JSON response."""
    await send_bytes(send, status, orjson.dumps(value), b"application/json", headers)
