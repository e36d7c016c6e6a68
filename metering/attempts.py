"""RequestAttempts at one request, told apart: which earlier one a client's retry without an idempotency key repeats."""

import logging
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Final
from uuid import UUID

from kit.records import record
from metering.limiter import LOG_PAUSE_S, slot_prefix
from metering.redis_pipeline import Argument, LinkDown, Script, ScriptLink

RUNNING_S: Final = 660
"""How long an attempt is remembered while it runs: the ten minutes for which SDKs wait, and some."""
ENDED_S: Final = 60
"""How long it is remembered after its end; SDKs retry within eight seconds, or when `Retry-After` says."""
MOST_KEPT: Final = 64
"""RequestAttempts at one request that are remembered; those beyond are calls of their own."""

_ATTEMPTS: Final = Script.named("attempts")
_log = logging.getLogger(__name__)


class AttemptEnd(IntEnum):
    """How an attempt ended."""

    ANSWERED = 2
    FAILED = 3


@record
class Attempt:
    """One sending of a request: `digest` (hex) is the request's within the workspace (hex), `call_id` its call if it makes one.

    `retry` is its number: 0 for the first.
    """

    workspace: str
    digest: str
    call_id: UUID
    retry: int


class RequestAttempts:
    """Shared by all processes. While Redis is away nothing is remembered: each retry is then a call of its own."""

    def __init__(self, link: ScriptLink, *, test_clock: Callable[[], int] | None = None) -> None:
        """`test_clock` (milliseconds) replaces the server's clock."""
        self._link = link
        self._test_clock = test_clock
        self._log_after_s = 0.0

    async def begin(self, attempt: Attempt) -> UUID | None:
        """Remember it; the call of the earlier attempt that it repeats, None where it is a call of its own."""
        answer = await self._run(b"begin", attempt, RUNNING_S, attempt.retry, MOST_KEPT)
        if answer[0] == 0:
            return None
        high, upper, lower, low = answer[1:]
        return UUID(int=high << 96 | upper << 64 | lower << 32 | low)

    async def instead(self, attempt: Attempt, earlier: UUID) -> None:
        """The earlier attempt has come to nothing: this one is a call of its own."""
        await self._run(b"instead", attempt, RUNNING_S, attempt.retry, earlier.hex.encode())

    async def end(self, attempt: Attempt, how: AttemptEnd) -> None:
        """It has ended; forgotten after ENDED_S."""
        await self._run(b"end", attempt, ENDED_S, int(how))

    async def _run(self, action: bytes, attempt: Attempt, life_s: int, *more: Argument) -> list[int]:
        now_ms = self._test_clock() if self._test_clock else 0
        key = slot_prefix(attempt.workspace) + b"attempts:" + attempt.digest.encode()
        arguments: list[Argument] = [action, now_ms, life_s * 1000, attempt.call_id.hex.encode(), *more]
        try:
            return await self._link.run(_ATTEMPTS, [key], arguments)
        except LinkDown as error:
            if time.monotonic() >= self._log_after_s:
                self._log_after_s = time.monotonic() + LOG_PAUSE_S
                _log.warning("retries are not recognised (%s)", error)
            return [0]
