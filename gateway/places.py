"""The places for calls that a workspace may run at once: taken before the hold, renewed while the call runs, freed after.

A place is a lease in Redis, so that it is counted over all processes and comes back by itself when a process dies.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import UUID

from gateway.views import Caller
from kit.errors import RateLimited
from kit.ids import uuid7
from metering.leases import Lease, Leases

LEASE_S: Final = 30
"""How long a killed process's calls keep their places at most; a shorter life of holds shortens it."""
RETRY_S: Final = 1
SPARE_S: Final = 0.25
"""How long a place that was given back waits for the next call of its workspace."""
REUSE_S: Final = 1.0
"""How long after it was acquired a place may be used again without asking Redis."""
SPARE_PART: Final = 16
"""At most this part of a workspace's places waits in one process: none where there are fewer."""


class TooManyCalls(RateLimited):
    """As many calls of the workspace run as may at once; one of them must end first."""

    def __init__(self, limit: int) -> None:
        """`limit` of the plan, or of the workspace itself."""
        super().__init__(
            f"{limit} calls of this workspace run at once, which is the most; retry in {RETRY_S} s", RETRY_S
        )


@dataclass(slots=True, eq=False)
class Place:
    """A call's place. `key`: workspace and limit; `kept`: there is room enough that it may wait for the next call."""

    lease: Lease
    key: tuple[UUID, int]
    acquired_at: float
    renewed_at: float
    kept: bool
    freed_at: float = 0.0


class Places:
    """One per process.

    A place that a call gives back waits here for the next one, so that a busy workspace does not ask Redis for each
    call: for a quarter of a second, while at most half of its places are taken and only a few wait, and never longer
    than a second after Redis was asked. A place that waits counts as taken: too many calls never run, too few only where
    the others use up half of the places within that time.
    """

    def __init__(self, leases: Leases, hold_ttl_s: int) -> None:
        """`hold_ttl_s`: how long a hold lives without a sign of life; a place lives no longer."""
        self._leases = leases
        self._ttl_s = min(LEASE_S, hold_ttl_s)
        self._running: set[Place] = set()
        self._spare: dict[tuple[UUID, int], list[Place]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._ended: list[Lease] = []
        self._releasing: set[asyncio.Task[None]] = set()

    async def take(self, caller: Caller) -> Place | None:
        """A place, to be given back; None where the caller's plan counts none. TooManyCalls where none is free."""
        limit = caller.concurrent_calls
        if limit is None:
            return None
        place = self.at_once(caller) or await self._acquired((caller.workspace_id, limit))
        if place is None:
            place = self.at_once(caller)  # given back while Redis was asked
        if place is None:
            raise TooManyCalls(limit)
        self._running.add(place)
        return place

    def at_once(self, caller: Caller) -> Place | None:
        """A place that waits for the next call, taken; None where there is none, or the caller's plan counts none."""
        limit = caller.concurrent_calls
        place = None if limit is None else self._spare_of((caller.workspace_id, limit))
        if place is not None:
            self._running.add(place)
        return place

    def give_back(self, place: Place) -> None:
        """Its call has ended."""
        self._running.discard(place)
        at = monotonic()
        if place.kept and at - place.acquired_at < REUSE_S:
            spare = self._spare.setdefault(place.key, [])
            if len(spare) < place.key[1] // SPARE_PART:
                place.freed_at = at
                spare.append(place)
                if self._sweeping is None:
                    self._sweeping = asyncio.get_running_loop().call_later(SPARE_S, self._sweep)
                return
        self._release([place.lease])

    async def renew(self) -> None:
        """Prolong the places whose lease is half over."""
        at = monotonic()
        due = [place for place in self._running if at - place.renewed_at >= self._ttl_s / 2]
        for place in due:
            place.renewed_at = at
        if due:
            await self._leases.renew([place.lease for place in due], self._ttl_s)
            # One that ended meanwhile was brought back by its renewal.
            self._release([place.lease for place in due if place not in self._running])

    async def close(self) -> None:
        """Free the last places."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweep(everything=True)
        if self._releasing:
            await asyncio.wait(self._releasing)

    def _spare_of(self, key: tuple[UUID, int]) -> Place | None:
        spare = self._spare.get(key)
        at = monotonic()
        while spare:
            place = spare.pop()
            if at - place.acquired_at < REUSE_S and at - place.renewed_at < self._ttl_s / 2:
                return place
            self._release([place.lease])
        return None

    async def _acquired(self, key: tuple[UUID, int]) -> Place | None:
        workspace_id, limit = key
        at = monotonic()
        lease = Lease(workspace_id.hex, uuid7().hex)
        taken = await self._leases.acquire(lease.workspace, lease.lease_id, limit, self._ttl_s)
        return Place(lease, key, at, at, taken * 2 <= limit) if taken else None

    def _sweep(self, *, everything: bool = False) -> None:
        """Release what has waited in vain."""
        self._sweeping = None
        before = monotonic() - SPARE_S
        for key, spare in list(self._spare.items()):
            self._release([place.lease for place in spare if everything or place.freed_at <= before])
            left = [] if everything else [place for place in spare if place.freed_at > before]
            if left:
                self._spare[key] = left
            else:
                del self._spare[key]
        if self._spare:
            self._sweeping = asyncio.get_running_loop().call_later(SPARE_S, self._sweep)

    def _release(self, leases: Sequence[Lease]) -> None:
        # Nobody waits for it; what ends in one turn of the event loop goes in one round trip, and before the place is
        # asked for again by whoever hears of the end.
        if not leases:
            return
        if not self._ended:
            task = asyncio.create_task(self._release_all(), name="place-release")
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)
        self._ended.extend(leases)

    async def _release_all(self) -> None:
        leases, self._ended = self._ended, []
        await self._leases.release(leases)
