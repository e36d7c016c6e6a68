"""The calls this process is running: their holds are kept alive, and what streams have cost so far is written down."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from gateway.places import Places
from kit.clock import now
from kit.errors import Unavailable
from metering.ledger import Ledger
from metering.operations import Checkpoint, UsageFacts

logger = logging.getLogger(__name__)
T = TypeVar("T")

TICK_S: Final = 1.0
"""How often running costs are written down: what a killed process loses is at most the output of this time."""


@dataclass(slots=True)
class Running:
    """One call in flight; `read_cost` says what it has cost so far, None where nothing can be charged before its end."""

    call_id: UUID
    wallet_id: UUID
    expires_at: datetime
    read_cost: Callable[[], tuple[int, UsageFacts | None]] | None = None
    written_micro: int = 0


class InFlight:
    """Owns the tasks of running calls. `drain` waits for them; nobody else may cancel them."""

    def __init__(self, ledger: Ledger, hold_ttl: timedelta, places: Places) -> None:
        """`hold_ttl`: how long a hold lives after its last sign of life. `places` are renewed with the holds."""
        self._ledger = ledger
        self._places = places
        self._hold_ttl = hold_ttl
        self._running: dict[UUID, Running] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin writing signs of life."""
        self._ticker = asyncio.create_task(self._tick_for_ever(), name="hold-renewal")

    async def drain(self, within_s: float) -> None:
        """Wait for the calls in flight, at most `within_s` seconds; then stop writing signs of life."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
            self._ticker = None

    def expiry(self, at: datetime) -> datetime:
        """When a hold placed now lapses unless it is renewed."""
        return at + self._hold_ttl

    def own(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Run the work in a task of the gateway's own."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def answer_of(self, work: Coroutine[None, None, T]) -> asyncio.Future[T]:
        """What the work gives, which runs in a task of the gateway's own: who waits may leave, the work goes on."""
        task = asyncio.create_task(work)
        answer: asyncio.Future[T] = task.get_loop().create_future()
        self._tasks.add(task)

        def ended(done: asyncio.Task[T]) -> None:  # as asyncio.shield does it, with one callback instead of three
            self._ended(done)
            if answer.done():
                return
            if done.cancelled():
                answer.cancel()
            elif (error := done.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(done.result())

        task.add_done_callback(ended)
        return answer

    def _ended(self, task: "asyncio.Task[T]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have left: then nobody else retrieves it

    def add(self, running: Running) -> None:
        """Its hold stands; keep it alive until `remove`."""
        self._running[running.call_id] = running

    def remove(self, call_id: UUID) -> None:
        """Its hold is settled or released, or lapses by itself."""
        self._running.pop(call_id, None)

    @property
    def count(self) -> int:
        """Calls in flight in this process."""
        return len(self._running)

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await asyncio.gather(self.tick(), self._places.renew())
            except Exception:  # a process edge: one fault must not let the holds of all running calls lapse
                logger.exception("signs of life of running calls failed; they are tried again in %s s", TICK_S)

    async def tick(self) -> None:
        """Write a checkpoint for each call whose cost moved or whose hold is half over."""
        at = now()
        checkpoints = [made for running in list(self._running.values()) if (made := self._checkpoint(running, at))]
        if not checkpoints:
            return
        results = await asyncio.gather(*(self._ledger.submit(each) for each in checkpoints), return_exceptions=True)
        for result in results:
            if isinstance(result, Unavailable):
                logger.warning("a running call's checkpoint could not be written: %s", result.message)
                return
            if isinstance(result, BaseException):
                raise result

    async def checkpoint(self, call_id: UUID) -> None:
        """Write down now what a running call has cost so far: a step of it has ended."""
        running = self._running.get(call_id)
        made = None if running is None else self._checkpoint(running, now())
        if made is None:
            return
        try:
            await self._ledger.submit(made)
        except Unavailable as error:
            logger.warning("a running call's checkpoint could not be written: %s", error.message)

    def _checkpoint(self, running: Running, at: datetime) -> Checkpoint | None:
        cost, usage = running.read_cost() if running.read_cost is not None else (0, None)
        half_over = running.expires_at - at < self._hold_ttl / 2
        if cost <= running.written_micro and not half_over:
            return None
        running.written_micro = cost
        running.expires_at = at + self._hold_ttl
        return Checkpoint(
            call_id=running.call_id,
            wallet_id=running.wallet_id,
            cost_micro=cost,
            usage=usage,
            expires_at=running.expires_at,
        )
