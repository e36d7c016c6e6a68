"""The one place where a provider's failure becomes what the caller is told, and how the call ended."""

from gateway.errors import UpstreamFailed, UpstreamRefused, UpstreamTimedOut
from gateway.rules.truth import End
from providers.errors import ProviderError, UpstreamRejected, UpstreamTimeout


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
