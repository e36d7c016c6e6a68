"""Files of batches, sealed, of the API key that made them: stored, read, forgotten in time (D12)."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from gateway.errors import FilesFull
from gateway.rules.batches import unreadable_line
from kit.errors import NotFound
from kit.ids import uuid7
from kit.sealing import SEAL_BYTES, Sealer, SealError, row_context
from models.database import Database, connection, transaction
from models.enums import FilePurpose

logger = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_STORED_BYTES: Final = 256 * 1024 * 1024
"""What a workspace's files may hold together."""
FILE_LIFE: Final = timedelta(hours=24)
"""How long a file is kept where its owner says nothing else."""
_LINES_A_PAGE: Final = 50
_SHORT_LINES_A_PAGE: Final = 1_000
_LONGEST_NOTICE_BYTES: Final = len(unreadable_line(MAX_FILE_BYTES, called=True))
"""What stands for an unreadable line has room in any that is longer."""
_LISTED: Final = 100


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose files and batches are meant: an API key's of a workspace."""

    workspace_id: UUID
    api_key_id: UUID


@dataclass(frozen=True, slots=True)
class FileView:
    """A file without its content."""

    id: UUID
    purpose: FilePurpose
    filename: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file holds: `parts` have `size_bytes` together, unless what they are read from goes meanwhile."""

    size_bytes: int
    parts: AsyncGenerator[bytes]


class Files:
    """Stores and opens files."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        """`sealer` holds the keys made from TOLLGATE_SECRET_KEY."""
        self._database = database
        self._sealer = sealer

    async def store(self, owner: Owner, filename: str, content: bytes, at: datetime, life: timedelta) -> FileView:
        """A batch's input file; FilesFull where the workspace has no room for it."""
        view = FileView(uuid7(), FilePurpose.BATCH, filename, len(content), at, at + life)
        sealed = self._sealer.seal(content, row_context("files", "sealed", view.id))
        async with transaction(self._database) as conn:
            # Two at once are counted one after the other.
            await conn.execute("SELECT FROM workspaces WHERE id = $1 FOR NO KEY UPDATE", owner.workspace_id)
            stored: int = await conn.fetchval(_STORED, owner.workspace_id, at)
            if stored + len(content) > MAX_STORED_BYTES:
                raise FilesFull(MAX_STORED_BYTES)
            await conn.execute(
                _INSERT,
                view.id,
                owner.workspace_id,
                owner.api_key_id,
                view.purpose,
                filename,
                view.size_bytes,
                self._sealer.current_version,
                sealed,
                at,
                view.expires_at,
            )
        return view

    async def get(self, owner: Owner, file_id: UUID, at: datetime) -> FileView:
        """The file; NotFound for another's, too."""
        async with connection(self._database) as conn:
            row = await conn.fetchrow(f"{_VIEW} AND id = $4", owner.workspace_id, owner.api_key_id, at, file_id)
        if row is None:
            raise NotFound("there is no such file")
        return _view(row)

    async def newest(self, owner: Owner, at: datetime) -> list[FileView]:
        """The owner's files, the newest first, a hundred at most."""
        async with connection(self._database) as conn:
            rows = await conn.fetch(
                f"{_VIEW} ORDER BY id DESC LIMIT $4", owner.workspace_id, owner.api_key_id, at, _LISTED
            )
        return [_view(row) for row in rows]

    async def delete(self, owner: Owner, file_id: UUID, at: datetime) -> None:
        """Forget it and what it holds; NotFound. A batch that was begun with it goes on."""
        file = await self.get(owner, file_id, at)
        async with transaction(self._database) as conn:
            if file.purpose is not FilePurpose.BATCH:
                state = "SUCCEEDED" if file.purpose is FilePurpose.BATCH_OUTPUT else "FAILED"
                await conn.execute(_FORGET_LINES, file.id, state)
            await conn.execute("DELETE FROM files WHERE id = $1", file.id)

    async def content(self, file: FileView) -> FileContent:
        """What it holds, an output line by line, also where one cannot be read any more; NotFound for an input that cannot."""
        if file.purpose is FilePurpose.BATCH:
            whole = await self._input(file)
            return FileContent(len(whole), _one(whole))
        state = "SUCCEEDED" if file.purpose is FilePurpose.BATCH_OUTPUT else "FAILED"
        return FileContent(await self._size(file, state), self._lines(file, state))

    async def _input(self, file: FileView) -> bytes:
        async with connection(self._database) as conn:
            sealed = await conn.fetchval("SELECT sealed FROM files WHERE id = $1", file.id)
        if sealed is None:
            raise NotFound("there is no such file")
        try:
            return self._sealer.open(sealed, row_context("files", "sealed", file.id))
        except SealError as error:
            logger.error("file %s cannot be read any more: %s", file.id, error)
            raise NotFound("what this file holds can no longer be read here") from error

    async def _size(self, file: FileView, state: str) -> int:
        """By the length of the seals, but for lines that the notice of an unreadable one has no room in: those are opened."""
        short = SEAL_BYTES + _LONGEST_NOTICE_BYTES
        async with connection(self._database) as conn:
            size: int = await conn.fetchval(_SIZE, file.id, state, SEAL_BYTES - 1, short)
        last = -1
        while rows := await self._page(file, state, last, _SHORT_LINES_A_PAGE, shorter_than=short):
            size += sum(len(self._told(row)) for row in rows)
            last = rows[-1]["number"]
        return size

    async def _lines(self, file: FileView, state: str) -> AsyncGenerator[bytes]:
        last = -1
        while rows := await self._page(file, state, last, _LINES_A_PAGE, shorter_than=None):
            for row in rows:
                yield self._told(row)
            last = rows[-1]["number"]

    async def _page(
        self, file: FileView, state: str, after: int, lines: int, *, shorter_than: int | None
    ) -> list[asyncpg.Record]:
        async with connection(self._database) as conn:
            return await conn.fetch(_LINES, file.id, state, after, lines, shorter_than)

    def _told(self, row: asyncpg.Record) -> bytes:
        """A line with its end. What stands for one that cannot be read is as long, by spaces, where there is room for it."""
        sealed: bytes = row["sealed"]
        try:
            return self._sealer.open(sealed, row_context("batch_lines", "sealed", row["id"])) + b"\n"
        except SealError as error:
            logger.error("line %s, %s, cannot be read any more: %s", row["number"], row["id"], error)
            return unreadable_line(row["number"], called=True).ljust(len(sealed) - SEAL_BYTES) + b"\n"


