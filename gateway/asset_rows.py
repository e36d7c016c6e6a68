"""The rows of assets and of the room set aside for them: what may be taken, what is kept, what has to go."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from gateway.errors import StorageFull
from gateway.rules.storage import fits
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from models.database import Database, fetch_rows, transaction
from models.pool import PoolConnection

_LAST_ID: Final = UUID(int=2**128 - 1)
# Who left the workspace keeps what they made, whatever it turns off later (C9).
_UNSTORED: Final = """a.unstored_until IS NOT NULL
    AND NOT EXISTS (SELECT FROM workspaces w WHERE w.id = a.workspace_id AND w.store_outputs)
    AND (a.owner_id IS NULL OR EXISTS (SELECT FROM members m
        WHERE m.workspace_id = a.workspace_id AND m.user_id = a.owner_id AND m.removed_at IS NULL))"""
_ENDS: Final = f"least(a.expires_at, CASE WHEN {_UNSTORED} THEN a.unstored_until END)"
_COLUMNS: Final = f"""a.id, a.workspace_id, a.owner_id, a.api_key_id, a.call_id, a.content_type, a.size_bytes,
    a.storage_path, a.created_at, {_ENDS} AS expires_at"""
_ROOM: Final = "INSERT INTO workspace_storage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING"
_TAKEN: Final = "SELECT used_bytes, reserved_bytes FROM workspace_storage WHERE workspace_id = $1 FOR UPDATE"
_RESERVE: Final = """
INSERT INTO storage_reservations (call_id, workspace_id, bytes, expires_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (call_id) DO NOTHING
"""
_GIVE_UP: Final = "DELETE FROM storage_reservations WHERE call_id = $1"
_INSERT: Final = """
INSERT INTO assets (id, workspace_id, owner_id, api_key_id, call_id, content_type, size_bytes, storage_path, created_at,
    expires_at, unstored_until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING
"""
_BY_ID: Final = f"""
SELECT {_COLUMNS} FROM assets a WHERE id = ANY ($1) AND deleted_at IS NULL AND coalesce({_ENDS} > $2, true)
"""  # noqa: S608  our own columns
_PAGES: Final = f"""
SELECT parent.id AS parent_id, found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM assets a
    WHERE a.id < $2 AND deleted_at IS NULL AND coalesce({_ENDS} > $4, true) AND WHOSE
    ORDER BY a.id DESC LIMIT $3
) AS found ORDER BY found.id DESC
"""  # noqa: S608  our own columns
_OF_OWNERS: Final = _PAGES.replace("WHOSE", "owner_id = parent.id")
_OF_WORKSPACES: Final = _PAGES.replace(
    "WHOSE",
    "workspace_id = parent.id AND ($5 OR owner_id = $6::uuid OR api_key_id = $7::uuid)",
)
_STORAGE: Final = "SELECT workspace_id, used_bytes, reserved_bytes FROM workspace_storage WHERE workspace_id = ANY ($1)"
_DELETE: Final = "UPDATE assets SET deleted_at = $2 WHERE id = ANY ($1) AND deleted_at IS NULL"
_LAPSED: Final = """
SELECT id, workspace_id FROM assets WHERE deleted_at IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2
"""
# The few workspaces that have stored assets are found one by one along the index, as with outputs in metering.reaper.
_NO_MORE_STORED: Final = f"""
WITH RECURSIVE storing (id) AS (
    (SELECT workspace_id FROM assets WHERE unstored_until IS NOT NULL AND deleted_at IS NULL ORDER BY workspace_id LIMIT 1)
    UNION ALL
    SELECT (SELECT b.workspace_id FROM assets b WHERE b.unstored_until IS NOT NULL AND b.deleted_at IS NULL
            AND b.workspace_id > s.id ORDER BY b.workspace_id LIMIT 1)
    FROM storing s WHERE s.id IS NOT NULL
)
SELECT a.id, a.workspace_id FROM storing s JOIN assets a ON a.workspace_id = s.id
WHERE a.deleted_at IS NULL AND a.unstored_until <= $1 AND {_UNSTORED} LIMIT $2
"""  # noqa: S608  our own text
_TO_PURGE: Final = """
SELECT id, storage_path FROM assets WHERE deleted_at IS NOT NULL AND purged_at IS NULL ORDER BY deleted_at LIMIT $1
"""
_PURGED: Final = "UPDATE assets SET purged_at = $2 WHERE id = $1"
_STALE: Final = """
SELECT r.call_id, r.workspace_id FROM storage_reservations r
WHERE r.expires_at <= $1 AND NOT EXISTS (SELECT FROM jobs j WHERE j.call_id = r.call_id AND j.ended_at IS NULL)
ORDER BY r.expires_at LIMIT $2
"""
_PATHS: Final = "SELECT storage_path FROM assets WHERE call_id = $1 AND purged_at IS NULL"


@dataclass(frozen=True, slots=True)
class AssetRow:
    """A stored file that is there. `expires_at` None: it is kept; as read it knows whether the workspace stores outputs.

    `unstored_until` is for writing: until when it is kept if the workspace turns that off, None where that changes nothing.
    """

    id: UUID
    workspace_id: UUID
    owner_id: UUID | None
    api_key_id: UUID | None
    call_id: UUID | None
    content_type: str
    size_bytes: int
    storage_path: str
    created_at: datetime
    expires_at: datetime | None
    unstored_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class StorageView:
    """What a workspace's assets take, and what calls under way have set aside, in bytes."""

    used_bytes: int = 0
    reserved_bytes: int = 0


async def reserve(
    conn: PoolConnection, workspace_id: UUID, call_id: UUID, more: int, limit: int | None, until: datetime
) -> None:
    """Set room aside within the caller's transaction; StorageFull where the plan has not as much left."""
    await conn.execute(_ROOM, workspace_id)
    row = await conn.fetchrow(_TAKEN, workspace_id)
    assert row is not None, "written just before"
    if not fits(row["used_bytes"], row["reserved_bytes"], more, limit):
        raise StorageFull(more, max(0, (limit or 0) - row["used_bytes"] - row["reserved_bytes"]))
    await conn.execute(_RESERVE, call_id, workspace_id, more, until)


async def give_up(conn: PoolConnection, call_id: UUID) -> None:
    """Let go of the room that a call had set aside."""
    await conn.execute(_GIVE_UP, call_id)


async def insert(conn: PoolConnection, rows: Sequence[AssetRow]) -> None:
    """The files of one call, once."""
    for row in rows:
        await conn.execute(
            _INSERT,
            row.id,
            row.workspace_id,
            row.owner_id,
            row.api_key_id,
            row.call_id,
            row.content_type,
            row.size_bytes,
            row.storage_path,
            row.created_at,
            row.expires_at,
            row.unstored_until,
        )


async def by_ids(database: Database, ids: Sequence[UUID], at: datetime) -> dict[UUID, AssetRow]:
    """Those that are there."""
    return {row["id"]: AssetRow(*row) for row in await fetch_rows(database, _BY_ID, list(ids), at)}


async def pages_of_owners(
    database: Database, owner_ids: Sequence[UUID], request: PageRequest, at: datetime
) -> dict[UUID, Page[AssetRow]]:
    """What people's calls made, the newest first, in whatever workspace, also one that they have left (C9)."""
    rows = await fetch_rows(database, _OF_OWNERS, list(owner_ids), _after(request), request.first + 1, at)
    return _pages(owner_ids, rows, request)


async def pages_of_workspaces(
    database: Database,
    workspace_ids: Sequence[UUID],
    request: PageRequest,
    at: datetime,
    *,
    everything: bool,
    owner_id: UUID | None,
    api_key_id: UUID | None,
) -> dict[UUID, Page[AssetRow]]:
    """Workspaces' assets, the newest first: `everything`, or what this person or key made (A11)."""
    rows = await fetch_rows(
        database,
        _OF_WORKSPACES,
        list(workspace_ids),
        _after(request),
        request.first + 1,
        at,
        everything,
        owner_id,
        api_key_id,
    )
    return _pages(workspace_ids, rows, request)


async def storage_of(database: Database, workspace_ids: Sequence[UUID]) -> dict[UUID, StorageView]:
    """By workspace."""
    rows = await fetch_rows(database, _STORAGE, list(workspace_ids))
    return {workspace_id: StorageView() for workspace_id in workspace_ids} | {
        row[0]: StorageView(row[1], row[2]) for row in rows
    }


async def delete(database: Database, ids: Sequence[UUID], at: datetime) -> int:
    """Take them from view and from the room they take; their files go with the next purge. How many there were."""
    async with transaction(database) as conn:
        status = await conn.execute(_DELETE, list(ids), at)
    return int(status.rpartition(" ")[2])


async def lapsed(database: Database, at: datetime, limit: int) -> dict[UUID, list[UUID]]:
    """Assets whose time is over, those included that a workspace stores no more, by workspace."""
    found: dict[UUID, list[UUID]] = {}
    rows = await fetch_rows(database, _LAPSED, at, limit)
    more = await fetch_rows(database, _NO_MORE_STORED, at, limit - len(rows)) if len(rows) < limit else []
    for asset_id, workspace_id in [*rows, *more]:
        found.setdefault(workspace_id, []).append(asset_id)
    return found


async def to_purge(database: Database, limit: int) -> list[tuple[UUID, str]]:
    """Deleted assets whose file is still there, with its path."""
    return [(row[0], row[1]) for row in await fetch_rows(database, _TO_PURGE, limit)]


async def mark_purged(database: Database, asset_id: UUID, at: datetime) -> None:
    """Its file is gone."""
    async with transaction(database) as conn:
        await conn.execute(_PURGED, asset_id, at)


async def stale(database: Database, at: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Calls, with their workspace, that set room aside and never said what became of it."""
    return [(row[0], row[1]) for row in await fetch_rows(database, _STALE, at, limit)]


async def paths_of_call(database: Database, call_id: UUID) -> frozenset[str]:
    """The paths of a call's assets that may still be there."""
    return frozenset(row[0] for row in await fetch_rows(database, _PATHS, call_id))


def _after(request: PageRequest) -> UUID:
    return _LAST_ID if request.after is None else decode_cursor(request.after)[1]


def _pages(parent_ids: Sequence[UUID], rows: Sequence[Record], request: PageRequest) -> dict[UUID, Page[AssetRow]]:
    found = [(row[0], AssetRow(*row[1:])) for row in rows]
    return pages_of(parent_ids, found, request, lambda asset: encode_cursor(asset.created_at, asset.id))
