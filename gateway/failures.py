"""The one place where a provider's failure becomes what the caller is told, what is kept of it, and what the gateway makes of it."""

from enum import StrEnum
from typing import Final

from gateway.errors import ChainStopped, ClientLeft, UpstreamFailed, UpstreamRefused, UpstreamTimedOut
from gateway.rules.truth import End
from kit.errors import Code, Refusal
from providers.errors import (
    ProviderError,
    ProviderNotConfigured,
    UpstreamAuthFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)


class Outcome(StrEnum):
    """How a try at a provider ended, as metrics and usage events tell it."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    GARBAGE = "garbage"
    NOT_AUTHORISED = "not_authorised"
    NOT_CONFIGURED = "not_configured"
    LEFT_ALONE = "left_alone"


_KEPT: Final = {
    Code.UPSTREAM_ERROR: "the provider failed",
    Code.UPSTREAM_TIMEOUT: "the provider took too long",
    Code.UPSTREAM_REJECTED: "the provider refused the request",
}


def as_refusal(error: ProviderError) -> UpstreamFailed:
    """The refusal for a provider's failure. Its message never names a provider's address, key or internals."""
    match error:
        case UpstreamRejected():
            return UpstreamRefused(error.message[:1000], error.status if error.status in {400, 413, 422} else 400)
        case UpstreamTimeout():
            return UpstreamTimedOut(error.message)
        case ChainStopped():
            refusal = UpstreamFailed(error.message)
            refusal.kept = f"the chain stopped at step {error.step!r}"
            return refusal
        case ProviderNotConfigured():
            refusal = UpstreamFailed(error.message)
            refusal.final = True
            return refusal
        case _:
            return UpstreamFailed(error.message)


def end_of(error: ProviderError) -> End:
    """How a call ended that this failure ended."""
    match error:
        case UpstreamRejected():
            return End.REFUSED
        case UpstreamTimeout():
            return End.TIMED_OUT
        case _:
            return End.FAILED


def outcome_of(error: ProviderError) -> Outcome:
    """The failure's name."""
    match error:
        case UpstreamRejected():
            return Outcome.REFUSED
        case UpstreamTimeout():
            return Outcome.TIMED_OUT
        case UpstreamRateLimited():
            return Outcome.RATE_LIMITED
        case UpstreamGarbage():
            return Outcome.GARBAGE
        case UpstreamAuthFailed():
            return Outcome.NOT_AUTHORISED
        case ProviderNotConfigured():
            return Outcome.NOT_CONFIGURED
        case _:
            return Outcome.UNAVAILABLE


def is_providers_fault(error: ProviderError) -> bool:
    """Whether it speaks against the provider: not what the caller asked wrongly, nor a limit, nor what is not set up."""
    return not isinstance(error, (UpstreamRejected, UpstreamRateLimited, ProviderNotConfigured))


def kept_sentence(refusal: Refusal) -> str:
    """What a call's record says of its failure: a sentence of ours for the code, as a provider's may echo the prompt (D12)."""
    if isinstance(refusal, ClientLeft):
        return refusal.message
    kept = refusal.kept if isinstance(refusal, UpstreamFailed) else None
    return kept or _KEPT.get(refusal.code, "the call failed")
