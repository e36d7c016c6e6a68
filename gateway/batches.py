"""Batches: begun from a file, looked at, cancelled; and their way from validating to their end, which the worker goes."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from gateway.errors import TooManyBatches
from gateway.files import FILE_LIFE, Files, Owner
from gateway.rules.batches import ENDPOINTS, Problem, read_lines, unreadable_line
from kit.errors import InvalidInput, NotFound, Unavailable
from kit.ids import uuid7
from kit.sealing import SEAL_BYTES, Sealer, SealError, row_context
from models.database import Database, connection, transaction
from models.enums import BatchStatus, FilePurpose
from models.pool import PoolConnection
from providers.base import JsonObject

logger = logging.getLogger(__name__)

WINDOW: Final = timedelta(hours=24)
"""How long a batch may take; what is not done by then is not called."""
REMEMBERED: Final = timedelta(days=30)
"""How long an ended batch is told of; its lines go with its output files, after FILE_LIFE."""
MAX_OPEN: Final = 20
"""Batches of a workspace that may be open at once."""
_LISTED: Final = 100
_MAX_TRIES: Final = 5
"""How often a process tries to validate a batch that fails here, before it is told as failed."""
_PAUSE: Final = timedelta(minutes=1)
"""After its first failure here; each further one is as much longer, up to _LONGEST_PAUSE."""
_LONGEST_PAUSE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as it stands."""

    id: UUID
    endpoint: str
    input_file_id: UUID
    output_file_id: UUID | None
    error_file_id: UUID | None
    status: BatchStatus
    metadata: JsonObject
    problems: tuple[Problem, ...]
    total_count: int
    completed_count: int
    failed_count: int
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None
    cancelling_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Trouble:
    """How often a batch has failed here for a reason that nobody foresaw, and until when it is left alone."""

    tries: int
    until: datetime


