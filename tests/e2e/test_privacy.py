"""Rule D12: what is said to a model, and what it answers, is nowhere but in the answer, unless it is encrypted."""

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import orjson
import pytest
import redis.asyncio

from models.database import Database
from providers.base import Upload
from providers.multipart import write_form
from tests.e2e.collector import Collector, collector_double
from tests.e2e.echo import echo_provider
from tests.processes import Running, gateway_env, start, start_gateway
from tests.seeding import Seeded, apply_catalog, seed_workspace

MARKER = "marker-5f1d-in-the-prompt"
WORDS = "Tell me of " + MARKER
CALL = "mutation($input: ModelCallInput!) { callModel(input: $input) { call { id error { message } } userErrors { message } } }"
STREAM = (
    "subscription($input: ModelCallInput!) { streamModel(input: $input) { __typename ... on CallDelta { content } } }"
)
INLINE = """mutation { callModel(input: { model: "sandbox-chat", payload: { chat: { messages: [{ role: USER, content: "%s" }] } } })
{ call { id } userErrors { message } } }"""


@dataclass
class Place:
    gateway: Running
    env: dict[str, str]
    directory: Path
    pg: asyncpg.Connection
    redis: redis.asyncio.Redis
    seeded: Seeded
    heard: list[bytes]
    collector: Collector
    worker_lines: list[str] = field(default_factory=list)

    async def work(self) -> None:
        """The worker, until nothing is due."""
        worker = await start(sys.executable, "-m", "app", "worker", "--once", env=self.env)
        assert await worker._ended() == 0, worker.lines
        self.worker_lines += worker.lines

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, bytes]:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"Authorization": f"Bearer {self.seeded.api_key}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.gateway.url + path, data=content, headers=given) as answer,
        ):
            return answer.status, await answer.read()

    async def leave(self, path: str, body: object) -> None:
        """Read the beginning of a stream and go."""
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.seeded.api_key}"}) as session:
            answer = await session.post(self.gateway.url + path, json=body)
            await answer.content.readany()
            answer.close()

    async def rows(self) -> AsyncIterator[tuple[str, object]]:
        """Every value of every table, with the name of its column."""
        names = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information)'"
        for (name,) in await self.pg.fetch(names):
            for row in await self.pg.fetch(f"SELECT * FROM {name}"):
                for column, value in row.items():
                    yield f"{name}.{column}", value

    async def remembered(self) -> AsyncIterator[tuple[str, object]]:
        """Every key and value of Redis, and every message that was published."""
        readers = {
            b"string": self.redis.get,
            b"hash": self.redis.hgetall,
            b"list": lambda key: self.redis.lrange(key, 0, -1),
            b"set": self.redis.smembers,
            b"zset": lambda key: self.redis.zrange(key, 0, -1),
            b"stream": self.redis.xrange,
        }
        async for key in self.redis.scan_iter():
            yield "redis key", key
            kind = await self.redis.type(key)
            if kind != b"none":  # it may have lapsed since
                yield f"redis {key!r}", await readers[kind](key)
        for message in self.heard:
            yield "redis channel", message

    def files(self) -> Iterator[tuple[str, object]]:
        for path in self.directory.rglob("*"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # it may be gone since
                yield str(path), path.read_bytes()

    async def leaks(self, marker: str = MARKER) -> set[str]:
        """Where the marker is in clear."""
        found = {"log" for line in [*self.gateway.lines, *self.worker_lines] if marker in line}
        found |= {"trace" for raw in self.collector.raw if marker in shown(raw)}
        found |= {where for where, value in self.files() if marker in shown(value)}
        found |= {where async for where, value in self.rows() if marker in shown(value)}
        return found | {where async for where, value in self.remembered() if marker in shown(value)}


def shown(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@pytest.fixture
async def place(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 20_000_000_000_000)
    await database.close()
    async with echo_provider() as echo, collector_double() as collector, redis.asyncio.from_url(redis_url) as client:
        env = gateway_env(
            database_url, redis_url, tmp_path, TOLLGATE_SANDBOX_URL=echo.url, TOLLGATE_LOG_LEVEL="debug", TOLLGATE_HOLD_TTL_S="5",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50",
        )  # fmt: skip
        gateway = await start_gateway(env)
        pg = await asyncpg.connect(database_url)
        heard: list[bytes] = []

        async def listen() -> None:
            async with client.pubsub() as channels:
                await channels.psubscribe("*")
                async for message in channels.listen():
                    heard.append(repr(message).encode())

        listening = asyncio.create_task(listen())
        async with asyncio.timeout(30):
            while not heard:  # that it listens
                await asyncio.sleep(0.01)
        yield Place(gateway, env, tmp_path, pg, client, seeded, heard, collector)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await pg.close()
        await gateway.stop()


def chat(**metadata: str) -> dict:
    messages = [{"role": "user", "content": WORDS}]
    return {"model": "sandbox-chat", "max_tokens": 50, "messages": messages, "metadata": metadata}


def respond(**metadata: str) -> dict:
    return {"model": "sandbox-chat", "max_output_tokens": 50, "input": WORDS, "metadata": metadata}


FAILURES = (
    *({"status": status} for status in ("400", "401", "404", "413", "422", "429", "500", "503")),
    {"garbage": "1"},
    *({"error_in_answer": code} for code in ("400", "500")),
)


async def call_in_every_way(place: Place) -> None:
    """What succeeds echoes the marker to its caller, which shows that it went all the way."""
    for key in ({}, {"Idempotency_Key": "k"}):
        suffix = {name: f"{value}-{{}}" for name, value in key.items()}

        def named(way: str, suffix: dict = suffix) -> dict:
            return {name: value.format(way) for name, value in suffix.items()}

        for _ in range(2):
            status, text = await place.post("/v1/chat/completions", chat(), **named("chat"))
            assert (status, MARKER in text.decode()) == (200, True), text
            status, text = await place.post("/v1/chat/completions", {**chat(), "stream": True}, **named("stream"))
            assert (status, MARKER in text.decode()) == (200, True), text
            for stream in (False, True):
                status, text = await place.post("/v1/responses", {**respond(), "stream": stream}, **named(f"response-{stream}"))  # fmt: skip
                assert (status, MARKER in text.decode()) == (200, True), text
            status, text = await place.post("/v1/embeddings", {"model": "sandbox-embedding", "input": WORDS}, **named("embed"))  # fmt: skip
            assert status == 200, text
            image = {"model": "sandbox-image", "prompt": WORDS, "n": 1}
            status, text = await place.post("/v1/images/generations", image, **named("image"))
            assert (status, MARKER in text.decode()) == (200, True), text
        failing = []  # asked at once: many are tried again after a pause
        for number, failure in enumerate(FAILURES):
            for stream in (False, True):
                way = f"fail-{number}-{stream}"
                failing += [
                    fail(place, failure, "/v1/responses", {**respond(**failure), "stream": stream}, named(f"r-{way}")),
                    fail(place, failure, "/v1/chat/completions", {**chat(**failure), "stream": stream}, named(way)),
                ]
        await asyncio.gather(*failing)
        status, text = await place.post("/v1/chat/completions", {**chat(breaks="1"), "stream": True}, **named("breaks"))
        assert status == 200 and b'"error"' in text
        status, text = await place.post("/v1/responses", {**respond(breaks="1"), "stream": True}, **named("r-breaks"))
        assert status == 200 and b"response.failed" in text
        embed = {"model": "sandbox-embedding", "input": WORDS, "metadata": {"status": "400"}}
        assert (await place.post("/v1/embeddings", embed, **named("embed-fail")))[0] == 400
    for retry in ("0", "1", "0"):
        sdk = {"X_Stainless_Retry_Count": retry, "X_Tollgate_Cache": "on"}
        status, text = await place.post("/v1/chat/completions", chat(), **sdk)
        assert (status, MARKER in text.decode()) == (200, True), text
    await place.leave("/v1/chat/completions", {**chat(slow="1"), "stream": True})


async def fail(place: Place, failure: dict, path: str, body: dict, headers: dict) -> None:
    status, text = await place.post(path, body, **headers)
    assert status >= 400, (failure, text)


async def speak_and_hear(place: Place) -> None:
    """Whole and streamed, kept for a repeat and not, to the end and left."""
    spoken = {"model": "sandbox-audio", "voice": "alloy", "input": WORDS}
    recording = Upload(f"{MARKER}.mp3", "audio/mpeg", WORDS.encode())
    kind = "multipart/form-data; boundary=b"
    for number in range(2):
        for way, more in (("sound", {}), ("events", {"stream_format": "sse"})):
            kept = {"Idempotency_Key": f"speak-{way}"} if number else {}
            for _ in range(2):
                status, sound = await place.post("/v1/audio/speech", {**spoken, **more}, **kept)
                assert (status, MARKER.encode() in sound) == (200, way == "sound"), sound
        for stream in (False, True):
            kept = {"Idempotency_Key": f"hear-{stream}"} if number else {}
            fields = {"model": "sandbox-transcription", "prompt": WORDS} | ({"stream": "true"} if stream else {})
            for _ in range(2):
                form = write_form(fields, recording, "b")
                status, text = await place.post("/v1/audio/transcriptions", form, Content_Type=kind, **kept)
                assert (status, MARKER in text.decode()) == (200, True), text
    for failure in ({"status": "400"}, {"garbage": "1"}, {"error_in_answer": "500"}):
        assert (await place.post("/v1/audio/speech", {**spoken, "metadata": failure}))[0] >= 400
    await place.leave("/v1/audio/speech", {**spoken, "metadata": {"slow": "1"}})


async def call_over_graphql(place: Place) -> None:
    payload = {"chat": {"messages": [{"role": "USER", "content": WORDS}]}}
    for number, model in enumerate(("sandbox-chat", "sandbox-image", "no-such-model")):
        asked = {"input": {"model": model, "payload": payload, "idempotencyKey": f"g-{number}"}}
        status, text = await place.post("/graphql", {"query": CALL, "variables": asked})
        assert status == 200, text
        events = await place.post("/graphql", {"query": STREAM, "variables": {"input": {**asked["input"], "idempotencyKey": None}}}, Accept="text/event-stream")  # fmt: skip
        assert (MARKER in events[1].decode()) == (number == 0), events
    failing = {"input": {"model": "sandbox-chat", "payload": {"custom": chat(status="400")}}}
    status, text = await place.post("/graphql", {"query": CALL, "variables": failing})
    answer = orjson.loads(text)["data"]["callModel"]
    assert MARKER in answer["userErrors"][0]["message"], answer
    assert answer["call"]["error"]["message"] == "the provider refused the request"
    inline = INLINE % WORDS
    digest = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(inline.encode()).hexdigest()}}
    assert (await place.post("/graphql", {"query": inline, "extensions": digest}))[0] == 200
    status, text = await place.post("/graphql", {"extensions": digest})
    assert orjson.loads(text)["data"]["callModel"]["call"], text


