"""Limits of credits per API key, member and workspace: setting and reading; holds enforce them (rules/calls.py)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from kit import clock
from kit.ids import uuid7
from metering.errors import AmountRefused
from metering.loading import Connection
from metering.rules.state import period_start
from metering.views import SpendLimitView

SubjectKind = Literal["API_KEY", "MEMBER", "WORKSPACE"]
Period = Literal["MONTH", "DAY"]

# Batches lock the wallet before limits and holds, so what runs under this lock sees no hold half counted.
_LOCK: Final = "SELECT FROM wallets WHERE workspace_id = $1 FOR NO KEY UPDATE"
_OF_SUBJECT: Final[dict[str, str]] = {
    "API_KEY": "{table}.api_key_id = $2",
    "MEMBER": "{table}.user_id = (SELECT user_id FROM members WHERE id = $2)",
    "WORKSPACE": "{table}.workspace_id = $2",
}
_SPENT: Final = """
SELECT coalesce(sum(charged_micro), 0)::bigint FROM usage_events u
WHERE u.workspace_id = $1 AND u.created_at >= $3 AND {subject}
"""
_HELD: Final = """
UPDATE holds h SET limit_ids = array_append(array_remove(h.limit_ids, $3), $3)
WHERE h.wallet_id = (SELECT id FROM wallets WHERE workspace_id = $1) AND {subject} RETURNING h.amount_micro
"""
_SET: Final = """
INSERT INTO spend_limits (id, workspace_id, subject_kind, subject_id, period, limit_micro, period_start, spent_micro,
    held_micro, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_CHANGE: Final = """
UPDATE spend_limits SET limit_micro = $4 WHERE subject_kind = $1 AND subject_id = $2 AND period = $3 AND workspace_id = $5
RETURNING id
"""
_CLEAR: Final = "DELETE FROM spend_limits WHERE subject_kind = $1 AND subject_id = $2 AND period = $3"
_OWNER: Final = "SELECT workspace_id FROM spend_limits WHERE subject_kind = $1 AND subject_id = $2 AND period = $3"
_READ: Final = """
SELECT id, workspace_id, subject_kind, subject_id, period, limit_micro,
    CASE WHEN period_start >= date_trunc(period, $3::timestamptz, 'UTC') THEN spent_micro ELSE 0 END AS spent_micro,
    held_micro
FROM spend_limits WHERE subject_kind = $1 AND subject_id = ANY ($2)
"""
MAX_LISTED: Final = 1_000
_READ_ALL: Final = """
SELECT id, workspace_id, subject_kind, subject_id, period, limit_micro,
    CASE WHEN period_start >= date_trunc(period, $2::timestamptz, 'UTC') THEN spent_micro ELSE 0 END AS spent_micro,
    held_micro
FROM spend_limits WHERE workspace_id = $1 ORDER BY subject_kind DESC, created_at, id LIMIT $3
"""


async def limits_of_workspace(conn: Connection, workspace_id: UUID) -> list[SpendLimitView]:
    """The limits in a workspace by kind and age, at most MAX_LISTED, read as `limits_of` reads them."""
    rows = await conn.fetch(_READ_ALL, workspace_id, clock.now(), MAX_LISTED)
    return [SpendLimitView(*row) for row in rows]


async def set_limit(
    conn: Connection,
    workspace_id: UUID,
    subject_kind: SubjectKind,
    subject_id: UUID,
    period: Period,
    limit_micro: int,
    now: datetime,
) -> None:
    """Set or change a limit, within the caller's transaction: what is spent in the running period and held now counts.

    `subject_id` is the API key's, the member's (not the user's) or the workspace's own id.
    """
    if limit_micro < 0:
        raise AmountRefused("a spend limit is zero or more credits")
    await conn.execute(_LOCK, workspace_id)
    changed = await conn.fetchval(_CHANGE, subject_kind, subject_id, period, limit_micro, workspace_id)
    if changed is not None:
        return
    start = period_start(period, now)
    limit_id = uuid7()
    subject = _OF_SUBJECT[subject_kind]
    spent = await conn.fetchval(_SPENT.format(subject=subject.format(table="u")), workspace_id, subject_id, start)
    held: list[asyncpg.Record] = await conn.fetch(
        _HELD.format(subject=subject.format(table="h")), workspace_id, subject_id, limit_id
    )
    await conn.execute(
        _SET,
        limit_id,
        workspace_id,
        subject_kind,
        subject_id,
        period,
        limit_micro,
        start,
        max(0, spent),
        sum(row[0] for row in held),
        now,
    )


async def clear_limit(conn: Connection, subject_kind: SubjectKind, subject_id: UUID, period: Period) -> bool:
    """Lift a limit, within the caller's transaction; answers whether there was one."""
    workspace_id = await conn.fetchval(_OWNER, subject_kind, subject_id, period)
    if workspace_id is None:
        return False
    await conn.execute(_LOCK, workspace_id)
    return (await conn.execute(_CLEAR, subject_kind, subject_id, period)) != "DELETE 0"


async def limits_of(
    conn: Connection, subject_kind: SubjectKind, subject_ids: Sequence[UUID], now: datetime | None = None
) -> list[SpendLimitView]:
    """The limits of these subjects; what was spent in a period that is over counts as nothing."""
    rows = await conn.fetch(_READ, subject_kind, list(subject_ids), now or clock.now())
    return [SpendLimitView(*row) for row in rows]
