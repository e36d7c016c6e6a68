"""Single-use tokens that prove a mailbox: stored as digests, each good once and for a time."""

import secrets
from datetime import timedelta
from typing import Final
from uuid import UUID

from accounts.errors import TokenRefused
from accounts.rules.key_form import digest_of
from kit.clock import now
from kit.ids import uuid7
from models.enums import TokenPurpose
from models.pool import PoolConnection

MAX_TOKEN_LENGTH: Final = 4_000


async def make_token(
    conn: PoolConnection, user_id: UUID, purpose: TokenPurpose, lifetime: timedelta, *, tail: str = ""
) -> str:
    """A token that replaces no other. `tail` rides along in the token, under its digest like the rest."""
    token = secrets.token_urlsafe(32) + (f".{tail}" if tail else "")
    at = now()
    await conn.execute(
        "INSERT INTO user_tokens (id, user_id, purpose, digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        uuid7(),
        user_id,
        purpose,
        digest_of(token),
        at,
        at + lifetime,
    )
    return token


async def owner_of_token(conn: PoolConnection, token: str, purpose: TokenPurpose) -> UUID:
    """Whose token it is, while it is good; TokenRefused for any other. It stays unused."""
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenRefused
    user_id = await conn.fetchval(
        "SELECT user_id FROM user_tokens WHERE digest = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > $3",
        digest_of(token),
        purpose,
        now(),
    )
    if user_id is None:
        raise TokenRefused
    return user_id


async def use_token(conn: PoolConnection, token: str, purpose: TokenPurpose) -> UUID:
    """Whose token it is, which from now on is used, and all others of this purpose with it. TokenRefused for any other."""
    user_id = await owner_of_token(conn, token, purpose)
    # The person first: two tokens of one person used at once would else wait for each other.
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)
    used = await conn.fetchval(
        "UPDATE user_tokens SET used_at = $2 WHERE digest = $1 AND used_at IS NULL RETURNING id",
        digest_of(token),
        now(),
    )
    if used is None:
        raise TokenRefused
    await drop_tokens(conn, user_id, purpose)
    return user_id


async def drop_tokens(conn: PoolConnection, user_id: UUID, purpose: TokenPurpose) -> None:
    """Forget the unused tokens of a purpose."""
    await conn.execute(
        "DELETE FROM user_tokens WHERE user_id = $1 AND purpose = $2 AND used_at IS NULL", user_id, purpose
    )
