"""A raw keep-alive HTTP client that says exactly how far each request came: sent, answered, lost or left."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

import orjson

from kit.ids import decode_id
from kit.money import parse_micro
from tests.chaos.plan import Kind, PlannedCall

ANSWER_LIMIT_S = 40.0
"""A repeat of a call whose gateway was killed waits for the reaper: a hold's life and a round of the worker."""
_PATHS = {Kind.CHAT: "/v1/chat/completions", Kind.STREAM: "/v1/chat/completions", Kind.EMBEDDING: "/v1/embeddings"}


class Came(StrEnum):
    """How far a request came."""

    ANSWERED = "answered"
    """whole, with its charge; of a stream the last event too"""
    BROKEN = "broken"
    """a stream that ended in an error event, which may name a charge"""
    REFUSED = "refused"
    """an error status: nothing may be charged"""
    LOST = "lost"
    """sent, and the connection died before the answer was whole"""
    LEFT = "left"
    """this client went away on purpose"""
    NOT_SENT = "not sent"
    """no connection: nobody can know of it"""


@dataclass(slots=True)
class Attempt:
    """One request and what the client saw of it; the client's log is a list of these."""

    number: int
    request_id: str
    key: str | None
    came: Came
    status: int = 0
    call_id: bytes | None = None
    charged_micro: int | None = None
    repeated: bool = False
    error: str = ""


class Client:
    """One connection to each gateway, opened when needed and dropped after any fault."""

    def __init__(self, urls: list[str]) -> None:
        self._ports = [int(url.rpartition(":")[2]) for url in urls]
        self._open: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def send(self, call: PlannedCall, gateway: int, request_id: str, api_key: str) -> Attempt:
        attempt = Attempt(call.number, request_id, call.key, Came.NOT_SENT)
        try:
            reader, writer = await self._connection(gateway)
        except OSError as error:
            attempt.error = repr(error)
            return attempt
        attempt.came = Came.LOST
        limit = ANSWER_LIMIT_S if call.leave_after_s is None else call.leave_after_s
        try:
            async with asyncio.timeout(limit):
                writer.write(_request(call, request_id, api_key))
                await writer.drain()
                keep = await self._read(reader, attempt, stream=call.kind is Kind.STREAM)
        except TimeoutError:
            keep = False
            if call.leave_after_s is not None:
                attempt.came = Came.LEFT
            else:
                attempt.error = "no answer in time"
        except (OSError, EOFError, ValueError) as error:
            keep = False
            attempt.error = repr(error)
        if not keep:
            self._drop(gateway)
        return attempt

    def close(self) -> None:
        for gateway in list(self._open):
            self._drop(gateway)

    async def _connection(self, gateway: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        found = self._open.get(gateway)
        if found is not None:
            if not found[0].at_eof() and not found[1].is_closing():
                return found
            self._drop(gateway)
        self._open[gateway] = await asyncio.open_connection("127.0.0.1", self._ports[gateway])
        return self._open[gateway]

    def _drop(self, gateway: int) -> None:
        _, writer = self._open.pop(gateway)
        writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, attempt: Attempt, *, stream: bool) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        attempt.status = int(head[0].split(" ", 2)[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if "x-tollgate-call-id" in headers:
            attempt.call_id = decode_id("call", headers["x-tollgate-call-id"]).bytes
        attempt.repeated = headers.get("idempotent-replayed") == "true"
        body = await _body(reader, headers)
        if attempt.status >= 400:
            attempt.came = Came.REFUSED
            attempt.error = body[:200].decode(errors="replace")
        elif stream:
            _judge_stream(attempt, body)
        else:
            attempt.charged_micro = parse_micro(orjson.loads(body)["usage"]["credits"])
            attempt.came = Came.ANSWERED
        return headers.get("connection", "").lower() != "close"


def _request(call: PlannedCall, request_id: str, api_key: str) -> bytes:
    body = orjson.dumps(call.body())
    key = f"Idempotency-Key: {call.key}\r\n" if call.key is not None else ""
    head = (
        f"POST {_PATHS[call.kind]} HTTP/1.1\r\nHost: chaos\r\nAuthorization: Bearer {api_key}\r\n{key}"
        f"X-Request-Id: {request_id}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readuntil(b"\r\n")
    return b"".join(parts)


def _judge_stream(attempt: Attempt, body: bytes) -> None:
    """The last event but [DONE] carries the charge; an error event ends a stream that broke."""
    events = [line[6:] for line in body.split(b"\n\n") if line.startswith(b"data: ")]
    done = bool(events) and events[-1] == b"[DONE]"
    last = orjson.loads(events[-2 if done else -1])
    usage = last.get("usage")
    if usage and "credits" in usage:
        attempt.charged_micro = parse_micro(usage["credits"])
    if done and attempt.charged_micro is not None:
        attempt.came = Came.ANSWERED
    elif "error" in last:
        attempt.came = Came.BROKEN
        attempt.error = str(last["error"])[:200]
    else:
        raise ValueError(f"a stream that ends neither well nor badly: {events[-2:]!r}")
