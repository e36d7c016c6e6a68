"""What an error answer of an OpenAI-compatible provider means."""

import math
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from providers.base import JsonObject
from providers.errors import (
    ProviderError,
    UpstreamAuthFailed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)

MAX_MESSAGE_CHARACTERS: Final = 2000
MAX_RETRY_AFTER_S: Final = 86_400.0

_OPERATORS_FAULT: Final = frozenset({401, 402, 403, 407})
_TOO_SLOW: Final = frozenset({408, 504})


def error_of_status(status: int, body: JsonObject | None, retry_after_s: float | None) -> ProviderError:
    """The failure that a status other than 200 stands for; `body` is the answer's `error` object, if it had one."""
    if status in _OPERATORS_FAULT:
        return UpstreamAuthFailed(status)
    if status in _TOO_SLOW:
        return UpstreamTimeout("upstream")
    if status == 429:
        return UpstreamRateLimited(retry_after_s)
    if 400 <= status < 500:
        return UpstreamRejected(status, _message_of(body) or f"the provider refused the request ({status})", body)
    return UpstreamUnavailable(
        f"the provider answered with status {status}", status=status, retry_after_s=retry_after_s
    )


def error_of_object(body: JsonObject) -> ProviderError:
    """The failure that an `error` object inside a successful answer stands for, by its `code` or `status`."""
    for name in ("code", "status", "status_code"):
        status = body.get(name)
        if isinstance(status, int) and 400 <= status < 600:
            return error_of_status(status, body, None)
    return UpstreamUnavailable("the provider answered with an error")


def error_object(text: bytes, secret: str | None) -> JsonObject | None:
    """The `error` object in an error answer, with our key blotted out wherever the provider quotes it."""
    if secret:
        text = text.replace(secret.encode(), b"[key]")
    try:
        answer: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return error_in(answer)


def error_in(answer: object) -> JsonObject | None:
    """The `error` of an answer, a bare text taken as its message; None where there is none."""
    if not isinstance(answer, dict):
        return None
    error: object = answer.get("error")  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    if isinstance(error, str) and error:
        return {"message": error}
    if isinstance(error, dict) and error:
        return error  # pyright: ignore[reportUnknownVariableType] -- keys of JSON are texts
    return None


def retry_after_s(milliseconds: str, value: str, now: datetime) -> float | None:
    """The wait in `Retry-After-Ms` or `Retry-After` (seconds or a date), from 0 to a day; None where not readable."""
    exact = _number(milliseconds)
    if exact is not None:
        return _bounded(exact / 1000)
    seconds = _number(value)
    if seconds is not None:
        return _bounded(seconds)
    try:
        at = parsedate_to_datetime(value)
        return _bounded((at - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _message_of(body: JsonObject | None) -> str:
    message = None if body is None else body.get("message")
    return message[:MAX_MESSAGE_CHARACTERS] if isinstance(message, str) else ""
