"""Says how long work has waited that is due, for the worker's metrics: a worker that is too slow, or stands still, shows."""

from datetime import datetime, timedelta
from typing import Final

from kit import clock
from models.database import Database, connection

ROLL_UP_AFTER: Final = timedelta(minutes=16)
"""A quarter of an hour is over, and half a minute's grace with it, before its roll-up is due."""

# Each is one look at the front of an index.
_OLDEST: Final = """SELECT
    (SELECT min(expires_at) FROM holds) AS holds,
    (SELECT min(expires_at) FROM credit_grants
        WHERE expires_at IS NOT NULL AND remaining_micro > 0 AND remaining_micro > held_micro) AS expiries,
    (SELECT min(due_at) FROM subscriptions WHERE due_at IS NOT NULL) AS subscriptions,
    (SELECT min(due_at) FROM outbox_events WHERE completed_at IS NULL) AS events,
    (SELECT min(due_at) FROM webhook_deliveries WHERE completed_at IS NULL) AS webhooks,
    (SELECT min(quarter_start) + $1::interval FROM usage_marks) AS usage"""
_QUEUES: Final = ("holds", "expiries", "subscriptions", "events", "webhooks", "usage")


async def backlog_seconds(database: Database) -> dict[str, float]:
    """By queue: how many seconds the oldest item has been due; 0 where nothing is."""
    async with connection(database) as conn:
        row = await conn.fetchrow(_OLDEST, ROLL_UP_AFTER)
    assert row is not None, "a select without a table has one row"
    now = clock.now()
    return {queue: _waited_s(row[queue], now) for queue in _QUEUES}


def _waited_s(due_at: datetime | None, now: datetime) -> float:
    return 0.0 if due_at is None else max(0.0, (now - due_at).total_seconds())
