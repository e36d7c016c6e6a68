"""Serves stored files: GET and HEAD /assets/{id}?expires=…&signature=…, whole or in ranges, private to who has the address."""

import re
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import parse_qs

from app.asgi import Headers, Scope, Send, header, request_id_of, send_json
from gateway.asset_rows import AssetRow
from gateway.asset_store import StoreAway
from gateway.asset_urls import AssetUrls
from gateway.assets import Assets
from gateway.rules.asset_types import file_name, is_shown
from kit.clock import now
from kit.ids import UnknownIdError, decode_id

PATH: Final = "/assets/"
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_FIXED: Final = (
    (b"x-content-type-options", b"nosniff"),
    # A file is no page of ours: it runs nothing, loads nothing, and is of no origin.
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    # Who has the address may read the file, from any page; no credential goes along.
    (b"access-control-allow-origin", b"*"),
    (b"accept-ranges", b"bytes"),
)


class AssetFiles:
    """The ASGI application of everything below PATH."""

    def __init__(self, assets: Assets, urls: AssetUrls) -> None:
        """The parts of one process."""
        self._assets = assets
        self._urls = urls

    async def __call__(self, scope: Scope, send: Send) -> None:
        """403 for an address that is not ours or has lapsed, 404 for a file that is gone, 416 for a range outside of it."""
        headers: Headers = [(b"x-request-id", request_id_of(scope).encode("ascii"))]
        if scope["method"] not in {"GET", "HEAD"}:
            await _refuse(send, 405, "GET and HEAD only", [*headers, (b"allow", b"GET, HEAD")])
            return
        name: str = scope["path"].removeprefix(PATH)
        asked = parse_qs(scope["query_string"].decode("latin-1")[:1_000])
        stamp, signature = asked.get("expires", [""])[0], asked.get("signature", [""])[0]
        if not self._urls.is_genuine(name, stamp, signature):
            await _refuse(send, 403, "this address is not valid", headers)
            return
        at = now()
        if self._urls.is_over(stamp, at):
            await _refuse(send, 403, "this address has expired; ask for the asset anew", headers)
            return
        row = await self._row(name)
        if row is None:
            await _refuse(send, 404, "this file is gone", headers)
            return
        headers += [
            *_FIXED,
            (b"cache-control", f"private, max-age={max(0, int(stamp) - int(at.timestamp()))}".encode()),
        ]
        await self._serve(scope, send, row, headers)

    async def _row(self, name: str) -> AssetRow | None:
        try:
            key = decode_id("asset", name)
        except UnknownIdError:
            return None
        return (await self._assets.by_ids([key])).get(key)

    async def _serve(self, scope: Scope, send: Send, row: AssetRow, headers: Headers) -> None:
        size, tag = row.size_bytes, f'"{row.id.hex}"'
        headers.append((b"etag", tag.encode()))
        if header(scope, b"if-none-match") in {tag, "*"}:
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        wanted = header(scope, b"range") if header(scope, b"if-range") in {None, tag} else None
        span = None if wanted is None else _span(wanted, size)
        start, end = span if span is not None else (0, size)
        if span is not None and start >= end:
            await _refuse(send, 416, "there is nothing in this range", [*headers, _content_range("*", size)])
            return
        if span is not None:
            headers.append(_content_range(f"{start}-{end - 1}", size))
        kind = b"inline" if is_shown(row.content_type) else b"attachment"
        name = file_name(row.id.hex, row.content_type)
        headers += [
            (b"content-type", row.content_type.encode("ascii")),
            (b"content-length", str(end - start).encode()),
            (b"content-disposition", kind + f'; filename="{name}"'.encode()),
        ]
        await self._send(
            send,
            200 if span is None else 206,
            headers,
            None if scope["method"] == "HEAD" else self._assets.content(row, start, end),
        )

    async def _send(self, send: Send, status: int, headers: Headers, parts: AsyncIterator[bytes] | None) -> None:
        """The head follows the first part, so that a store that is away is told as such."""
        first = b""
        if parts is not None:
            try:
                first = await anext(parts, b"")
            except StoreAway as away:
                await _refuse(send, 503, away.message, [(b"retry-after", b"5")])
                return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": parts is not None})
        if parts is not None:
            async for part in parts:  # one that breaks off now ends the connection, which the client sees
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """The first byte of a range and the one after its last, equal for one outside of the file; None for no single range."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or not (match[1] or match[2]) or (match[1] and match[2] and int(match[2]) < int(match[1])):
        return None
    if not match[1]:
        return (size - min(int(match[2]), size), size)
    start = min(int(match[1]), size)
    return (start, min(int(match[2]) + 1, size) if match[2] else size)


def _content_range(span: str, size: int) -> tuple[bytes, bytes]:
    return (b"content-range", f"bytes {span}/{size}".encode())


async def _refuse(send: Send, status: int, message: str, headers: Headers) -> None:
    await send_json(send, status, {"error": {"message": message}}, [*headers, (b"cache-control", b"no-store")])
