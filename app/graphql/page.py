"""The GraphiQL page and its files, read once at the start and served from our own origin under a strict policy."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from app.asgi import Headers, Scope, Send, header, send_bytes
from kit.errors import NotFound

CONTENT_SECURITY_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"font-src 'self' data:; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
"""Verified with every panel open: docs/decisions/0004-graphiql-bundle.md."""
ASSETS_PATH: Final = "/graphql/assets/"
_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "svg": b"image/svg+xml",
    "txt": b"text/plain; charset=utf-8",
}
_PAGE: Final = "index.html"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: bytes
    etag: bytes
    caching: bytes


class Page:
    """All files of the page by name: what is not among them does not exist, whatever a path tries."""

    def __init__(self) -> None:
        """Reads five megabytes, once."""
        self._files: dict[str, _File] = {}
        for entry in resources.files("app").joinpath("static", "graphiql").iterdir():
            content_type = _TYPES.get(entry.name.rpartition(".")[2])
            if content_type is None or not entry.is_file():
                continue
            content = entry.read_bytes()
            etag = b'"%b"' % hashlib.sha256(content).hexdigest()[:32].encode("ascii")
            # A chunk's name changes with its content; the others keep theirs.
            kept = entry.name.startswith("chunk-")
            caching = b"public, max-age=31536000, immutable" if kept else b"no-cache"
            self._files[entry.name] = _File(content, content_type, etag, caching)

    async def send_page(self, scope: Scope, send: Send, headers: Headers) -> None:
        """The page itself."""
        await self._send(_PAGE, scope, send, headers)

    async def send_asset(self, scope: Scope, send: Send, headers: Headers) -> None:
        """A file below /graphql/assets/; NotFound for any other name."""
        path: str = scope["path"]
        name = path.removeprefix(ASSETS_PATH)
        if name not in self._files:
            raise NotFound("there is no such file")
        await self._send(name, scope, send, headers)

    async def _send(self, name: str, scope: Scope, send: Send, headers: Headers) -> None:
        file = self._files[name]
        sent: Headers = [
            (b"etag", file.etag),
            (b"cache-control", file.caching),
            (b"content-security-policy", CONTENT_SECURITY_POLICY),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"vary", b"accept"),
            *headers,
        ]
        asked = header(scope, b"if-none-match")
        if asked is not None and file.etag.decode("ascii") in asked:
            await send({"type": "http.response.start", "status": 304, "headers": sent})
            await send({"type": "http.response.body", "body": b""})
        elif scope["method"] == "HEAD":
            length = (b"content-length", str(len(file.content)).encode("ascii"))
            sent = [(b"content-type", file.content_type), length, *sent]
            await send({"type": "http.response.start", "status": 200, "headers": sent})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send_bytes(send, 200, file.content, file.content_type, sent)
