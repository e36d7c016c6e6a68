"""Assets: what image, video and audio calls made, stored for those who may read it, within the plan's room and time."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.rules.entitlements import Entitlements
from gateway import asset_rows
from gateway.asset_rows import AssetRow
from gateway.asset_store import MAX_FILE_BYTES, AssetStore
from gateway.asset_urls import AssetUrls
from gateway.payloads import AssetsOutputView, AssetView
from gateway.rules.asset_types import content_type_of
from gateway.rules.storage import KeptTime, ends_at, kept_time
from kit.clock import now
from kit.json_values import is_list, is_object
from models.database import Database, transaction
from models.pool import PoolConnection
from providers.base import JsonObject

KEPT_OBJECT: Final = "tollgate.assets"
"""What a kept output says that it is, where it refers to assets."""
RESERVED_FOR: Final = timedelta(hours=1)
"""How long a call that is not a job may take at most; what it set aside lapses after that."""
_STORES: Final = "SELECT store_outputs FROM workspaces WHERE id = $1"

Pieces = Callable[[], AsyncGenerator[bytes]]


@dataclass(frozen=True, slots=True)
class Room:
    """What was set aside for a call, and how long what it makes is kept."""

    call_id: UUID
    workspace_id: UUID
    kept: KeptTime


@dataclass(frozen=True, slots=True)
class Maker:
    """Whose call made the files."""

    call_id: UUID
    workspace_id: UUID
    user_id: UUID | None
    api_key_id: UUID | None


class Assets:
    """One per process."""

    def __init__(self, database: Database, store: AssetStore, urls: AssetUrls) -> None:
        """`store` has the files, `database` their rows."""
        self._database = database
        self._store = store
        self._urls = urls

    async def reserve(
        self, conn: PoolConnection, maker: Maker, entitlements: Entitlements, more: int, until: datetime
    ) -> Room:
        """Set room aside within the caller's transaction. StorageFull where the plan has not as much left."""
        stores: bool = bool(await conn.fetchval(_STORES, maker.workspace_id))
        limit = entitlements.storage_bytes
        await asset_rows.reserve(conn, maker.workspace_id, maker.call_id, more, limit, until)
        return Room(maker.call_id, maker.workspace_id, kept_time(entitlements, stores_outputs=stores))

    async def reserve_now(self, maker: Maker, entitlements: Entitlements, more: int) -> Room:
        """The same in a transaction of its own, for a call that is answered whole."""
        async with transaction(self._database) as conn:
            return await self.reserve(conn, maker, entitlements, more, now() + RESERVED_FOR)

    async def give_up(self, call_id: UUID) -> None:
        """The call made nothing: its room is free again."""
        async with transaction(self._database) as conn:
            await asset_rows.give_up(conn, call_id)

    async def write(
        self, maker: Maker, files: Sequence[Pieces], kept: KeptTime, most_bytes: int | None = None
    ) -> list[AssetRow]:
        """Store the files of a call; their rows are the caller's to insert, with what else ends the call.

        The same call's files have the same ids and places every time: writing again replaces them. Raises StoreAway,
        FileTooLarge, also where all together are more than `most_bytes`, and what the pieces raise.
        """
        at, written_bytes = now(), 0
        rows: list[AssetRow] = []
        for index, open_file in enumerate(files):
            asset_id = UUID(int=maker.call_id.int ^ (index + 1))
            path = f"{_prefix(maker.workspace_id, maker.call_id)}/{index}"
            async with aclosing(open_file()) as pieces:
                left = MAX_FILE_BYTES if most_bytes is None else min(MAX_FILE_BYTES, most_bytes - written_bytes)
                written = await self._store.write(path, asset_id, pieces, left)
            written_bytes += written.size_bytes
            rows.append(
                AssetRow(
                    id=asset_id,
                    workspace_id=maker.workspace_id,
                    owner_id=maker.user_id,
                    api_key_id=maker.api_key_id,
                    call_id=maker.call_id,
                    content_type=content_type_of(written.beginning),
                    size_bytes=written.size_bytes,
                    storage_path=path,
                    created_at=at,
                    expires_at=ends_at(at, kept.whole_s),
                    unstored_until=ends_at(at, kept.unstored_s),
                )
            )
        return rows

    async def discard(self, maker: Maker) -> None:
        """Remove what `write` stored of a call that keeps none of it. Raises StoreAway."""
        for path in await self._store.below(_prefix(maker.workspace_id, maker.call_id)):
            await self._store.delete(path)

    async def keep(self, conn: PoolConnection, call_id: UUID, rows: Sequence[AssetRow]) -> None:
        """The files are the workspace's now, and take the place of the room set aside; in the caller's transaction."""
        await asset_rows.give_up(conn, call_id)
        await asset_rows.insert(conn, rows)

    async def keep_now(self, call_id: UUID, rows: Sequence[AssetRow]) -> None:
        """The same in a transaction of its own."""
        async with transaction(self._database) as conn:
            await self.keep(conn, call_id, rows)

    async def by_ids(self, ids: Sequence[UUID]) -> dict[UUID, AssetRow]:
        """Those that are there now."""
        return await asset_rows.by_ids(self._database, ids, now())

    def view(self, row: AssetRow) -> AssetView:
        """The asset with an address that works for a short while: show it only to who may read it."""
        url, until = self._urls.url_of(row.id, now(), row.expires_at)
        return AssetView(row.id, row.content_type, row.size_bytes, url, row.expires_at, until)

    def output(self, rows: Sequence[AssetRow]) -> AssetsOutputView:
        """The output that these files are."""
        return AssetsOutputView(tuple(self.view(row) for row in rows))

    async def delete(self, asset_id: UUID) -> bool:
        """Gone from view and from the room it took; False where it was gone already."""
        return bool(await asset_rows.delete(self._database, [asset_id], now()))

    async def content(self, row: AssetRow, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`. Raises StoreAway."""
        async for part in self._store.read(row.storage_path, row.id, row.size_bytes, start, end):
            yield part

    async def purge(self, *, limit: int) -> int:
        """Remove what has lapsed or was deleted, files included, and what calls left behind that died; how many.

        Workers may do the same beside each other: a file removed twice is removed.
        """
        at = now()
        done = 0
        for ids in (await asset_rows.lapsed(self._database, at, limit)).values():
            done += await asset_rows.delete(self._database, ids, at)
        for asset_id, path in await asset_rows.to_purge(self._database, limit):
            await self._store.delete(path)
            await asset_rows.mark_purged(self._database, asset_id, now())
            done += 1
        for call_id, workspace_id in await asset_rows.stale(self._database, at, limit):
            kept = await asset_rows.paths_of_call(self._database, call_id)
            for path in await self._store.below(_prefix(workspace_id, call_id)):
                if path not in kept:
                    await self._store.delete(path)
            await self.give_up(call_id)
            done += 1
        return done


def kept_body(rows: Sequence[AssetRow]) -> JsonObject:
    """An output as it is kept: which assets it was."""
    return {"object": KEPT_OBJECT, "data": [{"asset": row.id.hex} for row in rows]}


def kept_ids(body: JsonObject) -> list[UUID] | None:
    """The assets of a kept output; None for an output of another kind."""
    if body.get("object") != KEPT_OBJECT:
        return None
    items = body.get("data")
    names = [item.get("asset") for item in (items if is_list(items) else ()) if is_object(item)]
    return [UUID(hex=name) for name in names if isinstance(name, str)]


def _prefix(workspace_id: UUID, call_id: UUID) -> str:
    return f"{workspace_id.hex}/{call_id.hex}"
