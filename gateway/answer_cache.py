"""Answers given again to equal calls whose callers ask for it: sealed, of one workspace, for a short time (D12)."""

import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Protocol

import orjson
from redis.exceptions import RedisClusterException, RedisError

from gateway.admission import Admitted
from kit.json_values import is_object
from kit.sealing import Sealer, SealError
from metering.operations import UsageFacts
from metering.rows import usage_json
from metering.rules.cache_writes import usage_of
from providers.base import JsonObject

logger = logging.getLogger(__name__)

CACHE_S: Final = 600
"""How long an answer may be given again."""
MAX_CACHED_BYTES: Final = 1024 * 1024
"""A larger answer is not kept."""
_LOG_PAUSE_S: Final = 60.0


class ByteStore(Protocol):
    """What is needed of Redis: redis-py's asyncio client, single or cluster, that answers bytes."""

    # redis-py's own signatures are wider.
    def get(self, name: str) -> Awaitable[bytes | str | None]:
        """The value, where there is one."""
        ...

    def set(self, name: str, value: bytes, ex: int) -> Awaitable[object]:
        """Keep it for `ex` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer with what it used when it was made."""

    body: JsonObject
    usage: UsageFacts


class AnswerCache:
    """Shared by all processes. While Redis is away nothing is found and nothing kept: calls are made as without it."""

    def __init__(self, store: ByteStore, sealer: Sealer) -> None:
        """`sealer` holds the keys made from TOLLGATE_SECRET_KEY."""
        self._store = store
        self._sealer = sealer
        self._log_after_s = 0.0

    async def find(self, admitted: Admitted, catalog_number: int) -> CachedAnswer | None:
        """The answer to an equal call of the workspace under the same catalog."""
        name = _name_of(admitted, catalog_number)
        try:
            sealed = await self._store.get(name)
        except (RedisError, RedisClusterException, OSError) as error:
            self._report(error)
            return None
        if not isinstance(sealed, bytes):
            return None
        try:
            kept: object = orjson.loads(self._sealer.open(sealed, name.encode()))
        except (SealError, orjson.JSONDecodeError):
            return None
        body, used = (kept.get("body"), kept.get("usage")) if is_object(kept) else (None, None)
        if not is_object(body) or not is_object(used):
            return None
        usage = usage_of(used)
        return CachedAnswer(body, replace(usage, details={**(usage.details or {}), "cached": True}))

    async def keep(self, admitted: Admitted, catalog_number: int, body: JsonObject, usage: UsageFacts) -> None:
        """For equal calls within CACHE_S."""
        plain = orjson.dumps({"body": body, "usage": usage_json(usage)})
        if len(plain) > MAX_CACHED_BYTES:
            return
        name = _name_of(admitted, catalog_number)
        try:
            await self._store.set(name, self._sealer.seal(plain, name.encode()), ex=CACHE_S)
        except (RedisError, RedisClusterException, OSError) as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        if time.monotonic() >= self._log_after_s:
            self._log_after_s = time.monotonic() + _LOG_PAUSE_S
            logger.warning("the cache of answers is away: %s", type(error).__name__)


def _name_of(admitted: Admitted, catalog_number: int) -> str:
    """The workspace is in the name and, with the name, in the seal: an answer opens for no other."""
    request, caller = admitted.request, admitted.caller
    asked = [catalog_number, request.operation, request.model, caller.test, request.body, request.vendor_headers]
    digest = sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return f"tollgate:{{{caller.workspace_id.hex}}}:answers:{digest}"
