"""Writes how automatic recharging fares; the wallet is locked before."""

from datetime import datetime
from typing import Final
from uuid import UUID

from billing.event_kinds import EventKind
from billing.events import emit
from billing.rules.auto_recharge import NEVER_SENT, suspension_after
from models.pool import PoolConnection

METHOD_CHANGED: Final = "payment_method_changed"
"""The failure code of a recharge that waited to be confirmed when another payment method was set: it is given up."""

_REPLACED: Final = """SELECT EXISTS (SELECT FROM payment_methods WHERE workspace_id = $1 AND is_default
    AND removed_at IS NULL AND stripe_payment_method_id <> $2)"""
_DECLINED: Final = """UPDATE auto_recharges SET consecutive_failures = consecutive_failures + 1, last_failure_at = $2,
    updated_at = $2 WHERE workspace_id = $1 RETURNING consecutive_failures"""
_PAID: Final = """UPDATE auto_recharges SET consecutive_failures = 0, last_failure_at = NULL, updated_at = $2,
    suspended_reason = NULLIF(suspended_reason, 'authentication_required') WHERE workspace_id = $1"""
_GIVE_UP: Final = """UPDATE payments SET status = 'FAILED', failure_code = $2, action_url = NULL, updated_at = $3
    WHERE workspace_id = $1 AND purpose = 'AUTO_RECHARGE' AND status = 'ACTION_REQUIRED' AND applied_at IS NULL"""
_METHOD_SET: Final = """UPDATE auto_recharges SET suspended_reason = NULL, consecutive_failures = 0,
    last_failure_at = NULL, is_low = enabled, updated_at = $2 WHERE workspace_id = $1"""
_SUSPEND: Final = """UPDATE auto_recharges SET suspended_reason = $2, updated_at = $3
    WHERE workspace_id = $1 AND suspended_reason IS NULL RETURNING true"""


async def was_replaced(conn: PoolConnection, workspace_id: UUID, method_id: str | None) -> bool:
    """Whether another method is charged by now than this one of the provider's: nothing of it counts against that."""
    return method_id is not None and bool(await conn.fetchval(_REPLACED, workspace_id, method_id))


async def note_recharge_declined(conn: PoolConnection, workspace_id: UUID, failure_code: str, now: datetime) -> None:
    """Count a decline; suspend where the code or the count says so. What was never sent is none."""
    if failure_code == NEVER_SENT:
        return
    failures: int | None = await conn.fetchval(_DECLINED, workspace_id, now)
    reason = suspension_after(failures or 1, failure_code)
    if reason is not None:
        await suspend_recharge(conn, workspace_id, reason, now)


async def note_recharge_paid(conn: PoolConnection, workspace_id: UUID, now: datetime) -> None:
    """A success ends the count, and the suspension that waited for its confirmation."""
    await conn.execute(_PAID, workspace_id, now)


async def note_method_set(conn: PoolConnection, workspace_id: UUID, now: datetime) -> None:
    """Another payment method is the default: failures of the last one count no more, and what it left open is given up."""
    await conn.execute(_GIVE_UP, workspace_id, METHOD_CHANGED, now)
    await conn.execute(_METHOD_SET, workspace_id, now)


async def suspend_recharge(
    conn: PoolConnection, workspace_id: UUID, reason: str, now: datetime, *, action_url: str | None = None
) -> None:
    """Stop until another payment method is set, or the payment at `action_url` is confirmed; told once."""
    if await conn.fetchval(_SUSPEND, workspace_id, reason, now):
        facts = {"reason": reason, "actionUrl": action_url}
        await emit(conn, EventKind.AUTO_RECHARGE_SUSPENDED, workspace_id, facts)
