"""Work that waits until running calls let go of credits: asked again, a few seconds apart, until it is done."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from kit import clock
from models.database import Database, connection
from models.pool import PoolConnection

AGAIN_AFTER: Final = timedelta(seconds=10)
_CLAIM: Final = """UPDATE outbox_events o SET due_at = $2 FROM (SELECT id FROM outbox_events
        WHERE kind = $3 AND completed_at IS NULL AND due_at <= $1 ORDER BY due_at, id LIMIT $4 FOR UPDATE SKIP LOCKED) AS due
    WHERE o.id = due.id RETURNING o.id, o.dedupe_key, o.payload"""
_DONE: Final = "UPDATE outbox_events SET completed_at = $2 WHERE id = $1"


async def claim_waiting(database: Database, kind: str, limit: int) -> Sequence[Record]:
    """What waits in the outbox under a kind of its own: `id`, `dedupe_key`, `payload`; due again after AGAIN_AFTER."""
    now = clock.now()
    async with connection(database) as conn:
        return await conn.fetch(_CLAIM, now, now + AGAIN_AFTER, kind, limit)


async def end_waiting(conn: PoolConnection, waiting_id: UUID) -> None:
    """Nothing is held any more of what that was about."""
    await conn.execute(_DONE, waiting_id, clock.now())
