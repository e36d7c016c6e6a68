"""How many calls of a workspace run at once, counted by leases that lapse when their worker dies."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from kit.errors import Unavailable
from kit.records import record
from metering.limiter import DEGRADED, LOG_PAUSE_S, FailurePolicy, slot_prefix
from metering.redis_pipeline import Argument, LinkDown, Script, ScriptLink

MAX_TTL_S: Final = 3600
"""The longest a lease lasts without renewal."""

_LEASES: Final = Script.named("leases")
_log = logging.getLogger(__name__)


@record
class Lease:
    """A running call's claim to one of its workspace's places."""

    workspace: str
    lease_id: str


class Leases:
    """The places for concurrent calls, on the server's clock, shared by all processes."""

    def __init__(
        self,
        link: ScriptLink,
        policy: FailurePolicy = FailurePolicy.OPEN,
        *,
        test_clock: Callable[[], int] | None = None,
    ) -> None:
        """`policy` answers while Redis is away. `test_clock` (microseconds) replaces the server's clock."""
        self._link = link
        self._policy = policy
        self._test_clock = test_clock
        self._log_after_s = 0.0

    async def acquire(self, workspace: str, lease_id: str, limit: int, ttl_s: int) -> int:
        """How many of the workspace's places are taken now, this one included; 0 where none was free.

        Asking again with the same id renews its lease. While Redis is away and the policy is OPEN, the answer is `limit`.
        Raises Unavailable where Redis is away and the policy is CLOSED.
        """
        try:
            answer = await self._run(b"acquire", workspace, [lease_id], ttl_s, limit)
        except LinkDown as error:
            self._report(error)
            if self._policy is FailurePolicy.CLOSED:
                raise Unavailable("The concurrency limit cannot be checked; try again in a moment.") from error
            return max(1, limit)
        return answer

    async def renew(self, leases: Sequence[Lease], ttl_s: int) -> None:
        """Prolong leases of calls that run. One that lapsed, or that Redis forgot, comes back: its call does run."""
        await self._for_each_workspace(b"renew", leases, ttl_s)

    async def release(self, leases: Sequence[Lease]) -> None:
        """Free the places of calls that ended. What cannot be released lapses by itself."""
        await self._for_each_workspace(b"release", leases, 1)

    async def _for_each_workspace(self, action: bytes, leases: Sequence[Lease], ttl_s: int) -> None:
        of_workspace: defaultdict[str, list[str]] = defaultdict(list)
        for lease in leases:
            of_workspace[lease.workspace].append(lease.lease_id)
        runs = [self._run(action, workspace, ids, ttl_s, 0) for workspace, ids in of_workspace.items()]
        for outcome in await asyncio.gather(*runs, return_exceptions=True):
            if isinstance(outcome, LinkDown):
                self._report(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _run(self, action: bytes, workspace: str, ids: Sequence[str], ttl_s: int, limit: int) -> int:
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise ValueError(f"a lease lasts 1 to {MAX_TTL_S} seconds")
        now_us = self._test_clock() if self._test_clock else 0
        arguments: list[Argument] = [action, now_us, ttl_s * 1000, MAX_TTL_S * 1000, limit]
        arguments += [lease_id.encode() for lease_id in ids]
        return (await self._link.run(_LEASES, [slot_prefix(workspace) + b"leases"], arguments))[0]

    def _report(self, error: LinkDown) -> None:
        DEGRADED.labels(policy=self._policy.value).inc()
        now_s = time.monotonic()
        if now_s >= self._log_after_s:
            self._log_after_s = now_s + LOG_PAUSE_S
            _log.warning("concurrency limits are not enforced by Redis (%s); policy %s", error, self._policy.value)
