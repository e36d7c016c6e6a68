"""Handing a job to a provider: its routes in turn by the router's rules, and what is asked written down before it is asked.

A creation that may have been accepted is repeated nowhere else, and at its own provider only where that promises one
prediction for a key: of no other failure can it be said that nothing was made.
"""

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from billing.views import RouteView
from gateway import job_rows
from gateway.asked import JobAsked, JobRequester, JobRoutes
from gateway.failures import Outcome, outcome_of
from gateway.job_rows import Job
from gateway.routed import Routed, Try
from gateway.routing import Router
from gateway.rules.jobs import is_certain, shape_of
from gateway.tracing import JobPart, Tracing
from gateway.views import CallRequest
from kit.clock import now
from kit.json_values import JsonObject
from kit.records import record
from models.database import Database
from providers.base import Provider, ProviderRequest
from providers.errors import ProviderError, UpstreamRejected
from providers.job_registry import JobProviders
from providers.predictions import Prediction, PredictionProvider, PredictionRequest

_DRAWN_WEIGHT: Final = 1


class JobGone(Exception):
    """The job was cancelled or ended, or another worker has it, while a provider was about to be asked."""


@record
class Made:
    """What a provider made of a job."""

    provider: PredictionProvider
    prediction: Prediction
    tries: tuple[Try, ...]


class JobPlacing:
    """One per process."""

    def __init__(
        self, database: Database, router: Router, providers: JobProviders, tracing: Tracing, webhook_base: str
    ) -> None:
        """`webhook_base`: where providers reach us, TOLLGATE_PUBLIC_URL."""
        self._database = database
        self._router = router
        self._providers = providers
        self._tracing = tracing
        self._webhook_base = webhook_base

    def of(self, job: Job, body: JsonObject) -> "Placement":
        """Begin to look for a provider; `body` is the job's request."""
        return Placement(self._database, self._providers, self._webhook_base, job, body)

    async def place(self, placement: "Placement") -> Made:
        """What the first route that takes the job makes of it.

        Raises the last ProviderError where none does; `placement` says what that leaves open. JobGone.
        """
        job = placement.job
        with self._tracing.resume(JobPart.SUBMIT, job.traced) as trace:
            asked = JobAsked(
                call_id=job.call_id,
                caller=JobRequester(job.request_id),
                request=CallRequest(job.model_slug, job.operation, placement.body, way="job"),
                model=JobRoutes(placement.routes),
                shape=shape_of(job.terms.bound),
                bound=job.terms.bound,
                trace=trace,
            )
            provider, prediction = await self._router.first(asked, placement.routed, placement.ask)
            trace.answered(None)
        return Made(provider, prediction, tuple(placement.routed.tries))


class Placement:
    """One walk over a job's routes, and what it has come to."""

    def __init__(
        self, database: Database, providers: JobProviders, webhook_base: str, job: Job, body: JsonObject
    ) -> None:
        """See JobPlacing.of."""
        self._database = database
        self._providers = providers
        self._webhook_base = webhook_base
        self.job = job
        self.body = body
        self.routed = Routed(list(job.tries))
        self.unsure = job.submitting_at is not None
        """A provider may have the job, and has told no id of it: only that one is asked, under the same key."""
        drawn = [RouteView(*route, _DRAWN_WEIGHT, number) for number, route in enumerate(job.terms.routes)]
        self.routes = tuple(drawn[job.route : job.route + 1] if self.unsure else drawn)
        """Their `order` is their number among the job's routes, which keeps them as they were drawn."""
        self._passing = False

    def may_pass(self, error: ProviderError) -> bool:
        """Whether it makes sense to try again after a while; `error` is what the walk ended with."""
        if isinstance(error, UpstreamRejected) or error.produced:
            return False
        new = self.routed.tries[len(self.job.tries) :]
        return self.unsure or self._passing or any(each.outcome is Outcome.LEFT_ALONE for each in new)

    async def ask(self, provider: Provider, request: ProviderRequest) -> tuple[PredictionProvider, Prediction]:
        """For Router.place: one creation at the provider of predictions of this name."""
        there = self._providers.get(provider.name)
        number = next(
            route.order
            for route in self.routes
            if (route.provider, route.upstream_model) == (provider.name, request.upstream_model)
        )
        if not self.unsure and not await job_rows.mark_submitting(
            self._database, self.job.call_id, now(), there.name, number
        ):
            raise JobGone
        async with self._failures_kept(there):
            made = await there.create(
                PredictionRequest(
                    operation=request.operation,
                    upstream_model=request.upstream_model,
                    body=request.body,
                    key=f"{self.job.call_id.hex}-{number}",
                    request_id=request.request_id,
                    webhook_url=f"{self._webhook_base}/webhooks/providers/{there.name}",
                    timeouts=request.timeouts,
                    trace=request.trace,
                )
            )
        return there, made

    @contextlib.asynccontextmanager
    async def _failures_kept(self, there: PredictionProvider) -> AsyncGenerator[None]:
        """A failure is written down before anybody else is asked, and marked where nobody else may be."""
        try:
            yield
        except ProviderError as error:
            self._passing = self._passing or error.retryable
            if self.unsure or not is_certain(error):
                self.unsure = True
                error.elsewhere = False
                error.produced = not there.repeatable
            tries = [*self.routed.tries, Try(there.name, outcome_of(error))]
            await job_rows.mark_tried(self._database, self.job.call_id, tries, nothing_made=not self.unsure)
            raise
