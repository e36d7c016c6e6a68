"""Which token buckets a request takes from, and the rate-limit headers that tell of it.

Headers follow the IETF draft "RateLimit header fields for HTTP": `RateLimit-Policy` states the quota, `RateLimit` what
is left of it, both for the bucket that is closest to refusing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final
from uuid import UUID

from accounts.views import Principal
from app.asgi import Headers
from billing.views import ModelView
from gateway.callers import WorkspaceFacts
from kit.errors import RateLimited
from kit.records import record
from metering.limiter import Bucket, BucketKind, BucketState, Decision, Limiter
from metering.rules.bucket import MAX_CAPACITY

ANONYMOUS_REQUESTS_PER_HOUR: Final = 3_600
"""Requests without a proven credential that one address may send."""

_LATELY_S: Final = 1.0
_MOST_REFUSED: Final = 10_000
_NAMES: Final = {
    BucketKind.ADDRESS: "address",
    BucketKind.API_KEY: "key",
    BucketKind.WORKSPACE: "workspace",
    BucketKind.MODEL_CLASS: "model",
    BucketKind.POINTS: "points",
}


@record
class Passage:
    """A request that may pass, and the headers for its answer."""

    headers: Headers
    decision: Decision


class Throttle:
    """Takes the requests of a call from its buckets in one round trip."""

    def __init__(self, limiter: Limiter) -> None:
        """One limiter a process."""
        self._limiter = limiter
        self._refused_at: dict[UUID, float] = {}

    async def take(
        self, principal: Principal, facts: WorkspaceFacts, requests: int = 1, *, model: ModelView | None = None
    ) -> Passage:
        """Raises RateLimited, with the headers in `headers`, when a bucket refuses; nothing is taken then.

        `model`: the one that is called, where it has an hourly limit of its own in each workspace.
        """
        buckets = workspace_buckets(principal, facts, requests)
        return await self._take([*buckets, *model_buckets(model, requests)], facts.workspace_id.hex)

    def passing(
        self, principal: Principal, facts: WorkspaceFacts, headers: Headers, *, model: ModelView | None = None
    ) -> "Passing":
        """The same for one request, asked for later; `headers` of its answer get the rate-limit headers."""
        return Passing(self, lambda: self.take(principal, facts, model=model), facts.workspace_id, headers)

    def refused(self, workspace_id: UUID) -> None:
        """A request of this workspace was refused now."""
        if len(self._refused_at) >= _MOST_REFUSED:
            self._refused_at.clear()
        self._refused_at[workspace_id] = monotonic()

    def refused_lately(self, workspace_id: UUID) -> bool:
        """Whether one was within a second."""
        at = self._refused_at.get(workspace_id)
        return at is not None and monotonic() - at < _LATELY_S

    async def peek(self, principal: Principal, facts: WorkspaceFacts) -> BucketState:
        """The state of the bucket that limits first, with nothing taken."""
        buckets = workspace_buckets(principal, facts, 0)
        decision = await self._limiter.peek(buckets, tag=facts.workspace_id.hex)
        return min(decision.states, key=lambda state: state.remaining)

    async def take_address(self, address: str, requests: int = 1) -> Passage:
        """For requests without a proven credential."""
        bucket = Bucket(
            BucketKind.ADDRESS, address, ANONYMOUS_REQUESTS_PER_HOUR // 10, ANONYMOUS_REQUESTS_PER_HOUR, requests
        )
        return await self._take([bucket], address)

    async def _take(self, buckets: Sequence[Bucket], tag: str) -> Passage:
        decision = await self._limiter.take(buckets, tag=tag)
        if decision.allowed:
            return Passage(rate_headers(buckets, decision), decision)
        refusing = decision.limiting or 0
        wait_us = decision.states[refusing].retry_after_us
        wait_s = 3600 if wait_us is None else max(1, -(-wait_us // 1_000_000))
        bucket = buckets[refusing]
        raise ThrottledRequest(
            f"the limit of {bucket.refill_per_hour} requests an hour ({_NAMES[bucket.kind]}) is reached; retry in {wait_s} s",
            wait_s,
            rate_headers(buckets, decision),
        )


class Passing:
    """A request on its way through the limits; serves gateway.views.Gate."""

    __slots__ = ("_deciding", "_headers", "_take", "_throttle", "_workspace_id")

    def __init__(
        self, throttle: Throttle, take: Callable[[], Awaitable[Passage]], workspace_id: UUID, headers: Headers
    ) -> None:
        """Made by Throttle.passing."""
        self._throttle = throttle
        self._take = take
        self._workspace_id = workspace_id
        self._headers = headers
        self._deciding: asyncio.Task[None] | None = None

    async def passed(self) -> None:
        """Returns once the request may pass. RateLimited."""
        await asyncio.shield(self.deciding())

    def deciding(self) -> asyncio.Future[None]:
        """The same as a future, which no caller cancels; the limiter is asked once."""
        if self._deciding is None:
            self._deciding = asyncio.create_task(self._decide())
            self._deciding.add_done_callback(_retrieved)
        return self._deciding

    @property
    def is_likely(self) -> bool:
        """No request of this workspace was refused a moment ago."""
        return not self._throttle.refused_lately(self._workspace_id)

    async def _decide(self) -> None:
        try:
            passage = await self._take()
        except ThrottledRequest:
            self._throttle.refused(self._workspace_id)
            raise
        self._headers.extend(passage.headers)


def _retrieved(deciding: asyncio.Task[None]) -> None:
    """A refusal that nobody waits for any more is no fault."""
    if not deciding.cancelled():
        deciding.exception()


class ThrottledRequest(RateLimited):
    """A bucket is empty; `headers` are the rate-limit headers of the answer."""

    def __init__(self, message: str, retry_after_s: int, headers: Headers) -> None:
        """`headers` without Retry-After, which is made from `retry_after_s`."""
        super().__init__(message, retry_after_s)
        self.headers = [*headers, (b"retry-after", str(retry_after_s).encode("ascii"))]


def workspace_buckets(principal: Principal, facts: WorkspaceFacts, requests: int) -> list[Bucket]:
    """The key's own bucket, where it has one, and the workspace's (rule D9).

    A bucket's capacity is the plan's `request_burst`, else one hour's refill, MAX_CAPACITY at the most.
    """
    plan = facts.plan.entitlements
    burst = min(plan.request_burst or plan.requests_per_hour, MAX_CAPACITY)
    buckets = [Bucket(BucketKind.WORKSPACE, "requests", burst, plan.requests_per_hour, requests)]
    if principal.requests_per_hour is not None and principal.api_key_id is not None:
        own = principal.requests_per_hour
        buckets.append(Bucket(BucketKind.API_KEY, principal.api_key_id.hex, min(own, MAX_CAPACITY), own, requests))
    return buckets


def model_buckets(model: ModelView | None, requests: int) -> list[Bucket]:
    """The bucket of a model with an hourly limit of its own, which each workspace has for itself."""
    limit = None if model is None else model.limits.requests_per_hour
    if model is None or limit is None:
        return []
    return [Bucket(BucketKind.MODEL_CLASS, model.slug, min(limit, MAX_CAPACITY), limit, requests)]


def rate_headers(buckets: Sequence[Bucket], decision: Decision) -> Headers:
    """The two header fields for the bucket that refuses, else the one with the smallest share left."""
    if decision.limiting is not None:
        index = decision.limiting
    elif len(buckets) == 1:
        index = 0
    else:
        index = min(range(len(buckets)), key=lambda each: decision.states[each].remaining)
    bucket, state = buckets[index], decision.states[index]
    name = _NAMES[bucket.kind]
    reset_s = -(-state.reset_after_us // 1_000_000)
    return [
        (b"ratelimit-policy", b'"%s";q=%d;w=3600' % (name.encode("ascii"), bucket.refill_per_hour)),
        (b"ratelimit", b'"%s";r=%d;t=%d' % (name.encode("ascii"), state.remaining, reset_s)),
    ]
