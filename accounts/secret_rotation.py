"""Seals anew, under the current key version, everything that an older one protects (`tollgate admin rotate-secrets`)."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from kit.sealing import Sealer, SealError, row_context
from models.database import Database, transaction
from models.pool import PoolConnection

BATCH: Final = 200
_FIRST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column whose seals are made with `row_context(table, column, key)`. `version_column`: where the version is kept."""

    table: str
    key: str
    column: str
    version_column: str | None = None


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many seals of a column were made anew, and how many could not be opened and were left."""

    column: str
    renewed: int
    unreadable: int


COLUMNS: Final = (
    SealedColumn("users", "id", "totp_secret_encrypted"),
    SealedColumn("webhook_endpoints", "id", "secret_encrypted", "key_version"),
    SealedColumn("webhook_endpoints", "id", "previous_secret_encrypted"),
    SealedColumn("published_models", "model_id", "api_key_encrypted", "key_version"),
    SealedColumn("call_outputs", "call_id", "sealed", "key_version"),
    SealedColumn("files", "id", "sealed", "key_version"),
    SealedColumn("batch_lines", "id", "sealed", "key_version"),
    SealedColumn("jobs", "call_id", "request"),
)


async def rotate_secrets(database: Database, sealer: Sealer) -> tuple[Rotated, ...]:
    """Go through every sealed column in batches; safe beside a running gateway, and to repeat. Once every process has the
    new key first and this reports nothing unreadable, the old key may be dropped: tokens signed with it end by then.
    """
    rotated = [await _rotate(database, sealer, column) for column in COLUMNS]
    return (*rotated, await _rotate_mails(database, sealer))


async def _rotate(database: Database, sealer: Sealer, column: SealedColumn) -> Rotated:
    read = (
        f"SELECT {column.key} AS key, {column.column} AS sealed FROM {column.table}"  # noqa: S608 - constants only
        f" WHERE {column.key} > $1 AND length({column.column}) > 0 AND get_byte({column.column}, 0) <> $2"
        f" ORDER BY {column.key} LIMIT {BATCH} FOR UPDATE"
    )
    versioned = f", {column.version_column} = $3" if column.version_column else ""
    write = f"UPDATE {column.table} SET {column.column} = $2{versioned} WHERE {column.key} = $1"  # noqa: S608 - constants only

    async def store(conn: PoolConnection, key: UUID, sealed: bytes) -> None:
        version = (sealer.current_version,) if column.version_column else ()
        await conn.execute(write, key, sealed, *version)

    def context(key: UUID) -> bytes:
        return row_context(column.table, column.column, key)

    renewed = unreadable = 0
    after = _FIRST
    while True:
        async with transaction(database) as conn:
            rows = await conn.fetch(read, after, sealer.current_version)
            for row in rows:
                fresh = _renewed(sealer, row["sealed"], context, row["key"])
                if fresh is None:
                    unreadable += 1
                    continue
                await store(conn, row["key"], fresh)
                renewed += 1
        if len(rows) < BATCH:
            return Rotated(f"{column.table}.{column.column}", renewed, unreadable)
        after = rows[-1]["key"]


async def _rotate_mails(database: Database, sealer: Sealer) -> Rotated:
    def context(key: UUID) -> bytes:
        return row_context("outbox_events", "payload", key)

    renewed = unreadable = 0
    after = _FIRST
    while True:
        async with transaction(database) as conn:
            rows = await conn.fetch(
                "SELECT id, payload ->> 'sealed' AS sealed FROM outbox_events WHERE kind = 'mail.send'"
                " AND completed_at IS NULL AND id > $1 AND payload ? 'sealed' ORDER BY id LIMIT $2 FOR UPDATE",
                after,
                BATCH,
            )
            for row in rows:
                sealed = base64.b64decode(row["sealed"])
                if sealer.version_of(sealed) == sealer.current_version:
                    continue
                fresh = _renewed(sealer, sealed, context, row["id"])
                if fresh is None:
                    unreadable += 1
                    continue
                await conn.execute(
                    "UPDATE outbox_events SET payload = jsonb_set(payload, '{sealed}', to_jsonb($2::text)) WHERE id = $1",
                    row["id"],
                    base64.b64encode(fresh).decode(),
                )
                renewed += 1
        if len(rows) < BATCH:
            return Rotated("outbox_events.payload", renewed, unreadable)
        after = rows[-1]["id"]


def _renewed(sealer: Sealer, sealed: bytes, context: Callable[[UUID], bytes], key: UUID) -> bytes | None:
    try:
        return sealer.seal(sealer.open(sealed, context(key)), context(key))
    except SealError:
        return None
