"""The exports: GET /v1/usage.csv and .jsonl, /v1/entries.csv and .jsonl, streamed in bounded memory.

`from` and `to` are instants of RFC 3339; left out, the last 30 days. A connection that ends early has no last chunk, so
that a client sees that its file is not whole.
"""

import asyncio
import contextlib
import csv
import io
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

import asyncpg
import orjson

from accounts.rules.roles import ApiScope
from app.asgi import Headers, Receive, Scope, Send, request_id_of, send_json
from app.openai_errors import body_of, of_failure, of_refusal
from app.rest_admission import RestAdmission
from billing.catalog import CatalogHolder
from gateway.callers import WorkspaceFacts
from kit.clock import now
from kit.errors import BadRequest, Refusal, RequestFailure
from kit.ids import encode_id
from kit.money import format_micro, usd_text
from metering.exporting import entry_pages, usage_pages
from models.database import Database

DEFAULT_RANGE: Final = timedelta(days=30)
_MAX_QUERY_BYTES: Final = 1_000
_MAX_QUERY_FIELDS: Final = 10
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

Cell = str | int | bool | None
Row = dict[str, Cell]
Pages = AsyncGenerator[list[asyncpg.Record]]

_USAGE_COLUMNS: Final = (
    *("call_id", "sequence", "created_at", "model", "modality", "user_id", "api_key_id", "credits", "usd"),
    *("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "requests", "images", "seconds"),
    *("characters", "estimated", "provider", "cache_write_input_tokens", "long_cache_write_input_tokens"),
)
_ENTRY_COLUMNS: Final = (
    *("id", "created_at", "kind", "amount", "balance_after", "grant_id", "call_id", "description"),
)


def _pages_of_usage(database: Database, facts: WorkspaceFacts, begin: datetime, end: datetime) -> Pages:
    return usage_pages(database, facts.workspace_id, begin, end)


def _pages_of_entries(database: Database, facts: WorkspaceFacts, begin: datetime, end: datetime) -> Pages:
    return entry_pages(database, facts.wallet_id, begin, end)


def _usage_row(row: asyncpg.Record, rate: Decimal) -> Row:
    of = dict(row.items())
    return {
        **{name: of[name] for name in _USAGE_COLUMNS if name in of},
        "call_id": encode_id("call", of["call_id"]),
        "created_at": _instant(of["created_at"]),
        "model": of["model_slug"],
        "user_id": _id("user", of["user_id"]),
        "api_key_id": _id("key", of["api_key_id"]),
        "credits": format_micro(of["charged_micro"]),
        "usd": usd_text(of["charged_micro"], rate),
    }


def _entry_row(row: asyncpg.Record, rate: Decimal) -> Row:  # noqa: ARG001  the same for both tables
    of = dict(row.items())
    return {
        "id": encode_id("entry", of["id"]),
        "created_at": _instant(of["created_at"]),
        "kind": of["kind"],
        "amount": format_micro(of["amount_micro"]),
        "balance_after": format_micro(of["balance_after_micro"]),
        "grant_id": _id("grant", of["grant_id"]),
        "call_id": _id("call", of["call_id"]),
        "description": of["description"],
    }


@dataclass(frozen=True, slots=True)
class _Export:
    """One table that can be exported. `texts`: the columns whose words people chose."""

    scope: ApiScope
    columns: Sequence[str]
    texts: frozenset[str]
    pages: Callable[[Database, WorkspaceFacts, datetime, datetime], Pages]
    row: Callable[[asyncpg.Record, Decimal], Row]


_USAGE: Final = _Export(
    ApiScope.USAGE_READ, _USAGE_COLUMNS, frozenset({"model", "provider"}), _pages_of_usage, _usage_row
)
_ENTRIES: Final = _Export(
    ApiScope.WALLET_READ, _ENTRY_COLUMNS, frozenset({"description"}), _pages_of_entries, _entry_row
)
_EXPORTS: Final[Mapping[str, tuple[_Export, str]]] = {
    f"/v1/{name}.{form}": (export, form)
    for name, export in (("usage", _USAGE), ("entries", _ENTRIES))
    for form in ("csv", "jsonl")
}
PATHS: Final = frozenset(_EXPORTS)
_CONTENT_TYPES: Final = {
    "csv": b"text/csv; charset=utf-8; header=present",
    "jsonl": b"application/jsonl; charset=utf-8",
}


class Exports:
    """The ASGI application of PATHS, authenticated by API keys with USAGE_READ or WALLET_READ."""

    def __init__(self, database: Database, catalog: CatalogHolder, admission: RestAdmission) -> None:
        """The parts of one process."""
        self._database = database
        self._catalog = catalog
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; what fails before the first byte is an error object as of the other paths below /v1."""
        headers: Headers = [(b"x-request-id", request_id_of(scope).encode("ascii"))]
        if scope["method"] != "GET":
            body = body_of("this path takes GET only", "invalid_request_error", "method_not_allowed")
            await send_json(send, 405, body, [*headers, (b"allow", b"GET")])
            return
        export, form = _EXPORTS[scope["path"]]
        try:
            facts = (await self._admission.admit(scope, export.scope, headers)).facts
            begin, end = _range_of(scope)
            pages = export.pages(self._database, facts, begin, end)
            first = await anext(pages, None)
        except Refusal as refusal:
            status, body = of_refusal(refusal)
            await send_json(send, status, body, headers)
            return
        except RequestFailure as failure:
            status, body, extra = of_failure(failure)
            await send_json(send, status, body, [*headers, *extra])
            return
        await self._stream(export, form, first, pages, receive, send, headers)

    async def _stream(
        self,
        export: _Export,
        form: str,
        first: list[asyncpg.Record] | None,
        pages: Pages,
        receive: Receive,
        send: Send,
        headers: Headers,
    ) -> None:
        name = "usage" if export is _USAGE else "entries"
        disposition = f'attachment; filename="{name}.{form}"'.encode("ascii")
        start: Headers = [(b"content-type", _CONTENT_TYPES[form]), (b"content-disposition", disposition), *headers]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        rate = self._catalog.current.credits_per_usd
        write = _csv if form == "csv" else _json_lines
        if form == "csv":
            await send({"type": "http.response.body", "body": _csv_line(export.columns), "more_body": True})
        gone = asyncio.ensure_future(_gone(receive))
        try:
            page = first
            while page is not None and not gone.done():
                body = write(export, [export.row(row, rate) for row in page])
                await send({"type": "http.response.body", "body": body, "more_body": True})
                page = await anext(pages, None)
            await send({"type": "http.response.body", "body": b""})
        finally:
            await pages.aclose()
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _range_of(scope: Scope) -> tuple[datetime, datetime]:
    raw: bytes = scope.get("query_string", b"")
    if len(raw) > _MAX_QUERY_BYTES:
        raise BadRequest("the query is too long")
    try:
        given = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS))
    except ValueError as error:
        raise BadRequest("the query has too many fields") from error
    if unknown := given.keys() - {"from", "to"}:
        raise BadRequest(f"the query takes from and to only, not {min(unknown)[:40]!r}")
    end = _parsed("to", given["to"]) if "to" in given else now()
    begin = _parsed("from", given["from"]) if "from" in given else end - DEFAULT_RANGE
    if begin >= end:
        raise BadRequest("from must be before to")
    return begin, end


def _parsed(name: str, text: str) -> datetime:
    wrong = BadRequest(f"{name} must be an instant such as 2026-01-31T12:00:00Z, in the years 2000 to 2199")
    try:
        instant = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that was not encoded arrives as a blank
    except ValueError as error:
        raise wrong from error
    if instant.tzinfo is None or not 2000 <= instant.year < 2200:
        raise wrong
    return instant.astimezone(UTC)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _id(prefix: str, key: UUID | None) -> str | None:
    return None if key is None else encode_id(prefix, key)


def _json_lines(export: _Export, rows: Sequence[Row]) -> bytes:
    return b"".join(orjson.dumps({name: row[name] for name in export.columns}) + b"\n" for row in rows)


def _csv(export: _Export, rows: Sequence[Row]) -> bytes:
    return b"".join(_csv_line([_csv_cell(row[name], name in export.texts) for name in export.columns]) for row in rows)


def _csv_cell(value: Cell, is_text: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    # A spreadsheet would run it; only in words, as an amount below zero begins with a minus and is none.
    return f"'{text}" if is_text and text.startswith(_FORMULA) else text


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()
