"""Whether a request may pass its token buckets: asked in one round trip, all or nothing."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, assert_never

from prometheus_client import Counter

from kit.errors import Unavailable
from kit.records import record
from metering.redis_pipeline import Argument, LinkDown, Script, ScriptLink
from metering.rules.bucket import MAX_CAPACITY, MAX_COST, MAX_REFILL_PER_HOUR

MAX_BUCKETS: Final = 16
"""Buckets in one decision."""

MAX_KEY_BYTES: Final = 128
"""A longer key, or tag, stands in Redis as its digest."""

LOG_PAUSE_S: Final = 60.0
"""At most one warning in this time while Redis is away."""

PLAN_MEMORY_MS: Final = 3_600_000
"""How long at least a bucket whose plan can change keeps its level, so that a full small bucket is no full large one."""

DEGRADED: Final = Counter(
    "tollgate_limiter_degraded",
    "Decisions made without Redis, by the failure policy that made them.",
    ["policy"],
)

_BUCKETS: Final = Script.named("buckets")
_log = logging.getLogger(__name__)


class BucketKind(StrEnum):
    """What a bucket counts for."""

    ADDRESS = "ADDRESS"
    API_KEY = "API_KEY"
    WORKSPACE = "WORKSPACE"
    MODEL_CLASS = "MODEL_CLASS"
    POINTS = "POINTS"
    ATTEMPTS = "ATTEMPTS"
    DOCUMENT = "DOCUMENT"


class FailurePolicy(StrEnum):
    """What a bucket says while Redis is away: OPEN lets pass, CLOSED refuses."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"


DEFAULT_POLICIES: Final[Mapping[BucketKind, FailurePolicy]] = {
    BucketKind.ADDRESS: FailurePolicy.OPEN,
    BucketKind.API_KEY: FailurePolicy.OPEN,
    BucketKind.WORKSPACE: FailurePolicy.OPEN,
    BucketKind.MODEL_CLASS: FailurePolicy.OPEN,
    BucketKind.POINTS: FailurePolicy.OPEN,
    BucketKind.ATTEMPTS: FailurePolicy.CLOSED,  # guessing passwords must not become free
    BucketKind.DOCUMENT: FailurePolicy.OPEN,
}