class Batches:
    """Begins, tells and advances batches."""

    def __init__(self, database: Database, sealer: Sealer, files: Files) -> None:
        """`sealer` seals the lines."""
        self._database = database
        self._sealer = sealer
        self._files = files
        self._troubles: dict[UUID, _Trouble] = {}

    async def create(
        self, owner: Owner, input_file_id: UUID, endpoint: str, metadata: JsonObject, at: datetime
    ) -> BatchView:
        """A batch that the worker takes up; NotFound, InvalidInput, TooManyBatches."""
        if endpoint not in ENDPOINTS:
            raise InvalidInput(f"endpoint must be one of {', '.join(ENDPOINTS)}", field=["endpoint"])
        file = await self._files.get(owner, input_file_id, at)
        if file.purpose is not FilePurpose.BATCH:
            raise InvalidInput("the input file was not made for a batch", field=["input_file_id"])
        batch_id = uuid7()
        async with transaction(self._database) as conn:
            await conn.execute("SELECT FROM workspaces WHERE id = $1 FOR NO KEY UPDATE", owner.workspace_id)
            if await conn.fetchval(_OPEN, owner.workspace_id) >= MAX_OPEN:
                raise TooManyBatches(MAX_OPEN)
            await conn.execute(
                _INSERT,
                batch_id,
                owner.workspace_id,
                owner.api_key_id,
                endpoint,
                input_file_id,
                metadata,
                at,
                at + WINDOW,
            )
        return await self.get(owner, batch_id)

    async def get(self, owner: Owner, batch_id: UUID) -> BatchView:
        """The batch; NotFound for another's, too."""
        async with connection(self._database) as conn:
            row = await conn.fetchrow(f"{_VIEW} AND id = $3", owner.workspace_id, owner.api_key_id, batch_id)
        if row is None:
            raise NotFound("there is no such batch")
        return _view(row)

    async def newest(self, owner: Owner) -> list[BatchView]:
        """The owner's batches, the newest first, a hundred at most."""
        async with connection(self._database) as conn:
            rows = await conn.fetch(f"{_VIEW} ORDER BY id DESC LIMIT $3", owner.workspace_id, owner.api_key_id, _LISTED)
        return [_view(row) for row in rows]

    async def cancel(self, owner: Owner, batch_id: UUID, at: datetime) -> BatchView:
        """No further line is called; those that run end. One that has ended stays as it is; NotFound."""
        async with connection(self._database) as conn:
            await conn.execute(_CANCEL, owner.workspace_id, owner.api_key_id, batch_id, at)
        return await self.get(owner, batch_id)

    async def advance(self, at: datetime, *, limit: int) -> int:
        """Validate new batches and end those that have nothing left to do; answers how many moved on.

        One that fails here stops no other: it is left alone for a while, and ends where it cannot be validated at last.
        """
        self._troubles = {
            each: trouble for each, trouble in self._troubles.items() if trouble.until > at - 2 * _LONGEST_PAUSE
        }
        resting = [each for each, trouble in self._troubles.items() if trouble.until > at]
        async with connection(self._database) as conn:
            found = await conn.fetch(_MOVABLE, at, limit, resting)
        moved = 0
        for row in found:
            try:
                moved += await self._move(row["id"], at)
            except Unavailable:  # no fault of the batch
                raise
            except Exception:  # a process edge: what was not foreseen is this batch's, not the others'
                logger.exception("batch %s failed here", row["id"])
                self._rest(row["id"], at)
        return moved

    async def _move(self, batch_id: UUID, at: datetime) -> bool:
        async with transaction(self._database) as conn:
            batch = await conn.fetchrow(_LOCK, batch_id)
            if batch is None:
                return False
            trouble = self._troubles.get(batch_id)
            if batch["status"] == BatchStatus.VALIDATING and trouble is not None and trouble.tries >= _MAX_TRIES:
                await self._fail(conn, batch, [Problem("internal", "something failed here")], at)
                return True
            return await self._advance(conn, batch, at)

    def _rest(self, batch_id: UUID, at: datetime) -> None:
        tries = 1 if batch_id not in self._troubles else self._troubles[batch_id].tries + 1
        self._troubles[batch_id] = _Trouble(tries, at + min(tries * _PAUSE, _LONGEST_PAUSE))

    async def _advance(self, conn: PoolConnection, batch: asyncpg.Record, at: datetime) -> bool:
        match BatchStatus(batch["status"]):
            case BatchStatus.VALIDATING:
                await self._validate(conn, batch, at)
                return True
            case BatchStatus.IN_PROGRESS if batch["expires_at"] <= at:
                await self._expire(conn, batch, at)
            case BatchStatus.CANCELLING:
                await conn.execute(_DROP_PENDING, batch["id"], at)
            case _:
                pass
        if await conn.fetchval(_ANY_PENDING, batch["id"]):
            return False
        await self._end(conn, batch, at)
        return True

    async def _validate(self, conn: PoolConnection, batch: asyncpg.Record, at: datetime) -> None:
        sealed = await conn.fetchval(
            "SELECT sealed FROM files WHERE id = $1 AND expires_at > $2", batch["input_file_id"], at
        )
        if sealed is None:
            await self._fail(conn, batch, [Problem("file_gone", "the input file is not kept any more")], at)
            return
        content = self._sealer.open(sealed, row_context("files", "sealed", batch["input_file_id"]))
        lines, problems = read_lines(content, batch["endpoint"])
        if problems:
            await self._fail(conn, batch, problems, at)
            return
        ids = [uuid7() for _ in lines]
        texts = [
            self._sealer.seal(
                orjson.dumps({"custom_id": line.custom_id, "model": line.model, "body": line.body}),
                row_context("batch_lines", "sealed", key),
            )
            for key, line in zip(ids, lines, strict=True)
        ]
        numbers = [line.number for line in lines]
        await conn.execute(_INSERT_LINES, batch["id"], ids, numbers, texts, self._sealer.current_version, at)
        await conn.execute(_BEGIN, batch["id"], at, len(lines))

    async def _fail(self, conn: PoolConnection, batch: asyncpg.Record, problems: list[Problem], at: datetime) -> None:
        told = [{"code": p.code, "message": p.message, "line": p.line, "param": p.param} for p in problems]
        await conn.execute(_FAIL, batch["id"], at, at + REMEMBERED, {"data": told})

    async def _expire(self, conn: PoolConnection, batch: asyncpg.Record, at: datetime) -> None:
        """Lines that nobody works on are told as not called."""
        for row in await conn.fetch(_UNCLAIMED, batch["id"], at):
            context = row_context("batch_lines", "sealed", row["id"])
            try:
                asked: JsonObject = orjson.loads(self._sealer.open(row["sealed"], context))
            except SealError:
                told = unreadable_line(row["number"], called=False)
            else:
                error = {"code": "batch_expired", "message": "the batch's time was over before this line was called"}
                told = orjson.dumps({"id": None, "custom_id": asked["custom_id"], "response": None, "error": error})
            sealed = self._sealer.seal(told, context)
            await conn.execute(_END_LINE, row["id"], "FAILED", sealed, self._sealer.current_version)
            await conn.execute(_COUNT, batch["id"], 0, 1)

    async def _end(self, conn: PoolConnection, batch: asyncpg.Record, at: datetime) -> None:
        status = {BatchStatus.CANCELLING: BatchStatus.CANCELLED}.get(batch["status"], BatchStatus.COMPLETED)
        if status is BatchStatus.COMPLETED and batch["expires_at"] <= at:
            status = BatchStatus.EXPIRED
        output = await self._output(conn, batch, "SUCCEEDED", FilePurpose.BATCH_OUTPUT, at)
        errors = await self._output(conn, batch, "FAILED", FilePurpose.BATCH_ERRORS, at)
        await conn.execute(_END, batch["id"], status, at, output, errors, at + REMEMBERED)

    async def _output(
        self, conn: PoolConnection, batch: asyncpg.Record, state: str, purpose: FilePurpose, at: datetime
    ) -> UUID | None:
        found = await conn.fetchrow(_SIZE, batch["id"], state, SEAL_BYTES - 1)  # a line's end is one byte more
        if found is None or found["lines"] == 0:
            return None
        file_id, owner = uuid7(), (batch["workspace_id"], batch["api_key_id"])
        name = f"{batch['id'].hex}_{'output' if state == 'SUCCEEDED' else 'error'}.jsonl"
        await conn.execute(
            _INSERT_OUTPUT, file_id, *owner, purpose, name, found["size"], batch["id"], at, at + FILE_LIFE
        )
        return file_id


