"""The words of the OpenAPI document that several paths use: headers, errors, answers, parameters."""

from typing import Final

from app.openapi_schemas import ref
from providers.base import JsonObject

JSON: Final = "application/json"
RATE_HEADERS: Final[JsonObject] = {
    "X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"},
    "RateLimit": {"$ref": "#/components/headers/RateLimit"},
    "RateLimit-Policy": {"$ref": "#/components/headers/RateLimit-Policy"},
}
HEADERS: Final[JsonObject] = {
    "X-Request-Id": {"description": "The request's id: yours, or ours", "required": True, "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left of the bucket that is nearest to its end, and when it is full again",
        "schema": {"type": "string", "pattern": r'^"[a-z]+";r=[0-9]+;t=[0-9]+$'},
    },
    "RateLimit-Policy": {"schema": {"type": "string", "pattern": r'^"[a-z]+";q=[0-9]+;w=[0-9]+$'}},
    "Retry-After": {"description": "Seconds", "schema": {"type": "string", "pattern": r"^[0-9]+$"}},
    "X-Tollgate-Call-Id": {"schema": {"type": "string"}},
    "X-Tollgate-Cache": {
        "description": "Of a call that was to be cached: whether it was given an earlier answer",
        "schema": {"type": "string", "enum": ["hit", "miss"]},
    },
    "Idempotent-Replayed": {
        "description": "This answer was given before, and is not charged again",
        "schema": {"type": "string", "pattern": "^true$"},
    },
}
ERRORS: Final = {
    "400": "The request cannot be right",
    "401": "No API key, or one that is wrong, expired or revoked",
    "402": "The wallet cannot pay what the call could cost",
    "403": "The key or the plan does not allow it",
    "404": "There is no such thing here",
    "409": "The first call of this request still runs",
    "413": "The body is too large",
    "415": "The body is compressed; send it as it is",
    "422": "The idempotency key was used with another body, or the provider cannot process the request",
    "429": "A limit is reached; see Retry-After",
    "502": "The provider failed",
    "503": "A part of ours is away; nothing was charged",
    "504": "The provider took too long",
}
OF_READING: Final = ("401", "403", "429", "503")
OF_CALLS: Final = tuple(ERRORS)
PROVIDERS_OWN: Final[JsonObject] = {
    "description": "What the provider refused, with its status",
    "content": {JSON: {"schema": ref("Error")}},
}


def failed(*statuses: str) -> JsonObject:
    """The error answers of these statuses."""
    return {status: {"$ref": f"#/components/responses/Error{status}"} for status in statuses}


def answered(content: JsonObject, description: str, **headers: JsonObject) -> JsonObject:
    """A good answer with the headers that every one has."""
    return {"description": description, "headers": {**RATE_HEADERS, **headers}, "content": content}


def read(
    operation_id: str,
    summary: str,
    scope: str,
    content: JsonObject,
    *failures: str,
    parameters: object = None,
    tag: str = "account",
) -> JsonObject:
    """One GET under a scope."""
    given = {} if parameters is None else {"parameters": parameters}
    return {
        "get": {
            "operationId": operation_id,
            "summary": summary,
            "tags": [tag],
            "description": f"Scope {scope}.",
            **given,
            "responses": {"200": answered(content, "The answer"), **failed(*OF_READING, *failures)},
        }
    }


def json_of(name: str) -> JsonObject:
    """A JSON body of one of SCHEMAS."""
    return {JSON: {"schema": ref(name)}}


def named(name: str, meaning: str, example: str) -> list[JsonObject]:
    """A part of the path."""
    schema: JsonObject = {"type": "string", "minLength": 1}
    return [
        {"name": name, "in": "path", "required": True, "description": meaning, "schema": schema, "example": example}
    ]
