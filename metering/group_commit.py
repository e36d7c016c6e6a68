"""Group commit: what arrives while a batch commits forms the next batch; every caller waits for its own commit."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import asyncpg
from prometheus_client import Counter, Gauge, Histogram

from kit.errors import Unavailable
from metering.errors import LedgerUnavailable, SettlementDelayed, StatementFailed
from metering.operations import Operation, Release, Settle
from metering.views import Outcome, Rejected

MAX_BATCH: Final = 512
MAX_WAITING: Final = 20_000
DEADLINE_S: Final = 5.0
"""How long a caller waits for a database that is away."""

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5
_STATEMENT_CLASSES: Final = frozenset({"22", "23", "42", "P0"})
_TRANSACTION_CLASS: Final = "40"
_MOST_CONFLICTS: Final = 10

_BATCH_SIZE: Final = Histogram(
    "tollgate_ledger_batch_operations",
    "Operations in one ledger transaction",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
_BATCH_SECONDS: Final = Histogram(
    "tollgate_ledger_batch_seconds",
    "From a batch's start to its commit",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
_WAITING: Final = Gauge("tollgate_ledger_waiting_operations", "Operations that wait for a batch")
_FAULTS: Final = Counter("tollgate_ledger_faults_total", "Batches that did not commit at first", ["kind"])

_log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[asyncpg.Connection]]
Choose = Callable[[], Sequence[Operation]]
"""Asked once a batch is loaded: those of its operations that are to be done now, in their order."""
Gate = Callable[[], asyncio.Future[None]]
"""Asks what else must let an operation pass; asked again, it answers the same future."""
Commit = Callable[[asyncpg.Connection, Sequence[Operation], bool, Choose], Awaitable[list[Outcome]]]


@dataclass(slots=True, eq=False)
class _Item:
    operation: Operation
    future: asyncio.Future[Outcome]
    deadline: float
    gate: Gate | None
    resent: bool = False

    def may_pass(self) -> bool:
        """Nothing stands in its way now."""
        if self.gate is None:
            return True
        asked = self.gate()
        return asked.done() and not asked.cancelled() and asked.exception() is None


class GroupCommit:
    """A lane: one connection, one transaction at a time, no waiting window.

    Failure policy. SQLSTATE classes 22, 23, 42, P0: the statement's own fault, never repeated; the batch is halved
    until the bad operation stands alone. Class 40: repeated. Everything else leaves the outcome of the commit unknown:
    the connection is dropped and the same batch, idempotent operation by operation, repeated on a new one.
    """

    def __init__(
        self,
        connect: Connect,
        commit: Commit,
        *,
        max_batch: int = MAX_BATCH,
        max_waiting: int = MAX_WAITING,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """`connect` opens a dedicated connection; `commit` does in one transaction of it what it is told to choose."""
        self._connect = connect
        self._commit = commit
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._deadline_s = deadline_s
        self._waiting: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._at_gates = 0
        self._closing = False

    async def open(self) -> None:
        """Connect and start; raises what `connect` raises."""
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._run(), name="group commit")

    async def close(self) -> None:
        """Refuse what is new, commit what waits, stop."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(Exception):  # a process edge: the server may be gone already
                await connection.close(timeout=2)

    async def submit(self, operation: Operation, gate: Gate | None = None) -> Outcome:
        """The operation's outcome, after its commit.

        `gate` is asked while the operation's batch is loaded. Where it has not answered by then, the operation waits for
        it, its batch-mates do not. What it raises is raised; nothing is written then. It must end by itself.
        """
        return await self.begin(operation, gate)

    def begin(self, operation: Operation, gate: Gate | None = None) -> asyncio.Future[Outcome]:
        """The same, without waiting: it is in the next batch already. Whatever `submit` raises is the future's."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._closing or self._task is None:
            future.set_exception(_unavailable(operation, "the ledger is closed"))
        elif len(self._waiting) >= self._max_waiting:
            future.set_exception(_unavailable(operation, "too many operations wait for the ledger"))
        else:
            self._waiting.append(_Item(operation, future, time.monotonic() + self._deadline_s, gate))
            self._arrived.set()
        return future

    async def _run(self) -> None:
        waiting = self._waiting
        while True:
            if not waiting:
                if self._closing and not self._at_gates:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = [waiting.popleft() for _ in range(min(len(waiting), self._max_batch))]
            _WAITING.set(len(waiting))
            _BATCH_SIZE.observe(len(batch))
            started = time.perf_counter()
            try:
                await self._settle_batch(batch)
            except Exception as error:  # noqa: BLE001  a process edge: the lane must outlive any fault
                _log.exception("a ledger batch failed unexpectedly")
                _fail(batch, error)
            _BATCH_SECONDS.observe(time.perf_counter() - started)

    async def _settle_batch(self, batch: list[_Item]) -> None:
        """Bring every item of the batch to an end, in halves where an item spoils it."""
        parts = deque([batch])
        while parts:
            part = parts.popleft()
            fault = await self._attempt(part)
            if fault is None:
                continue
            _FAULTS.labels("statement").inc()
            if len(part) > 1:
                middle = len(part) // 2
                parts.extendleft((part[middle:], part[:middle]))  # in the order of arrival
            else:
                _fault_alone(part[0], fault)

    async def _attempt(self, part: list[_Item]) -> Exception | None:
        """Commit a part. The fault where it is an operation's own; None where every item has its end."""
        pause = _FIRST_PAUSE_S
        conflicts = 0
        while True:
            chosen: list[_Item] = []
            try:
                outcomes = await self._commit_once(part, chosen)
            except Exception as error:  # noqa: BLE001  sorted by kind right below
                kind = fault_kind(error)
                if kind == "statement":
                    return error
                if kind == "conflict" and conflicts < _MOST_CONFLICTS:
                    conflicts += 1
                    _FAULTS.labels("conflict").inc()
                    continue
                _FAULTS.labels("unknown").inc()
                _log.warning("the outcome of a ledger batch is unknown, it is repeated: %r", error)
                self._drop_connection()
                for item in part:
                    item.resent = True
                part[:] = _still_in_time(part, error)
                if not part:
                    return None
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            else:
                for item, outcome in zip(chosen, outcomes, strict=True):
                    if not item.future.done():
                        item.future.set_result(outcome)
                if len(chosen) < len(part):
                    done = set(chosen)
                    self._wait_at_gates([item for item in part if item not in done])
                return None

    def _wait_at_gates(self, items: Sequence[_Item]) -> None:
        """What could not pass yet comes again once its gate has ended; what its gate refused has its end."""
        for item in items:
            assert item.gate is not None, "what has no gate passes"
            self._at_gates += 1
            item.gate().add_done_callback(partial(self._leave_gate, item))

    def _leave_gate(self, item: _Item, gate: asyncio.Future[None]) -> None:
        self._at_gates -= 1
        self._arrived.set()
        if item.may_pass():
            self._waiting.append(item)
        elif gate.cancelled():
            item.future.cancel()
        elif not item.future.done() and (error := gate.exception()) is not None:
            item.future.set_exception(error)

    async def _commit_once(self, part: list[_Item], chosen: list[_Item]) -> list[Outcome]:
        """Do those that may pass once the part is loaded; they are put into `chosen`."""

        def choose() -> Sequence[Operation]:
            chosen[:] = [item for item in part if item.may_pass()]
            return [item.operation for item in chosen]

        limit = max(item.deadline for item in part) - time.monotonic()
        async with asyncio.timeout(max(limit, self._deadline_s / 10)):
            connection = self._connection
            if connection is None:
                connection = self._connection = await self._connect()
            try:
                operations = [item.operation for item in part]
                gates = [item.gate for item in part if item.gate is not None]
                if gates:  # once the transaction is begun: then this process has nothing else to do
                    asyncio.get_running_loop().call_soon(_ask, gates)
                return await self._commit(connection, operations, part[0].resent, choose)
            except Exception as error:
                if fault_kind(error) != "unknown":
                    await connection.execute("ROLLBACK")
                raise

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _ask(gates: Sequence[Gate]) -> None:
    for gate in gates:
        gate()


