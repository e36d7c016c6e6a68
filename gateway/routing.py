"""Which provider answers: the model's routes in turn, tried again and passed over only while nothing has been produced.

Of a stream, too: until its first output nothing is forwarded, so that until then another try or another provider may
take its place, and a failure is an ordinary refusal.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from billing.published import ROUTE_PREFIX
from billing.views import ModelView, RouteView
from gateway.admission import Admitted
from gateway.asked import Asked
from gateway.breakers import Breakers
from gateway.failures import Outcome, is_providers_fault, outcome_of
from gateway.metrics import note_answer, note_failure
from gateway.pauses import Pauses
from gateway.routed import BegunStream, Routed, Try
from gateway.rules.circuit import Passage
from gateway.rules.retrying import MAX_RETRY_AFTER_S, MAX_WAIT_S, Failure, drawn, pause_s
from kit.records import record
from providers.base import Provider, ProviderAnswer, ProviderRequest, StreamChunk
from providers.errors import ProviderError, UpstreamRateLimited, UpstreamTimeout, UpstreamUnavailable
from providers.over_responses import OverResponses
from providers.registry import CallPolicy, Registry

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_HEAD_CHUNKS: Final = 64
"""Chunks without output that are kept back before a stream is taken to have begun all the same."""
_LIMITED_S: Final = 1.0
"""How long a provider that limits the rate, and does not say for how long, is left alone."""


class Router:
    """One per process: asks providers, and remembers which of them want to be left alone."""

    def __init__(
        self,
        providers: Registry,
        breakers: Breakers,
        pauses: Pauses,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance` draws from 0 to 1, for lots and pauses."""
        self._providers = providers
        self._breakers = breakers
        self._chance = chance
        self._pauses = pauses
        self._paused = pauses.until
        """Provider and its model that asked for a pause, with its end on the monotonic clock."""

    def can_ask(self, model: ModelView) -> bool:
        """One of the model's providers at least is set up; a chain's are those of its steps' models."""
        return model.chain is not None or not all(self._providers.lacks(route.provider) for route in model.routes)

    async def answer(self, admitted: Admitted, routed: Routed) -> ProviderAnswer:
        """The whole answer. Raises the last ProviderError when no route answers; `routed` says where it has been."""
        if admitted.chain is not None:
            return await admitted.chain.answer(routed)
        answer = await self.first(admitted, routed, lambda provider, request: provider.complete(request))
        admitted.trace.answered(answer.usage)
        return answer

    async def stream(self, admitted: Admitted, routed: Routed) -> BegunStream:
        """The stream from its first output on; likewise."""
        if admitted.chain is not None:
            return await admitted.chain.stream(routed)
        return await self.first(admitted, routed, _begun)

    def broke(self, routed: Routed, error: ProviderError) -> None:
        """A stream that had begun broke off: nobody else can go on with it."""
        last = Try(routed.provider, outcome_of(error))
        routed.tries[-1] = last
        note_failure(last.provider, last.outcome)
        if is_providers_fault(error):
            self._breakers.failed(last.provider)

    async def first(
        self, admitted: Asked, routed: Routed, ask: Callable[[Provider, ProviderRequest], Awaitable[T]]
    ) -> T:
        """What `ask` gets of the first route that answers it; likewise. `ask` ends the trace's asking."""
        routes = admitted.model.routes
        if len(routes) > 1:
            routes = drawn(routes, self._chance)
        started_at = time.monotonic()
        error: ProviderError | None = None
        for number, route in enumerate(routes, start=1):
            passage = Passage.CLOSED
            if not self._breakers.is_closed(route.provider):
                passage = await self._breakers.admit(route.provider)
            if passage is Passage.OPEN:
                routed.tries.append(Try(route.provider, Outcome.LEFT_ALONE))
                error = error or UpstreamUnavailable("the provider keeps failing and is left alone for a while")
                continue
            try:
                visit = _Visit(admitted, route, routed, started_at, routes[number:], passage is Passage.TRIAL)
                return await self._visit(visit, ask)
            except ProviderError as failure:
                error = failure
                if failure.produced or not failure.elsewhere or _is_over(failure):
                    raise
        assert error is not None, "a catalog model has at least one route"
        raise error

    async def _visit(self, visit: "_Visit", ask: Callable[[Provider, ProviderRequest], Awaitable[T]]) -> T:
        """Tries at one provider. Raises the last failure, once it is not to be tried here again."""
        route = visit.route
        if self._paused:
            await self._wait_for_pause(visit)
        provider = self._providers.get(route.provider)
        if route.responses_only:
            provider = OverResponses(provider)
        policy = self._providers.policy(route.provider)
        tries = 0
        while True:
            tries += 1
            request = _request(visit, policy)
            try:
                return await self._try(visit, provider, request, ask)
            except ProviderError as error:
                pause = self._pause(visit, error, policy, tries)
                if pause is None or not _has_time(visit, policy, pause):
                    raise
                logger.info("provider %s is tried again in %.2f s", route.provider, pause)
                await asyncio.sleep(pause)

    async def _try(
        self,
        visit: "_Visit",
        provider: Provider,
        request: ProviderRequest,
        ask: Callable[[Provider, ProviderRequest], Awaitable[T]],
    ) -> T:
        name = visit.route.provider
        at = time.monotonic()
        try:
            answer = await ask(provider, request)
        except ProviderError as error:
            visit.admitted.trace.provider_failed(error)
            outcome = outcome_of(error)
            visit.routed.tries.append(Try(name, outcome))
            note_failure(name, outcome)
            if is_providers_fault(error):
                self._breakers.failed(name, trial=visit.trial)
            elif outcome is not Outcome.NOT_CONFIGURED:
                self._breakers.succeeded(name, trial=visit.trial)
            # Its message stays out of the log: a provider may quote the prompt in it (D12).
            logger.warning("call %s: provider %s: %s", visit.admitted.call_id, name, outcome)
            raise
        visit.routed.tries.append(Try(name, Outcome.ANSWERED))
        note_answer(name, time.monotonic() - at)
        self._breakers.succeeded(name, trial=visit.trial)
        return answer

    def _pause(self, visit: "_Visit", error: ProviderError, policy: CallPolicy, tries: int) -> float | None:
        wait_s = error.retry_after_s
        if wait_s is None and isinstance(error, UpstreamRateLimited):
            wait_s = _LIMITED_S
        if wait_s is not None:
            wait_s = min(wait_s, MAX_RETRY_AFTER_S)
        if wait_s is not None and policy.circuit_failures:
            self._pauses.ask(visit.route.provider, visit.route.upstream_model, wait_s)
        failure = Failure(
            repeatable=error.retryable and not visit.trial,
            slow=isinstance(error, UpstreamTimeout) and error.phase in {"first_byte", "idle", "total"},
            unsent=isinstance(error, UpstreamUnavailable) and error.status is None,
            retry_after_s=wait_s,
        )
        return pause_s(failure, tries, policy.retries, has_next=self._has_next(visit), chance=self._chance())

    def _has_next(self, visit: "_Visit") -> bool:
        """Whether one of the routes behind this one would take the call now."""
        at = time.monotonic()
        return any(
            self._breakers.is_closed(route.provider)
            and self._paused.get((route.provider, route.upstream_model), 0.0) <= at
            for route in visit.behind
        )

    async def _wait_for_pause(self, visit: "_Visit") -> None:
        """What a provider asked for is kept to: by another route where there is one, else by waiting, or by failing."""
        key = visit.route.provider, visit.route.upstream_model
        until = self._paused.get(key)
        if until is None:
            return
        left_s = until - time.monotonic()
        if left_s <= 0:
            self._paused.pop(key, None)
            return
        if left_s > MAX_WAIT_S or self._has_next(visit):
            visit.routed.tries.append(Try(visit.route.provider, Outcome.LEFT_ALONE))
            raise UpstreamRateLimited(left_s)
        await asyncio.sleep(left_s)


