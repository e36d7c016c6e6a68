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
from gateway.output_files import OutputFiles
from gateway.outputs import Outputs
from gateway.rules.jobs import OUTPUT_LIFE, verdict_of
from kit.clock import now
from kit.errors import Refusal
from metering.ledger import Ledger
from metering.operations import EndStatus, Release, SealedOutput, Settle, UsageFacts
from metering.views import Rejected
from models.database import Database, transaction
from providers.base import Operation
from providers.predictions import Prediction, PredictionProvider, PredictionState


class JobEnding:
    """One per process."""

    def __init__(
        self, database: Database, ledger: Ledger, assets: Assets, outputs: Outputs, files: OutputFiles
    ) -> None:
        """The parts of one process."""
        self._database = database
        self._ledger = ledger
        self._assets = assets
        self._outputs = outputs
        self._files = files

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
        if told.usage is None:
            assert reason is not None, "what succeeded is charged"
            await self.released(job, reason)
            return
        try:
            rows = await self._assets.write(
                job.maker,
                [partial(self._files.content, provider, file) for file in prediction.outputs],
                job.terms.kept,
            )
        except FileTooLarge:
            await self.released(job, JobLost("what the job made is too large to be kept; nothing is charged"))
            return
        await self._settled(job, told.status, told.usage, rows, reason)

    async def released(self, job: Job, refusal: Refusal) -> None:
        """It made nothing that anybody gets: its hold goes back."""
        operation = Release(
            call_id=job.call_id,
            wallet_id=job.wallet_id,
            workspace_id=job.workspace_id,
            status="CANCELED" if isinstance(refusal, JobCanceled) else "FAILED",
            error_code=refusal.code,
            error_message=_kept(refusal),
        )
        await self._end(job, operation, ())

    async def _settled(
        self, job: Job, status: EndStatus, usage: UsageFacts, rows: Sequence[AssetRow], reason: Refusal | None
    ) -> None:
        terms = job.terms
        cost_micro = terms.rates.cost_micro(usage, terms.discount_percent)
        operation = Settle(
            call_id=job.call_id,
            wallet_id=job.wallet_id,
            workspace_id=job.workspace_id,
            cost_micro=cost_micro,
            usage=replace(usage, details={**(usage.details or {}), "test": True}) if terms.test else usage,
            status=status,
            error_code=reason.code if reason is not None and status == "FAILED" else None,
            error_message=None if reason is None else _kept(reason),
            sealed_output=self._sealed(job, rows) if rows else None,
            modality=_modality(job.operation),
        )
        await self._end(job, operation, rows)

    def _sealed(self, job: Job, rows: Sequence[AssetRow]) -> SealedOutput | None:
        days = job.terms.stored_days
        return self._outputs.seal(
            job.call_id,
            kept_body(rows),
            now(),
            repeat_for=OUTPUT_LIFE,
            stored_for=None if days is None else timedelta(days=days),
        )

    async def _end(self, job: Job, operation: Settle | Release, rows: Sequence[AssetRow]) -> None:
        """All or nothing, and only the first time: whoever comes second finds it ended under the lock."""
        at = now()
        async with transaction(self._database) as conn:
            locked = await job_rows.lock(conn, job.wallet_id, job.call_id)
            if locked is None or locked.ended_at is not None:
                return
            (outcome,) = await self._ledger.post(conn, [operation], now=at)
            if isinstance(outcome, Rejected):
                raise outcome.error
            await self._assets.keep(conn, job.call_id, rows)
            await job_rows.end(conn, job.call_id, at)


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