async def _one(part: bytes) -> AsyncGenerator[bytes]:
    yield part


async def purge_files(database: Database, at: datetime, *, limit: int) -> int:
    """Forget what has lapsed: files, with the lines that output files were, and batches; answers how many."""
    async with connection(database) as conn:
        files: int = await conn.fetchval(_OLD_FILES, at, limit)
        batches: int = await conn.fetchval(_OLD_BATCHES, at, limit - files)
    return files + batches


def _view(row: asyncpg.Record) -> FileView:
    return FileView(
        row["id"],
        FilePurpose(row["purpose"]),
        row["filename"],
        row["size_bytes"],
        row["created_at"],
        row["expires_at"],
    )


_STORED: Final = """
    SELECT coalesce(sum(size_bytes), 0)::bigint FROM files WHERE workspace_id = $1 AND purpose = 'BATCH' AND expires_at > $2
"""
_INSERT: Final = """
    INSERT INTO files (id, workspace_id, api_key_id, purpose, filename, size_bytes, key_version, sealed, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_VIEW: Final = """
    SELECT id, purpose, filename, size_bytes, created_at, expires_at FROM files
    WHERE workspace_id = $1 AND api_key_id = $2 AND expires_at > $3
"""
_LINES: Final = """
    SELECT id, number, sealed FROM batch_lines
    WHERE batch_id = (SELECT batch_id FROM files WHERE id = $1) AND state = $2 AND number > $3
        AND ($5::int IS NULL OR octet_length(sealed) < $5) ORDER BY number LIMIT $4
"""
_SIZE: Final = """
    SELECT coalesce(sum(octet_length(sealed) - $3), 0)::bigint FROM batch_lines
    WHERE batch_id = (SELECT batch_id FROM files WHERE id = $1) AND state = $2 AND octet_length(sealed) >= $4
"""
_FORGET_LINES: Final = """
    DELETE FROM batch_lines WHERE batch_id = (SELECT batch_id FROM files WHERE id = $1) AND state = $2
"""
_OLD_FILES: Final = """
    WITH gone AS (
        DELETE FROM files WHERE id IN
            (SELECT id FROM files WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
        RETURNING batch_id, purpose
    ), forgotten AS (
        DELETE FROM batch_lines l USING gone g WHERE l.batch_id = g.batch_id
            AND l.state = CASE g.purpose WHEN 'BATCH_OUTPUT' THEN 'SUCCEEDED' ELSE 'FAILED' END
    )
    SELECT count(*) FROM gone
"""
_OLD_BATCHES: Final = """
    WITH gone AS (
        DELETE FROM batches WHERE id IN
            (SELECT id FROM batches WHERE purge_at <= $1 ORDER BY purge_at LIMIT $2 FOR UPDATE SKIP LOCKED)
        RETURNING id
    )
    SELECT count(*) FROM gone
"""
