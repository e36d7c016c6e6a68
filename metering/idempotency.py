"""Idempotency keys of mutations: claimed in the same transaction as their effect, with its answer."""

from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final
from uuid import UUID

import orjson

from kit import clock
from kit.errors import InvalidInput
from metering.errors import IdempotencyKeyReused
from metering.operations import IDEMPOTENCY_LIFE
from metering.views import Repeat
from models.database import Database, execute, fetch_row, transaction
from models.pool import PoolConnection

# The ledger's batches lock the wallet before keys; so does this, or the two could wait for each other.
_LOCK: Final = "SELECT FROM wallets WHERE workspace_id = $1 FOR NO KEY UPDATE"
_CLAIM: Final = """
INSERT INTO idempotency_keys (workspace_id, key, operation, input_digest, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (workspace_id, key) DO UPDATE SET operation = excluded.operation, input_digest = excluded.input_digest,
    call_id = NULL, answer = NULL, created_at = excluded.created_at, completed_at = NULL, expires_at = excluded.expires_at
WHERE idempotency_keys.expires_at <= excluded.created_at
RETURNING true
"""
_FIRST: Final = """
SELECT operation, input_digest, answer::text FROM idempotency_keys WHERE workspace_id = $1 AND key = $2
"""
_COMPLETE: Final = """
UPDATE idempotency_keys SET answer = $3::text::jsonb, completed_at = $4 WHERE workspace_id = $1 AND key = $2
"""
_READ: Final = """
SELECT call_id, completed_at IS NOT NULL AS completed, answer::text FROM idempotency_keys
WHERE workspace_id = $1 AND key = $2 AND expires_at > $3
"""
_PURGE: Final = """
WITH old AS (SELECT workspace_id, key FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
    FOR UPDATE SKIP LOCKED)
DELETE FROM idempotency_keys k USING old WHERE k.workspace_id = old.workspace_id AND k.key = old.key
"""

Answer = Mapping[str, object]
MAX_KEY_CHARACTERS: Final = 255


def require_key(key: str) -> None:
    """InvalidInput unless it is a key that can be kept."""
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise InvalidInput(
            f"an idempotency key has 1 to {MAX_KEY_CHARACTERS} printable characters", field=["idempotencyKey"]
        )


def input_digest(*parts: object) -> bytes:
    """What tells one input from another; `parts` are what JSON can tell."""
    return sha256(orjson.dumps(parts, default=str)).digest()


async def run_once(
    database: Database,
    workspace_id: UUID,
    key: str,
    operation: str,
    input_digest: bytes,
    effect: Callable[[PoolConnection], Awaitable[Answer]],
) -> Answer:
    """The effect's answer: done now, or as it was stored the first time. One transaction holds key, effect and answer.

    A repeat while the first runs waits for its commit. What `effect` raises undoes all, so that a repeat tries again.
    Raises IdempotencyKeyReused where the key was used for another operation or input within 7 days, InvalidInput for
    what is no key.
    """
    require_key(key)
    async with transaction(database) as conn:
        await conn.execute(_LOCK, workspace_id)
        now = clock.now()
        claimed = await conn.fetchval(_CLAIM, workspace_id, key, operation, input_digest, now, now + IDEMPOTENCY_LIFE)
        if not claimed:
            first = await conn.fetchrow(_FIRST, workspace_id, key)
            if first is None or first["operation"] != operation or first["input_digest"] != input_digest:
                raise IdempotencyKeyReused(key)
            return orjson.loads(first["answer"])
        answer = await effect(conn)
        text = orjson.dumps(answer).decode()
        await conn.execute(_COMPLETE, workspace_id, key, text, now)
        return orjson.loads(text)


async def read_key(database: Database, workspace_id: UUID, key: str) -> Repeat | None:
    """What is known of a key in use; None where it is not."""
    row = await fetch_row(database, _READ, workspace_id, key, clock.now())
    if row is None:
        return None
    answer = None if row["answer"] is None else orjson.loads(row["answer"])
    return Repeat(row["call_id"], input_matches=True, completed=row["completed"], answer=answer)


async def purge_keys(database: Database, *, limit: int = 1000) -> int:
    """Forget keys whose 7 days are over; answers how many."""
    status = await execute(database, _PURGE, clock.now(), limit)
    return int(status.rpartition(" ")[2])
