"""Jobs: calls that take minutes. Begun with a committed hold and answered at once; workers do the rest (job_runner)."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import orjson

from billing.catalog import CatalogHolder
from gateway import job_rows
from gateway.admission import Admitted, admit
from gateway.assets import Assets, Maker
from gateway.errors import JobCanceled, NotAJob
from gateway.job_rows import JobTerms
from gateway.metrics import note_end
from gateway.places import TooManyCalls
from gateway.rules.jobs import DEADLINE
from gateway.rules.retrying import drawn
from gateway.rules.storage import room_for
from gateway.rules.truth import Ground, Verdict
from gateway.settling import held, hold_operation
from gateway.tracing import JobPart, Step, Tracing
from gateway.views import Caller, CallRequest
from kit.clock import now
from kit.sealing import Sealer, row_context
from metering.ledger import Ledger
from metering.operations import Release
from metering.views import Released, Repeat
from models.database import Database, transaction
from models.pool import PoolConnection

HOLD_LIFE: Final = timedelta(minutes=30)
"""How long a job's hold lives after its last sign of life; only workers that are all away longer let it lapse."""
_ROOM_AFTER: Final = timedelta(days=1)


class Jobs:
    """One per process: begins and cancels jobs, and hears from their providers."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogHolder,
        ledger: Ledger,
        sealer: Sealer,
        assets: Assets,
        tracing: Tracing,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """The parts of one process, made by app.lifespan. `chance` draws from 0 to 1, for lots."""
        self._database = database
        self._catalog = catalog
        self._ledger = ledger
        self._sealer = sealer
        self._assets = assets
        self._tracing = tracing
        self._chance = chance

    async def start(self, caller: Caller, request: CallRequest) -> UUID:
        """The call, held for and queued; or the one that this repeats, running or ended.

        Hold, room for the files and job are one transaction. Refusals: those of admission and hold, StorageFull,
        TooManyCalls where as many jobs run as the plan allows calls.
        """
        at = now()
        with self._tracing.begin(caller, request) as trace:
            with trace.step(Step.ADMISSION):
                admitted = admit(self._catalog.current, caller, request, at, trace)
            trace.admitted(admitted.call_id, admitted.model.slug)
            with trace.step(Step.HOLD):
                return await self._held(admitted, at)

    async def _held(self, admitted: Admitted, at: datetime) -> UUID:
        async with transaction(self._database) as conn:
            outcomes = await self._ledger.post(conn, [hold_operation(admitted, at + HOLD_LIFE)], now=at)
            placed = held(admitted, outcomes[0])
            if isinstance(placed, Repeat):
                assert placed.call_id is not None, "a model call's key names its call"
                return placed.call_id
            await self._queue(conn, admitted, at)
        return admitted.call_id

    async def _queue(self, conn: PoolConnection, admitted: Admitted, at: datetime) -> None:
        caller, limits = admitted.caller, admitted.model.limits
        limit = caller.concurrent_calls
        if limit is not None and await job_rows.running_in(conn, caller.workspace_id) >= limit:
            raise TooManyCalls(limit)
        deadline_at = at + (timedelta(seconds=limits.job_deadline_s) if limits.job_deadline_s else DEADLINE)
        operation = admitted.request.operation
        room = await self._assets.reserve(
            conn,
            Maker(admitted.call_id, caller.workspace_id, caller.user_id, caller.api_key_id),
            caller.plan.entitlements,
            room_for(operation, limits, images=admitted.bound.images, seconds=admitted.bound.seconds),
            deadline_at + _ROOM_AFTER,
        )
        context = row_context("jobs", "request", admitted.call_id)
        await job_rows.insert(
            conn,
            room,
            wallet_id=caller.wallet_id,
            user_id=caller.user_id,
            api_key_id=caller.api_key_id,
            model_slug=admitted.model.slug,
            operation=operation,
            request_id=caller.request_id,
            terms=JobTerms(
                bound=admitted.bound,
                rates=admitted.rates,
                discount_percent=admitted.discount_percent,
                routes=tuple(
                    (each.provider, each.upstream_model) for each in drawn(admitted.model.routes, self._chance)
                ),
                kept=room.kept,
                stored_days=caller.stored_days,
                test=caller.test,
                trace=admitted.trace.carried(),
            ),
            sealed=self._sealer.seal(orjson.dumps(admitted.request.body), context),
            at=at,
            deadline_at=deadline_at,
        )

    async def cancel(self, call_id: UUID) -> None:
        """End a job that no provider knows of yet at once; have any other cancelled at its provider, by a worker.

        One that has ended stays as it is. NotAJob for a call that startCall did not begin.
        """
        wallet_id = await job_rows.wallet_of(self._database, call_id)
        if wallet_id is None:
            raise NotAJob
        at = now()
        async with transaction(self._database) as conn:
            job = await job_rows.lock(conn, wallet_id, call_id)
            if job is None or job.ended_at is not None:
                return
            if job.submitting_at is not None or job.prediction_id is not None:
                await job_rows.ask_cancel(conn, call_id, at)
                return
            canceled = JobCanceled()
            operation = Release(
                call_id=call_id,
                wallet_id=wallet_id,
                workspace_id=job.traced.workspace_id,
                status="CANCELED",
                error_code=canceled.code,
                error_message=canceled.message,
            )
            (outcome,) = await self._ledger.post(conn, [operation], now=at)
            assert isinstance(outcome, Released), outcome
            await self._assets.keep(conn, call_id, ())
            await job_rows.end(conn, call_id, at)
        with self._tracing.resume(JobPart.END, job.traced) as trace:
            trace.failed(canceled)
        verdict = Verdict("CANCELED", Ground.NOTHING, None)
        note_end(job.traced.model, job.traced.operation, job.created_at, verdict, 0)

    async def poke(self, provider: str, prediction_id: str) -> bool:
        """A provider says that something became of a prediction: it is looked at anew. False where no job waits for it."""
        return await job_rows.poke(self._database, provider, prediction_id, now())
