"""Reads calls and what they used: ended ones from their rows, running ones from their holds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from kit.ids import first_uuid7_at
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from metering.views import CallView, Charges, UsageView
from models.database import Database, fetch_rows

# A call that has only its hold runs, unless it is a job that no provider was asked for yet.
_STANDING: Final = """CASE WHEN EXISTS (SELECT FROM jobs j WHERE j.call_id = h.call_id AND j.submitting_at IS NULL)
        THEN 'QUEUED' ELSE 'RUNNING' END"""
_CALLS: Final = f"""
SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL (SELECT * FROM (
    (SELECT id, workspace_id, model_slug, status, user_id, api_key_id, request_id, idempotency_key, error_code,
        error_message, created_at, completed_at
     FROM calls WHERE workspace_id = parent.id AND id < $2 AND ($3::text IS NULL OR model_slug = $3)
        AND ($5::text[] IS NULL OR status = ANY ($5))
        AND ($6::timestamptz IS NULL OR created_at >= $6) AND ($7::timestamptz IS NULL OR created_at < $7)
     ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT call_id, workspace_id, model_slug, {_STANDING}, user_id, api_key_id, request_id, idempotency_key, NULL,
        NULL, created_at, NULL
     FROM holds h WHERE h.wallet_id = (SELECT w.id FROM wallets w WHERE w.workspace_id = parent.id) AND call_id < $2
        AND ($3::text IS NULL OR model_slug = $3) AND ($5::text[] IS NULL OR {_STANDING} = ANY ($5))
        AND ($6::timestamptz IS NULL OR created_at >= $6) AND ($7::timestamptz IS NULL OR created_at < $7)
        AND NOT EXISTS (SELECT FROM calls c WHERE c.id = h.call_id) ORDER BY call_id DESC LIMIT $4)
) AS both_kinds ORDER BY id DESC LIMIT $4) AS found ORDER BY found.id DESC
"""  # noqa: S608  our own text
_CALLS_BY_ID: Final = f"""
SELECT id, workspace_id, model_slug, status, user_id, api_key_id, request_id, idempotency_key, error_code,
    error_message, created_at, completed_at
FROM calls WHERE id = ANY ($1)
UNION ALL
SELECT call_id, workspace_id, model_slug, {_STANDING}, user_id, api_key_id, request_id, idempotency_key, NULL,
    NULL, created_at, NULL
FROM holds h WHERE call_id = ANY ($1) AND NOT EXISTS (SELECT FROM calls c WHERE c.id = h.call_id)
"""  # noqa: S608  our own text
_USAGE: Final = """
SELECT call_id, sum(input_tokens)::bigint, sum(cached_input_tokens)::bigint, sum(output_tokens)::bigint,
    sum(reasoning_tokens)::bigint, sum(requests)::bigint, sum(images)::bigint, sum(seconds)::bigint,
    sum(characters)::bigint, coalesce(sum((details->>'cache_write_input_tokens')::bigint), 0)::bigint,
    coalesce(sum((details->>'long_cache_write_input_tokens')::bigint), 0)::bigint, sum(cost_micro)::bigint, sum(charged_micro)::bigint,
    (array_agg(estimated ORDER BY sequence DESC))[1], (array_agg(provider ORDER BY sequence DESC))[1],
    coalesce(bool_or((details->>'cached')::boolean), false)
FROM usage_events WHERE call_id = ANY ($1) GROUP BY call_id
"""
_DETAILS: Final = """
SELECT details::text FROM usage_events WHERE call_id = $1 AND details IS NOT NULL ORDER BY sequence
"""
_CHARGES: Final = """
SELECT call_id, grant_id, -amount_micro FROM ledger_entries
WHERE call_id = ANY ($1) AND kind = 'USAGE' ORDER BY id
"""
# An index on request ids would cost every call; who asks by one asks soon after it.
_CALL_OF_REQUEST: Final = """
SELECT call_id FROM (
    SELECT call_id FROM holds WHERE wallet_id = $2 AND request_id = $3
    UNION ALL
    SELECT id FROM (
        SELECT id, request_id FROM calls WHERE workspace_id = $1 AND id >= $4 AND id < $5 ORDER BY id DESC LIMIT $6
    ) AS last_ones WHERE request_id = $3
) AS found ORDER BY call_id DESC LIMIT 1
"""
_OWN_REQUEST_ID: Final = re.compile(r"req_([0-9a-f]{12})7[0-9a-f]{19}")
_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=2**128 - 1)
SEARCHED_CALLS: Final = 10_000
"""How many calls are looked through for a request id."""
SEARCHED_TIME: Final = timedelta(hours=1)
"""How long after its request's beginning a call may have been made."""


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls are wanted: of one model's slug, with one of these statuses, made in [begin, end); None for all."""

    model_slug: str | None = None
    statuses: tuple[str, ...] | None = None
    begin: datetime | None = None
    end: datetime | None = None


