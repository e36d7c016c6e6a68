"""Looks at workspaces whose credits may have crossed a line, and writes what is to be told: each crossing once.

That a look is due is noted by triggers in the transaction that moves the credits (migration 0004). The look holds the
wallet's lock, so that it sees a settled state; a line is told when its row in `raised_alerts` is inserted, which a unique
index allows once, and recovered when that row is cleared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.event_kinds import EventKind
from billing.events import emit
from billing.rules.alerts import (
    GrantFacts,
    LimitFacts,
    Line,
    LineKind,
    Standing,
    Wanted,
    lines,
    look_at,
    look_below,
    sorted_lines,
)
from billing.services import Note, unnoted
from kit.clock import now
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.money import format_micro
from models.database import Database, connection, transaction
from models.pool import PoolConnection

MAX_LINES: Final = 10
MAX_EXPIRY_DAYS: Final = 365
_EVENTS: Final[Mapping[LineKind, tuple[EventKind, EventKind | None]]] = {
    LineKind.CYCLE: (EventKind.CREDITS_USED, EventKind.CREDITS_RENEWED),
    LineKind.EXPIRY: (EventKind.CREDITS_EXPIRING, None),
    LineKind.BALANCE: (EventKind.BALANCE_LOW, EventKind.BALANCE_RECOVERED),
    LineKind.LIMIT: (EventKind.SPEND_LIMIT_REACHED, EventKind.SPEND_LIMIT_RECOVERED),
}
"""What is told when a line is crossed, and when it is recovered."""

_DUE: Final = """
SELECT workspace_id FROM workspace_alerts WHERE is_due
UNION SELECT workspace_id FROM workspace_alerts WHERE look_at <= $1 LIMIT $2
"""
_LOCK: Final = """
SELECT w.id, w.balance_micro FROM wallets w JOIN workspaces s ON s.id = w.workspace_id
WHERE w.workspace_id = $1 AND s.deleted_at IS NULL FOR NO KEY UPDATE OF w
"""
_TAKE: Final = """
SELECT cycle_percents, expiry_days, low_balance_micro FROM workspace_alerts
WHERE workspace_id = $1 AND (is_due OR look_at <= $2) FOR UPDATE
"""
_GRANTS: Final = """
SELECT id, kind, amount_micro, remaining_micro, effective_at, expires_at, held_micro, frozen_reason FROM credit_grants
WHERE wallet_id = $1 AND (remaining_micro > 0 OR (kind = 'CYCLE' AND (expires_at IS NULL OR expires_at > $2)))
"""
_LIMITS: Final = """
SELECT id, subject_kind, subject_id, limit_micro,
    CASE WHEN period_start >= date_trunc(period, $2::timestamptz, 'UTC') THEN spent_micro ELSE 0 END AS spent_micro,
    date_trunc(period, $2::timestamptz, 'UTC')
        + CASE period WHEN 'DAY' THEN interval '1 day' ELSE interval '1 month' END AS period_ends_at