def _view(row: asyncpg.Record) -> BatchView:
    told = row["problems"]
    problems = (
        () if told is None else tuple(Problem(p["code"], p["message"], p["line"], p["param"]) for p in told["data"])
    )
    return BatchView(
        id=row["id"],
        endpoint=row["endpoint"],
        input_file_id=row["input_file_id"],
        output_file_id=row["output_file_id"],
        error_file_id=row["error_file_id"],
        status=BatchStatus(row["status"]),
        metadata=row["metadata"],
        problems=problems,
        total_count=row["total_count"],
        completed_count=row["completed_count"],
        failed_count=row["failed_count"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        in_progress_at=row["in_progress_at"],
        cancelling_at=row["cancelling_at"],
        ended_at=row["ended_at"],
    )


_VIEW: Final = "SELECT * FROM batches WHERE workspace_id = $1 AND api_key_id = $2"
_OPEN: Final = "SELECT count(*) FROM batches WHERE workspace_id = $1 AND ended_at IS NULL"
_INSERT: Final = """
    INSERT INTO batches (id, workspace_id, api_key_id, endpoint, input_file_id, status, metadata, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, 'VALIDATING', $6, $7, $8)
"""
_CANCEL: Final = """
    UPDATE batches SET status = 'CANCELLING', cancelling_at = $4
    WHERE workspace_id = $1 AND api_key_id = $2 AND id = $3 AND status IN ('VALIDATING', 'IN_PROGRESS')
"""
_MOVABLE: Final = """
    SELECT id FROM batches b WHERE ended_at IS NULL AND NOT id = ANY ($3::uuid[]) AND (status IN ('VALIDATING', 'CANCELLING') OR expires_at <= $1
        OR NOT EXISTS (SELECT FROM batch_lines l WHERE l.batch_id = b.id AND l.state = 'PENDING'))
    ORDER BY created_at LIMIT $2
"""
_LOCK: Final = "SELECT * FROM batches WHERE id = $1 AND ended_at IS NULL FOR UPDATE SKIP LOCKED"
_INSERT_LINES: Final = """
    INSERT INTO batch_lines (id, batch_id, number, state, due_at, key_version, sealed)
    SELECT n.id, $1, n.number, 'PENDING', $6, $5, n.sealed FROM unnest($2::uuid[], $3::int[], $4::bytea[]) AS n (id, number, sealed)
"""
_BEGIN: Final = "UPDATE batches SET status = 'IN_PROGRESS', in_progress_at = $2, total_count = $3 WHERE id = $1"
_FAIL: Final = "UPDATE batches SET status = 'FAILED', ended_at = $2, purge_at = $3, problems = $4 WHERE id = $1"
_DROP_PENDING: Final = """
    DELETE FROM batch_lines WHERE batch_id = $1 AND state = 'PENDING' AND (claimed_until IS NULL OR claimed_until <= $2)
"""
_ANY_PENDING: Final = "SELECT EXISTS (SELECT FROM batch_lines WHERE batch_id = $1 AND state = 'PENDING')"
_UNCLAIMED: Final = """
    SELECT id, number, sealed FROM batch_lines
    WHERE batch_id = $1 AND state = 'PENDING' AND (claimed_until IS NULL OR claimed_until <= $2) FOR UPDATE SKIP LOCKED
"""
_END_LINE: Final = (
    "UPDATE batch_lines SET state = $2, sealed = $3, key_version = $4, claimed_until = NULL WHERE id = $1"
)
_COUNT: Final = """
    UPDATE batches SET completed_count = completed_count + $2, failed_count = failed_count + $3 WHERE id = $1
"""
_SIZE: Final = """
    SELECT count(*) AS lines, coalesce(sum(octet_length(sealed) - $3), 0)::bigint AS size
    FROM batch_lines WHERE batch_id = $1 AND state = $2
"""
_INSERT_OUTPUT: Final = """
    INSERT INTO files (id, workspace_id, api_key_id, purpose, filename, size_bytes, batch_id, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_END: Final = """
    UPDATE batches SET status = $2, ended_at = $3, output_file_id = $4, error_file_id = $5, purge_at = $6 WHERE id = $1
"""
