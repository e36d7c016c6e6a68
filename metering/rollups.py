"""Keeps the roll-ups of usage: each quarter of an hour that has new events is computed anew from them.

Every insertion of usage events marks its quarters in the same transaction (a trigger, migration 0004). A round takes the
marks of quarters that are over, deletes them and computes those quarters again, in one transaction. So in any snapshot a
quarter has a mark or a roll-up that equals its events, whoever crashes and whatever commits late; a report reads the
events of marked quarters (metering/reports.py). Clocks decide only when the work is done, never whether it is right.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from kit.clock import now
from metering.rules.intervals import QUARTER, floor_to
from models.database import Database, transaction
from models.pool import PoolConnection

GRACE: Final = timedelta(seconds=30)
"""How long after its end a quarter is computed, so that it is seldom computed twice."""
_LOCK: Final = 0x7567_7261_6765
"""Rounds run one after the other: of two at once the older snapshot could be written last."""
_NO_USER: Final = UUID(int=0)
"""In roll-ups instead of null, as a primary key has no nulls."""

_CLAIM: Final = """
WITH due AS (
    SELECT DISTINCT workspace_id, quarter_start FROM usage_marks WHERE quarter_start < $1
    ORDER BY quarter_start, workspace_id LIMIT $2
), gone AS (
    DELETE FROM usage_marks m USING due d WHERE m.workspace_id = d.workspace_id AND m.quarter_start = d.quarter_start
)
SELECT workspace_id, quarter_start FROM due
"""
_FORGET: Final = """
DELETE FROM usage_rollups r USING unnest($1::uuid[], $2::timestamptz[]) AS k (workspace_id, quarter_start)
WHERE r.workspace_id = k.workspace_id AND r.quarter_start = k.quarter_start
"""
# The lateral parts keep the planner from joining all of a workspace's events to all the quarters at once.
_COMPUTE: Final = """
INSERT INTO usage_rollups (workspace_id, quarter_start, model_slug, modality, user_id, api_key_id, calls, input_tokens,
    output_tokens, charged_micro)
SELECT k.workspace_id, k.quarter_start, u.*
FROM unnest($1::uuid[], $2::timestamptz[]) AS k (workspace_id, quarter_start) CROSS JOIN LATERAL (
    SELECT e.model_slug, e.modality, coalesce(e.user_id, $3), coalesce(e.api_key_id, $3),
        count(*) FILTER (WHERE e.sequence = 0), sum(e.input_tokens), sum(e.output_tokens), sum(e.charged_micro)
    FROM usage_events e
    WHERE e.workspace_id = k.workspace_id
        AND e.created_at >= k.quarter_start AND e.created_at < k.quarter_start + interval '15 minutes'
    GROUP BY 1, 2, 3, 4
) AS u
"""
_FORGET_DAYS: Final = """
DELETE FROM usage_days h USING (
    SELECT DISTINCT workspace_id, date_bin('1 day', quarter_start, timestamptz 'epoch') AS day_start
    FROM unnest($1::uuid[], $2::timestamptz[]) AS k (workspace_id, quarter_start)
) AS d WHERE h.workspace_id = d.workspace_id AND h.day_start = d.day_start
"""
_COMPUTE_DAYS: Final = """
INSERT INTO usage_days (workspace_id, day_start, model_slug, modality, calls, input_tokens, output_tokens, charged_micro)
WITH days AS (
    SELECT DISTINCT workspace_id, date_bin('1 day', quarter_start, timestamptz 'epoch') AS day_start
    FROM unnest($1::uuid[], $2::timestamptz[]) AS k (workspace_id, quarter_start)
), quarters AS MATERIALIZED (
    SELECT d.workspace_id, d.day_start, u.model_slug, u.modality, u.number, u.rows, u.calls, u.input, u.output, u.charged
    FROM days d CROSS JOIN LATERAL (
        SELECT r.model_slug, r.modality, (extract(epoch FROM r.quarter_start - d.day_start) / 900)::int AS number,
            count(*) AS rows, sum(r.calls) AS calls, sum(r.input_tokens) AS input, sum(r.output_tokens) AS output,
            sum(r.charged_micro) AS charged
        FROM usage_rollups r
        WHERE r.workspace_id = d.workspace_id
            AND r.quarter_start >= d.day_start AND r.quarter_start < d.day_start + interval '1 day'
        GROUP BY 1, 2, 3
    ) AS u
), busy AS (
    SELECT workspace_id, day_start FROM quarters GROUP BY 1, 2 HAVING sum(rows) >= $3
), series AS (
    SELECT DISTINCT workspace_id, day_start, model_slug, modality FROM quarters JOIN busy USING (workspace_id, day_start)
), running AS (
    SELECT s.workspace_id, s.day_start, s.model_slug, s.modality, n,
        sum(coalesce(q.calls, 0)) OVER so_far AS calls, sum(coalesce(q.input, 0)) OVER so_far AS input,
        sum(coalesce(q.output, 0)) OVER so_far AS output, sum(coalesce(q.charged, 0)) OVER so_far AS charged
    FROM series s CROSS JOIN generate_series(0, 96) AS n
    LEFT JOIN quarters q ON q.workspace_id = s.workspace_id AND q.day_start = s.day_start
        AND q.model_slug = s.model_slug AND q.modality = s.modality AND q.number = n - 1
    WINDOW so_far AS (PARTITION BY s.workspace_id, s.day_start, s.model_slug, s.modality ORDER BY n)
)
SELECT workspace_id, day_start, model_slug, modality, array_agg(calls::bigint ORDER BY n),
    array_agg(input::bigint ORDER BY n), array_agg(output::bigint ORDER BY n), array_agg(charged::bigint ORDER BY n)
