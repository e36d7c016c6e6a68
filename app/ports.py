"""Fits the rooms together where one asks for a port that another fills."""

from collections.abc import Mapping
from typing import Final

from accounts.services import AttemptKind
from app.settings import Settings
from billing.catalog import CatalogHolder, Snapshot
from billing.catalog_settings import ProviderKind as CatalogKind
from billing.catalog_settings import ProviderSpec as CatalogProvider
from billing.stripe_client import Stripe
from billing.stripe_link import StripeLink
from gateway.rules.circuit import CircuitTerms
from kit.errors import RateLimited
from metering.limiter import Bucket, BucketKind, Limiter
from models.database import Database
from providers.base import Timeouts
from providers.registry import USUAL_POLICY, CallPolicy, ProviderKind, ProviderSpec, Registry

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
    """The catalog's providers as the adapters take them; what the catalog leaves open is as in USUAL_POLICY."""
    return [
        ProviderSpec(
            name=spec.name,
            kind=ProviderKind(spec.kind.value),
            base_url=spec.base_url,
            base_url_env=spec.base_url_env,
            api_key_env=spec.api_key_env,
            policy=_policy(spec),
            responses=spec.responses,
            max_tokens_only=spec.max_tokens_only,
            prediction=spec.prediction,
        )
        for spec in snapshot.providers
        if spec.kind.value in set(ProviderKind)
    ]


def stripe_link(settings: Settings, database: Database, catalog: CatalogHolder) -> StripeLink | None:
    """The account at Stripe that the environment names; None where it names none."""
    if settings.stripe_api_key is None:
        return None
    stripe = Stripe(settings.stripe_api_key.reveal(), base=settings.stripe_api_base)
    secret = b"" if settings.secret_key is None else settings.secret_key.reveal().encode()
    return StripeLink(stripe, database, catalog, settings.public_url, secret)


def circuit_terms(providers: Registry) -> dict[str, CircuitTerms]:
    """When each provider's circuit opens."""
    return {
        name: CircuitTerms(policy.circuit_failures, round(policy.circuit_cooldown_s * 1000))
        for name, policy in providers.policies.items()
    }


def _policy(spec: CatalogProvider) -> CallPolicy:
    usual, times = USUAL_POLICY, USUAL_POLICY.timeouts
    # A sandbox fails where its callers ask for it: one of them must not close it to the others.
    failures = 0 if spec.kind is CatalogKind.SANDBOX else usual.circuit_failures
    return CallPolicy(
        timeouts=Timeouts(
            connect_s=spec.connect_timeout_s or times.connect_s,
            first_byte_s=spec.first_byte_timeout_s or times.first_byte_s,
            idle_s=spec.idle_timeout_s or times.idle_s,
            total_s=spec.total_timeout_s or times.total_s,
        ),
        retries=usual.retries if spec.retries is None else spec.retries,
        circuit_failures=failures if spec.circuit_failures is None else spec.circuit_failures,
        circuit_cooldown_s=spec.circuit_cooldown_s or usual.circuit_cooldown_s,
    )


class Attempts:
    """accounts' AttemptLimiter on metering's token buckets; refuses while Redis is away."""

    def __init__(self, limiter: Limiter) -> None:
        """One limiter a process."""
        self._limiter = limiter

    async def take(self, kind: AttemptKind, key: str) -> None:
        """Raises RateLimited when the kind's bucket of this key is empty."""
        await _take(self._limiter, f"{kind}:{key}", ATTEMPTS[kind], key)


class NoAttempts:
    """billing's AttemptLimiter where nobody guesses: the command line."""

    async def take(self, key: str) -> None:
        """Always allowed."""


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
