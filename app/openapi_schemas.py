"""The shapes of the REST side, as JSON Schema for the OpenAPI document."""

from typing import Final

from gateway.rules.audio import FORMATS, MAX_SPOKEN_CHARACTERS, STREAM_FORMATS
from gateway.rules.requests import MAX_CHOICES, MAX_EMBEDDING_INPUTS, MAX_IMAGES, MAX_MESSAGES, MAX_OUTPUT_TOKENS
from providers.base import JsonObject

_DECIMAL: Final[JsonObject] = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
_COUNT: Final[JsonObject] = {"type": "integer", "minimum": 0}
_INSTANT: Final[JsonObject] = {"type": "string", "format": "date-time"}


def ref(name: str) -> JsonObject:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: JsonObject, *required: str, **more: object) -> JsonObject:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _nullable(schema: JsonObject) -> JsonObject:
    return {"anyOf": [schema, {"type": "null"}]}


def _whole(most: int) -> JsonObject:
    return {"type": ["integer", "null"], "minimum": 1, "maximum": most}


_CHARGE: Final[JsonObject] = {
    "credits": {**_DECIMAL, "description": "What was charged, an exact decimal"},
    "usd": {**_DECIMAL, "description": "The same in dollars, at the catalog's rate"},
    "estimated": {"type": "boolean", "description": "Whether the provider reported no usage and it was counted here"},
}
_CACHED: Final[JsonObject] = {
    "cached": {"const": True, "description": "There where the answer of an equal, earlier call was given"}
}
_MODEL: Final[JsonObject] = {"type": "string", "description": "A model of GET /v1/models"}
_MESSAGE: Final = _object(
    {
        "role": {"type": "string", "examples": ["user"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {"type": "null"}]},
    },
    "role",
)

SCHEMAS: Final[JsonObject] = {
    "Error": _object(
        {
            "error": _object(
                {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"], "description": "Where in the request, with dots"},
                    "code": {"type": "string"},
                },
                *("message", "type", "param", "code"),
            )
        },
        "error",
    ),
    "Usage": _object(
        {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT, **_CHARGE, **_CACHED},
        *_CHARGE,
        description="The provider's own, with the charge added",
    ),
    "ChatRequest": _object(
        {
            "model": _MODEL,
            "messages": {"type": "array", "items": _MESSAGE, "minItems": 1, "maxItems": MAX_MESSAGES},
            "max_tokens": _whole(MAX_OUTPUT_TOKENS),
            "max_completion_tokens": _whole(MAX_OUTPUT_TOKENS),
            "n": _whole(MAX_CHOICES),
            "stream": {"type": ["boolean", "null"]},
            "temperature": {"type": ["number", "null"]},
        },
        *("model", "messages"),
        description="OpenAI's; fields that are not listed here travel on to the provider",
    ),
    "ChatCompletion": _object(
        {
            "choices": {"type": "array", "items": {"type": "object"}},
            "usage": ref("Usage"),
        },
        *("choices", "usage"),
    ),
    "EmbeddingRequest": _object(
        {
            "model": _MODEL,
            "input": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_EMBEDDING_INPUTS},
                ]
            },
        },
        *("model", "input"),
    ),
    "Embeddings": _object(
        {"data": {"type": "array", "items": {"type": "object"}}, "usage": ref("Usage")}, "data", "usage"
    ),
    "ImageRequest": _object(
        {"model": _MODEL, "prompt": {"type": "string", "minLength": 1}, "n": _whole(MAX_IMAGES)}, "model", "prompt"
    ),
    "Images": _object({"data": {"type": "array", "items": {"type": "object"}}, "usage": ref("Usage")}, "data", "usage"),
    "SpeechRequest": _object(
        {
            "model": _MODEL,
            "input": {"type": "string", "minLength": 1, "maxLength": MAX_SPOKEN_CHARACTERS},
            "stream_format": {"enum": [*STREAM_FORMATS], "description": "`sse`: events, with the usage in the last"},
        },
        *("model", "input"),
        description="OpenAI's; fields that are not listed here travel on to the provider",
    ),
    "TranscriptionRequest": _object(
        {
            "model": _MODEL,
            "file": {"type": "string", "contentMediaType": "application/octet-stream", "minLength": 1},
            "response_format": {"enum": [*FORMATS], "description": "Of a stream `json`"},
            "stream": {"type": "boolean"},
        },
        *("model", "file"),
        description="OpenAI's form; fields that are not listed here travel on to the provider",
    ),
    "Transcription": _object(
        {"text": {"type": "string"}, "usage": _object({**_CHARGE, **_CACHED}, *_CHARGE)}, "text", "usage"
    ),
    "Repeat": _object(
        {
            "id": {"type": "string"},
            "object": {"const": "tollgate.repeat"},
            "model": {"type": "string"},
            "message": {"type": "string"},
            "usage": ref("Usage"),
        },
        *("id", "object", "model", "message", "usage"),
        description="A repeat of a call whose output is not kept any more",
    ),
    "Model": _object(
        {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
        },
        *("id", "object", "created", "owned_by"),
    ),
    "Models": _object(
        {"object": {"const": "list"}, "data": {"type": "array", "items": ref("Model")}}, "object", "data"
    ),
    "Amount": _object({"credits": _DECIMAL, "usd": _DECIMAL}, "credits", "usd"),
    "Balance": _object(
        {
            "object": {"const": "tollgate.balance"},
            "workspace": {"type": "string"},
            "balance": {**ref("Amount"), "description": "What is not spent, held included"},
            "held": {**ref("Amount"), "description": "Reserved for calls that run"},
            "available": {**ref("Amount"), "description": "What a new call can spend"},
        },
        *("object", "workspace", "balance", "held", "available"),
    ),
    "CallUsage": _object(
        {
            **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _COUNT),
            **dict.fromkeys(("requests", "images", "seconds", "characters"), _COUNT),
            "prompt_tokens_details": _object(
                dict.fromkeys(("cached_tokens", "cache_write_tokens", "long_cache_write_tokens"), _COUNT),
                *("cached_tokens", "cache_write_tokens", "long_cache_write_tokens"),
            ),
            "completion_tokens_details": _object({"reasoning_tokens": _COUNT}, "reasoning_tokens"),
            **_CHARGE,
            **_CACHED,
        },
        *("prompt_tokens", "completion_tokens", "total_tokens", *_CHARGE),
    ),
    "Call": _object(
        {
            "id": {"type": "string"},
            "object": {"const": "tollgate.call"},
            "model": {"type": "string"},
            "status": {"enum": ["queued", "running", "succeeded", "failed", "canceled"]},
            "request_id": {"type": "string"},
            "created_at": _INSTANT,
            "completed_at": _nullable(_INSTANT),
            "usage": _nullable(ref("CallUsage")),
            "error": _nullable(_object({"code": {"type": "string"}, "message": {"type": "string"}}, "code", "message")),
        },
        *("id", "object", "model", "status", "request_id", "created_at", "completed_at", "usage", "error"),
    ),
}
