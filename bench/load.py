"""A load generator on loopback: a fixed request over keep-alive connections, as wrk does it, with latencies kept."""

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass

import uvloop


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`per_second` counts answers with status 200; `others` the rest by status."""

    connections: int
    seconds: float
    answered: int
    per_second: float
    p50_ms: float
    p99_ms: float
    others: dict[str, int]


class _Connection(asyncio.Protocol):
    """Sends the request again as soon as its answer is whole (Content-Length framing only)."""

    def __init__(self, load: "_Load") -> None:
        self.load = load
        self.buffer = bytearray()
        self.sent_at = 0.0

    def connection_made(self, transport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        if self.load.stopped:
            self.transport.close()
            return
        self.sent_at = time.perf_counter()
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = bytes(self.buffer[:head]).lower()
        at = headers.find(b"content-length:")
        end = headers.find(b"\r\n", at)
        length = int(headers[at + 15 : end if end > 0 else len(headers)])
        if len(self.buffer) < head + 4 + length:
            return
        status = headers[9:12].decode()
        del self.buffer[: head + 4 + length]
        self.load.note(status, time.perf_counter() - self.sent_at)
        self._send()

    def connection_lost(self, error) -> None:
        self.load.lost()


class _Load:
    def __init__(self, request: bytes, connections: int) -> None:
        self.request = request
        self.open = connections
        self.stopped = False
        self.latencies: list[float] = []
        self.others: dict[str, int] = {}
        self.done = asyncio.Event()

    def note(self, status: str, latency_s: float) -> None:
        if status == "200":
            self.latencies.append(latency_s)
        else:
            self.others[status] = self.others.get(status, 0) + 1

    def lost(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.done.set()


async def run_load(host: str, port: int, request: bytes, connections: int, seconds: float) -> LoadResult:
    """Send `request` over `connections` for `seconds`; every connection is closed at the end."""
    load = _Load(request, connections)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(load), host, port)
    await asyncio.sleep(seconds)
    load.stopped = True
    spent = time.perf_counter() - began
    count = len(load.latencies)
    try:
        await asyncio.wait_for(load.done.wait(), 10)
    except TimeoutError:
        load.others["unanswered"] = load.open
    ordered = sorted(load.latencies) or [0.0]
    return LoadResult(
        connections=connections,
        seconds=round(spent, 3),
        answered=count,
        per_second=round(count / spent, 1),
        p50_ms=round(ordered[len(ordered) // 2] * 1000, 3),
        p99_ms=round(ordered[int(len(ordered) * 0.99)] * 1000, 3),
        others=load.others,
    )


def http_request(host: str, port: int, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def main() -> None:
    """One run; prints its result as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="loopback only")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--key", default="")
    parser.add_argument("--body", required=True, help="the JSON body to post")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    if not options.host.startswith("127."):
        parser.error("the load goes to loopback only")
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    request = http_request(options.host, options.port, options.path, options.body.encode(), headers)
    run = run_load(options.host, options.port, request, options.connections, options.seconds)
    print(json.dumps(asdict(uvloop.run(run))))


if __name__ == "__main__":
    main()
