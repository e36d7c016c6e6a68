"""The one place where a provider's failure becomes what the caller is told, and what the gateway makes of it."""

from enum import StrEnum

from gateway.errors import UpstreamFailed, UpstreamRefused, UpstreamTimedOut
from gateway.rules.truth import End
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


def as_refusal(error: ProviderError) -> UpstreamFailed:
    """The refusal for a provider's failure. Its message never names a provider's address, key or internals."""
    match error:
        case UpstreamRejected():
            return UpstreamRefused(error.message[:1000], error.status if error.status in {400, 413, 422} else 400)
        case UpstreamTimeout():
            return UpstreamTimedOut(error.message)
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