ALL_CALLS: Final = CallFilter()


async def calls_page(
    database: Database,
    workspace_id: UUID,
    request: PageRequest,
    *,
    model_slug: str | None = None,
    statuses: Sequence[str] | None = None,
    begin: datetime | None = None,
    end: datetime | None = None,
) -> Page[CallView]:
    """A workspace's calls, the newest first, running ones included."""
    wanted = CallFilter(model_slug, None if statuses is None else tuple(statuses), begin, end)
    return (await calls_pages(database, [workspace_id], request, wanted))[workspace_id]


async def calls_pages(
    database: Database, workspace_ids: Sequence[UUID], request: PageRequest, wanted: CallFilter = ALL_CALLS
) -> dict[UUID, Page[CallView]]:
    """The same page of each of these workspaces, in one query."""
    last = _LAST_ID if request.after is None else decode_cursor(request.after)[1]
    rows = await fetch_rows(
        database,
        _CALLS,
        list(workspace_ids),
        last,
        wanted.model_slug,
        request.first + 1,
        wanted.statuses,
        wanted.begin,
        wanted.end,
    )
    found = [(call.workspace_id, call) for call in await _views(database, rows)]
    return pages_of(workspace_ids, found, request, lambda call: encode_cursor(call.created_at, call.id))


async def calls_by_id(database: Database, call_ids: Sequence[UUID]) -> dict[UUID, CallView]:
    """Those of these calls that exist, by id."""
    rows = await fetch_rows(database, _CALLS_BY_ID, list(call_ids))
    return {call.id: call for call in await _views(database, rows)}


async def call_of_request(database: Database, workspace_id: UUID, wallet_id: UUID, request_id: str) -> UUID | None:
    """The workspace's newest call of this request id, among its last SEARCHED_CALLS; of an id that we gave, among those made
    within SEARCHED_TIME of it.
    """
    begin, end = _FIRST_ID, _LAST_ID
    if ours := _OWN_REQUEST_ID.fullmatch(request_id):
        given_at = int(ours[1], 16)
        begin = first_uuid7_at(max(0, given_at - int(SEARCHED_TIME.total_seconds() * 1000)))
        end = first_uuid7_at(given_at + int(SEARCHED_TIME.total_seconds() * 1000))
    rows = await fetch_rows(database, _CALL_OF_REQUEST, workspace_id, wallet_id, request_id, begin, end, SEARCHED_CALLS)
    return rows[0][0] if rows else None


async def _views(database: Database, rows: Sequence[asyncpg.Record]) -> list[CallView]:
    ended = [row["id"] for row in rows if row["completed_at"] is not None]
    usage: Mapping[UUID, UsageView] = await usage_by_call(database, ended) if ended else {}
    return [CallView(*row, usage=usage.get(row["id"])) for row in rows]


async def details_of_call(database: Database, call_id: UUID) -> list[dict[str, object]]:
    """The details of a call's usage events, in order: its route where it was not answered at once, and the like."""
    rows = await fetch_rows(database, _DETAILS, call_id)
    return [orjson.loads(row[0]) for row in rows]


async def usage_by_call(database: Database, call_ids: Sequence[UUID]) -> Mapping[UUID, UsageView]:
    """What these calls used and were charged, corrections included; only settled ones."""
    charges: dict[UUID, dict[UUID, int]] = {}
    for call_id, grant_id, amount in await fetch_rows(database, _CHARGES, list(call_ids)):
        of_call = charges.setdefault(call_id, {})
        of_call[grant_id] = of_call.get(grant_id, 0) + amount
    rows = await fetch_rows(database, _USAGE, list(call_ids))
    return {row[0]: UsageView(*row[1:], charges=_paid(charges.get(row[0], {}))) for row in rows}


def _paid(charges: Mapping[UUID, int]) -> Charges:
    return tuple((grant_id, amount) for grant_id, amount in charges.items() if amount)
