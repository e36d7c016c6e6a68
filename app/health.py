"""Whether this process lives (/healthz), whether its parts answer (/readyz), and its figures (/metrics)."""

import asyncio
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from app.asgi import Scope, Send, send_bytes, send_json
from kit.errors import Unavailable
from metering.redis_link import RedisClient
from models.database import Database, connection

CHECK_TIMEOUT_S: Final = 2.0
PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class Health:
    """Answers the three paths that operators' tools ask."""

    def __init__(self, database: Database, redis: RedisClient) -> None:
        """The parts whose answers /readyz waits for, two seconds at most."""
        self._database = database
        self._redis = redis

    async def __call__(self, scope: Scope, send: Send) -> None:
        """One GET or HEAD of one of PATHS."""
        if scope["method"] not in {"GET", "HEAD"}:
            await send_json(send, 405, {"error": "GET only"}, [(b"allow", b"GET, HEAD")])
        elif scope["path"] == "/healthz":
            await send_json(send, 200, {"status": "ok"}, [])
        elif scope["path"] == "/readyz":
            database, redis = await asyncio.gather(self._database_answers(), self._redis_answers())
            status = 200 if database and redis else 503
            parts = {"database": "ok" if database else "away", "redis": "ok" if redis else "away"}
            await send_json(send, status, {"status": "ok" if status == 200 else "unavailable", **parts}, [])
        else:
            await send_bytes(send, 200, generate_latest(), CONTENT_TYPE_LATEST.encode("ascii"), [])

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S), connection(self._database) as conn:
                await conn.execute("SELECT 1")
        except (Unavailable, TimeoutError, OSError):
            return False
        return True

    async def _redis_answers(self) -> bool:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._redis.ping()
        except (RedisError, TimeoutError, OSError):
            return False
        return True
