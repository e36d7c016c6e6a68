"""What an adapter needs of an HTTP client: one POST at a time, its answer piece by piece."""

from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from kit.records import record
from providers.base import MAX_ANSWER_BYTES, Headers, Timeouts

MAX_HEAD_BYTES: Final = 64 * 1024
"""The longest status line with headers taken from a provider."""

USER_AGENT: Final = "tollgate"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class EndpointError(ValueError):
    """The address or a header of a provider cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one kind of request goes, with the headers that never change. The headers hold the key: never shown."""

    scheme: str
    host: str
    port: int
    path: str
    headers: Headers = field(repr=False)
    head: bytes = field(repr=False)

    @property
    def url(self) -> str:
        """The whole address, which holds no secret."""
        return f"{self.scheme}://{_authority(self.scheme, self.host, self.port)}{self.path}"


def endpoint_of(base_url: str, path: str, headers: Headers) -> Endpoint:
    """The endpoint `path` under `base_url`. Raises EndpointError for what no request could be sent to."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise EndpointError(f"{base_url!r} is not an address") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise EndpointError("the address must begin with http:// or https:// and name a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise EndpointError("the address must have no user name, password, query or fragment")
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    full_path = parts.path.rstrip("/") + path
    for text in (parts.hostname, full_path):
        if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
            raise EndpointError("the address holds characters that must be percent-encoded")
    for name, value in headers:
        check_header(name, value)
    lines = [
        f"POST {full_path} HTTP/1.1",
        f"Host: {_authority(parts.scheme, parts.hostname, port)}",
        *(f"{name}: {value}" for name, value in headers),
        "",
    ]
    head = "\r\n".join(lines).encode("latin-1")
    return Endpoint(parts.scheme, parts.hostname, port, full_path, headers, head)


def check_header(name: str, value: str) -> None:
    """Raises EndpointError where a header would break the request; the message does not show the value."""
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise EndpointError(f"{name!r} is not the name of a header")
    if not value.isascii() or not value.isprintable():
        raise EndpointError(f"the value of header {name} must be printable ASCII")


@record
class HttpRequest:
    """One POST. `request_id` must be printable ASCII; `max_answer_bytes` bounds all that is received.

    `headers` are those of this request alone, each checked by check_header.
    """

    endpoint: Endpoint
    request_id: str
    body: bytes = field(repr=False)
    timeouts: Timeouts
    max_answer_bytes: int = MAX_ANSWER_BYTES
    headers: Headers = ()


class HttpAnswer(Protocol):
    """The answer to one POST, from its headers on. Raises ProviderError where it breaks or is late."""

    @property
    def status(self) -> int:
        """From 200 to 999."""
        ...

    def header(self, name: str) -> str:
        """A header by its lower-case name, empty where absent."""
        ...

    async def next_part(self) -> bytes:
        """What has come since the last time, waiting for at least one byte; empty at the end of the answer."""
        ...

    async def finish(self) -> None:
        """The rest is of no interest: let the connection serve again where the end is near, else close it."""
        ...

    def close(self) -> None:
        """Close the connection unless the answer is complete. May be repeated."""
        ...


class HttpTransport(Protocol):
    """A pool of connections. Redirects are not followed, no cookies are kept, nothing is decompressed."""

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """The answer once its headers are here. Cancelling closes the connection."""
        ...

    async def aclose(self) -> None:
        """Close every connection; calls in flight fail."""
        ...


def _authority(scheme: str, host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == _DEFAULT_PORTS[scheme] else f"{name}:{port}"
