"""The worker: work that is due, done again and again by any number of processes.

Each task is bounded and idempotent, claims its rows with FOR UPDATE SKIP LOCKED, and says how many it did; a task that
did its limit is run again at once, so that a backlog drains.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge

from kit.errors import Unavailable

logger = logging.getLogger(__name__)

MAX_ROUNDS: Final = 1_000
"""How often in a row one task may say that there is more, before the others have their turn."""

_DONE: Final = Counter("tollgate_worker_done", "Items that the worker's tasks have done.", ["task"])
_FAILED: Final = Counter("tollgate_worker_failures", "Rounds of a task that failed.", ["task"])
BACKLOG: Final = Gauge("tollgate_worker_backlog_seconds", "How long the oldest due item has waited.", ["queue"])
_LATE: Final = Gauge("tollgate_worker_lag_seconds", "How late the task's last round began.", ["task"])


@dataclass(frozen=True, slots=True)
class Task:
    """`run` does at most `limit` items and answers how many; it is due every `every_s` seconds."""

    name: str
    every_s: float
    limit: int
    run: Callable[[int], Awaitable[int]]


class TasksFailed(Exception):
    """Some tasks of a single round failed; the log says why. `done`: what the others did."""

    def __init__(self, names: Sequence[str], done: Mapping[str, int]) -> None:
        """`names` of the tasks."""
        super().__init__(f"failed: {', '.join(names)}; the log says why")
        self.done = dict(done)


class Worker:
    """Runs its tasks until it is stopped, each in a loop of its own."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        """Names must differ: they label the metrics."""
        self._tasks = tuple(tasks)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish the rounds under way, then return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. A failed round is logged, counted and tried again at its next time."""
        async with asyncio.TaskGroup() as group:
            for task in self._tasks:
                group.create_task(self._repeat(task), name=f"worker-{task.name}")

    async def run_once(self) -> dict[str, int]:
        """Every task until nothing more is due; what each has done.

        One that fails does not keep the others from their turn: then TasksFailed is raised, once all had theirs.
        """
        done: dict[str, int] = {}
        failed: list[str] = []
        for task in self._tasks:
            try:
                done[task.name] = await self._drain(task)
            except Exception:  # a process edge, as below
                _FAILED.labels(task.name).inc()
                logger.exception("worker task %s failed", task.name)
                failed.append(task.name)
        if failed:
            raise TasksFailed(failed, done)
        return done

    async def _repeat(self, task: Task) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            _LATE.labels(task.name).set(max(0.0, time.monotonic() - due))
            try:
                await self._drain(task)
            except Unavailable as error:
                _FAILED.labels(task.name).inc()
                logger.warning("worker task %s waits: %s", task.name, error.message)
            except Exception:  # a process edge: one task's fault must not stop the others
                _FAILED.labels(task.name).inc()
                logger.exception("worker task %s failed; it is tried again", task.name)
            due = time.monotonic() + task.every_s
            try:
                await asyncio.wait_for(self._stopping.wait(), task.every_s)
            except TimeoutError:
                continue

    async def _drain(self, task: Task) -> int:
        total = 0
        for _ in range(MAX_ROUNDS):
            done = await task.run(task.limit)
            total += done
            if done:
                _DONE.labels(task.name).inc(done)
            if done < task.limit or self._stopping.is_set():
                break
        return total
