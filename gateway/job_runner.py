"""What a worker does for jobs: hands them to providers, looks after them, and ends them, whatever dies meanwhile.

A step reads what stands at the provider and writes one thing. A worker that is killed in any of them leaves the job due
when its lease is over; the next one begins where the row says.
"""

import asyncio
import contextlib
import logging
import random
from dataclasses import replace
from datetime import timedelta
from typing import Final

import asyncpg
import orjson

from gateway import job_rows
from gateway.asset_store import StoreAway
from gateway.errors import JobCanceled, JobLost, JobTimedOut
from gateway.failures import as_refusal, outcome_of
from gateway.job_ending import JobEnding
from gateway.job_placing import JobGone, JobPlacing, Placement
from gateway.job_rows import LEASE, Job
from gateway.jobs import HOLD_LIFE
from gateway.rules.jobs import GRACE, MAX_CREATIONS, MAX_MISSES, pause_s
from kit.clock import now
from kit.errors import Unavailable
from kit.json_values import JsonObject
from kit.sealing import Sealer, SealError, row_context
from metering.ledger import Ledger
from metering.operations import Checkpoint
from models.database import Database
from providers.errors import ProviderError
from providers.job_registry import JobProviders
from providers.predictions import (
    ENDED,
    Prediction,
    PredictionProvider,
    PredictionState,
    PredictionUnknown,
)

logger = logging.getLogger(__name__)

ROUND_S: Final = 2.0
"""How long a round waits for its steps; what takes longer goes on beside the next one."""
RENEW_S: Final = 10.0
DRAIN_S: Final = 30.0
"""How long steps under way may go on after a signal to stop: an answer that came at once cannot be asked for again."""
_RETRY_S: Final = (2, 60)
_MAX_RETRY_AFTER_S: Final = 600.0
_AT_ONCE_PAUSES_S: Final = (0, 1, 2, 4, 8, 15, 30, 60)


