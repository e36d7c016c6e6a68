"""Files and batches in OpenAI's form: /v1/files, /v1/batches and what is below them."""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from starlette.datastructures import Headers as FormHeaders
from starlette.formparsers import MultiPartException, MultiPartParser

from accounts.rules.roles import ApiScope
from app.asgi import Headers, Receive, Scope, Send, read_body, send_json
from app.http_protocol import BREAK_OFF
from app.openai_form import parse_object
from app.rest_admission import RestAdmission, Visit, method_not_allowed
from gateway.batches import Batches, BatchView
from gateway.files import FILE_LIFE, MAX_FILE_BYTES, FileContent, Files, FileView, Owner
from kit.clock import now
from kit.errors import BadRequest, InvalidInput, NotFound
from kit.ids import UnknownIdError, decode_id, encode_id
from kit.json_values import is_object
from models.enums import BatchStatus, FilePurpose
from providers.base import JsonObject

logger = logging.getLogger(__name__)

MAX_UPLOAD_BYTES: Final = MAX_FILE_BYTES + 64 * 1024
"""A file and the form around it."""
MAX_BATCH_BODY_BYTES: Final = 64 * 1024
MAX_METADATA: Final = 16
MAX_METADATA_KEY_CHARACTERS: Final = 64
MAX_METADATA_VALUE_CHARACTERS: Final = 512
MAX_FILENAME_CHARACTERS: Final = 255
SHORTEST_LIFE_S: Final = 3_600
LONGEST_LIFE_S: Final = 30 * 86_400
_MAX_FIELDS: Final = 10
_FILES: Final = re.compile(r"/v1/files(?:/([^/]+)(/content)?)?")
_BATCHES: Final = re.compile(r"/v1/batches(?:/([^/]+)(/cancel)?)?")

Answer = Callable[[Visit], Awaitable[None]]