FROM spend_limits WHERE workspace_id = $1
"""
_RAISED: Final = "SELECT id, kind, subject FROM raised_alerts WHERE workspace_id = $1 AND cleared_at IS NULL"
_RAISE: Final = """
INSERT INTO raised_alerts (id, workspace_id, kind, subject, raised_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, kind, subject) WHERE cleared_at IS NULL DO NOTHING RETURNING id
"""
_CLEAR: Final = "UPDATE raised_alerts SET cleared_at = $2 WHERE id = $1 AND cleared_at IS NULL"
_ARM: Final = "UPDATE wallets SET look_below_micro = $2 WHERE id = $1 AND look_below_micro IS DISTINCT FROM $2"
_DONE: Final = "UPDATE workspace_alerts SET is_due = false, look_at = $2 WHERE workspace_id = $1"
_READ: Final = """
SELECT cycle_percents, expiry_days, low_balance_micro, by_mail FROM workspace_alerts WHERE workspace_id = $1
"""
_MAKE: Final = "INSERT INTO workspace_alerts (workspace_id) VALUES ($1) ON CONFLICT (workspace_id) DO NOTHING"
_CHANGE: Final = """
UPDATE workspace_alerts SET cycle_percents = $2, expiry_days = $3, low_balance_micro = $4, by_mail = $5, is_due = true
WHERE workspace_id = $1
"""


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """What a workspace wants to be told, and whether by mail as well as by webhook."""

    cycle_percents: tuple[int, ...] = Wanted().cycle_percents
    expiry_days: tuple[int, ...] = Wanted().expiry_days
    low_balance_micro: int | None = None
    by_mail: bool = True


async def alert_settings(database: Database, workspace_id: UUID) -> AlertSettings:
    """What the workspace has set, else the defaults."""
    async with connection(database) as conn:
        row = await conn.fetchrow(_READ, workspace_id)
    return AlertSettings() if row is None else _settings(row)


async def change_alert_settings(
    database: Database,
    workspace_id: UUID,
    change: Callable[[AlertSettings], AlertSettings],
    *,
    note: Note = unnoted,
) -> AlertSettings:
    """Change them, and look at once. InvalidInput.

    `change` is given the settings as they stand under the lock, so that it undoes nothing that is changed at the same time.
    """
    async with transaction(database) as conn:
        await conn.execute(_MAKE, workspace_id)
        row = await conn.fetchrow(f"{_READ} FOR NO KEY UPDATE", workspace_id)
        assert row is not None, "made above"
        settings = _checked(change(_settings(row)))
        percents, days, figure = settings.cycle_percents, settings.expiry_days, settings.low_balance_micro
        await conn.execute(_CHANGE, workspace_id, list(percents), list(days), figure, settings.by_mail)
        facts = {
            "cycle_percents": ", ".join(map(str, percents)),
            "expiry_days": ", ".join(map(str, days)),
            "low_balance": "none" if figure is None else format_micro(figure),
            "by_mail": str(settings.by_mail).lower(),
        }
        await note(conn, "alert_settings.update", "workspace", workspace_id, facts)
    return settings


async def look_at_wallets(database: Database, *, limit: int) -> int:
    """Look at no more than `limit` workspaces that are due; how many. Safe beside itself and to repeat."""
    async with connection(database) as conn:
        rows = await conn.fetch(_DUE, now(), limit)
    for row in rows:
        async with transaction(database) as conn:
            await _look(conn, row[0])
    return len(rows)


async def _look(conn: PoolConnection, workspace_id: UUID) -> None:
    wallet = await conn.fetchrow(_LOCK, workspace_id)  # first, as everywhere
    at = now()
    if wallet is None:  # deleted: nothing is told any more
        await conn.execute(_DONE, workspace_id, None)
        return
    settings = await conn.fetchrow(_TAKE, workspace_id, at)
    if settings is None:
        return  # another worker was first
    wanted = Wanted(tuple(settings[0]), tuple(settings[1]), settings[2])
    standing = await _standing(conn, workspace_id, wallet, at)
    await _tell(conn, workspace_id, lines(standing, wanted, at), at)
    await conn.execute(_ARM, wallet["id"], look_below(standing, wanted, at))
    await conn.execute(_DONE, workspace_id, look_at(standing, wanted, at))


async def _standing(conn: PoolConnection, workspace_id: UUID, wallet: Record, at: datetime) -> Standing:
    grants = await conn.fetch(_GRANTS, wallet["id"], at)
    limits = await conn.fetch(_LIMITS, workspace_id, at)
    shown = sum(row["remaining_micro"] if _is_live(row, at) else row["held_micro"] for row in grants)
    return Standing(
        ledger_micro=wallet["balance_micro"],
        balance_micro=shown,
        grants=tuple(GrantFacts(*list(row)[:6]) for row in grants),
        limits=tuple(LimitFacts(*row) for row in limits),
    )


def _is_live(row: Record, at: datetime) -> bool:
    """As metering.wallets shows balances."""
    expires_at: datetime | None = row["expires_at"]
    return row["frozen_reason"] is None and row["effective_at"] <= at and (expires_at is None or expires_at > at)


async def _tell(conn: PoolConnection, workspace_id: UUID, found: Sequence[Line], at: datetime) -> None:
    raised = {(row["kind"], row["subject"]): row["id"] for row in await conn.fetch(_RAISED, workspace_id)}
    for line in found:
        alert_id = raised.pop((line.kind, line.subject), None)
        crossing, recovery = _EVENTS[line.kind]
        if line.crossed and alert_id is None:
            alert_id = await conn.fetchval(_RAISE, uuid7(), workspace_id, line.kind, line.subject, at)
            if alert_id is not None:
                await emit(conn, crossing, workspace_id, line.facts, dedupe_key=str(alert_id))
        elif not line.crossed and alert_id is not None:
            await conn.execute(_CLEAR, alert_id, at)
            if recovery is not None:
                await emit(conn, recovery, workspace_id, line.facts, dedupe_key=str(alert_id))
    for alert_id in raised.values():  # a line that is no more, such as of a cycle that ended: nothing is told
        await conn.execute(_CLEAR, alert_id, at)


def _settings(row: Record) -> AlertSettings:
    return AlertSettings(tuple(row[0]), tuple(row[1]), row[2], row[3])


def _checked(settings: AlertSettings) -> AlertSettings:
    percents = _checked_lines("cycle_percents", settings.cycle_percents, 100)
    days = _checked_lines("expiry_days", settings.expiry_days, MAX_EXPIRY_DAYS)
    if settings.low_balance_micro is not None and settings.low_balance_micro <= 0:
        raise InvalidInput("lowBalance must be above zero", field=["low_balance"])
    return replace(settings, cycle_percents=percents, expiry_days=days)


def _checked_lines(name: str, numbers: Sequence[int], most: int) -> tuple[int, ...]:
    if len(numbers) > MAX_LINES or any(not 1 <= number <= most for number in numbers):
        raise InvalidInput(f"at most {MAX_LINES} whole numbers from 1 to {most}", field=[name])
    return sorted_lines(numbers)