@record
class _Visit:
    """What all tries of one call at one provider share."""

    admitted: Asked
    route: RouteView
    routed: Routed
    started_at: float
    behind: Sequence[RouteView]
    trial: bool


async def _begun(provider: Provider, request: ProviderRequest) -> BegunStream:
    stream = await provider.stream(request)
    head: list[StreamChunk] = []
    try:
        async for chunk in stream:
            head.append(chunk)
            if chunk.content_bytes or len(head) >= MAX_HEAD_CHUNKS:
                break
    except BaseException:
        await stream.aclose()
        raise
    return BegunStream(head, stream)


def _request(visit: _Visit, policy: CallPolicy) -> ProviderRequest:
    admitted = visit.admitted
    joined = admitted.trace.asks(visit.route.provider, visit.route.upstream_model)
    timeouts = None
    if visit.routed.tries:  # the whole time is the call's, not each try's
        left_s = policy.timeouts.total_s - (time.monotonic() - visit.started_at)
        timeouts = replace(policy.timeouts, total_s=max(0.1, left_s))
    return ProviderRequest(
        operation=admitted.request.operation,
        upstream_model=visit.route.upstream_model,
        body=admitted.request.body,
        request_id=admitted.caller.request_id,
        timeouts=timeouts,
        # A publisher hears nothing of the caller's own trace.
        trace=() if visit.route.provider.startswith(ROUTE_PREFIX) else joined,
        vendor_headers=admitted.request.vendor_headers,
        upload=admitted.request.upload,
        max_output_tokens=admitted.bound.output_tokens // admitted.shape.choices,
    )


def _has_time(visit: _Visit, policy: CallPolicy, pause: float) -> bool:
    return time.monotonic() - visit.started_at + pause < policy.timeouts.total_s


def _is_over(error: ProviderError) -> bool:
    return isinstance(error, UpstreamTimeout) and error.phase == "total"
