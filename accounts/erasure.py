"""Erasing a person's data, without touching the ledger."""

from datetime import datetime
from uuid import UUID

from accounts import audit
from accounts.errors import LastOwner, NotFoundHere
from accounts.invalidation import Change, ChangeKind
from accounts.services import Accounts
from accounts.views import Actor
from kit.clock import now
from models.database import transaction
from models.pool import PoolConnection


async def erase_person(accounts: Accounts, actor: Actor, user_id: UUID) -> None:
    """Remove what names the person; ids stay, so that ledger, usage and audit log keep their sense.

    LastOwner while the person is the only owner of a workspace that is not deleted; NotFoundHere.
    """
    async with transaction(accounts.database) as conn:
        workspaces = await conn.fetch(
            "SELECT w.id FROM workspaces w WHERE w.deleted_at IS NULL AND EXISTS (SELECT 1 FROM members m"
            " WHERE m.workspace_id = w.id AND m.user_id = $1 AND m.removed_at IS NULL) ORDER BY w.id FOR NO KEY UPDATE",
            user_id,
        )
        email_key = await conn.fetchval(
            "SELECT email_key FROM users WHERE id = $1 AND erased_at IS NULL FOR UPDATE", user_id
        )
        if email_key is None:
            raise NotFoundHere("user")
        alone = await conn.fetchval(
            "SELECT 1 FROM members m WHERE m.user_id = $1 AND m.role = 'OWNER' AND m.removed_at IS NULL"
            " AND m.workspace_id = ANY($2::uuid[]) AND NOT EXISTS (SELECT 1 FROM members o"
            " WHERE o.workspace_id = m.workspace_id AND o.role = 'OWNER' AND o.removed_at IS NULL AND o.user_id <> $1)",
            user_id,
            [row["id"] for row in workspaces],
        )
        if alone is not None:
            raise LastOwner
        await _erase(conn, user_id, email_key, now())
        await audit.record(conn, actor, "user.erase", "user", user_id)
    await accounts.invalidations.publish(Change(ChangeKind.USER, user_id))


async def _erase(conn: PoolConnection, user_id: UUID, email_key: str, at: datetime) -> None:
    # Sessions and memberships keep their rows, to which other rows point, without what they say about the person.
    await conn.execute(
        "UPDATE sessions SET address = NULL, user_agent = NULL, revoked_at = coalesce(revoked_at, $2),"
        " revoked_reason = coalesce(revoked_reason, 'ERASED') WHERE user_id = $1",
        user_id,
        at,
    )
    await conn.execute("DELETE FROM user_tokens WHERE user_id = $1", user_id)
    await conn.execute("UPDATE members SET removed_at = $2 WHERE user_id = $1 AND removed_at IS NULL", user_id, at)
    await conn.execute("DELETE FROM mail_preferences WHERE email_key = $1", email_key)
    await conn.execute(
        "UPDATE invitations SET email = 'erased', email_key = 'erased:' || id::text,"
        " revoked_at = CASE WHEN accepted_at IS NULL THEN coalesce(revoked_at, $2) END WHERE email_key = $1",
        email_key,
        at,
    )
    await conn.execute("UPDATE audit_events SET address = NULL WHERE actor_kind = 'USER' AND actor_id = $1", user_id)
    await conn.execute(
        "UPDATE users SET email = 'erased-' || id::text || '@invalid', email_key = 'erased:' || id::text,"
        " name = 'Erased person', password_digest = NULL, oidc_issuer = NULL, oidc_subject = NULL,"
        " totp_secret_encrypted = NULL, totp_confirmed_at = NULL, totp_last_step = NULL, locale = 'en',"
        " updated_at = $2, erased_at = $2 WHERE id = $1",
        user_id,
        at,
    )
