"""Sessions: starting, refreshing with reuse detection, listing and ending them."""

import secrets
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts import audit
from accounts.access_tokens import AccessTokens
from accounts.errors import NotFoundHere
from accounts.invalidation import Change, ChangeKind
from accounts.mail import messages
from accounts.mail.outbox import enqueue
from accounts.people import COLUMNS, user_view
from accounts.rules.key_form import digest_of
from accounts.rules.names import header_text
from accounts.services import Accounts
from accounts.views import Actor, ActorKind, SessionTokens, SessionView, UserView
from kit.clock import now
from kit.errors import Unauthenticated
from kit.ids import uuid7
from models.database import connection, transaction
from models.pool import PoolConnection

REFRESH_PREFIX: Final = "tgr_"
MAX_REFRESH_LENGTH: Final = 200
MAX_LISTED: Final = 100
_BY_REFRESH_TOKEN: Final = (
    f"SELECT t.id AS token_id, t.used_at, s.id AS session_id, s.revoked_at, s.expires_at, {COLUMNS}"  # noqa: S608 - constants only
    " FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id"
    " WHERE t.digest = $1 AND u.erased_at IS NULL"
)
_OVER: Final = "This session has ended. Sign in again."


async def start_session(accounts: Accounts, conn: PoolConnection, actor: Actor, user: UserView) -> SessionTokens:
    """A new session in the caller's transaction, after the person was authenticated."""
    at = now()
    session_id = uuid7()
    await conn.execute(
        "INSERT INTO sessions (id, user_id, created_at, last_refreshed_at, expires_at, address, user_agent)"
        " VALUES ($1, $2, $3, $3, $4, $5, $6)",
        session_id,
        user.id,
        at,
        at + accounts.session_lifetime,
        actor.address,
        header_text(actor.user_agent),
    )
    signed_in = Actor(ActorKind.USER, user.id, actor.address, actor.request_id)
    await audit.record(conn, signed_in, "session.start", "session", session_id)
    return await _issue(accounts, conn, user, session_id, at, at + accounts.session_lifetime)


async def refresh(accounts: Accounts, actor: Actor, refresh_token: str) -> SessionTokens:
    """New tokens for a refresh token that was not used before. One used before ends its session, since two hold it.

    Unauthenticated for every token that is not good. There is no grace for a repeat: a client sends one at a time.
    """
    refused = Unauthenticated(_OVER)
    if not refresh_token.startswith(REFRESH_PREFIX) or len(refresh_token) > MAX_REFRESH_LENGTH:
        raise refused
    at = now()
    async with transaction(accounts.database) as conn:
        row = await _session_of(conn, digest_of(refresh_token))
        if row is None or row["revoked_at"] is not None or row["expires_at"] <= at:
            raise refused
        user, session_id = user_view(row), row["session_id"]
        is_reused = row["used_at"] is not None
        if is_reused:
            await _end(conn, session_id, "REFRESH_TOKEN_REUSED", at)
            await audit.record(conn, actor, "session.reuse_detected", "session", session_id)
            mail = messages.refresh_token_reused(user.email, accounts.product_name)
            await enqueue(conn, accounts.sealer, mail)
            tokens = None
        else:
            await conn.execute("UPDATE refresh_tokens SET used_at = $2 WHERE id = $1", row["token_id"], at)
            await conn.execute("UPDATE sessions SET last_refreshed_at = $2 WHERE id = $1", session_id, at)
            tokens = await _issue(accounts, conn, user, session_id, at, row["expires_at"])
    if tokens is None:
        await accounts.invalidations.publish(Change(ChangeKind.SESSION, session_id))
        raise refused
    return tokens


async def sign_out(accounts: Accounts, actor: Actor, user_id: UUID, session_id: UUID) -> None:
    """End one session of the user, this or another: everywhere within a second. NotFoundHere for someone else's."""
    async with transaction(accounts.database) as conn:
        found = await conn.fetchval("SELECT 1 FROM sessions WHERE id = $1 AND user_id = $2", session_id, user_id)
        if found is None:
            raise NotFoundHere("session")
        if await _end(conn, session_id, "SIGNED_OUT", now()):
            await audit.record(conn, actor, "session.end", "session", session_id)
    await accounts.invalidations.publish(Change(ChangeKind.SESSION, session_id))


async def sign_out_everywhere(accounts: Accounts, actor: Actor, user_id: UUID, *, keep: UUID | None = None) -> int:
    """End all sessions of the user but `keep`; how many."""
    async with transaction(accounts.database) as conn:
        ended = await end_sessions(conn, user_id, "SIGNED_OUT_EVERYWHERE", keep=keep)
        await audit.record(conn, actor, "session.end_all", "user", user_id, facts={"sessions": ended})
    await accounts.invalidations.publish(Change(ChangeKind.USER, user_id))
    return ended


async def end_sessions(conn: PoolConnection, user_id: UUID, reason: str, *, keep: UUID | None = None) -> int:
    """The same in the caller's transaction, who publishes Change(USER) after it; how many were ended."""
    rows = await conn.fetch(
        "UPDATE sessions SET revoked_at = $2, revoked_reason = $3 WHERE user_id = $1 AND revoked_at IS NULL"
        " AND id IS DISTINCT FROM $4::uuid RETURNING id",
        user_id,
        now(),
        reason,
        keep,
    )
    return len(rows)


async def sessions_of_user(accounts: Accounts, user_id: UUID) -> tuple[SessionView, ...]:
    """The live sessions, the latest used first, at most MAX_LISTED."""
    async with connection(accounts.database) as conn:
        rows = await conn.fetch(
            "SELECT * FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2"
            " ORDER BY last_refreshed_at DESC, id DESC LIMIT $3",
            user_id,
            now(),
            MAX_LISTED,
        )
    return tuple(
        SessionView(
            id=row["id"],
            created_at=row["created_at"],
            last_refreshed_at=row["last_refreshed_at"],
            expires_at=row["expires_at"],
            address=row["address"],
            user_agent=row["user_agent"],
        )
        for row in rows
    )


async def _session_of(conn: PoolConnection, digest: bytes) -> Record | None:
    # The session first, then its token: two that present the same token at once are put in a row, and the second
    # reads the token as the first left it.
    session_id = await conn.fetchval(
        "SELECT s.id FROM sessions s WHERE s.id = (SELECT session_id FROM refresh_tokens WHERE digest = $1) FOR UPDATE",
        digest,
    )
    if session_id is None:
        return None
    return await conn.fetchrow(
        _BY_REFRESH_TOKEN,
        digest,
    )


async def _issue(
    accounts: Accounts, conn: PoolConnection, user: UserView, session_id: UUID, at: datetime, ends_at: datetime
) -> SessionTokens:
    refresh_token = REFRESH_PREFIX + secrets.token_urlsafe(32)
    await conn.execute(
        "INSERT INTO refresh_tokens (id, session_id, digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        uuid7(),
        session_id,
        digest_of(refresh_token),
        at,
        ends_at,
    )
    expires_at = min(at + accounts.access_lifetime, ends_at)
    return SessionTokens(
        user=user,
        session_id=session_id,
        access_token=AccessTokens(accounts.sealer).issue(user.id, session_id, at, expires_at),
        refresh_token=refresh_token,
        expires_at=expires_at,
    )


async def _end(conn: PoolConnection, session_id: UUID, reason: str, at: datetime) -> bool:
    ended = await conn.fetchval(
        "UPDATE sessions SET revoked_at = $2, revoked_reason = $3 WHERE id = $1 AND revoked_at IS NULL RETURNING id",
        session_id,
        at,
        reason,
    )
    return ended is not None
