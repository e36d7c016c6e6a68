"""The places for calls that a workspace may run at once: taken before the hold, renewed while the call runs, freed after.

A place is a lease in Redis, so that it is counted over all processes and comes back by itself when a process dies.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from gateway.views import Caller
from kit.errors import RateLimited
from kit.ids import uuid7
from metering.leases import Lease, Leases

LEASE_S: Final = 30
"""How long a killed process's calls keep their places at most; a shorter life of holds shortens it."""
RETRY_S: Final = 1


class TooManyCalls(RateLimited):
    """As many calls of the workspace run as may at once; one of them must end first."""

    def __init__(self, limit: int) -> None:
        """`limit` of the plan, or of the workspace itself."""
        super().__init__(
            f"{limit} calls of this workspace run at once, which is the most; retry in {RETRY_S} s", RETRY_S
        )


class Places:
    """One per process."""

    def __init__(self, leases: Leases, hold_ttl_s: int) -> None:
        """`hold_ttl_s`: how long a hold lives without a sign of life; a place lives no longer."""
        self._leases = leases
        self._ttl_s = min(LEASE_S, hold_ttl_s)
        self._running: dict[str, tuple[Lease, float]] = {}
        self._ended: list[Lease] = []
        self._releasing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def taken(self, caller: Caller) -> AsyncGenerator[None]:
        """A place for the time of the block, where the caller's plan counts them; TooManyCalls where none is free."""
        limit = caller.concurrent_calls
        if limit is None:
            yield
            return
        lease = Lease(caller.workspace_id.hex, uuid7().hex)
        if not await self._leases.acquire(lease.workspace, lease.lease_id, limit, self._ttl_s):
            raise TooManyCalls(limit)
        self._running[lease.lease_id] = (lease, monotonic())
        try:
            yield
        finally:
            del self._running[lease.lease_id]
            self._release([lease])

    async def renew(self) -> None:
        """Prolong the places whose lease is half over."""
        at = monotonic()
        due = [lease for lease, renewed_at in self._running.values() if at - renewed_at >= self._ttl_s / 2]
        for lease in due:
            self._running[lease.lease_id] = (lease, at)
        if due:
            await self._leases.renew(due, self._ttl_s)
            # One that ended meanwhile was brought back by its renewal.
            ended = [lease for lease in due if lease.lease_id not in self._running]
            if ended:
                self._release(ended)

    async def close(self) -> None:
        """Free the last places."""
        if self._releasing:
            await asyncio.wait(self._releasing)

    def _release(self, leases: Sequence[Lease]) -> None:
        # Nobody waits for it; what ends in one turn of the event loop goes in one round trip, and before the place is
        # asked for again by whoever hears of the end.
        if not self._ended:
            task = asyncio.create_task(self._release_all(), name="place-release")
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)
        self._ended.extend(leases)

    async def _release_all(self) -> None:
        leases, self._ended = self._ended, []
        await self._leases.release(leases)
