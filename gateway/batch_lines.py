"""The lines of running batches: claimed for a while by whoever works on them, put off, ended once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from gateway.files import Owner
from gateway.rules.batches import ENDPOINTS, Line, unreadable_line
from kit.sealing import Sealer, SealError, row_context
from models.database import Database, connection, transaction
from providers.base import Operation

logger = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
"""How long a claim lasts without a sign of life; a killed worker's lines are taken up by another after it."""
_FAIR_SHARE: Final = 4
"""Lines of one batch that are claimed at once, so that a long one does not keep the others waiting."""


@dataclass(frozen=True, slots=True)
class ClaimedLine:
    """A line to be called now, in its `attempt`, from 0."""

    id: UUID
    batch_id: UUID
    owner: Owner
    operation: Operation
    attempt: int
    asked: Line

    @property
    def idempotency_key(self) -> str:
        """The key of this attempt's call: whoever calls it again is given the first call's answer."""
        name = sha256(self.asked.custom_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return f"batch:{self.batch_id.hex}:{name}:{self.attempt}"


class BatchLines:
    """Hands out lines to any number of workers."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        """`sealer` opens the requests and seals what they came to."""
        self._database = database
        self._sealer = sealer

    async def claim(self, at: datetime, *, limit: int) -> list[ClaimedLine]:
        """Lines that are due, of several batches in turn, the caller's for LEASE.

        One that cannot be read any more ends here, alone and uncalled: its batch goes on to its end without it.
        """
        async with connection(self._database) as conn:
            rows = await conn.fetch(_CLAIM, at, at + LEASE, limit, _FAIR_SHARE)
        claimed: list[ClaimedLine] = []
        for row in rows:
            try:
                claimed.append(self._opened(row))
            except SealError as error:
                logger.error("line %s of batch %s cannot be read: %s", row["number"], row["batch_id"], error)
                await self._end(
                    row["id"], row["batch_id"], unreadable_line(row["number"], called=False), succeeded=False
                )
        return claimed

    def _opened(self, row: asyncpg.Record) -> ClaimedLine:
        asked = orjson.loads(self._sealer.open(row["sealed"], row_context("batch_lines", "sealed", row["id"])))
        line = Line(row["number"], asked["custom_id"], asked["model"], asked["body"])
        owner = Owner(row["workspace_id"], row["api_key_id"])
        return ClaimedLine(row["id"], row["batch_id"], owner, ENDPOINTS[row["endpoint"]], row["attempt"], line)

    async def renew(self, line_ids: Sequence[UUID], at: datetime) -> None:
        """They are still worked on."""
        async with connection(self._database) as conn:
            await conn.execute(_RENEW, list(line_ids), at + LEASE)

    async def put_off(self, line: ClaimedLine, until: datetime, *, attempt: int) -> None:
        """Call it later, as that attempt."""
        async with connection(self._database) as conn:
            await conn.execute(_PUT_OFF, line.id, until, attempt)

    async def end(self, line: ClaimedLine, told: bytes, *, succeeded: bool) -> None:
        """`told` is its line of the output file, or of the error file; the second time changes nothing."""
        await self._end(line.id, line.batch_id, told, succeeded=succeeded)

    async def _end(self, line_id: UUID, batch_id: UUID, told: bytes, *, succeeded: bool) -> None:
        sealed = self._sealer.seal(told, row_context("batch_lines", "sealed", line_id))
        state = "SUCCEEDED" if succeeded else "FAILED"
        async with transaction(self._database) as conn:
            ended = await conn.fetchval(_END, line_id, state, sealed, self._sealer.current_version)
            if ended is not None:
                await conn.execute(_COUNT, batch_id, int(succeeded), int(not succeeded))


_CLAIM: Final = """
    WITH due AS (
        SELECT l.id FROM batches b CROSS JOIN LATERAL (
            SELECT id, number FROM batch_lines
            WHERE batch_id = b.id AND state = 'PENDING' AND due_at <= $1 AND (claimed_until IS NULL OR claimed_until <= $1)
            ORDER BY number LIMIT $4 FOR UPDATE SKIP LOCKED
        ) AS l
        WHERE b.ended_at IS NULL AND b.status = 'IN_PROGRESS' AND b.expires_at > $1
        ORDER BY l.number, b.created_at LIMIT $3
    )
    UPDATE batch_lines l SET claimed_until = $2 FROM due, batches b WHERE l.id = due.id AND b.id = l.batch_id
    RETURNING l.id, l.batch_id, l.number, l.attempt, l.sealed, b.workspace_id, b.api_key_id, b.endpoint
"""
_RENEW: Final = "UPDATE batch_lines SET claimed_until = $2 WHERE id = ANY ($1) AND state = 'PENDING'"
_PUT_OFF: Final = """
    UPDATE batch_lines SET claimed_until = NULL, due_at = $2, attempt = $3 WHERE id = $1 AND state = 'PENDING'
"""
_END: Final = """
    UPDATE batch_lines SET state = $2, sealed = $3, key_version = $4, claimed_until = NULL
    WHERE id = $1 AND state = 'PENDING' RETURNING id
"""
_COUNT: Final = """
    UPDATE batches SET completed_count = completed_count + $2, failed_count = failed_count + $3 WHERE id = $1
"""
