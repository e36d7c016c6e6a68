"""The one place where a provider's failure becomes what the caller is told, and what is kept of it."""

from typing import Final

from gateway.errors import ClientLeft, UpstreamFailed, UpstreamRefused, UpstreamTimedOut
from kit.errors import Code, Refusal
from providers.errors import ProviderError, UpstreamRejected, UpstreamTimeout

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
        case _:
            return UpstreamFailed(error.message)


def kept_sentence(refusal: Refusal) -> str:
    """What a call's record says of its failure: a sentence of ours for the code, as a provider's may echo the prompt (D12)."""
    return refusal.message if isinstance(refusal, ClientLeft) else _KEPT.get(refusal.code, "the call failed")
