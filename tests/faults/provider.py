"""The seeded providers: `python -m tests.faults.provider`. Each try is answered by its script, and logged as it went."""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import takewhile

import orjson

from tests.faults.plan import PROVIDERS, Fault, Report, Script, script_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
SPEECH, EMBEDDINGS = "/v1/audio/speech", "/v1/embeddings"
SOUND_REPEATS = 300
"""So often the bytes of a piece of text are its sound."""
BEAT_S = 0.05
"""How often the process looks whether it runs."""
HALF_A_CHUNK = b"1000\r\n", b"\xff" * 0x800
"""The head of a chunk of sound, and half of what it says."""


class _Gone(Exception):
    """The gateway closed the connection."""


@dataclass
class Providers:
    """All of them, with one log and one count of the tries of each call."""

    seed: int
    calls: int
    log: int
    seen: Counter = field(default_factory=Counter)
    requests: int = 0
    beat_at: float = field(default_factory=time.monotonic)
    late: list[tuple[float, float]] = field(default_factory=list)
    """When this process should have run and did not: until when, and for how long."""

    async def beat(self) -> None:
        """Note when this process gets no core: then it is silent, whatever the scripts say."""
        while True:
            await asyncio.sleep(BEAT_S)
            before, self.beat_at = self.beat_at, time.monotonic()
            if self.beat_at - before > 2 * BEAT_S:
                self.late.append((self.beat_at, self.beat_at - before))

    def late_s(self, since: float) -> float:
        """For how long it did not run, in all, up to now; what ended a little before counts: it kept the request waiting."""
        late = takewhile(lambda each: each[0] >= since - BEAT_S, reversed(self.late))
        return sum(late_s for _, late_s in late) + time.monotonic() - self.beat_at

    def handler(self, provider: str):
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await self._one(provider, reader, writer):
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        return serve

    async def _one(self, provider: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = orjson.loads(await reader.readexactly(int(headers["content-length"])))
        path = head[0].split(" ")[1]
        text = body["input"] if path in {SPEECH, EMBEDDINGS} else body["messages"][0]["content"]
        number = int(text.split(" ", 1)[0])
        self.seen[provider, number] += 1
        self.requests += 1
        arrival = self.requests
        nth = self.seen[provider, number]
        streamed = path == SPEECH or body.get("stream") is True
        script = script_of(self.seed, provider, number, nth, self.calls, streamed=streamed)
        telling = Telling(reader, writer, script, body, path)
        ended = "complete"
        try:
            await telling.tell()
        except (_Gone, ConnectionError):
            ended = "gone"
        if telling.fails and ended == "complete":
            ended = "broken"
        self._record(provider, arrival, number, nth, headers.get("x-request-id", ""), telling, ended)
        return telling.keep and ended != "gone"

    def _record(
        self, provider: str, arrival: int, number: int, nth: int, request_id: str, telling: "Telling", ended: str
    ) -> None:
        line = {
            "provider": provider,
            "arrival": arrival,
            "number": number,
            "nth": nth,
            "request_id": request_id,
            "streamed": telling.streamed,
            "ended": ended,
            "late_s": round(self.late_s(telling.begun_at), 3),
            "marks": telling.marks,
            **telling.script.summary(),
        }
        os.write(self.log, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class Telling:
    """One answer on its way."""

    def __init__(self, reader, writer, script: Script, body: dict, path: str) -> None:
        self.begun_at = time.monotonic()
        self.script = script
        self._speech = path == SPEECH
        self.streamed = self._speech or body.get("stream") is True
        self.fails = script.fault is not Fault.NONE or (self._speech and not script.pieces)
        """No sound at all is no answer."""
        self.marks: list[list] = [[0, None, 0]]
        """After each event: bytes of output so far, the last usage, bytes of output that came after it."""
        self.keep = True
        self._reader, self._writer = reader, writer
        self._embedding = path == EMBEDDINGS
        self._choices = body.get("n") or 1

    async def tell(self) -> None:
        script = self.script
        await self._pause(script.delay_s)
        if script.fault is Fault.STATUS:
            await self._answer({"error": {"message": "scripted"}}, script.status, script.retry_after)
        elif self._speech and self._begins():
            await self._speak()
        elif self.streamed and not self._speech:
            await self._stream()
        elif script.fault is Fault.NONE:
            body = self._whole()
            await self._answer(body)
            self.marks = [[0 if self._embedding else self._choices * _bytes_of(script), body.get("usage"), 0]]
        elif script.fault is Fault.TRUNCATED:
            text = orjson.dumps(self._whole())
            await self._write(_head(200, len(text)) + text[: len(text) // 2])
            self._end()
        elif script.fault is Fault.GARBAGE:
            await self._write(_head(200, 9) + b"{'oops': ")
        elif script.fault is Fault.ERROR:
            await self._answer({"error": {"message": "scripted", "code": "overloaded"}})
        else:
            await self._fault()

    async def _stream(self) -> None:
        script = self.script
        await self._write(HEAD % b"text/event-stream")
        early = script.report is Report.EARLY
        await self._event({"role": "assistant", "content": ""}, usage=_usage(script, 0) if early else None)
        for position, piece in enumerate(script.pieces):
            if script.fault is not Fault.NONE and position == script.fault_at:
                await self._fault()
                return
            for _ in range(2 if script.doubled == position else 1):
                running = _usage(script, position + 1) if script.report is Report.RUNNING else None
                await self._event({"content": piece}, usage=running)
                await self._pause(script.chunk_delay_s)
        if script.fault is not Fault.NONE:
            await self._fault()
            return
        await self._event({}, finish=script.finish_reason)
        if script.report not in {Report.NONE, Report.EARLY}:
            usage = _usage(script, len(script.pieces))
            await self._sse({"id": "x", "choices": [], "usage": usage})
            self._note(usage, 0)
        await self._write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    def _begins(self) -> bool:
        """Whether a speech's answer is sound at least by its head."""
        fault = self.script.fault
        return fault is not Fault.ERROR and (fault is not Fault.GARBAGE or self.script.fault_at > 0)

    async def _speak(self) -> None:
        script = self.script
        await self._write(HEAD % b"audio/mpeg")
        for position, piece in enumerate(script.pieces):
            if script.fault is not Fault.NONE and position == script.fault_at:
                break
            sound = piece.encode() * SOUND_REPEATS
            for _ in range(2 if script.doubled == position else 1):
                await self._write(_chunk(sound))
                self._note(None, len(sound))
                await self._pause(script.chunk_delay_s)
        if script.fault is not Fault.NONE:
            await self._fault()
            return
        await self._write(b"0\r\n\r\n")
        self._note(None, 0)

    async def _fault(self) -> None:
        self.keep = False
        match self.script.fault:
            case Fault.STALL:
                await self._reader.read()
                return
            case Fault.RESET:
                self._writer.transport.abort()
                return
            case Fault.GARBAGE if self._speech:
                await self._write(b"oops\r\n")
            case Fault.TRUNCATED if self._speech:
                head, sound = HALF_A_CHUNK
                await self._write(head + sound)
                self._note(None, len(sound))
            case Fault.GARBAGE:
                await self._write(_chunk(b"data: {'oops'\n\n"))
            case Fault.TRUNCATED:
                await self._write(_chunk(b'data: {"id": "x", "choices": [{"delta": {"content": "never'))
            case Fault.ERROR:
                await self._write(_chunk(b'data: {"error": {"message": "scripted"}}\n\n'))
        self._end()

    async def _event(self, delta: dict, finish: str | None = None, usage: dict | None = None) -> None:
        size = len(delta.get("content", "").encode())
        event: dict = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        if usage is not None:
            event["usage"] = usage
        await self._sse(event)
        self._note(usage, size)

    def _note(self, usage: dict | None, size: int) -> None:
        before, last, after = self.marks[-1]
        self.marks.append([before + size, *((last, after + size) if usage is None else (usage, 0))])

    async def _sse(self, event: dict) -> None:
        await self._write(_chunk(b"data: " + orjson.dumps(event) + b"\n\n"))

    def _whole(self) -> dict:
        script = self.script
        usage = {} if script.report is Report.NONE else {"usage": _usage(script, len(script.pieces) * self._choices)}
        if self._embedding:
            return {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], **usage}
        return {"id": "x", "choices": [self._choice(index) for index in range(self._choices)], **usage}

    def _choice(self, index: int) -> dict:
        text = "".join(self.script.pieces)
        message: dict = {"role": "assistant", "content": text}
        if self.script.tool_call:
            call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"index": index, "message": message, "finish_reason": self.script.finish_reason}

    async def _answer(self, body: dict, status: int = 200, retry_after: str = "") -> None:
        text = orjson.dumps(body)
        await self._write(_head(status, len(text), retry_after) + text)

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)

    async def _write(self, text: bytes) -> None:
        if self._reader.at_eof() or self._writer.is_closing():
            raise _Gone
        self._writer.write(text)
        await self._writer.drain()

    def _end(self) -> None:
        self.keep = False
        self._writer.close()


def _usage(script: Script, output_tokens: int) -> dict:
    prompt: object = script.input_tokens
    completion: object = output_tokens
    cached = reasoning = written = 0
    match script.report:
        case Report.NEGATIVE:
            prompt, completion = -script.input_tokens, -1
        case Report.TEXT:
            prompt, completion = "some", "more"
        case Report.ABSURD:
            prompt = completion = 10**15
        case Report.ABOVE:
            prompt, completion = 700_000, 900_000
        case Report.INCONSISTENT:
            written, reasoning = script.input_tokens + 500, output_tokens + 500
            cached = script.input_tokens // 3 if script.input_tokens % 2 else script.input_tokens + 500
        case _:
            cached, written = script.input_tokens // 2, script.input_tokens // 3
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {
            "cached_tokens": cached,
            "cache_write_tokens": written,
            "cache_write_tokens_details": {"ttl_30m_tokens": written - written // 2, "ttl_12h_tokens": written // 2},
        },
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _bytes_of(script: Script) -> int:
    size = len("".join(script.pieces).encode())
    return size + 1 if script.tool_call else size  # the name of its function


def _chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


def _head(status: int, length: int, retry_after: str = "") -> bytes:
    extra = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    return f"HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n{extra}Content-Length: {length}\r\n\r\n".encode()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--ports", required=True)
    given = parser.parse_args()
    log = os.open(given.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    providers = Providers(given.seed, given.calls, log)
    servers = [
        await asyncio.start_server(providers.handler(name), "127.0.0.1", int(port), backlog=1024)
        for name, port in zip(PROVIDERS, given.ports.split(","), strict=True)
    ]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(providers.beat(), *(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