def fault_kind(error: Exception) -> str:
    """Whose fault an error of a batch is: "statement" (an operation's own), "conflict" (to repeat) or "unknown"."""
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and isinstance(state, str):
        if state[:2] in _STATEMENT_CLASSES:
            return "statement"
        return "conflict" if state.startswith(_TRANSACTION_CLASS) else "unknown"
    if isinstance(error, asyncpg.DataError):
        return "statement"
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, Unavailable)):
        return "unknown"
    return "statement"  # raised by our own code before anything was written: some operation provoked it


def _still_in_time(part: list[_Item], error: Exception) -> list[_Item]:
    now = time.monotonic()
    late = [item for item in part if item.deadline <= now]
    for item in late:
        if not item.future.done():
            refusal = _unavailable(item.operation, "the database is away")
            refusal.__cause__ = error
            item.future.set_exception(refusal)
    return [item for item in part if item.deadline > now]


def _fault_alone(item: _Item, fault: Exception) -> None:
    if item.future.done():
        return
    if isinstance(fault, (asyncpg.PostgresError, asyncpg.InterfaceError)):
        state = getattr(fault, "sqlstate", None) or "22000"
        _log.error("an operation cannot be written (%s): %s", state, fault)
        item.future.set_result(Rejected(StatementFailed(state, str(fault))))
    else:
        _log.error("an operation cannot be posted", exc_info=fault)
        item.future.set_exception(fault)


def _fail(batch: list[_Item], error: Exception) -> None:
    for item in batch:
        if not item.future.done():
            item.future.set_exception(error)


def _unavailable(operation: Operation, why: str) -> Unavailable:
    if isinstance(operation, (Settle, Release)):
        return SettlementDelayed(why)
    return LedgerUnavailable(why)
