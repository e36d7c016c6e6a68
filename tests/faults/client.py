"""Clients that send planned calls over raw connections, leave, repeat under their keys, and log what they saw."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

import orjson

from kit.ids import decode_id
from kit.money import parse_micro
from providers.openai_content import generated_bytes
from tests.faults.plan import Kind, PlannedCall

ANSWER_LIMIT_S = 60.0
_PATHS = {
    Kind.CHAT: "/v1/chat/completions",
    Kind.STREAM: "/v1/chat/completions",
    Kind.EMBEDDING: "/v1/embeddings",
    Kind.SPEECH: "/v1/audio/speech",
}


class Came(StrEnum):
    """How far a request came."""

    ANSWERED = "answered"
    BROKEN = "broken"  # a stream that ended in an error event, or sound whose connection closed before its end
    REFUSED = "refused"  # an error status
    LEFT = "left"  # this client went away on purpose
    LOST = "lost"  # anything else: nobody was killed, so it must not be


@dataclass(slots=True)
class Attempt:
    """One request and what its client saw."""

    call: PlannedCall
    request_id: str
    came: Came = Came.LOST
    status: int = 0
    call_id: bytes | None = None
    charged_micro: int | None = None
    repeated: bool = False
    received_bytes: int = 0
    """Of output in a stream, or of sound."""
    error: str = ""


async def make(call: PlannedCall, urls: list[str], api_key: str) -> list[Attempt]:
    """The call with its repeats; all that was seen."""
    ports = [int(url.rpartition(":")[2]) for url in urls]
    first = Attempt(call, f"f-{call.number}-0")
    attempts = [first]
    sends = [_send(first, ports[call.gateway], api_key, leaves=True)]
    if call.twice:
        second = Attempt(call, f"f-{call.number}-1")
        attempts.append(second)
        sends.append(_send(second, ports[(call.gateway + 1) % len(ports)], api_key))
    await asyncio.gather(*sends)
    if call.key is not None and (call.again or first.came is Came.LEFT):
        last = Attempt(call, f"f-{call.number}-2")
        attempts.append(last)
        await _send(last, ports[(call.gateway + 1) % len(ports)], api_key)
    return attempts


class _Leave(Exception):
    """This client has seen enough."""


async def _send(attempt: Attempt, port: int, api_key: str, *, leaves: bool = False) -> None:
    leave_after_s = attempt.call.leave_after_s if leaves else None
    most_writes = attempt.call.leave_after_writes if leaves else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S if leave_after_s is None else leave_after_s):
            writer.write(_request(attempt, api_key))
            await writer.drain()
            await _read(reader, attempt, most_writes)
    except TimeoutError:
        if leave_after_s is not None:
            attempt.came = Came.LEFT
        else:
            attempt.error = "no answer in time"
    except _Leave:
        attempt.came = Came.LEFT
    except (OSError, EOFError, ValueError) as error:
        attempt.error = repr(error)
    finally:
        writer.transport.abort()


def _request(attempt: Attempt, api_key: str) -> bytes:
    call = attempt.call
    body = orjson.dumps(call.body())
    key = f"Idempotency-Key: {call.key}\r\n" if call.key is not None else ""
    head = (
        f"POST {_PATHS[call.kind]} HTTP/1.1\r\nHost: faults\r\nAuthorization: Bearer {api_key}\r\n{key}"
        f"X-Request-Id: {attempt.request_id}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _read(reader: asyncio.StreamReader, attempt: Attempt, most_writes: int | None) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    attempt.status = int(head[0].split(" ", 2)[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    if "x-tollgate-call-id" in headers:
        attempt.call_id = decode_id("call", headers["x-tollgate-call-id"]).bytes
    attempt.repeated = headers.get("idempotent-replayed") == "true"
    sounds = headers.get("content-type", "").startswith("audio/")
    if sounds:
        attempt.charged_micro = parse_micro(headers["x-tollgate-credits"])
    if headers.get("transfer-encoding") == "chunked":
        await (_read_sound if sounds else _read_events)(reader, attempt, most_writes)
        return
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    if attempt.status >= 400:
        attempt.came = Came.REFUSED
        attempt.error = body[:300].decode(errors="replace")
    elif headers.get("content-type", "").startswith("text/event-stream"):
        _take(attempt, body)
    elif sounds:
        attempt.received_bytes = len(body)
        attempt.came = Came.ANSWERED
    else:
        attempt.charged_micro = parse_micro(orjson.loads(body)["usage"]["credits"])
        attempt.came = Came.ANSWERED


async def _read_events(reader: asyncio.StreamReader, attempt: Attempt, most_writes: int | None) -> None:
    async for text in _chunks(reader, most_writes):
        _take(attempt, text)


async def _read_sound(reader: asyncio.StreamReader, attempt: Attempt, most_writes: int | None) -> None:
    try:
        async for sound in _chunks(reader, most_writes):
            attempt.received_bytes += len(sound)
    except (EOFError, ConnectionError) as error:
        attempt.came = Came.BROKEN
        attempt.error = repr(error)
    else:
        attempt.came = Came.ANSWERED


async def _chunks(reader: asyncio.StreamReader, most_writes: int | None) -> AsyncIterator[bytes]:
    writes = 0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
        writes += 1
        if writes == most_writes:
            raise _Leave
    await reader.readuntil(b"\r\n")


def _take(attempt: Attempt, text: bytes) -> None:
    """Events; each write of the gateway has whole ones."""
    for event in text.split(b"\n\n"):
        if not event.startswith(b"data: "):
            continue
        if event == b"data: [DONE]":
            attempt.came = Came.ANSWERED
            continue
        body = orjson.loads(event[6:])
        attempt.received_bytes += generated_bytes(body, "delta")
        usage = body.get("usage")
        if usage and "credits" in usage:
            attempt.charged_micro = parse_micro(usage["credits"])
        if "error" in body:
            attempt.came = Came.BROKEN
            attempt.error = str(body["error"])[:200]
