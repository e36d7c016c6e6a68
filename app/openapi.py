"""The OpenAPI 3.1 document of the REST side, served at /openapi.json and committed as docs/openapi.json.

`python -m app.openapi` prints it.
"""

import sys
from typing import Final

import orjson

from app.asgi import Scope, Send, request_id_of, send_bytes
from app.openapi_batches import BATCH_PATHS, BATCH_SCHEMAS
from app.openapi_parts import (
    ERRORS,
    HEADERS,
    JSON,
    OF_CALLS,
    PROVIDERS_OWN,
    RATE_HEADERS,
    answered,
    failed,
    json_of,
    named,
    read,
)
from app.openapi_schemas import SCHEMAS, ref
from providers.base import JsonObject

PATH: Final = "/openapi.json"
VENDORS_OWN: Final = frozenset({"/v1/messages", "/v1/responses"})
"""Paths in a vendor's whole form, which that vendor specifies: their SDKs are the tests, this document does not repeat it."""

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
        (
            "X-Tollgate-Cache",
            "`on`: an equal call's answer will do, and this one's may be given again; `off`: not so; else as the API key says",
            {"type": "string", "examples": ["on", "off"]},
        ),
    )
]


def _call(
    summary: str,
    asked: str,
    answers: tuple[str, ...],
    example: JsonObject,
    *texts: str,
    form: str = JSON,
) -> JsonObject:
    """`answers` are the schemas of a whole answer, `texts` the media types of what is no JSON; `form`, the request's."""
    content: JsonObject = {JSON: {"schema": {"anyOf": [ref(answer) for answer in (*answers, "Repeat")]}}}
    content |= {media_type: {"schema": {"type": "string"}} for media_type in texts}
    body: JsonObject = {"schema": ref(asked), **({"example": example} if example else {})}
    told: dict[str, JsonObject] = {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in ("X-Tollgate-Call-Id", "Idempotent-Replayed", "X-Tollgate-Cache")
    }
    return {
        "post": {
            "operationId": asked.removesuffix("Request").lower(),
            "summary": summary,
            "tags": ["calls"],
            "description": "Scope CALLS_WRITE. The most that it can cost is held first, and what it did cost is charged.",
            "parameters": _CALL_PARAMETERS,
            "requestBody": {"required": True, "content": {form: body}},
            "responses": {
                "200": answered(content, "The answer, with its charge", **told),
                **failed(*OF_CALLS),
                "4XX": PROVIDERS_OWN,
            },
        }
    }


def _export(name: str, scope: str, form: str, media_type: str) -> JsonObject:
    instant: JsonObject = {"type": "string", "format": "date-time"}
    parameters = [
        {"name": each, "in": "query", "required": False, "description": meaning, "schema": instant}
        for each, meaning in (("from", "The first instant; 30 days before `to` when left out"), ("to", "The end; now"))
    ]
    return read(
        f"{name}_{form}",
        f"All {name} of a time, as {form}",
        scope,
        {media_type: {"schema": {"type": "string"}}},
        "400",
        parameters=parameters,
    )


_EVENTS: Final = "text/event-stream"
_HELLO: Final = [{"role": "user", "content": "Hello"}]
PATHS: Final[JsonObject] = {
    "/v1/chat/completions": _call(
        "Call a chat model",
        "ChatRequest",
        ("ChatCompletion",),
        {"model": "sandbox-chat", "max_tokens": 20, "messages": _HELLO},
        _EVENTS,
    ),
    "/v1/embeddings": _call(
        "Make embeddings", "EmbeddingRequest", ("Embeddings",), {"model": "sandbox-embedding", "input": "a text"}
    ),
    "/v1/images/generations": _call(
        "Make pictures", "ImageRequest", ("Images",), {"model": "sandbox-image", "prompt": "a gate", "n": 1}
    ),
    "/v1/audio/speech": _call(
        "Speak a text; the sound comes piece by piece, its charge in the headers, or as events",
        "SpeechRequest",
        (),
        {"model": "sandbox-audio", "voice": "alloy", "input": "Hello"},
        *("audio/mpeg", "audio/opus", "audio/aac", "audio/flac", "audio/wav", "audio/pcm", _EVENTS),
    ),
    "/v1/audio/transcriptions": _call(
        "Write a recording down, whole or as events",
        "TranscriptionRequest",
        ("Transcription",),
        {},
        *("text/plain", "application/x-subrip", "text/vtt", _EVENTS),
        form="multipart/form-data",
    ),
    "/v1/models": read("models", "The models that this key may call", "CALLS_READ", json_of("Models")),
    "/v1/models/{model}": read(
        "model",
        "One model",
        "CALLS_READ",
        json_of("Model"),
        "404",
        parameters=named("model", "The model's id", "sandbox-chat"),
    ),
    "/v1/balance": read("balance", "What the workspace can spend", "WALLET_READ", json_of("Balance")),
    "/v1/calls/{id}": read(
        "call",
        "What became of a call",
        "CALLS_READ",
        json_of("Call"),
        "404",
        parameters=named("id", "The call's id, or its request's", "order-4711"),
    ),
    **{
        f"/v1/{name}.{form}": _export(name, scope, form, media_type)
        for name, scope in (("usage", "USAGE_READ"), ("entries", "WALLET_READ"))
        for form, media_type in (("csv", "text/csv"), ("jsonl", "application/jsonl"))
    },
    **BATCH_PATHS,
}


def document() -> JsonObject:
    """The whole document."""
    responses: JsonObject = {}
    for status, meaning in ERRORS.items():
        headers: JsonObject = {"X-Request-Id": RATE_HEADERS["X-Request-Id"]}
        if status in {"429", "503"}:
            headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
        responses[f"Error{status}"] = {"description": meaning, "headers": headers, "content": json_of("Error")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": "1",
            "summary": "Model calls in OpenAI's form, paid for in credits, and what a program asks about them",
            "description": "Also served, as their vendors specify them: " + ", ".join(sorted(VENDORS_OWN)) + ".",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}],
        "tags": [{"name": "calls"}, {"name": "account"}, {"name": "batches"}],
        "paths": PATHS,
        "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, tg_live_…"}},
            "headers": HEADERS,
            "responses": responses,
            "schemas": {**SCHEMAS, **BATCH_SCHEMAS},
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
