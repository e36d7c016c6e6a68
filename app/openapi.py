"""The OpenAPI 3.1 document of the REST side, served at /openapi.json and committed as docs/openapi.json.

`python -m app.openapi` prints it.
"""

import sys
from typing import Final

import orjson

from app.asgi import Scope, Send, request_id_of, send_bytes
from app.openapi_schemas import SCHEMAS, ref
from providers.base import JsonObject

PATH: Final = "/openapi.json"

_JSON: Final = "application/json"
_RATE_HEADERS: Final[JsonObject] = {
    "X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"},
    "RateLimit": {"$ref": "#/components/headers/RateLimit"},
    "RateLimit-Policy": {"$ref": "#/components/headers/RateLimit-Policy"},
}
_HEADERS: Final[JsonObject] = {
    "X-Request-Id": {"description": "The request's id: yours, or ours", "required": True, "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left of the bucket that is nearest to its end, and when it is full again",
        "schema": {"type": "string", "pattern": r'^"[a-z]+";r=[0-9]+;t=[0-9]+$'},
    },
    "RateLimit-Policy": {"schema": {"type": "string", "pattern": r'^"[a-z]+";q=[0-9]+;w=[0-9]+$'}},
    "Retry-After": {"description": "Seconds", "schema": {"type": "string", "pattern": r"^[0-9]+$"}},
    "X-Tollgate-Call-Id": {"schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "This answer was given before, and is not charged again",
        "schema": {"type": "string", "pattern": "^true$"},
    },
}
_ERRORS: Final = {
    "400": "The request cannot be right",
    "401": "No API key, or one that is wrong, expired or revoked",
    "402": "The wallet cannot pay what the call could cost",
    "403": "The key or the plan does not allow it",
    "404": "There is no such thing here",
    "409": "The first call of this request still runs",
    "413": "The body is too large",
    "422": "The idempotency key was used with another body, or the provider cannot process the request",
    "429": "A limit is reached; see Retry-After",
    "502": "The provider failed",
    "503": "A part of ours is away; nothing was charged",
    "504": "The provider took too long",
}
_OF_READING: Final = ("401", "403", "429", "503")
_OF_CALLS: Final = tuple(_ERRORS)
_PROVIDERS_OWN: Final[JsonObject] = {
    "description": "What the provider refused, with its status",
    "content": {_JSON: {"schema": ref("Error")}},
}
_CALL_PARAMETERS: Final = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": meaning,
        "schema": schema,
    }
    for name, meaning, schema in (
        (
            "Idempotency-Key",
            "The same key with the same body gives the first answer again and one charge",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        ),
        (
            "X-Request-Id",
            "Your own id, up to 64 letters, digits and ._:-; any other is replaced by ours",
            {"type": "string"},
        ),
        (
            "X-Tollgate-Dedupe",
            "`off`: an SDK's own retries are calls of their own",
            {"type": "string", "examples": ["off"]},
        ),
    )
]


def _failed(*statuses: str) -> JsonObject:
    return {status: {"$ref": f"#/components/responses/Error{status}"} for status in statuses}


def _answered(content: JsonObject, description: str, **headers: JsonObject) -> JsonObject:
    return {"description": description, "headers": {**_RATE_HEADERS, **headers}, "content": content}


