"""How a job ends: its files stored, then its settlement or release, its assets and its end in one transaction, once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Literal

from gateway import job_rows
from gateway.asset_rows import AssetRow
from gateway.asset_store import FileTooLarge
from gateway.assets import Assets, kept_body
from gateway.errors import JobCanceled, JobFailed, JobLost, UpstreamFailed
from gateway.failures import kept_sentence
from gateway.job_rows import Job
from gateway.metrics import note_end
from gateway.output_files import OutputFiles
from gateway.outputs import Outputs
from gateway.routed import Routed
from gateway.rules.jobs import OUTPUT_LIFE, verdict_of
from gateway.rules.truth import Ground, Verdict
from gateway.tracing import CallTrace, JobPart, Step, Tracing
from kit.clock import now
from kit.errors import Refusal
from metering.ledger import Ledger
from metering.operations import EndStatus, Release, SealedOutput, Settle, UsageFacts
from metering.views import Outcome, Rejected, Settled
from models.database import Database, transaction
from providers.base import Operation
from providers.predictions import Prediction, PredictionProvider, PredictionState


class JobEnding:
    """One per process."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        assets: Assets,
        outputs: Outputs,
        files: OutputFiles,
        tracing: Tracing,
    ) -> None:
        """The parts of one process."""
        self._database = database
        self._ledger = ledger
        self._assets = assets
        self._outputs = outputs
        self._files = files
        self._tracing = tracing

    async def of_prediction(self, job: Job, provider: PredictionProvider, prediction: Prediction) -> None:
        """The job's prediction has ended: charge what the truth table says of it.

        Raises ProviderError and StoreAway where its files cannot be fetched or stored now: nothing has ended then.
        """
        asked = job.cancel_requested_at is not None
        told = verdict_of(
            prediction.state,
            prediction.reported,
            len(prediction.outputs),
            job.terms.bound,
            provider.name,
            cancel_asked=asked,
            tokens_priced=any(price.meter == "INPUT_TOKENS" for price in job.terms.rates.prices),
        )
        reason = (
            None if told.status == "SUCCEEDED" else _reason_of(prediction, asked=asked, charged=told.usage is not None)
        )
        with self._tracing.resume(JobPart.END, job.traced) as trace:
            if told.usage is None:
                assert reason is not None, "what succeeded is charged"
                await self._released(job, reason, trace)
                return
            try:
                rows = await self._assets.write(
                    job.maker,
                    [partial(self._files.content, provider, file) for file in prediction.outputs],
                    job.terms.kept,
                )
            except FileTooLarge:
                too_large = JobLost("what the job made is too large to be kept; nothing is charged")
                await self._released(job, too_large, trace)
                return
            await self._settled(job, told, told.usage, rows, reason, trace)

    async def released(self, job: Job, refusal: Refusal) -> None:
        """It made nothing that anybody gets: its hold goes back."""
        with self._tracing.resume(JobPart.END, job.traced) as trace:
            await self._released(job, refusal, trace)

    async def _released(self, job: Job, refusal: Refusal, trace: CallTrace) -> None:
        status: EndStatus = "CANCELED" if isinstance(refusal, JobCanceled) else "FAILED"
        operation = Release(
            call_id=job.call_id,
            wallet_id=job.wallet_id,
            workspace_id=job.workspace_id,
            status=status,
            error_code=refusal.code,
            error_message=_kept(refusal),
        )
        trace.failed(refusal)
        if await self._end(job, operation, (), trace) is not None:
            note_end(job.model_slug, job.operation, job.created_at, Verdict(status, Ground.NOTHING, None), 0)

    async def _settled(
        self,
        job: Job,
        told: Verdict,
        usage: UsageFacts,
        rows: Sequence[AssetRow],
        reason: Refusal | None,
        trace: CallTrace,
    ) -> None:
        """`told` with its `usage`."""
        terms, status = job.terms, told.status
        cost_micro = terms.rates.cost_micro(usage, terms.discount_percent)
        operation = Settle(
            call_id=job.call_id,
            wallet_id=job.wallet_id,
            workspace_id=job.workspace_id,
            cost_micro=cost_micro,
            usage=_recorded(job, usage),
            status=status,
            error_code=reason.code if reason is not None and status == "FAILED" else None,
            error_message=None if reason is None else _kept(reason),
            sealed_output=self._sealed(job, rows) if rows else None,
            modality=_modality(job.operation),
        )
        if reason is not None:
            trace.failed(reason)
        settled = await self._end(job, operation, rows, trace)
        if isinstance(settled, Settled):
            note_end(job.model_slug, job.operation, job.created_at, told, cost_micro)
            trace.settled(usage, settled.charged_micro)

    def _sealed(self, job: Job, rows: Sequence[AssetRow]) -> SealedOutput | None:
        days = job.terms.stored_days
        return self._outputs.seal(
            job.call_id,
            kept_body(rows),
            now(),
            repeat_for=OUTPUT_LIFE,
            stored_for=None if days is None else timedelta(days=days),
        )

    async def _end(
        self, job: Job, operation: Settle | Release, rows: Sequence[AssetRow], trace: CallTrace
    ) -> Outcome | None:
        """All or nothing, and only the first time: whoever comes second finds it ended under the lock, and gets None."""
        at = now()
        with trace.step(Step.SETTLEMENT):
            async with transaction(self._database) as conn:
                locked = await job_rows.lock(conn, job.wallet_id, job.call_id)
                if locked is None or locked.ended_at is not None:
                    return None
                (outcome,) = await self._ledger.post(conn, [operation], now=at)
                if isinstance(outcome, Rejected):
                    raise outcome.error
                await self._assets.keep(conn, job.call_id, rows)
                await job_rows.end(conn, job.call_id, at)
        return outcome


def _recorded(job: Job, usage: UsageFacts) -> UsageFacts:
    """As gateway.metered.recorded: with its route, and with a test key's mark."""
    route = Routed(list(job.tries)).told()
    if route is None and not job.terms.test:
        return usage
    test: dict[str, object] = {"test": True} if job.terms.test else {}
    return replace(usage, details={**(usage.details or {}), **(route or {}), **test})


def _kept(refusal: Refusal) -> str:
    """As gateway.failures.kept_sentence, but for what jobs themselves say, which is in our words already."""
    return kept_sentence(refusal) if isinstance(refusal, UpstreamFailed) else refusal.message


def _modality(operation: Operation) -> Literal["IMAGE", "VIDEO"]:
    return "VIDEO" if operation is Operation.VIDEO else "IMAGE"


def _reason_of(prediction: Prediction, *, asked: bool, charged: bool) -> Refusal:
    match prediction.state:
        case PredictionState.CANCELED if asked:
            return JobCanceled()
        case PredictionState.SUCCEEDED:
            return JobLost("the provider made nothing; nothing is charged")
        case PredictionState.CANCELED:
            return JobLost("the provider cancelled the job" + ("" if charged else "; nothing is charged"))
        case _:
            return JobFailed()