async def call_in_a_batch(place: Place) -> None:
    lines = [
        orjson.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})
        for name, body in ((MARKER, chat()), ("refused", chat(status="400")))
    ]
    for content in (b"\n".join(lines), f'{{"{MARKER}'.encode()):
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", content, filename="calls.jsonl")
        authorization = {"Authorization": f"Bearer {place.seeded.api_key}"}
        async with aiohttp.ClientSession(headers=authorization) as session:
            async with session.post(f"{place.gateway.url}/v1/files", data=form) as answer:
                file = await answer.json()
            asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            async with session.post(f"{place.gateway.url}/v1/batches", json=asked) as answer:
                assert answer.status == 200


async def send_what_cannot_be(place: Place) -> None:
    for raw in (f'{{"{MARKER}', f'["{MARKER}"]', f'{{"model": 7, "messages": "{MARKER}"}}'):
        assert (await place.post("/v1/chat/completions", raw.encode()))[0] == 400
    assert (await place.post("/v1/chat/completions", {**chat(), "max_tokens": -1}))[0] == 400
    assert (await place.post("/v1/chat/completions", {**chat(), "messages": MARKER}))[0] == 400
    assert (await place.post("/v1/chat/completions", chat(), Authorization="Bearer no"))[0] == 401
    for document in (f'{{ unknown(word: "{MARKER}") }}', f'{{ "{MARKER}', f'{{ workspace(id: "{MARKER}") {{ id }} }}'):
        status, text = await place.post("/graphql", {"query": document, "variables": {"x": MARKER}})
        assert status in {200, 400}, text
    wrong = {"input": {"model": "sandbox-chat", "payload": {"chat": {"messages": MARKER}}}}
    assert b"errors" in (await place.post("/graphql", {"query": CALL, "variables": wrong}))[1]