@record
class Bucket:
    """A bucket and what is asked of it: at most `capacity` tokens, `refill_per_hour` of them an hour, `cost` now.

    A cost of 0 asks for the bucket's state. A cost above the capacity is refused for ever (`retry_after_us` is None).
    """

    kind: BucketKind
    key: str
    capacity: int
    refill_per_hour: int
    cost: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError outside the bounds within which the script is exact."""
        if not 0 <= self.capacity <= MAX_CAPACITY:
            raise ValueError(f"a bucket holds 0 to {MAX_CAPACITY} tokens, not {self.capacity}")
        if not 1 <= self.refill_per_hour <= MAX_REFILL_PER_HOUR:
            raise ValueError(f"a bucket gains 1 to {MAX_REFILL_PER_HOUR} tokens an hour, not {self.refill_per_hour}")
        if not 0 <= self.cost <= MAX_COST:
            raise ValueError(f"a cost is 0 to {MAX_COST} tokens, not {self.cost}")


@record
class BucketState:
    """A bucket after the decision: whole tokens left, time until full, time until the cost fits (0 now, None never)."""

    limit: int
    remaining: int
    reset_after_us: int
    retry_after_us: int | None


@record
class Decision:
    """The answer to one request. `limiting` is the index of the bucket that refuses longest, None when allowed.

    `degraded`: Redis was away, the failure policy answered, and the states are those of full buckets.
    """

    allowed: bool
    limiting: int | None
    states: tuple[BucketState, ...]
    degraded: bool = False


class Limiter:
    """Token buckets shared by all processes on one Redis or Valkey, on the server's clock.

    The buckets of one call live in one slot of a cluster, which `tag` chooses: the workspace's id, or the address of a
    request without a workspace. The same key under two tags is two buckets.
    """

    def __init__(
        self,
        link: ScriptLink,
        policies: Mapping[BucketKind, FailurePolicy] = DEFAULT_POLICIES,
        *,
        test_clock: Callable[[], int] | None = None,
    ) -> None:
        """`policies` must name every kind it is asked about. `test_clock` (microseconds) replaces the server's clock."""
        self._link = link
        self._policies = policies
        self._test_clock = test_clock
        self._log_after_s = 0.0

    async def take(self, buckets: Sequence[Bucket], *, tag: str) -> Decision:
        """Take each bucket's cost, or none when one of them refuses.

        Raises Unavailable where Redis is away and a bucket's policy is CLOSED.
        """
        return await self._decide(b"take", buckets, tag)

    async def peek(self, buckets: Sequence[Bucket], *, tag: str) -> Decision:
        """What take would answer, with nothing taken."""
        return await self._decide(b"peek", buckets, tag)

    async def refund(self, buckets: Sequence[Bucket], tokens: int, *, tag: str) -> None:
        """Give `tokens` back to each bucket, never above its capacity. Without Redis nothing happens but the metric."""
        if tokens < 0:
            raise ValueError("tokens given back are not negative")
        arguments: list[Argument] = [b"refund", self._test_clock() if self._test_clock else 0]
        for bucket in buckets:
            arguments += (bucket.capacity, bucket.refill_per_hour, tokens, _LEAST_LIFE_MS[bucket.kind])
        try:
            await self._link.run(_BUCKETS, _keys_of(buckets, tag), arguments)
        except LinkDown as error:
            self._report(FailurePolicy.OPEN, error)

    async def _decide(self, mode: bytes, buckets: Sequence[Bucket], tag: str) -> Decision:
        arguments: list[Argument] = [mode, self._test_clock() if self._test_clock else 0]
        for bucket in buckets:
            arguments += (bucket.capacity, bucket.refill_per_hour, bucket.cost, _LEAST_LIFE_MS[bucket.kind])
        try:
            answer = await self._link.run(_BUCKETS, _keys_of(buckets, tag), arguments)
        except LinkDown as error:
            return self._without_redis(buckets, error)
        states = tuple(
            [
                BucketState(
                    bucket.capacity,
                    answer[at],
                    answer[at + 1],
                    answer[at + 2] if answer[at + 2] >= 0 else None,
                )
                for at, bucket in zip(range(2, len(answer), 3), buckets, strict=True)
            ]
        )
        return Decision(answer[0] == 1, answer[1] if answer[1] >= 0 else None, states)

    def _without_redis(self, buckets: Sequence[Bucket], error: LinkDown) -> Decision:
        """The failure policy: closed when one bucket's is, else open."""
        closed = any(self._policies[bucket.kind] is FailurePolicy.CLOSED for bucket in buckets)
        policy = FailurePolicy.CLOSED if closed else FailurePolicy.OPEN
        self._report(policy, error)
        match policy:
            case FailurePolicy.CLOSED:
                raise Unavailable("The rate limiter is away; try again in a moment.") from error
            case FailurePolicy.OPEN:
                states = tuple([BucketState(bucket.capacity, bucket.capacity, 0, 0) for bucket in buckets])
                return Decision(allowed=True, limiting=None, states=states, degraded=True)
            case _:
                assert_never(policy)

    def _report(self, policy: FailurePolicy, error: LinkDown) -> None:
        DEGRADED.labels(policy=policy.value).inc()
        now_s = time.monotonic()
        if now_s >= self._log_after_s:
            self._log_after_s = now_s + LOG_PAUSE_S
            _log.warning("rate limits are not enforced by Redis (%s); policy %s answers", error, policy.value)


_LEAST_LIFE_MS: Final[Mapping[BucketKind, int]] = {
    BucketKind.ADDRESS: 0,
    BucketKind.API_KEY: PLAN_MEMORY_MS,
    BucketKind.WORKSPACE: PLAN_MEMORY_MS,
    BucketKind.MODEL_CLASS: PLAN_MEMORY_MS,
    BucketKind.POINTS: PLAN_MEMORY_MS,
    BucketKind.ATTEMPTS: 0,
    BucketKind.DOCUMENT: PLAN_MEMORY_MS,
}


def _keys_of(buckets: Sequence[Bucket], tag: str) -> list[bytes]:
    """The buckets' Redis keys, all in the slot of the tag."""
    if not 1 <= len(buckets) <= MAX_BUCKETS:
        raise ValueError(f"a decision takes 1 to {MAX_BUCKETS} buckets")
    prefix = slot_prefix(tag)
    keys = [b"%b%b:%b" % (prefix, bucket.kind.encode(), _bounded(bucket.key)) for bucket in buckets]
    if len(keys) > 1 and len(set(keys)) < len(keys):
        raise ValueError("a decision names each bucket once")
    return keys


def slot_prefix(tag: str) -> bytes:
    """How every key of this tag begins: the tag between braces is what a cluster hashes."""
    if not tag or "{" in tag or "}" in tag:
        raise ValueError("a tag is not empty and has no braces")
    return b"tollgate:{%b}:" % _bounded(tag)


def _bounded(text: str) -> bytes:
    """The bytes of any text a client may send, lone surrogates included, or their digest when they are many."""
    raw = text.encode("utf-8", "surrogatepass")
    return raw if len(raw) <= MAX_KEY_BYTES else hashlib.blake2b(raw, digest_size=16).hexdigest().encode()
