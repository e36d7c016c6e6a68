"""Refusals: what the domain says no to, with a code of the public contract."""

from collections.abc import Sequence
from enum import StrEnum


class Code(StrEnum):
    """Why a rule of the domain said no: `UserErrorCode` of the public contract."""

    INVALID_INPUT = "INVALID_INPUT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    CONFLICT = "CONFLICT"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    CREDITS_HELD = "CREDITS_HELD"
    SPEND_LIMIT_REACHED = "SPEND_LIMIT_REACHED"
    SUBSCRIPTION_INACTIVE = "SUBSCRIPTION_INACTIVE"
    NOT_IN_PLAN = "NOT_IN_PLAN"
    MODEL_NOT_IN_PLAN = "MODEL_NOT_IN_PLAN"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_DISABLED = "MODEL_DISABLED"
    UPSTREAM_ERROR = "UPSTREAM_ERROR"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    UPSTREAM_REJECTED = "UPSTREAM_REJECTED"
    PROMO_INVALID = "PROMO_INVALID"
    PROMO_EXPIRED = "PROMO_EXPIRED"
    PROMO_EXHAUSTED = "PROMO_EXHAUSTED"
    PROMO_ALREADY_REDEEMED = "PROMO_ALREADY_REDEEMED"
    PAYMENT_METHOD_REQUIRED = "PAYMENT_METHOD_REQUIRED"
    PAYMENT_METHOD_REFUSED = "PAYMENT_METHOD_REFUSED"
    PAYMENT_DECLINED = "PAYMENT_DECLINED"
    PAYMENT_ACTION_REQUIRED = "PAYMENT_ACTION_REQUIRED"
    PAYMENTS_NOT_CONFIGURED = "PAYMENTS_NOT_CONFIGURED"
    INVITATION_EXPIRED = "INVITATION_EXPIRED"
    LAST_OWNER = "LAST_OWNER"
    STORAGE_FULL = "STORAGE_FULL"


class Refusal(Exception):
    """A rule of the domain said no, and the caller can mend it. Subclasses: one per reason, facts in the constructor."""

    code: Code = Code.INVALID_INPUT

    def __init__(self, message: str, *, field: Sequence[str] = ()) -> None:
        """`message` is a sentence for a person; `field` says where in the input, empty for the whole."""
        super().__init__(message)
        self.message = message
        self.field = tuple(field)


class InvalidInput(Refusal):
    """A value of the input is not acceptable; the message says which would be."""

    code = Code.INVALID_INPUT


class RequestFailure(Exception):
    """The request as a whole cannot be answered. `code` is a top-level code of the public contract."""

    code = "INTERNAL"
    http_status = 500

    def __init__(self, message: str) -> None:
        """`message` is a sentence for a person."""
        super().__init__(message)
        self.message = message


class BadRequest(RequestFailure):
    """The request is malformed."""

    code = "BAD_REQUEST"
    http_status = 400


class Unauthenticated(RequestFailure):
    """No credential, or one that is wrong, expired or revoked."""

    code = "UNAUTHENTICATED"
    http_status = 401


class Forbidden(RequestFailure):
    """The credential is good but may not do this."""

    code = "FORBIDDEN"
    http_status = 403


class NotFound(RequestFailure):
    """It does not exist, or the viewer may not know that it does."""

    code = "NOT_FOUND"
    http_status = 404

    def __init__(self, message: str, *, field: Sequence[str] = ()) -> None:
        """`field`: the place in the input of the id that was looked for, where that is known."""
        super().__init__(message)
        self.field = tuple(field)


class RateLimited(RequestFailure):
    """A token bucket is empty. `retry_after_s`: whole seconds until it can serve this request."""

    code = "RATE_LIMITED"
    http_status = 429

    def __init__(self, message: str, retry_after_s: int) -> None:
        """Both are shown to the caller, the second as `Retry-After`."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(RequestFailure):
    """A part that this request needs is away; nothing was charged, and it may be sent again."""

    code = "INTERNAL"
    http_status = 503
