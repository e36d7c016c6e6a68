"""What a failed GraphQL request answers: its error objects, and its HTTP status in one table."""

import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from graphql import GraphQLError
from graphql.language import SourceLocation

from kit.errors import Code, RateLimited, Refusal, RequestFailure

logger = logging.getLogger(__name__)

ErrorObject = dict[str, object]
"""An error as the GraphQL specification writes it: message, locations, path, extensions."""

ARGUMENT_ERROR: Final = ("Argument '", "Variable '")
"""How graphql-core's complaints about what a client sent begin, when they come only while a field is resolved."""

_NOT_FOUND: Final = frozenset({Code.NOT_FOUND, Code.MODEL_NOT_FOUND})


class Outcome(Enum):
    """How a request ended, as far as HTTP is concerned."""

    ANSWERED = "ANSWERED"
    """It ran: `data` is there, perhaps with errors beside it."""
    REFUSED_DOCUMENT = "REFUSED_DOCUMENT"
    """A well-formed request whose document, variables or cost cannot be run."""
    FAILED = "FAILED"
    """Not answered for a reason of HTTP: the failure's own status."""


_STATUS: Final = {
    # for a client of application/graphql-response+json, and for one of application/json only
    Outcome.ANSWERED: (200, 200),
    Outcome.REFUSED_DOCUMENT: (400, 200),
}
"""GraphQL over HTTP: a client that only reads application/json cannot tell our 400 from a proxy's, so it gets 200."""


def status_of(outcome: Outcome, failure_status: int, *, legacy: bool) -> int:
    """The status of an answer; `failure_status` is that of a FAILED one: 400 malformed, 401, 403, 404, 405, 406, 413,
    415, 429, 500, 503. `legacy`: the client takes application/json only.
    """
    if outcome is Outcome.FAILED:
        return failure_status
    return _STATUS[outcome][legacy]


class DocumentRefused(Exception):
    """The document, its variables or its cost: nothing ran. `errors` are for the caller."""

    def __init__(self, errors: Sequence[ErrorObject], extensions: dict[str, object] | None = None) -> None:
        """`extensions` are the response's, such as the cost that was too high."""
        super().__init__(errors[0]["message"])
        self.errors = list(errors)
        self.extensions = extensions


class MethodNotAllowed(RequestFailure):
    """GraphQL is asked by GET (queries) and POST. `allow` is for the Allow header."""

    code = "BAD_REQUEST"
    http_status = 405

    def __init__(self, message: str, allow: str = "GET, POST, OPTIONS") -> None:
        """`allow` names the methods that would do."""
        super().__init__(message)
        self.allow = allow


class NotAcceptable(RequestFailure):
    """No media type of ours is in the request's Accept."""

    code = "BAD_REQUEST"
    http_status = 406


class UnsupportedMediaType(RequestFailure):
    """A body that is not application/json in UTF-8."""

    code = "BAD_REQUEST"
    http_status = 415


def error_object(message: str, code: str, **extensions: object) -> ErrorObject:
    """An error about the request as a whole."""
    return {"message": message, "extensions": {"code": code, **extensions}}


def refused(message: str, code: str = "BAD_REQUEST", **extensions: object) -> DocumentRefused:
    """A refusal with one error."""
    return DocumentRefused([error_object(message, code, **extensions)])


def of_failure(failure: RequestFailure) -> ErrorObject:
    """A failure of the request as a whole."""
    if isinstance(failure, RateLimited):
        return error_object(failure.message, failure.code, retryAfterSeconds=failure.retry_after_s)
    return error_object(failure.message, failure.code)


def of_document_error(error: GraphQLError) -> ErrorObject:
    """An error of parsing, validation or variable coercion: always the caller's, never masked."""
    result: ErrorObject = {"message": error.message}
    if error.locations:
        result["locations"] = _locations(error.locations)
    result["extensions"] = {"code": "BAD_REQUEST"}
    return result


def of_field_error(error: GraphQLError, request_id: str, operation_name: str | None) -> ErrorObject:
    """An error of a field while it ran. What nobody meant for callers is masked and logged."""
    result: ErrorObject = {}
    original = _original(error)
    if isinstance(original, RequestFailure):
        told = of_failure(original)
        result["message"], result["extensions"] = told["message"], told["extensions"]
    elif isinstance(original, Refusal):
        # Mutations tell refusals as `userErrors`; a query's field has no other place for one, such as for a bad cursor.
        code = "NOT_FOUND" if original.code in _NOT_FOUND else "BAD_REQUEST"
        result["message"] = original.message
        result["extensions"] = {"code": code, "reason": original.code.value, "field": list(original.field)}
    elif isinstance(original, GraphQLError) and original.message.startswith(ARGUMENT_ERROR):
        result["message"], result["extensions"] = original.message, {"code": "BAD_REQUEST"}
    else:
        logger.error(
            "operation %s failed at %s, request %s",
            operation_name or "(anonymous)",
            ".".join(map(str, error.path or ())),
            request_id,
            exc_info=original,
        )
        result["message"] = f"something failed here; request id {request_id}"
        result["extensions"] = {"code": "INTERNAL", "requestId": request_id}
    if error.locations:
        result["locations"] = _locations(error.locations)
    if error.path is not None:
        result["path"] = list(error.path)
    return result


def throttled_whole(errors: Sequence[GraphQLError] | None, data: dict[str, Any] | None) -> RateLimited | None:
    """The refusal behind an answer in which every root field is null because a bucket refused it: nothing ran."""
    if not errors or not data or any(value is not None for value in data.values()):
        return None
    first: RateLimited | None = None
    paths: set[object] = set()
    for error in errors:
        original = _original(error)
        if not isinstance(original, RateLimited) or error.path is None or len(error.path) != 1:
            return None
        first = first or original
        paths.add(error.path[0])
    return first if len(paths) == len(data) else None


def _original(error: GraphQLError) -> BaseException:
    """The exception below graphql-core's wrappings."""
    current: BaseException = error
    while isinstance(current, GraphQLError) and current.original_error is not None:
        current = current.original_error
    return current


def _locations(locations: Sequence[SourceLocation]) -> list[dict[str, int]]:
    return [{"line": location.line, "column": location.column} for location in locations]
