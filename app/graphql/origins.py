"""Which other sites' pages may use the edge from a browser."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from app.asgi import Headers, Scope, header

MAX_AGE_S = 7_200
"""How long a browser may keep the answer to its preflight."""


class Origins:
    """The server's own origin and those the operator allows."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Origins such as "https://app.example", or "*"."""
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in allowed)

    def admits(self, scope: Scope) -> bool:
        """Whether a request may come from where it says: no browser, our own page, or an allowed origin."""
        origin = header(scope, b"origin")
        return origin is None or self.allows(origin) or _is_own(origin, header(scope, b"host"))

    def allows(self, origin: str) -> bool:
        """Whether the operator named it."""
        return "*" in self._allowed or origin.lower() in self._allowed

    def headers(self, scope: Scope) -> Headers:
        """What lets a page of an allowed origin read an answer."""
        origin = header(scope, b"origin")
        if origin is None or not self.allows(origin):
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", b"x-request-id, ratelimit, ratelimit-policy, retry-after"),
            (b"vary", b"origin"),
        ]

    def preflight(self, scope: Scope) -> Headers:
        """What a browser asks before it lets a page of an allowed origin send a request; nothing for others."""
        headers = self.headers(scope)
        if headers:
            headers += [
                (b"access-control-allow-methods", b"GET, POST"),
                (b"access-control-allow-headers", b"authorization, content-type, accept, x-request-id"),
                (b"access-control-max-age", str(MAX_AGE_S).encode("ascii")),
            ]
        return headers


def _is_own(origin: str, host: str | None) -> bool:
    """The scheme is not compared: behind a proxy that ends TLS, the server does not know its own."""
    if host is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False