class JobRunner:
    """One per process that works."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        sealer: Sealer,
        providers: JobProviders,
        placing: JobPlacing,
        ending: JobEnding,
    ) -> None:
        """The parts of one process."""
        self._database = database
        self._ledger = ledger
        self._sealer = sealer
        self._providers = providers
        self._placing = placing
        self._ending = ending
        self._steps: dict[asyncio.Task[None], Job] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def advance(self, *, limit: int) -> int:
        """One step for each of at most `limit` jobs that are due, side by side; how many were taken."""
        room = limit - len(self._steps)
        jobs = await job_rows.claim(self._database, now(), room) if room > 0 else []
        for job in jobs:
            step = asyncio.create_task(self._guarded(job), name=f"job-{job.call_id}")
            self._steps[step] = job
            step.add_done_callback(self._done)
        if self._steps:
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._renew(), name="job-leases")
            await asyncio.wait(self._steps, timeout=ROUND_S)
        return len(jobs)

    async def close(self) -> None:
        """Let the steps under way end, for a while; then leave them where they are: the rows say how to go on."""
        if self._steps:
            await asyncio.wait(self._steps, timeout=DRAIN_S)
        tasks = [*self._steps, *([self._renewing] if self._renewing is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _done(self, step: "asyncio.Task[None]") -> None:
        self._steps.pop(step, None)
        if not step.cancelled():
            step.exception()  # told by _guarded

    async def _renew(self) -> None:
        """While steps take longer than a lease, they keep it."""
        while self._steps:
            await asyncio.sleep(RENEW_S)
            ids = [job.call_id for job in self._steps.values()]
            with contextlib.suppress(Unavailable):  # then another worker takes them, and both come to the same end
                await job_rows.renew(self._database, ids, now() + LEASE)

    async def _guarded(self, job: Job) -> None:
        try:
            await self._step(job)
        except Unavailable as error:
            logger.warning("job %s waits: %s", job.call_id, error.message)
            await self._again(job)
        except Exception:  # a process edge: one job's fault must not stop the others; it is taken again
            logger.exception("a step of job %s failed; it is tried again", job.call_id)
            await self._again(job)

    async def _again(self, job: Job) -> None:
        with contextlib.suppress(Unavailable):  # the lease ends by itself
            await job_rows.put_off(self._database, job, now() + _pause(job.polls, _RETRY_S), misses=job.misses)

    async def _step(self, job: Job) -> None:
        await self._keep_hold(job)
        if job.prediction_id is None:
            await self._submit(job)
        else:
            await self._look(job, job.prediction_id)

    async def _keep_hold(self, job: Job, *, tell: bool = False) -> None:
        """Renew the hold once it is half over; `tell` those who follow the call in any case. It costs nothing."""
        at = now()
        if job.hold_expires_at is None or (not tell and job.hold_expires_at - at > HOLD_LIFE / 2):
            return
        await self._ledger.submit(Checkpoint(job.call_id, job.wallet_id, 0, None, at + HOLD_LIFE))

    async def _submit(self, job: Job) -> None:
        known = job.submitting_at is None
        if not known and not self._repeatable(job):
            interrupted = JobLost("the call was interrupted while a provider was asked")
            await self._ending.released(job, interrupted if job.cancel_requested_at is None else JobCanceled())
        elif known and job.cancel_requested_at is not None:
            await self._ending.released(job, JobCanceled())
        elif now() > job.deadline_at:
            await self._ending.released(job, JobTimedOut())
        elif (body := self._body_of(job)) is None:
            await self._ending.released(job, JobLost("the request can no longer be read"))
        else:
            await self._place(job, self._placing.of(job, body))

    def _repeatable(self, job: Job) -> bool:
        """Whether the provider that was asked last may be asked again under the same key."""
        try:
            return self._providers.get(job.provider or "").repeatable
        except ProviderError:
            return False

    async def _place(self, job: Job, placement: Placement) -> None:
        try:
            made = await self._placing.place(placement)
        except JobGone:
            await job_rows.put_off(self._database, job, now())
        except ProviderError as error:
            await self._not_made(job, error, placement)
        else:
            job = replace(job, tries=made.tries)
            if made.provider.remembers:
                await self._taken(job, made.provider, made.prediction)
            else:
                await self._finish(job, made.provider, made.prediction)

    async def _taken(self, job: Job, provider: PredictionProvider, made: Prediction) -> None:
        due_at = now() + _pause(0, provider.poll_pauses_s)
        try:
            taken = await job_rows.mark_taken(self._database, job.call_id, made.id, now(), due_at, job.tries)
        except asyncpg.UniqueViolationError:
            await self._ending.released(job, JobLost("the provider gave the id of another job"))
            return
        if taken and made.state in ENDED:
            await self._finish(replace(job, provider=provider.name, prediction_id=made.id), provider, made)
        elif taken:
            await self._keep_hold(job, tell=True)

    async def _not_made(self, job: Job, error: ProviderError, placement: Placement) -> None:
        """Try again later, or not at all. What may have been made there is paid to the provider by us, never charged."""
        at = now()
        if not placement.may_pass(error) or job.polls >= MAX_CREATIONS or at >= job.deadline_at:
            await self._ending.released(job, as_refusal(error))
            return
        wait = _pause(job.polls, _RETRY_S)
        if error.retry_after_s is not None:
            wait = max(wait, timedelta(seconds=min(error.retry_after_s, _MAX_RETRY_AFTER_S)))
        logger.info("job %s looks for a provider again in %.0f s", job.call_id, wait.total_seconds())
        await job_rows.put_off(self._database, job, at + wait)

    async def _look(self, job: Job, prediction_id: str) -> None:
        provider = self._providers.get(job.provider or "")
        late = now() > job.deadline_at
        try:
            if job.cancel_requested_at is not None or late:
                await provider.cancel(prediction_id)
            found = await provider.read(prediction_id)
        except PredictionUnknown:
            if job.misses + 1 >= MAX_MISSES:
                await self._ending.released(job, JobLost("the provider no longer knows this job; nothing is charged"))
            else:
                await self._later(job, provider, misses=job.misses + 1)
        except ProviderError as error:
            logger.warning("job %s cannot be looked at: %s", job.call_id, outcome_of(error))
            await self._later(job, provider)
        else:
            if found.state in ENDED:
                await self._finish(job, provider, found)
            else:
                await self._later(job, provider)

    async def _later(self, job: Job, provider: PredictionProvider, *, misses: int = 0) -> None:
        if now() > job.deadline_at + GRACE:
            await self._ending.released(job, JobTimedOut())
            return
        await job_rows.put_off(self._database, job, now() + _pause(job.polls, provider.poll_pauses_s), misses=misses)

    async def _finish(self, job: Job, provider: PredictionProvider, found: Prediction) -> None:
        late = now() > job.deadline_at
        if late and found.state is not PredictionState.SUCCEEDED and job.cancel_requested_at is None:
            await self._ending.released(job, JobTimedOut())
            return
        # An answer that came at once cannot be asked for again: it waits here for the store.
        for pause_before_s in (0,) if job.prediction_id is not None else _AT_ONCE_PAUSES_S:
            await asyncio.sleep(pause_before_s)
            try:
                await self._ending.of_prediction(job, provider, found)
            except (ProviderError, StoreAway) as error:
                logger.warning("the files of job %s cannot be stored now: %s", job.call_id, error.message)
            else:
                return
        if job.prediction_id is None or now() > job.deadline_at + GRACE:
            await self._ending.released(job, JobLost("what the job made could not be fetched; nothing is charged"))
        else:
            await self._again(job)

    def _body_of(self, job: Job) -> JsonObject | None:
        if job.request is None:
            return None
        try:
            body: JsonObject = orjson.loads(self._sealer.open(job.request, row_context("jobs", "request", job.call_id)))
        except SealError:
            logger.error("the request of job %s cannot be opened", job.call_id)
            return None
        return body


def _pause(looks: int, pauses_s: tuple[int, int]) -> timedelta:
    """With some chance in it, so that what began together does not come back together."""
    first_s, longest_s = pauses_s
    return timedelta(seconds=pause_s(looks, first_s, longest_s) * random.uniform(0.8, 1.0))  # noqa: S311 -- no secret
