"""Removes what nobody can use any more: old tokens, and sign-ups that were never confirmed."""

from datetime import timedelta
from typing import Final

from kit.clock import now
from models.database import Database, transaction

KEPT: Final = timedelta(days=30)
"""How long ended sessions' tokens and unconfirmed sign-ups are kept, for questions about them."""
BATCH: Final = 5_000
_REFRESH_TOKENS: Final = (
    "DELETE FROM refresh_tokens WHERE id IN (SELECT t.id FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id"
    " WHERE s.expires_at < $1 OR s.revoked_at < $1 LIMIT $2)"
)
_USER_TOKENS: Final = "DELETE FROM user_tokens WHERE id IN (SELECT id FROM user_tokens WHERE expires_at < $1 LIMIT $2)"
_UNCONFIRMED: Final = (
    "DELETE FROM users WHERE id IN (SELECT u.id FROM users u WHERE u.email_verified_at IS NULL"
    " AND u.erased_at IS NULL AND u.updated_at < $1"
    " AND NOT EXISTS (SELECT 1 FROM user_tokens t WHERE t.user_id = u.id)"
    " AND NOT EXISTS (SELECT 1 FROM members m WHERE m.user_id = u.id)"
    " AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = u.id) LIMIT $2)"
)
_SWEEPS: Final = (_REFRESH_TOKENS, _USER_TOKENS, _UNCONFIRMED)


async def sweep(database: Database) -> int:
    """One round, at most BATCH rows of each kind; how many rows went."""
    before = now() - KEPT
    removed = 0
    async with transaction(database) as conn:
        for statement in _SWEEPS:
            status = await conn.execute(statement, before, BATCH)
            removed += int(status.rpartition(" ")[2])
    return removed
