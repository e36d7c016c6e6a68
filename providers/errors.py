"""How a call to a provider can fail: one class per reason."""

from typing import Literal

from providers.base import JsonObject

TimeoutPhase = Literal["connect", "first_byte", "idle", "total", "upstream"]
"""Which wait was too long; "upstream" is a provider that says so itself (408, 504)."""


class ProviderError(Exception):
    """A provider did not answer as asked. `message` is a sentence for a person and holds no secret.

    `produced`: output of this call had already reached us. `elsewhere`: another provider may well answer it.
    """

    repeatable = True
    elsewhere = True
    retry_after_s: float | None = None
    """How long the provider asked to be left alone, at least 0; None where it did not say."""

    def __init__(self, message: str, *, produced: bool = False) -> None:
        """`produced` may also be set later, by the one who knows what has been forwarded."""
        super().__init__(message)
        self.message = message
        self.produced = produced

    @property
    def retryable(self) -> bool:
        """Sending it once more to the same provider makes sense and repeats no output."""
        return self.repeatable and not self.produced


class UpstreamTimeout(ProviderError):
    """The provider took longer than it may in `phase`."""

    def __init__(self, phase: TimeoutPhase, *, produced: bool = False) -> None:
        """The whole time being over leaves no time for a second try."""
        super().__init__(f"the provider took too long ({phase.replace('_', ' ')})", produced=produced)
        self.phase = phase
        self.repeatable = phase != "total"


class UpstreamUnavailable(ProviderError):
    """No connection, a reset before the answer, or a 5xx, then `status`."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        produced: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        """`status` is None where there was no answer at all."""
        super().__init__(message, produced=produced)
        self.status = status
        self.retry_after_s = retry_after_s


class NotReached(UpstreamUnavailable):
    """There was no connection: the provider has seen nothing of the request."""

    def __init__(self, message: str = "the provider cannot be reached") -> None:
        """`message` as of every ProviderError."""
        super().__init__(message)


class ProviderNotConfigured(ProviderError):
    """The operator has not given this provider its key or address."""

    repeatable = False


class UpstreamRejected(ProviderError):
    """The provider refused the request as the caller made it (400, 404, 413, 422 and their like)."""

    repeatable = False
    elsewhere = False

    def __init__(self, status: int, message: str, body: JsonObject | None = None) -> None:
        """`body` is the provider's `error` object, where it sent one; it may be shown to the caller."""
        super().__init__(message)
        self.status = status
        self.body = body


class NotInThisForm(UpstreamRejected):
    """The request cannot be put into the form that this provider takes; one that takes the request's own may answer."""

    elsewhere = True

    def __init__(self, message: str) -> None:
        """To the caller it is a refused request."""
        super().__init__(400, message)


class UpstreamAuthFailed(ProviderError):
    """The provider refused our own credential or account (401, 402, 403): the operator's fault, not the caller's."""

    repeatable = False

    def __init__(self, status: int) -> None:
        """What the provider said is not kept: it may name the key."""
        super().__init__("the provider refused the gateway's credential")
        self.status = status


class UpstreamRateLimited(ProviderError):
    """The provider wants fewer requests; `retry_after_s` is what it asked to wait, None where it did not say."""

    def __init__(self, retry_after_s: float | None) -> None:
        """Seconds, at least 0."""
        super().__init__("the provider is limiting the rate of requests")
        self.retry_after_s = retry_after_s


class UpstreamGarbage(ProviderError):
    """The answer is no answer: not HTTP, not JSON, the wrong shape, cut off in the middle, or too large."""