FROM running GROUP BY 1, 2, 3, 4
"""
# Of several marks of one quarter one is enough; those that nobody sees yet stay.
_COMPACT: Final = """
DELETE FROM usage_marks m USING (
    SELECT workspace_id, quarter_start, min(id) AS kept FROM usage_marks GROUP BY 1, 2 HAVING count(*) > 1
) AS several
WHERE m.workspace_id = several.workspace_id AND m.quarter_start = several.quarter_start AND m.id > several.kept
"""
_MARK_ALL: Final = """
INSERT INTO usage_marks (workspace_id, quarter_start)
SELECT workspace_id, date_bin('15 minutes', created_at, timestamptz 'epoch') FROM usage_events
WHERE $1::uuid IS NULL OR workspace_id = $1
UNION
SELECT workspace_id, quarter_start FROM usage_rollups WHERE $1::uuid IS NULL OR workspace_id = $1
"""
_REBUILD_BATCH: Final = 200
BUSY_DAY_ROWS: Final = 64
"""Roll-ups of a day from which on it gets rows in usage_days; fewer are read as fast themselves, and need less room."""


async def roll_up(database: Database, *, limit: int) -> int:
    """Compute at most `limit` quarters that are over and have new events; how many. Safe beside itself and to repeat."""
    async with transaction(database) as conn:
        if not await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
            return 0  # another worker is at it
        done = await _round(conn, _over(now()), limit)
        await conn.execute(_COMPACT)
    return done


async def rebuild(database: Database, workspace_id: UUID | None = None) -> int:
    """Compute a workspace's roll-ups anew from its events, or everybody's; how many quarters. Reports stay right meanwhile."""
    async with transaction(database) as conn:
        await conn.execute(_MARK_ALL, workspace_id)
    total = 0
    while True:
        async with transaction(database) as conn:
            await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            done = await _round(conn, _over(now()), _REBUILD_BATCH)
        total += done
        if done < _REBUILD_BATCH:
            return total


def _over(at: datetime) -> datetime:
    """Quarters that begin before this are over, and those who wrote in them had time to commit."""
    return floor_to(at - GRACE, QUARTER)


async def _round(conn: PoolConnection, over: datetime, limit: int) -> int:
    # Each statement sees what was committed when it began: the events of a mark that was deleted here are seen below.
    rows = await conn.fetch(_CLAIM, over, limit)
    if not rows:
        return 0
    keys = [row[0] for row in rows], [row[1] for row in rows]
    await conn.execute(_FORGET, *keys)
    await conn.execute(_COMPUTE, *keys, _NO_USER)
    await conn.execute(_FORGET_DAYS, *keys)
    await conn.execute(_COMPUTE_DAYS, *keys, BUSY_DAY_ROWS)
    return len(rows)
