"""When API keys were last used, written at most once a minute for all of them."""

import asyncio
import logging
from datetime import datetime
from typing import Final
from uuid import UUID

from kit.clock import now
from kit.errors import Unavailable
from models.database import Database, connection

FLUSH_PAUSE_S: Final = 60.0
MAX_KEYS: Final = 100_000
_log = logging.getLogger(__name__)


class KeyUses:
    """One per process. A crash loses at most a minute of last-used times, and nothing else."""

    def __init__(self, database: Database) -> None:
        """Nothing is written before `flush` or `run`."""
        self._database = database
        self._used_at: dict[UUID, datetime] = {}

    def note(self, key_id: UUID) -> None:
        """The key was used now. Beyond MAX_KEYS a new one is not noted until the next flush."""
        if key_id in self._used_at or len(self._used_at) < MAX_KEYS:
            self._used_at[key_id] = now()

    async def flush(self) -> None:
        """Write what was noted in one statement; Unavailable keeps it for the next time."""
        if not self._used_at:
            return
        uses = sorted(self._used_at.items())
        async with connection(self._database) as conn:
            await conn.execute(
                "UPDATE api_keys k SET last_used_at = u.used_at FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, used_at)"
                " WHERE k.id = u.id AND (k.last_used_at IS NULL OR k.last_used_at < u.used_at)",
                [key for key, _ in uses],
                [at for _, at in uses],
            )
        for key, at in uses:
            if self._used_at.get(key) == at:
                del self._used_at[key]

    async def run(self) -> None:
        """Flush once a minute, until cancelled; the caller flushes a last time."""
        while True:
            await asyncio.sleep(FLUSH_PAUSE_S)
            try:
                await self.flush()
            except Unavailable:
                _log.warning("The last use of %d API keys waits for the database", len(self._used_at))
