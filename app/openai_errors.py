"""Failures in OpenAI's error form, so that its SDKs raise the exceptions their users know."""

from typing import Final

from app.asgi import BodyTooLarge, Headers, MethodNotAllowed
from app.throttle import ThrottledRequest
from gateway.errors import UpstreamFailed
from kit.errors import Code, RateLimited, Refusal, RequestFailure

ErrorBody = dict[str, dict[str, str | None]]

_REFUSALS: Final[dict[Code, tuple[int, str, str]]] = {
    Code.INVALID_INPUT: (400, "invalid_request_error", "invalid_value"),
    Code.MODEL_NOT_FOUND: (404, "invalid_request_error", "model_not_found"),
    Code.MODEL_DISABLED: (404, "invalid_request_error", "model_disabled"),
    Code.MODEL_NOT_IN_PLAN: (403, "permission_error", "model_not_in_plan"),
    Code.NOT_IN_PLAN: (403, "permission_error", "not_in_plan"),
    Code.SUBSCRIPTION_INACTIVE: (402, "insufficient_quota", "subscription_inactive"),
    Code.INSUFFICIENT_CREDITS: (402, "insufficient_quota", "insufficient_credits"),
    Code.CREDITS_HELD: (402, "insufficient_quota", "credits_held"),
    Code.SPEND_LIMIT_REACHED: (402, "insufficient_quota", "spend_limit_reached"),
    Code.IDEMPOTENCY_KEY_REUSED: (422, "invalid_request_error", "idempotency_key_reused"),
    Code.CONFLICT: (409, "invalid_request_error", "conflict"),
    Code.STORAGE_FULL: (400, "invalid_request_error", "storage_full"),
    Code.UPSTREAM_ERROR: (502, "upstream_error", "upstream_error"),
    Code.UPSTREAM_TIMEOUT: (504, "upstream_error", "upstream_timeout"),
    Code.UPSTREAM_REJECTED: (400, "invalid_request_error", "upstream_rejected"),
}
_HEADERS: Final[dict[tuple[str, ...], str]] = {("idempotencyKey",): "Idempotency-Key"}
"""What is a field of GraphQL's input and a header of REST."""
_FAILURE_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}


def of_refusal(refusal: Refusal) -> tuple[int, ErrorBody]:
    """Status and body for a refusal of the domain."""
    status, kind, code = _REFUSALS.get(refusal.code, (400, "invalid_request_error", refusal.code.lower()))
    if isinstance(refusal, UpstreamFailed):
        status = refusal.http_status
    param = _HEADERS.get(refusal.field) or ".".join(refusal.field) or None
    return status, body_of(refusal.message, kind, code, param)


def of_failure(failure: RequestFailure) -> tuple[int, ErrorBody, Headers]:
    """Status, body and headers for a request that cannot be answered at all."""
    headers: Headers = []
    code = failure.code.lower()
    if isinstance(failure, ThrottledRequest):
        headers = failure.headers
        code = "rate_limit_exceeded"
    elif isinstance(failure, RateLimited):
        headers = [(b"retry-after", str(failure.retry_after_s).encode("ascii"))]
        code = "rate_limit_exceeded"
    elif isinstance(failure, BodyTooLarge):
        code = "body_too_large"
    elif isinstance(failure, MethodNotAllowed):
        headers = [(b"allow", failure.allowed.encode("ascii"))]
        code = "method_not_allowed"
    elif failure.http_status == 401:
        headers = [(b"www-authenticate", b'Bearer realm="tollgate"')]
        code = "invalid_api_key"
    elif failure.http_status == 503:
        headers = [(b"retry-after", b"1")]
        code = "unavailable"
    kind = _FAILURE_TYPES.get(failure.http_status, "server_error")
    return failure.http_status, body_of(failure.message, kind, code), headers


def body_of(message: str, kind: str, code: str, param: str | None = None) -> ErrorBody:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
