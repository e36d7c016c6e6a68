"""Providers to be called in tests: a raw scripted socket server, and the sandbox server as a process."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import orjson

from providers.base import Operation, ProviderRequest, Timeouts

KEY = "sk-very-secret-0123456789"
ANSWER = {"id": "x", "choices": [{"index": 0, "message": {"content": "héllo"}, "finish_reason": "stop"}], "odd": [1]}
WHOLE = orjson.dumps({**ANSWER, "usage": {"prompt_tokens": 3, "completion_tokens": 2}})


@dataclass
class Heard:
    head: str
    body: bytes

    @property
    def json(self) -> dict:
        return orjson.loads(self.body)


@dataclass
class Upstream:
    url: str = ""
    connections: int = 0
    requests: list[Heard] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script | bytes, tls=None) -> AsyncIterator[Upstream]:
    """A server that reads each request whole and then lets the script write; bytes are written as they are."""
    upstream = Upstream()
    tasks: set[asyncio.Task] = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        upstream.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length")
                )
                upstream.requests.append(Heard(head, await reader.readexactly(length)))
                if isinstance(script, bytes):
                    writer.write(script)
                    await writer.drain()
                else:
                    await script(reader, writer)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            upstream.ended.set()
            writer.close()
            tasks.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
    scheme = "https" if tls else "http"
    upstream.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        server.close()
        running = list(tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


def answer(body: bytes, status: str = "200 OK", headers: str = "Content-Type: application/json\r\n") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def closing(text: bytes) -> Script:
    async def script(reader, writer):
        writer.write(text)
        await writer.drain()
        writer.close()

    return script


async def hang(reader, writer):
    await reader.read()


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


def word(text: str, finish: str | None = None) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + orjson.dumps(event) + b"\n\n"


def call(content="hello", request_id="req-1", timeouts: Timeouts | None = None, operation=Operation.CHAT, **body):
    base = {"messages": [{"role": "user", "content": content}]} if operation is Operation.CHAT else {}
    return ProviderRequest(operation, "upstream-model", {"model": "public", **base, **body}, request_id, timeouts)


@contextmanager
def sandbox_process(*arguments: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "providers.sandbox_server", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("sandbox provider on http://127.0.0.1:")
        yield line.split()[-1]
    finally:
        process.terminate()
        code = process.wait(60)
        process.stdout.close()
    assert code == 0