@pytest.mark.slow
async def test_D12_a_marker_in_prompts_is_in_no_log_table_trace_file_or_redis_value(place: Place) -> None:
    await call_in_every_way(place)
    await speak_and_hear(place)
    await call_over_graphql(place)
    await send_what_cannot_be(place)
    await call_in_a_batch(place)
    async with asyncio.timeout(30):
        while await place.pg.fetchval("SELECT count(*) FROM holds"):
            await asyncio.sleep(0.1)
    assert (await place.post("/v1/chat/completions", chat(), traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01"))[0] == 200
    await place.work()
    assert [row[0] for row in await place.pg.fetch("SELECT status FROM batches ORDER BY id")] == [
        "IN_PROGRESS",
        "FAILED",
    ]
    await place.work()
    assert await place.pg.fetchrow("SELECT completed_count, failed_count FROM batches ORDER BY id LIMIT 1") == (1, 1)
    await place.collector.of_trace("ab" * 16)  # the last call's: those before it were exported too
    assert await place.leaks() == set()
    assert await place.pg.fetchval("SELECT count(*) FROM call_outputs") > 0  # sealed, for repeats
    refused = await place.pg.fetch("SELECT DISTINCT error_message FROM calls WHERE error_code = 'UPSTREAM_REJECTED'")
    assert [row[0] for row in refused] == ["the provider refused the request"]


async def test_the_search_for_the_marker_finds_what_is_there(place: Place) -> None:
    await place.pg.execute("UPDATE workspaces SET name = $1", MARKER)
    await place.pg.execute(
        "INSERT INTO call_outputs (call_id, workspace_id, key_version, sealed, created_at) VALUES ($1, $1, 1, $2, now())",
        place.seeded.workspace_id, MARKER.encode(),
    )  # fmt: skip
    await place.redis.hset("planted", "field", MARKER)
    await place.redis.publish("channel", MARKER)
    (place.directory / "journal" / "planted").write_text(MARKER)
    place.collector.raw.append(MARKER.encode())
    place.gateway.lines.append(f"INFO {MARKER}")
    async with asyncio.timeout(30):
        while not any(MARKER.encode() in message for message in place.heard):
            await asyncio.sleep(0.01)
    where = {name.split("(")[0] for name in await place.leaks()}
    assert {
        "log",
        "trace",
        "public.workspaces.name",
        "public.call_outputs.sealed",
        "redis b'planted'",
        "redis channel",
    } <= where
    assert any(name.endswith("planted") for name in where)
