"""The only writer of balances, grants, holds, ledger entries, usage events and calls."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final, Self
from uuid import UUID

from metering.group_commit import DEADLINE_S, Choose, Gate, GroupCommit
from metering.idempotency import read_key
from metering.loading import Connection, load
from metering.operations import BURN_ORDER, OF_CALLS, Operation, PlaceHold
from metering.rules.earnings import MissingWalletError
from metering.rules.posting import post
from metering.views import Outcome, Released, Repeat, Settled
from metering.writing import write
from models.database import Database, after_commit

REPEAT_TIMEOUT_S: Final = 60.0
"""How long a repeat of a running call waits for its end."""

_FIRST_LOOK_S: Final = 0.05
_LONGEST_LOOK_S: Final = 1.0
_MOST_RELOADS: Final = 3


class Ledger:
    """One per process. `submit` for calls, by group commit; `post` within a transaction of the caller's."""

    def __init__(self, database: Database, *, earnings_rank: int, deadline_s: float) -> None:
        """Use `open`."""
        self.earnings_rank = earnings_rank
        self._database = database
        # One lane: two that share the wallets between them made smaller batches and were slower, with 1 wallet and 1,000.
        self._lane = GroupCommit(database.dedicated, self._commit, deadline_s=deadline_s)
        self._ends: dict[UUID, asyncio.Event] = {}
        self.on_committed: Callable[[Iterable[UUID]], None] | None = None
        """Told after each commit which wallets and calls it may have changed; quick, and never raises."""

    @classmethod
    async def open(
        cls,
        database: Database,
        *,
        earnings_rank: int = BURN_ORDER.index("EARNINGS"),
        deadline_s: float = DEADLINE_S,
    ) -> Self:
        """Start the lane; Unavailable where the database cannot be reached.

        `earnings_rank` is the place of EARNINGS in the catalog's burn order; `deadline_s` how long a caller waits for a
        database that is away.
        """
        ledger = cls(database, earnings_rank=earnings_rank, deadline_s=deadline_s)
        await ledger._lane.open()
        return ledger

    async def close(self) -> None:
        """Write what waits, then stop."""
        await self._lane.close()

    async def submit(self, operation: Operation, gate: Gate | None = None) -> Outcome:
        """Do it in the next batch; answers after its commit. A cancelled caller cancels nothing.

        `gate`: see GroupCommit.submit; what it raises is raised, and nothing is done. Raises LedgerUnavailable, or
        SettlementDelayed for a call's end, where the database stays away: the outcome is then unknown, and the same
        operation may be sent again.
        """
        outcome = await self._lane.submit(operation, gate)
        if self._ends and isinstance(outcome, (Settled, Released)):
            ended = self._ends.pop(outcome.call_id, None)
            if ended is not None:
                ended.set()
        return outcome

    def begin(self, operation: PlaceHold, gate: Gate | None = None) -> asyncio.Future[Outcome]:
        """A hold as by `submit`, asked for before anybody waits: who asks has something to do meanwhile."""
        return self._lane.begin(operation, gate)

    async def wait_for(
        self, workspace_id: UUID, key: str, call_id: UUID | None, *, timeout_s: float = REPEAT_TIMEOUT_S
    ) -> Repeat | None:
        """The repeat of a key, once its call (`call_id` of the running Repeat) has ended or the time is over.

        Told at once where the call ends in this process, by looking with growing pauses where in another. Answers the
        last state: not `completed` when the time is over, None when the key is gone. Input and operation are not
        compared here: the Repeat that led here said that they match.
        """
        give_up_at = time.monotonic() + timeout_s
        pause = _FIRST_LOOK_S
        try:
            while True:
                ended = None if call_id is None else self._ends.setdefault(call_id, asyncio.Event())
                found = await read_key(self._database, workspace_id, key)
                left = give_up_at - time.monotonic()
                if found is None or found.completed or left <= 0:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(pause, left)):
                        await (asyncio.sleep(pause) if ended is None else ended.wait())
                pause = min(pause * 2, _LONGEST_LOOK_S)
        finally:
            if call_id is not None:
                self._ends.pop(call_id, None)  # another waiter of this call looks again after its pause

    async def post(
        self, connection: Connection, operations: Sequence[Operation], *, now: datetime | None = None
    ) -> list[Outcome]:
        """Do them in order within the caller's open transaction; the wallets stay locked until it ends.

        A Rejected among the outcomes has changed nothing; whether to roll back is the caller's to decide.
        """
        touched: set[UUID] = set()
        outcomes = await self._run(connection, operations, now=now, resent=True, touched=touched)
        if self.on_committed is not None:
            after_commit(connection, partial(self.on_committed, touched))
        return outcomes

    async def _commit(
        self, connection: Connection, operations: Sequence[Operation], resent: bool, choose: Choose
    ) -> list[Outcome]:
        await connection.execute("BEGIN")
        touched: set[UUID] = set()
        outcomes = await self._run(connection, operations, now=None, resent=resent, touched=touched, choose=choose)
        await connection.execute("COMMIT")
        if self.on_committed is not None:
            self.on_committed(touched)
        return outcomes

    async def _run(
        self,
        connection: Connection,
        operations: Sequence[Operation],
        *,
        now: datetime | None,
        resent: bool,
        touched: set[UUID],
        choose: Choose | None = None,
    ) -> list[Outcome]:
        extra: set[UUID] = set()
        for _ in range(_MOST_RELOADS):
            state = await load(
                connection,
                operations,
                now=now,
                earnings_rank=self.earnings_rank,
                resent=resent,
                extra_wallets=extra,
            )
            chosen = operations if choose is None else choose()
            if not chosen:
                return []
            try:
                outcomes = post(state, chosen)
            except MissingWalletError as missing:
                extra.update(missing.wallet_ids)  # nothing is written yet: begin anew with the payees locked too
                continue
            await write(connection, state)
            if self.on_committed is not None:
                touched.update(state.wallets)
                touched.update([each.call_id for each in chosen if isinstance(each, OF_CALLS)])
            return outcomes
        raise AssertionError("each reload adds the wallet that was missing")  # pragma: no cover
