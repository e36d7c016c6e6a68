"""Failures in Anthropic's error form, so that its SDKs raise the exceptions their users know; `code` is ours."""

from typing import Final

from app import openai_errors
from app.asgi import Headers
from kit.errors import Refusal, RequestFailure
from providers.base import JsonObject

TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Anthropic's word for a status."""


def of_refusal(refusal: Refusal) -> tuple[int, JsonObject]:
    """Status and body for a refusal of the domain."""
    status, body = openai_errors.of_refusal(refusal)
    return status, _told(status, body)


def of_failure(failure: RequestFailure) -> tuple[int, JsonObject, Headers]:
    """Status, body and headers for a request that cannot be answered at all."""
    status, body, headers = openai_errors.of_failure(failure)
    return status, _told(status, body), headers


def _told(status: int, body: openai_errors.ErrorBody) -> JsonObject:
    error: JsonObject = {"type": TYPES.get(status, "api_error"), **_without_type(body["error"])}
    return {"type": "error", "error": error}


def _without_type(error: dict[str, str | None]) -> JsonObject:
    return {name: value for name, value in error.items() if name != "type" and value is not None}
