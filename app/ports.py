"""Fits the rooms together where one asks for a port that another fills."""

from collections.abc import Mapping
from typing import Final

from accounts.services import AttemptKind
from billing.catalog import Snapshot
from kit.errors import RateLimited
from metering.limiter import Bucket, BucketKind, Limiter
from providers.base import Timeouts
from providers.registry import ProviderKind, ProviderSpec

# (attempts at once, attempts an hour) for each kind
ATTEMPTS: Final[Mapping[AttemptKind, tuple[int, int]]] = {
    AttemptKind.SIGN_IN_ADDRESS: (20, 120),
    AttemptKind.SIGN_IN_ACCOUNT: (10, 30),
    AttemptKind.TWO_FACTOR_ACCOUNT: (5, 20),
    AttemptKind.SIGN_UP_ADDRESS: (10, 30),
    AttemptKind.TOKEN_ADDRESS: (20, 120),
    AttemptKind.MAIL_ACCOUNT: (3, 6),
    AttemptKind.INVITE_WORKSPACE: (50, 200),
}


PROMO_ATTEMPTS: Final = (10, 60)


def provider_specs(snapshot: Snapshot) -> list[ProviderSpec]:
    """The catalog's providers as the adapters take them; times that the catalog leaves open are the adapters' own."""
    usual = Timeouts()
    return [
        ProviderSpec(
            name=spec.name,
            kind=ProviderKind(spec.kind.value),
            base_url=spec.base_url,
            base_url_env=spec.base_url_env,
            api_key_env=spec.api_key_env,
            timeouts=Timeouts(
                connect_s=spec.connect_timeout_s or usual.connect_s,
                first_byte_s=spec.first_byte_timeout_s or usual.first_byte_s,
                idle_s=spec.idle_timeout_s or usual.idle_s,
                total_s=spec.total_timeout_s or usual.total_s,
            ),
            prediction=spec.prediction,
        )
        for spec in snapshot.providers
        if spec.kind.value in set(ProviderKind)
    ]


class Attempts:
    """accounts' AttemptLimiter on metering's token buckets; refuses while Redis is away."""

    def __init__(self, limiter: Limiter) -> None:
        """One limiter a process."""
        self._limiter = limiter

    async def take(self, kind: AttemptKind, key: str) -> None:
        """Raises RateLimited when the kind's bucket of this key is empty."""
        await _take(self._limiter, f"{kind}:{key}", ATTEMPTS[kind], key)


class PromoAttempts:
    """billing's AttemptLimiter: guesses at promo codes, by whoever guesses."""

    def __init__(self, limiter: Limiter) -> None:
        """One limiter a process."""
        self._limiter = limiter

    async def take(self, key: str) -> None:
        """Raises RateLimited when this key's bucket is empty."""
        await _take(self._limiter, f"PROMO:{key}", PROMO_ATTEMPTS, key)


async def _take(limiter: Limiter, name: str, bounds: tuple[int, int], tag: str) -> None:
    capacity, per_hour = bounds
    decision = await limiter.take([Bucket(BucketKind.ATTEMPTS, name, capacity, per_hour)], tag=tag)
    if decision.allowed:
        return
    wait_us = decision.states[0].retry_after_us or 3_600_000_000
    wait_s = max(1, -(-wait_us // 1_000_000))
    raise RateLimited(f"too many attempts; try again in {wait_s} s", wait_s)
