"""Answers kept for a short stated time, encrypted, so that a repeat can be answered (rule D12)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import orjson

from kit.sealing import Sealer, row_context
from metering.operations import SealedOutput
from models.database import Database, connection
from providers.base import JsonObject

REPEAT_LIFE: Final = timedelta(minutes=10)
"""How long the output of a call with an idempotency key is kept."""
MAX_READ_BYTES: Final = 32 * 1024 * 1024
"""What one reading of many may hold; the newest calls come first."""
MAX_KEPT_BYTES: Final = 4 * 1024 * 1024
"""A larger output is not kept: a repeat then gives the call and its charge without it."""


class Outputs:
    """Seals answers for the settling transaction, and opens them again while they live."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        """`sealer` holds the keys made from TOLLGATE_SECRET_KEY."""
        self._database = database
        self._sealer = sealer

    def seal(
        self, call_id: UUID, body: JsonObject, at: datetime, life: timedelta | None = REPEAT_LIFE
    ) -> SealedOutput | None:
        """The sealed answer, to be written with its settlement; None when it is too large to keep. `life` None: for ever."""
        plain = orjson.dumps(body)
        if len(plain) > MAX_KEPT_BYTES:
            return None
        sealed = self._sealer.seal(plain, row_context("call_outputs", "sealed", call_id))
        expires_at = None if life is None else at + life
        return SealedOutput(key_version=self._sealer.current_version, sealed=sealed, expires_at=expires_at)

    async def read(self, call_id: UUID, at: datetime) -> JsonObject | None:
        """The answer of a call, while it is kept."""
        return (await self.read_many([call_id], at)).get(call_id)

    async def read_many(self, call_ids: Sequence[UUID], at: datetime) -> dict[UUID, JsonObject | None]:
        """Those answers of these calls that are kept; None for what would make it more than MAX_READ_BYTES."""
        async with connection(self._database) as conn:
            rows = await conn.fetch(_READ, list(call_ids), at, MAX_READ_BYTES)
        return {row[0]: None if row[1] is None else self._opened(row[0], row[1]) for row in rows}

    def _opened(self, call_id: UUID, sealed: bytes) -> JsonObject:
        body: JsonObject = orjson.loads(self._sealer.open(sealed, row_context("call_outputs", "sealed", call_id)))
        return body


_READ: Final = """
    SELECT call_id, CASE WHEN sum(octet_length(sealed)) OVER (ORDER BY call_id DESC) <= $3 THEN sealed END
    FROM call_outputs WHERE call_id = ANY ($1) AND (expires_at IS NULL OR expires_at > $2)
"""
