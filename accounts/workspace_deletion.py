"""Deleting a workspace: softly at once, refused while money is in flight; its content is purged later."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from accounts import audit
from accounts.errors import MoneyInFlight, NotFoundHere
from accounts.invalidation import Change, ChangeKind
from accounts.members import lock_workspace
from accounts.services import Accounts
from accounts.views import Actor, ActorKind
from kit.clock import now
from metering.ledger import Ledger
from metering.operations import Freeze
from models.database import Database, transaction
from models.pool import PoolConnection

PURGE_AFTER: Final = timedelta(days=30)
"""How long after its deletion an operator can still bring a workspace's content back."""

_IN_FLIGHT: Final = {
    "a call is running": "SELECT 1 FROM holds h JOIN wallets w ON w.id = h.wallet_id WHERE w.workspace_id = $1",
    "a transfer is under way": "SELECT 1 FROM transfers WHERE workspace_id = $1"
    " AND status IN ('REQUESTED', 'IN_REVIEW', 'SENT')",
    "a payment is pending": "SELECT 1 FROM payments WHERE workspace_id = $1 AND status IN ('PENDING', 'ACTION_REQUIRED')",
    "its subscription would be charged again; cancel it first": "SELECT 1 FROM subscriptions WHERE workspace_id = $1"
    " AND ended_at IS NULL AND NOT cancel_at_period_end AND stripe_subscription_id IS NOT NULL",
}
_UNPUBLISH: Final = (
    "UPDATE models SET retired_at = $2, updated_at = $2 WHERE workspace_id = $1 AND retired_at IS NULL",
    (
        "UPDATE published_models SET unpublished_at = $2, api_key_encrypted = '' WHERE workspace_id = $1"
        " AND unpublished_at IS NULL"
    ),
)
_PURGES: Final = (
    "DELETE FROM call_outputs WHERE workspace_id = $1",
    "DELETE FROM files WHERE workspace_id = $1",
    "DELETE FROM batches WHERE workspace_id = $1",
    "DELETE FROM idempotency_keys WHERE workspace_id = $1",
    "UPDATE assets SET deleted_at = $2 WHERE workspace_id = $1 AND deleted_at IS NULL",
    "UPDATE webhook_endpoints SET deleted_at = $2, secret_encrypted = '' WHERE workspace_id = $1 AND deleted_at IS NULL",
    "DELETE FROM invitations WHERE workspace_id = $1",
    "UPDATE workspaces SET name = 'Deleted workspace', purged_at = $2 WHERE id = $1",
)


async def delete_workspace(accounts: Accounts, ledger: Ledger, actor: Actor, workspace_id: UUID) -> None:
    """Gone for everyone within a second: keys and invitations end, its models are published no
    more, grants freeze, the slug is free again unless it ever published.

    MoneyInFlight says what stands in the way; NotFoundHere.
    """
    at = now()
    async with transaction(accounts.database) as conn:
        await lock_workspace(conn, workspace_id)
        # The wallet is locked before looking, so that no hold is placed between the look and the freeze.
        wallet_id = await conn.fetchval("SELECT id FROM wallets WHERE workspace_id = $1 FOR UPDATE", workspace_id)
        reasons = [reason for reason, query in _IN_FLIGHT.items() if await conn.fetchval(query, workspace_id)]
        if reasons:
            raise MoneyInFlight(reasons)
        await ledger.post(conn, [Freeze(wallet_id=wallet_id, reason="WORKSPACE_DELETED")], now=at)
        await conn.execute("UPDATE workspaces SET deleted_at = $2, updated_at = $2 WHERE id = $1", workspace_id, at)
        for statement in _UNPUBLISH:
            await conn.execute(statement, workspace_id, at)
        await conn.execute(
            "UPDATE api_keys SET revoked_at = $2 WHERE workspace_id = $1 AND revoked_at IS NULL", workspace_id, at
        )
        await conn.execute(
            "UPDATE invitations SET revoked_at = $2 WHERE workspace_id = $1 AND accepted_at IS NULL"
            " AND revoked_at IS NULL",
            workspace_id,
            at,
        )
        await audit.record(conn, actor, "workspace.delete", "workspace", workspace_id, workspace_id=workspace_id)
    await accounts.invalidations.publish(Change(ChangeKind.WORKSPACE, workspace_id))


async def purge_deleted_workspaces(
    database: Database, *, after: timedelta = PURGE_AFTER, limit: int = 20
) -> tuple[UUID, ...]:
    """Remove the content of workspaces deleted that long ago, one transaction each; which. The ledger, the usage and
    the invoices stay, as the law wants; files of assets are removed by the sweep that reads `assets.deleted_at`.
    """
    purged: list[UUID] = []
    while len(purged) < limit:
        async with transaction(database) as conn:
            workspace_id = await _purge_one(conn, now(), after)
        if workspace_id is None:
            break
        purged.append(workspace_id)
    return tuple(purged)


async def _purge_one(conn: PoolConnection, at: datetime, after: timedelta) -> UUID | None:
    workspace_id = await conn.fetchval(
        "SELECT id FROM workspaces WHERE deleted_at <= $1 AND purged_at IS NULL ORDER BY deleted_at LIMIT 1"
        " FOR UPDATE SKIP LOCKED",
        at - after,
    )
    if workspace_id is None:
        return None
    for statement in _PURGES:
        await conn.execute(statement, *((workspace_id, at) if "$2" in statement else (workspace_id,)))
    system = Actor(ActorKind.SYSTEM)
    await audit.record(conn, system, "workspace.purge", "workspace", workspace_id, workspace_id=workspace_id)
    return workspace_id


async def wallet_id_of(conn: PoolConnection, workspace_id: UUID) -> UUID:
    """The wallet of a workspace, deleted or not; NotFoundHere."""
    wallet_id = await conn.fetchval("SELECT id FROM wallets WHERE workspace_id = $1", workspace_id)
    if wallet_id is None:
        raise NotFoundHere("workspace")
    return wallet_id
