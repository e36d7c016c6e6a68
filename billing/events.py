"""Events to be told: written with the fact itself, then turned into deliveries and mails, each event once."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.event_kinds import EventKind
from kit.clock import now
from kit.ids import uuid7
from models.database import Database, transaction
from models.pool import PoolConnection

Facts = Mapping[str, str | int | None]

_EMIT: Final = """
INSERT INTO outbox_events (id, workspace_id, kind, dedupe_key, payload, created_at, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (kind, dedupe_key) DO NOTHING
"""
_CLAIM: Final = """
SELECT id, workspace_id, kind, payload, created_at FROM outbox_events
WHERE completed_at IS NULL AND due_at <= $1 AND kind = ANY ($2) ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
"""
_DELIVERIES: Final = """
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, due_at, created_at)
SELECT gen_random_uuid(), e.id, $2, $3, $3 FROM webhook_endpoints e
WHERE e.workspace_id = $1 AND e.deleted_at IS NULL AND e.disabled_at IS NULL AND $4 = ANY (e.event_kinds)
ON CONFLICT (endpoint_id, event_id) DO NOTHING
"""
_COMPLETE: Final = "UPDATE outbox_events SET completed_at = $2, attempts = attempts + 1 WHERE id = ANY ($1)"


@dataclass(frozen=True, slots=True)
class EventView:
    """An event as it is told."""

    id: UUID
    workspace_id: UUID
    kind: EventKind
    facts: Facts
    created_at: datetime


Notify = Callable[[PoolConnection, EventView], Awaitable[None]]
"""Tells people in the same transaction; accounts writes mails (accounts/alert_mails.py)."""


async def emit(
    conn: PoolConnection, kind: EventKind, workspace_id: UUID, facts: Facts, *, dedupe_key: str | None = None
) -> UUID:
    """Have the event told once the caller's transaction is committed; the second of a `dedupe_key` is left out."""
    event_id = uuid7()
    await conn.execute(_EMIT, event_id, workspace_id, kind, dedupe_key, dict(facts), now())
    return event_id


async def dispatch_events(database: Database, notify: Notify, *, limit: int) -> int:
    """Turn at most `limit` events into deliveries to the endpoints that want them, and into mails; how many."""
    at = now()
    async with transaction(database) as conn:
        rows = await conn.fetch(_CLAIM, at, list(EventKind), limit)
        for row in rows:
            event = EventView(row["id"], row["workspace_id"], EventKind(row["kind"]), row["payload"], row["created_at"])
            if event.kind is not EventKind.WEBHOOK_TEST:  # which is one endpoint's own
                await conn.execute(_DELIVERIES, event.workspace_id, event.id, at, event.kind)
            await notify(conn, event)
        await conn.execute(_COMPLETE, [row["id"] for row in rows], at)
    return len(rows)
