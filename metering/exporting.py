"""Reads all of a workspace's usage or of a wallet's entries in a range of time, page by page, for exports of any size.

Each page is a query of its own that begins behind the last row of the one before (no offset), so that neither memory nor
a connection is held while a slow client reads. What is committed into the range while it is read may be left out.
"""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from metering.wallets import last_entry_at
from models.database import Database, fetch_rows

PAGE: Final = 1_000
"""Rows of one query, which are in memory at once."""
_FIRST_ID: Final = UUID(int=0)
_INSTANT: Final = timedelta(microseconds=1)

_USAGE: Final = """
SELECT call_id, sequence, created_at, model_slug, modality, user_id, api_key_id, input_tokens, cached_input_tokens,
    output_tokens, reasoning_tokens, requests, images, seconds, characters, charged_micro, estimated, provider,
    coalesce((details->>'cache_write_input_tokens')::bigint, 0) AS cache_write_input_tokens,
    coalesce((details->>'long_cache_write_input_tokens')::bigint, 0) AS long_cache_write_input_tokens
FROM usage_events
WHERE workspace_id = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, call_id, sequence) > ($2, $4, $5)
ORDER BY created_at, call_id, sequence LIMIT $6
"""
_ENTRIES: Final = """
SELECT id, created_at, kind, amount_micro, balance_after_micro, grant_id, call_id, description
FROM ledger_entries WHERE wallet_id = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4
"""


async def usage_pages(
    database: Database, workspace_id: UUID, begin: datetime, end: datetime
) -> AsyncGenerator[list[asyncpg.Record]]:
    """The usage events of [begin, end) in order of time, corrections included."""
    at, call_id, sequence = begin, _FIRST_ID, -1
    while True:
        rows = await fetch_rows(database, _USAGE, workspace_id, at, end, call_id, sequence, PAGE)
        if rows:
            yield rows
            at, call_id, sequence = rows[-1]["created_at"], rows[-1]["call_id"], rows[-1]["sequence"]
        if len(rows) < PAGE:
            return


async def entry_pages(
    database: Database, wallet_id: UUID, begin: datetime, end: datetime
) -> AsyncGenerator[list[asyncpg.Record]]:
    """The wallet's entries of [begin, end) in the order in which they were posted."""
    first = await last_entry_at(database, wallet_id, begin - _INSTANT)
    last = await last_entry_at(database, wallet_id, end - _INSTANT)
    after = _FIRST_ID if first is None else first.id
    while last is not None:
        rows = await fetch_rows(database, _ENTRIES, wallet_id, after, last.id, PAGE)
        if rows:
            yield rows
            after = rows[-1]["id"]
        if len(rows) < PAGE:
            return
