"""Jobs in the traces and figures of real processes: begun by a gateway, worked on and ended by a worker."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
import pytest

from kit.ids import encode_id, uuid7
from models.database import Database
from tests.e2e.collector import Collector, Seen, collector_double
from tests.gateway.job_shop import EXTRA, WEBHOOK_SECRET
from tests.processes import Running, free_port, gateway_env, start_gateway, start_sandbox, start_worker
from tests.seeding import CATALOG, Seeded, apply_catalog, seed_workspace

PARENT = "00f067aa0ba902b7"
START = "mutation($input: ModelCallInput!) { startCall(input: $input) { call { id } userErrors { message } } }"
STATUS = "query($id: ID!) { node(id: $id) { ... on ModelCall { status } } }"


@dataclass
class Seeing:
    gateway: Running
    worker_url: str
    collector: Collector
    seeded: Seeded
    log: Path

    async def ask(self, document: str, trace_id: str = "", **variables: object) -> dict:
        headers = {"Authorization": f"Bearer {self.seeded.api_key}"}
        if trace_id:
            headers["traceparent"] = f"00-{trace_id}-{PARENT}-01"
        body = {"query": document, "variables": variables}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self.gateway.url}/graphql", json=body) as answer,
        ):
            told = await answer.json()
        assert "errors" not in told, told
        return told["data"]

    async def start(self, model: str, trace_id: str, **metadata: str) -> str:
        asked = {"prompt": "Secret words", "seconds": 3, "metadata": {"sandbox_delay_ms": "300", **metadata}}
        told = (await self.ask(START, trace_id, input={"model": model, "payload": {"custom": asked}}))["startCall"]
        assert told["userErrors"] == []
        return told["call"]["id"]

    async def ended(self, call_id: str) -> str:
        async with asyncio.timeout(60):
            while True:
                status = (await self.ask(STATUS, id=call_id))["node"]["status"]
                if status not in {"QUEUED", "RUNNING"}:
                    return status
                await asyncio.sleep(0.1)

    async def spans(self, trace_id: str) -> list[Seen]:
        """Of the trace, once the job's end is there."""
        await self.collector.until(lambda span: span.trace_id == trace_id and span.name == "tollgate.job.end")
        await self.collector.until(lambda span: span.trace_id == trace_id and span.kind == "SERVER")
        return [span for span in self.collector.spans if span.trace_id == trace_id]

    def webhooks(self) -> list[int]:
        lines = map(orjson.loads, self.log.read_text().splitlines())
        return [line["status"] for line in lines if line.get("event") == "webhook"]

    async def figure(self, url: str, name: str) -> float:
        """By its line's beginning; 0 where there is no such line."""
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
async def seeing(database_clones, valkey_server, tmp_path_factory) -> AsyncIterator[Seeing]:
    database_url = database_clones.url_of(await database_clones.take())
    directory = tmp_path_factory.mktemp("seeing")
    database = await Database.open(database_url, max_size=2)
    catalog = directory / "catalog.toml"
    catalog.write_text(CATALOG.read_text(encoding="utf-8") + EXTRA, encoding="utf-8")
    await apply_catalog(database, catalog)
    seeded = await seed_workspace(database, 1_000_000_000)
    await database.close()
    log = directory / "log"
    sandbox = await start_sandbox("--log", str(log), "--webhook-secret", "secret of the sandbox")
    port, figures_port = free_port(), free_port()
    async with collector_double() as collector:
        env = gateway_env(
            database_url,
            valkey_server.redis_url,
            directory,
            PRINTS_URL=sandbox.url,
            PRINTS_SECRET=WEBHOOK_SECRET,
            TOLLGATE_PUBLIC_URL=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        gateway, worker = await asyncio.gather(
            start_gateway({**env, "TOLLGATE_PORT": str(port)}),
            start_worker(env, "--metrics-port", str(figures_port)),
        )
        yield Seeing(gateway, f"http://127.0.0.1:{figures_port}", collector, seeded, log)
        assert await worker.stop() == 0
        assert await gateway.stop() == 0
        assert not [line for line in gateway.lines + worker.lines if "Traceback" in line or "ERROR" in line]
    await sandbox.stop()


async def test_a_job_is_one_trace_from_its_caller_over_the_worker_to_the_provider_and_its_end(seeing: Seeing) -> None:
    trace_id = uuid7().hex
    call_id = await seeing.start("clip", trace_id)
    assert await seeing.ended(call_id) == "SUCCEEDED"
    every = await seeing.spans(trace_id)
    named = {span.name: span for span in every}
    call, submit, end = named["generate_content clip"], named["tollgate.job.submit"], named["tollgate.job.end"]
    (provider,) = [span for span in every if span.kind == "CLIENT"]
    assert (call.kind, call.parent_id) == ("SERVER", PARENT)
    assert (submit.kind, end.kind) == ("CONSUMER", "CONSUMER")
    assert (submit.parent_id, end.parent_id) == (call.span_id, call.span_id)
    assert (provider.name, provider.parent_id) == ("generate_content a-video", submit.span_id)
    assert named["tollgate.settlement"].parent_id == end.span_id
    assert {"tollgate.admission", "tollgate.hold"} <= named.keys()
    for span in (call, submit, end):
        assert span.attributes["tollgate.call.id"] == call_id
        assert span.attributes["tollgate.workspace.id"] == encode_id("ws", seeing.seeded.workspace_id)
        assert span.attributes["tollgate.request.id"] == call.attributes["tollgate.request.id"]
        assert span.attributes["gen_ai.request.model"] == "clip"
        assert span.attributes["gen_ai.output.type"] == "video"
    assert submit.attributes["gen_ai.provider.name"] == provider.attributes["gen_ai.provider.name"] == "prints"
    assert end.attributes["tollgate.charged.micro_credits"] == 7_000_000
    assert end.attributes["tollgate.usage.estimated"] is False
    assert not any(span.failed for span in every)


async def test_a_job_that_fails_somewhere_says_so_by_a_word_of_ours_and_none_of_its_prompt(seeing: Seeing) -> None:
    trace_id = uuid7().hex
    assert await seeing.ended(await seeing.start("clip-elsewhere", trace_id)) == "SUCCEEDED"
    every = await seeing.spans(trace_id)
    tried = [span for span in every if span.kind == "CLIENT"]
    assert [span.attributes["gen_ai.provider.name"] for span in tried] == ["nowhere", "nowhere", "nowhere", "prints"]
    assert [span.attributes.get("error.type") for span in tried] == ["NotReached", "NotReached", "NotReached", None]
    trace_id = uuid7().hex
    assert await seeing.ended(await seeing.start("clip", trace_id, sandbox_outcome="fail")) == "FAILED"
    (end,) = [span for span in await seeing.spans(trace_id) if span.name == "tollgate.job.end"]
    assert (end.failed, end.attributes["error.type"]) == (True, "UPSTREAM_ERROR")
    assert not [raw for raw in seeing.collector.raw if b"ecret words" in raw]


async def test_a_fallbacks_webhook_is_verified_and_ends_the_job(seeing: Seeing) -> None:
    before = len(seeing.webhooks())
    assert await seeing.ended(await seeing.start("clip-elsewhere", "", sandbox_webhooks="2")) == "SUCCEEDED"
    async with asyncio.timeout(30):
        while len(seeing.webhooks()) < before + 2:
            await asyncio.sleep(0.05)
    assert seeing.webhooks()[before:] == [204, 204]


async def test_the_worker_counts_the_jobs_that_it_ends_and_the_tries_that_it_makes(seeing: Seeing) -> None:
    names = (
        'tollgate_calls_total{model="clip-elsewhere",status="SUCCEEDED"}',
        'tollgate_call_credits_total{model="clip-elsewhere"}',
        'tollgate_provider_attempts_total{outcome="unavailable",provider="nowhere"}',
        'tollgate_provider_seconds_count{provider="prints"}',
    )
    before = [await seeing.figure(seeing.worker_url, name) for name in names]
    assert await seeing.ended(await seeing.start("clip-elsewhere", "")) == "SUCCEEDED"
    async with asyncio.timeout(30):  # it counts a job a moment after that has ended for all
        while await seeing.figure(seeing.worker_url, names[1]) == before[1]:
            await asyncio.sleep(0.05)
    after = [await seeing.figure(seeing.worker_url, name) for name in names]
    grown = [now - was for now, was in zip(after, before, strict=True)]
    assert grown[:2] == [1, 6]
    assert grown[2] in {0, 1, 3}  # its circuit may be open by now, or so long that it is tried once
    assert grown[3] == 1
    assert await seeing.figure(seeing.gateway.url, names[0]) == 0