class BatchRest:
    """The ASGI application of /v1/files and /v1/batches. A key sees what it made itself."""

    def __init__(self, files: Files, batches: Batches, admission: RestAdmission) -> None:
        """The parts of one process."""
        self._files = files
        self._batches = batches
        self._admission = admission

    @staticmethod
    def serves(path: str) -> bool:
        """Whether the path is one of these."""
        return _FILES.fullmatch(path) is not None or _BATCHES.fullmatch(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def answer(headers: Headers) -> None:
            path: str = scope["path"]
            if found := _FILES.fullmatch(path):
                answers = self._of_files(found[1], found[2], scope, receive, send, headers)
            else:
                found = _BATCHES.fullmatch(path)
                assert found is not None, "see serves"
                answers = self._of_batches(found[1], found[2], scope, receive, send, headers)
            chosen = answers.get(scope["method"])
            if chosen is None:
                await method_not_allowed(send, ", ".join(answers), headers)
                return
            writes = scope["method"] in {"POST", "DELETE"}
            await chosen(
                await self._admission.admit(scope, ApiScope.CALLS_WRITE if writes else ApiScope.CALLS_READ, headers)
            )

        await self._admission.answered(scope, send, answer)

    def _of_files(
        self, named: str | None, below: str | None, scope: Scope, receive: Receive, send: Send, headers: Headers
    ) -> dict[str, Answer]:
        async def upload(visit: Visit) -> None:
            filename, content, life = await _uploaded(scope, receive)
            file = await self._files.store(_owner(visit), filename, content, now(), life)
            await send_json(send, 200, _file_object(file), headers)

        async def listed(visit: Visit) -> None:
            found = await self._files.newest(_owner(visit), now())
            await send_json(send, 200, _list([_file_object(each) for each in found]), headers)

        async def told(visit: Visit) -> None:
            file = await self._files.get(_owner(visit), _id("file", named), now())
            await send_json(send, 200, _file_object(file), headers)

        async def deleted(visit: Visit) -> None:
            file_id = _id("file", named)
            await self._files.delete(_owner(visit), file_id, now())
            await send_json(send, 200, {"id": encode_id("file", file_id), "object": "file", "deleted": True}, headers)

        async def content(visit: Visit) -> None:
            file = await self._files.get(_owner(visit), _id("file", named), now())
            await _send_content(send, file.id, await self._files.content(file), headers)

        if named is None:
            return {"GET": listed, "POST": upload}
        return {"GET": content} if below else {"GET": told, "DELETE": deleted}

    def _of_batches(
        self, named: str | None, below: str | None, scope: Scope, receive: Receive, send: Send, headers: Headers
    ) -> dict[str, Answer]:
        async def create(visit: Visit) -> None:
            asked = parse_object(await read_body(scope, receive, MAX_BATCH_BODY_BYTES))
            file_id, endpoint, metadata = _asked(asked)
            batch = await self._batches.create(_owner(visit), file_id, endpoint, metadata, now())
            await send_json(send, 200, _batch_object(batch), headers)

        async def listed(visit: Visit) -> None:
            found = await self._batches.newest(_owner(visit))
            await send_json(send, 200, _list([_batch_object(each) for each in found]), headers)

        async def told(visit: Visit) -> None:
            batch = await self._batches.get(_owner(visit), _id("batch", named))
            await send_json(send, 200, _batch_object(batch), headers)

        async def cancel(visit: Visit) -> None:
            batch = await self._batches.cancel(_owner(visit), _id("batch", named), now())
            await send_json(send, 200, _batch_object(batch), headers)

        if named is None:
            return {"GET": listed, "POST": create}
        return {"POST": cancel} if below else {"GET": told}


def _owner(visit: Visit) -> Owner:
    assert visit.principal.api_key_id is not None, "let in by an API key"
    return Owner(visit.facts.workspace_id, visit.principal.api_key_id)


def _id(prefix: str, text: str | None) -> UUID:
    try:
        return decode_id(prefix, text or "")
    except UnknownIdError as error:
        raise NotFound(f"there is no such {prefix}") from error


class _InMemory(MultiPartParser):
    """Keeps what is uploaded off the disk, where it would lie in clear."""

    spool_max_size = MAX_UPLOAD_BYTES + 1


async def _uploaded(scope: Scope, receive: Receive) -> tuple[str, bytes, timedelta]:
    """The file's name, content and life; BadRequest, InvalidInput."""
    body = await read_body(scope, receive, MAX_UPLOAD_BYTES)
    given = FormHeaders(scope=scope)
    if not given.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest("a file is sent as multipart/form-data")

    async def parts() -> AsyncGenerator[bytes]:
        yield body

    parser = _InMemory(given, parts(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=MAX_UPLOAD_BYTES)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise BadRequest("the form cannot be read") from error
    try:
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise InvalidInput("file must be the file to store", field=["file"])
        if form.get("purpose") != "batch":
            raise InvalidInput("purpose must be batch", field=["purpose"])
        content = await file.read()
        filename = "".join(each for each in file.filename or "" if each.isprintable())[:MAX_FILENAME_CHARACTERS]
        life = form.get("expires_after[seconds]")
    finally:
        await form.close()
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInput(f"a file may have at most {MAX_FILE_BYTES} bytes", field=["file"])
    return filename or "batch.jsonl", content, _life(life)


def _life(text: object) -> timedelta:
    if text is None:
        return FILE_LIFE
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10:
        seconds = int(text)
        if SHORTEST_LIFE_S <= seconds <= LONGEST_LIFE_S:
            return timedelta(seconds=seconds)
    raise InvalidInput(
        f"expires_after[seconds] must be a number from {SHORTEST_LIFE_S} to {LONGEST_LIFE_S}", field=["expires_after"]
    )


def _asked(body: JsonObject) -> tuple[UUID, str, JsonObject]:
    file, endpoint, window = body.get("input_file_id"), body.get("endpoint"), body.get("completion_window")
    if not isinstance(file, str):
        raise InvalidInput("input_file_id must be the id of a file", field=["input_file_id"])
    if not isinstance(endpoint, str):
        raise InvalidInput(
            "endpoint must be the path that each line calls, such as /v1/chat/completions", field=["endpoint"]
        )
    if window != "24h":
        raise InvalidInput("completion_window must be 24h", field=["completion_window"])
    return _id("file", file), endpoint, _metadata(body.get("metadata"))


def _metadata(given: object) -> JsonObject:
    if given is None:
        return {}
    if is_object(given) and len(given) <= MAX_METADATA and all(_is_entry(name, text) for name, text in given.items()):
        return given
    raise InvalidInput(
        f"metadata may have at most {MAX_METADATA} texts of {MAX_METADATA_VALUE_CHARACTERS} characters, named by"
        f" {MAX_METADATA_KEY_CHARACTERS} characters at most",
        field=["metadata"],
    )


def _is_entry(name: str, text: object) -> bool:
    if not isinstance(text, str) or "\0" in name + text:
        return False
    return len(name) <= MAX_METADATA_KEY_CHARACTERS and len(text) <= MAX_METADATA_VALUE_CHARACTERS


def _list(objects: list[JsonObject]) -> JsonObject:
    ids = [each["id"] for each in objects]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return {"object": "list", "data": objects, "first_id": first, "last_id": last, "has_more": False}


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _file_object(file: FileView) -> JsonObject:
    return {
        "id": encode_id("file", file.id),
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": _seconds(file.created_at),
        "expires_at": _seconds(file.expires_at),
        "filename": file.filename,
        "purpose": "batch" if file.purpose is FilePurpose.BATCH else "batch_output",
        "status": "processed",
    }


def _batch_object(batch: BatchView) -> JsonObject:
    problems = [{"code": p.code, "message": p.message, "line": p.line, "param": p.param} for p in batch.problems]
    ended = {status: _seconds(batch.ended_at) if batch.status is status else None for status in BatchStatus}
    return {
        "id": encode_id("batch", batch.id),
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": encode_id("file", batch.input_file_id),
        "completion_window": "24h",
        "status": batch.status.lower(),
        "output_file_id": None if batch.output_file_id is None else encode_id("file", batch.output_file_id),
        "error_file_id": None if batch.error_file_id is None else encode_id("file", batch.error_file_id),
        "created_at": _seconds(batch.created_at),
        "in_progress_at": _seconds(batch.in_progress_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": ended[BatchStatus.COMPLETED],
        "completed_at": ended[BatchStatus.COMPLETED],
        "failed_at": ended[BatchStatus.FAILED],
        "expired_at": ended[BatchStatus.EXPIRED],
        "cancelling_at": _seconds(batch.cancelling_at),
        "cancelled_at": ended[BatchStatus.CANCELLED],
        "request_counts": {
            "total": batch.total_count,
            "completed": batch.completed_count,
            "failed": batch.failed_count,
        },
        "metadata": batch.metadata or None,
    }


async def _send_content(send: Send, file_id: UUID, content: FileContent, headers: Headers) -> None:
    """Piece by piece, with its length; what goes meanwhile breaks it off, so that nobody takes a part for the whole."""
    start: Headers = [
        (b"content-type", b"application/jsonl; charset=utf-8"),
        (b"content-length", str(content.size_bytes).encode("ascii")),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    left = content.size_bytes
    try:
        async for part in content.parts:
            left -= len(part)
            if left < 0:
                break
            await send({"type": "http.response.body", "body": part, "more_body": True})
    finally:
        await content.parts.aclose()
    if left:
        logger.warning("file %s changed while it was sent: broken off", file_id)
        await send({"type": BREAK_OFF})
    else:
        await send({"type": "http.response.body", "body": b""})
