"""Files and batches in the OpenAPI document."""

from typing import Final

from app.batch_rest import LONGEST_LIFE_S, SHORTEST_LIFE_S
from app.openapi_parts import JSON, answered, failed, json_of, named, read
from app.openapi_schemas import ref
from gateway.rules.batches import ENDPOINTS
from models.enums import BatchStatus
from providers.base import JsonObject

_TIME: Final[JsonObject] = {"type": ["integer", "null"], "description": "Seconds since 1970"}
_COUNT: Final[JsonObject] = {"type": "integer", "minimum": 0}
_WRITE: Final = ("400", "401", "403", "404", "429", "503")


def _list_of(name: str) -> JsonObject:
    return {
        "type": "object",
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": ref(name)}},
        "required": ["object", "data", "has_more"],
    }


def _write(
    method: str, operation_id: str, summary: str, answer: JsonObject, *failures: str, **more: object
) -> JsonObject:
    return {
        method: {
            "operationId": operation_id,
            "summary": summary,
            "tags": ["batches"],
            "description": "Scope CALLS_WRITE.",
            **more,
            "responses": {"200": answered(answer, "Done"), **failed(*_WRITE, *failures)},
        }
    }


BATCH_SCHEMAS: Final[JsonObject] = {
    "File": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "file"},
            "bytes": _COUNT,
            "created_at": {"type": "integer"},
            "expires_at": {"type": "integer"},
            "filename": {"type": "string"},
            "purpose": {"enum": ["batch", "batch_output"]},
            "status": {"const": "processed"},
        },
        "required": ["id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status"],
    },
    "Files": _list_of("File"),
    "FileDeleted": {
        "type": "object",
        "properties": {"id": {"type": "string"}, "object": {"const": "file"}, "deleted": {"const": True}},
        "required": ["id", "object", "deleted"],
    },
    "Upload": {
        "type": "object",
        "properties": {
            "purpose": {"type": "string", "enum": ["batch"]},
            "file": {"type": "string", "format": "binary", "description": "JSON lines"},
            "expires_after[seconds]": {"type": "integer", "minimum": SHORTEST_LIFE_S, "maximum": LONGEST_LIFE_S},
        },
        "required": ["purpose", "file"],
    },
    "BatchRequest": {
        "type": "object",
        "properties": {
            "input_file_id": {"type": "string"},
            "endpoint": {"type": "string", "enum": list(ENDPOINTS)},
            "completion_window": {"type": "string", "enum": ["24h"]},
            "metadata": {
                "type": ["object", "null"],
                "maxProperties": 16,
                "propertyNames": {"maxLength": 64, "pattern": "^[^\\u0000]*$"},
                "additionalProperties": {"type": "string", "maxLength": 512, "pattern": "^[^\\u0000]*$"},
            },
        },
        "required": ["input_file_id", "endpoint", "completion_window"],
    },
    "Batch": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "batch"},
            "endpoint": {"type": "string"},
            "errors": {"type": ["object", "null"]},
            "input_file_id": {"type": "string"},
            "completion_window": {"const": "24h"},
            "status": {"enum": [status.lower() for status in BatchStatus]},
            "output_file_id": {"type": ["string", "null"]},
            "error_file_id": {"type": ["string", "null"]},
            "created_at": {"type": "integer"},
            **{
                f"{name}_at": _TIME
                for name in ("in_progress", "expires", "completed", "failed", "expired", "cancelled")
            },
            "request_counts": {
                "type": "object",
                "properties": dict.fromkeys(("total", "completed", "failed"), _COUNT),
                "required": ["total", "completed", "failed"],
            },
            "metadata": {"type": ["object", "null"]},
        },
        "required": ["id", "object", "endpoint", "input_file_id", "status", "created_at", "request_counts"],
    },
    "Batches": _list_of("Batch"),
}
_FILE: Final = {"parameters": named("id", "The file's id", "file_01h")}
_BATCH: Final = {"parameters": named("id", "The batch's id", "batch_01h")}
BATCH_PATHS: Final[JsonObject] = {
    "/v1/files": {
        **read("files", "The newest files", "CALLS_READ", json_of("Files"), tag="batches"),
        **_write(
            "post",
            "upload",
            "Store a file of JSON lines",
            json_of("File"),
            *("413", "415"),
            requestBody={"required": True, "content": {"multipart/form-data": {"schema": ref("Upload")}}},
        ),
    },
    "/v1/files/{id}": {
        **read("file", "A file", "CALLS_READ", json_of("File"), "404", tag="batches", **_FILE),
        **_write("delete", "delete_file", "Forget a file", json_of("FileDeleted"), **_FILE),
    },
    "/v1/files/{id}/content": read(
        "file_content",
        "What a file holds",
        "CALLS_READ",
        {"application/jsonl": {"schema": {"type": "string"}}},
        "404",
        tag="batches",
        **_FILE,
    ),
    "/v1/batches": {
        **read("batches", "The newest batches", "CALLS_READ", json_of("Batches"), tag="batches"),
        **_write(
            "post",
            "batch",
            "Begin a batch",
            json_of("Batch"),
            *("409", "413", "415"),
            requestBody={"required": True, "content": {JSON: {"schema": ref("BatchRequest")}}},
        ),
    },
    "/v1/batches/{id}": read("read_batch", "A batch", "CALLS_READ", json_of("Batch"), "404", tag="batches", **_BATCH),
    "/v1/batches/{id}/cancel": _write("post", "cancel_batch", "Cancel a batch", json_of("Batch"), **_BATCH),
}