def _call(summary: str, asked: str, answered: str, example: JsonObject, *, streams: bool = False) -> JsonObject:
    content: JsonObject = {_JSON: {"schema": {"anyOf": [ref(answered), ref("Repeat")]}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    told: dict[str, JsonObject] = {
        name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Tollgate-Call-Id", "Idempotent-Replayed")
    }
    return {
        "post": {
            "operationId": asked.removesuffix("Request").lower(),
            "summary": summary,
            "tags": ["calls"],
            "description": "Scope CALLS_WRITE. The most that it can cost is held first, and what it did cost is charged.",
            "parameters": _CALL_PARAMETERS,
            "requestBody": {"required": True, "content": {_JSON: {"schema": ref(asked), "example": example}}},
            "responses": {
                "200": _answered(content, "The answer, with its charge", **told),
                **_failed(*_OF_CALLS),
                "4XX": _PROVIDERS_OWN,
            },
        }
    }


def _read(
    operation_id: str, summary: str, scope: str, content: JsonObject, *failures: str, parameters: object = None
) -> JsonObject:
    given = {} if parameters is None else {"parameters": parameters}
    return {
        "get": {
            "operationId": operation_id,
            "summary": summary,
            "tags": ["account"],
            "description": f"Scope {scope}.",
            **given,
            "responses": {"200": _answered(content, "The answer"), **_failed(*_OF_READING, *failures)},
        }
    }


def _json(name: str) -> JsonObject:
    return {_JSON: {"schema": ref(name)}}


def _named(name: str, meaning: str, example: str) -> list[JsonObject]:
    schema: JsonObject = {"type": "string", "minLength": 1}
    return [
        {"name": name, "in": "path", "required": True, "description": meaning, "schema": schema, "example": example}
    ]


def _export(name: str, scope: str, form: str, media_type: str) -> JsonObject:
    instant: JsonObject = {"type": "string", "format": "date-time"}
    parameters = [
        {"name": each, "in": "query", "required": False, "description": meaning, "schema": instant}
        for each, meaning in (("from", "The first instant; 30 days before `to` when left out"), ("to", "The end; now"))
    ]
    return _read(
        f"{name}_{form}",
        f"All {name} of a time, as {form}",
        scope,
        {media_type: {"schema": {"type": "string"}}},
        "400",
        parameters=parameters,
    )


_HELLO: Final = [{"role": "user", "content": "Hello"}]
PATHS: Final[JsonObject] = {
    "/v1/chat/completions": _call(
        "Call a chat model",
        "ChatRequest",
        "ChatCompletion",
        {"model": "sandbox-chat", "max_tokens": 20, "messages": _HELLO},
        streams=True,
    ),
    "/v1/embeddings": _call(
        "Make embeddings", "EmbeddingRequest", "Embeddings", {"model": "sandbox-embedding", "input": "a text"}
    ),
    "/v1/images/generations": _call(
        "Make pictures", "ImageRequest", "Images", {"model": "sandbox-image", "prompt": "a gate", "n": 1}
    ),
    "/v1/models": _read("models", "The models that this key may call", "CALLS_READ", _json("Models")),
    "/v1/models/{model}": _read(
        "model",
        "One model",
        "CALLS_READ",
        _json("Model"),
        "404",
        parameters=_named("model", "The model's id", "sandbox-chat"),
    ),
    "/v1/balance": _read("balance", "What the workspace can spend", "WALLET_READ", _json("Balance")),
    "/v1/calls/{id}": _read(
        "call",
        "What became of a call",
        "CALLS_READ",
        _json("Call"),
        "404",
        parameters=_named("id", "The call's id, or its request's", "order-4711"),
    ),
    **{
        f"/v1/{name}.{form}": _export(name, scope, form, media_type)
        for name, scope in (("usage", "USAGE_READ"), ("entries", "WALLET_READ"))
        for form, media_type in (("csv", "text/csv"), ("jsonl", "application/jsonl"))
    },
}


def document() -> JsonObject:
    """The whole document."""
    responses: JsonObject = {}
    for status, meaning in _ERRORS.items():
        headers: JsonObject = {"X-Request-Id": _RATE_HEADERS["X-Request-Id"]}
        if status in {"429", "503"}:
            headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
        responses[f"Error{status}"] = {"description": meaning, "headers": headers, "content": _json("Error")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": "1",
            "summary": "Model calls in OpenAI's form, paid for in credits, and what a program asks about them",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}],
        "tags": [{"name": "calls"}, {"name": "account"}],
        "paths": PATHS,
        "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, tg_live_…"}},
            "headers": _HEADERS,
            "responses": responses,
            "schemas": SCHEMAS,
        },
    }


def document_text() -> bytes:
    """As it is served and committed."""
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


_TEXT: Final = document_text()


async def serve(scope: Scope, send: Send) -> None:
    """The document, for everybody."""
    headers = [(b"x-request-id", request_id_of(scope).encode("ascii")), (b"access-control-allow-origin", b"*")]
    if scope["method"] not in {"GET", "HEAD"}:
        await send_bytes(send, 405, b"", b"text/plain", [*headers, (b"allow", b"GET, HEAD")])
        return
    await send_bytes(send, 200, _TEXT, b"application/json", headers)


if __name__ == "__main__":
    sys.stdout.buffer.write(_TEXT)
