"""The token buckets of GraphQL: points for what operations cost, and a cheap one for documents not seen before."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.asgi import Headers
from app.graphql.asking import Asker, EdgeSettings
from app.throttle import ANONYMOUS_REQUESTS_PER_HOUR, ThrottledRequest, rate_headers, workspace_buckets
from gateway.callers import WorkspaceFacts
from metering.limiter import Bucket, BucketKind, Decision

NEVER_RETRY_S: Final = 3_600
"""What Retry-After says of a request that no waiting would let pass."""


class Buckets(Protocol):
    """What this needs of the limiter: metering.limiter.Limiter."""

    async def take(self, buckets: Sequence[Bucket], *, tag: str) -> Decision:
        """Take each bucket's cost, or none."""
        ...

    async def refund(self, buckets: Sequence[Bucket], tokens: int, *, tag: str) -> None:
        """Give back."""
        ...


@dataclass(frozen=True, slots=True)
class Charge:
    """Points taken for one operation: what is left, and the headers that tell of it."""

    bucket: Bucket
    tag: str
    requested: int
    remaining: int
    reset_s: int
    headers: Headers

    def told(self) -> dict[str, int]:
        """`extensions.rateLimit`."""
        return {"limit": self.bucket.capacity, "remaining": self.remaining, "resetSeconds": self.reset_s}


class Points:
    """Charges operations to whoever asks: a key and its workspace, a user, or a stranger's address."""

    def __init__(self, buckets: Buckets, settings: EdgeSettings) -> None:
        """One a process."""
        self._buckets = buckets
        self._settings = settings
        self._refunds: set[asyncio.Task[None]] = set()

    async def take_document(self, asker: Asker) -> None:
        """For a document that must be parsed and validated; ThrottledRequest when there were too many."""
        settings, (key, tag) = self._settings, _names(asker)
        if asker.is_stranger:
            capacity, refill = settings.stranger_documents, settings.stranger_documents_per_hour
        else:
            capacity, refill = settings.documents, settings.documents_per_hour
        decision = await self._buckets.take([Bucket(BucketKind.DOCUMENT, key, capacity, refill)], tag=tag)
        if not decision.allowed:
            wait_s = _wait_s(decision)
            raise ThrottledRequest(f"too many new documents; use variables, or retry in {wait_s} s", wait_s, [])

    async def take(self, asker: Asker, requested: int, facts: WorkspaceFacts | None, model_calls: int) -> Charge:
        """Charge an operation its requested cost, and each model call in it one request (rule D9), in one round trip.

        `facts` are those of an API key's workspace. ThrottledRequest when a bucket refuses; nothing is taken then.
        """
        bucket, tag = self._bucket(asker, requested)
        buckets = [bucket]
        if asker.is_stranger:
            per_hour = ANONYMOUS_REQUESTS_PER_HOUR
            buckets.append(Bucket(BucketKind.ADDRESS, asker.address, per_hour // 10, per_hour))
        elif facts is not None and model_calls:
            buckets += workspace_buckets(asker.principal, facts, model_calls)
        decision = await self._buckets.take(buckets, tag=tag)
        if not decision.allowed:
            wait_s = _wait_s(decision)
            refusing = buckets[decision.limiting or 0]
            unit = "points" if refusing.kind is BucketKind.POINTS else "requests"
            raise ThrottledRequest(
                f"the limit of {refusing.refill_per_hour} {unit} an hour is reached; retry in {wait_s} s",
                wait_s,
                rate_headers(buckets, decision),
            )
        state = decision.states[0]
        reset_s = -(-state.reset_after_us // 1_000_000)
        return Charge(bucket, tag, requested, state.remaining, reset_s, rate_headers(buckets, decision))

    def refund(self, charge: Charge, actual: int) -> None:
        """Give back what an operation was charged too much. Nobody waits for it."""
        if actual >= charge.requested:
            return
        task = asyncio.ensure_future(self._buckets.refund([charge.bucket], charge.requested - actual, tag=charge.tag))
        self._refunds.add(task)
        task.add_done_callback(self._refunds.discard)

    async def close(self) -> None:
        """Let refunds on their way arrive."""
        if self._refunds:
            await asyncio.wait(self._refunds)

    def _bucket(self, asker: Asker, cost: int) -> tuple[Bucket, str]:
        settings, (key, tag) = self._settings, _names(asker)
        if asker.is_stranger:
            capacity, refill = settings.stranger_points, settings.stranger_points_per_hour
        else:
            capacity, refill = settings.points, settings.points_per_hour
        return Bucket(BucketKind.POINTS, key, capacity, refill, cost), tag


def _names(asker: Asker) -> tuple[str, str]:
    """The bucket's key and its slot: a key's buckets live with its workspace's."""
    principal = asker.principal
    if principal.api_key_id is not None and principal.workspace_id is not None:
        return principal.api_key_id.hex, principal.workspace_id.hex
    if principal.user_id is not None:
        return principal.user_id.hex, principal.user_id.hex
    return asker.address, asker.address


def _wait_s(decision: Decision) -> int:
    wait_us = decision.states[decision.limiting or 0].retry_after_us
    return NEVER_RETRY_S if wait_us is None else max(1, -(-wait_us // 1_000_000))
