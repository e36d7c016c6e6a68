"""Traces of calls, as a collector sees them: GenAI's names, the caller's trace, the provider's part, no prompt."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from kit.ids import encode_id, uuid7
from models.database import Database
from tests.e2e.collector import Collector, collector_double
from tests.e2e.echo import Echo, echo_provider
from tests.processes import Running, gateway_env, start_gateway
from tests.seeding import Seeded, apply_catalog, seed_workspace

PARENT = "00f067aa0ba902b7"
CALL = "mutation($input: ModelCallInput!) { callModel(input: $input) { call { id } userErrors { message } } }"


@dataclass
class Traced:
    gateway: Running
    echo: Echo
    collector: Collector
    seeded: Seeded

    async def post(self, body: dict, trace_id: str, *, path: str = "/v1/chat/completions", flags: str = "01", **headers: str):  # fmt: skip
        given = {"Authorization": f"Bearer {self.seeded.api_key}", **headers}
        given["traceparent"] = f"00-{trace_id}-{PARENT}-{flags}"
        async with aiohttp.ClientSession() as session, session.post(self.gateway.url + path, json=body, headers=given) as answer:  # fmt: skip
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.text()


@pytest.fixture(scope="module")
async def traced(database_clones, valkey_server, tmp_path_factory) -> AsyncIterator[Traced]:
    database_url = database_clones.url_of(await database_clones.take())
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 20_000_000_000_000)
    await database.close()
    async with echo_provider() as echo, collector_double() as collector:
        env = gateway_env(
            database_url,
            valkey_server.redis_url,
            tmp_path_factory.mktemp("traced"),
            TOLLGATE_SANDBOX_URL=echo.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_SERVICE_NAME="tollgate-test",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        gateway = await start_gateway(env)
        yield Traced(gateway, echo, collector, seeded)
        assert await gateway.stop() == 0
        assert not [line for line in gateway.lines if "Traceback" in line or "ERROR" in line], gateway.lines


def chat(**more: object) -> dict:
    return {
        "model": "sandbox-chat",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Secret words"}],
        **more,
    }


def new_trace() -> str:
    return uuid7().hex


async def test_a_call_is_one_trace_from_its_caller_through_to_the_provider(traced: Traced) -> None:
    trace_id = new_trace()
    status, headers, _ = await traced.post(chat(temperature=0.5), trace_id, tracestate="vendor=1")
    assert status == 200
    spans = await traced.collector.of_trace(trace_id)
    assert set(spans) == {"chat sandbox-chat", "tollgate.admission", "tollgate.hold", "tollgate.settlement"}
    every = [span for span in traced.collector.spans if span.trace_id == trace_id]
    (call,) = [span for span in every if span.kind == "SERVER"]
    (provider,) = [span for span in every if span.kind == "CLIENT"]
    assert call.parent_id == PARENT
    assert {span.parent_id for span in every if span is not call} == {call.span_id}
    assert len(every) == 5
    assert call.resource["service.name"] == "tollgate-test"
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sandbox",
        "gen_ai.request.model": "sandbox-chat",
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
    }
    assert provider.attributes == told
    assert {name: call.attributes[name] for name in told} == told
    assert call.attributes["tollgate.call.id"] == headers["x-tollgate-call-id"]
    assert call.attributes["tollgate.request.id"] == headers["x-request-id"]
    assert call.attributes["tollgate.workspace.id"] == encode_id("ws", traced.seeded.workspace_id)
    assert call.attributes["tollgate.charged.micro_credits"] > 0
    assert not any(span.failed for span in every)
    heard = {name.lower(): value for name, value in traced.echo.headers[-1].items()}
    assert heard["traceparent"] == f"00-{trace_id}-{provider.span_id}-01"
    assert heard["tracestate"] == "vendor=1"


async def test_what_was_read_from_a_cache_and_written_to_one_is_told_of_the_call_and_of_its_provider(
    traced: Traced,
) -> None:
    trace_id = new_trace()
    assert (await traced.post(chat(metadata={"caches": "1"}), trace_id))[0] == 200
    await traced.collector.of_trace(trace_id)
    both = [span for span in traced.collector.spans if span.trace_id == trace_id and span.kind in {"SERVER", "CLIENT"}]
    assert len(both) == 2
    for span in both:
        assert span.attributes["gen_ai.usage.input_tokens"] == 3
        assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 1
        assert span.attributes["gen_ai.usage.cache_creation.input_tokens"] == 2


async def test_a_stream_and_an_embedding_are_traced_to_their_end(traced: Traced) -> None:
    trace_id = new_trace()
    assert (await traced.post(chat(stream=True), trace_id))[0] == 200
    await traced.collector.of_trace(trace_id)
    every = [span for span in traced.collector.spans if span.trace_id == trace_id]
    assert sorted(span.kind for span in every) == ["CLIENT", "INTERNAL", "INTERNAL", "INTERNAL", "SERVER"]
    for span in every:
        if span.kind != "INTERNAL":
            assert span.attributes["gen_ai.request.stream"] is True
            assert span.attributes["gen_ai.usage.output_tokens"] == 4
    trace_id = new_trace()
    body = {"model": "sandbox-embedding", "input": "Secret words"}
    assert (await traced.post(body, trace_id, path="/v1/embeddings"))[0] == 200
    spans = await traced.collector.of_trace(trace_id)
    assert spans["embeddings sandbox-embedding"].attributes["gen_ai.operation.name"] == "embeddings"


async def test_what_fails_says_so_by_a_word_of_ours(traced: Traced) -> None:
    cases = (
        (chat(metadata={"status": "400"}), 400, "UPSTREAM_REJECTED", "UpstreamRejected", 400),
        (chat(metadata={"status": "503"}), 502, "UPSTREAM_ERROR", "UpstreamUnavailable", 503),
        (chat(metadata={"breaks": "1"}, stream=True), 200, "UPSTREAM_REJECTED", "UpstreamRejected", 400),
    )
    for body, status, of_call, of_provider, upstream_status in cases:
        trace_id = new_trace()
        assert (await traced.post(body, trace_id))[0] == status
        await traced.collector.of_trace(trace_id)
        every = [span for span in traced.collector.spans if span.trace_id == trace_id]
        (call,) = [span for span in every if span.kind == "SERVER"]
        provider = [span for span in every if span.kind == "CLIENT"][-1]  # where it was tried again, the last try
        assert (call.failed, call.attributes["error.type"]) == (True, of_call)
        assert (provider.failed, provider.attributes["error.type"]) == (True, of_provider)
        assert provider.attributes["http.response.status_code"] == upstream_status
    trace_id = new_trace()
    assert (await traced.post(chat(model="no-such-words"), trace_id))[0] == 404
    spans = await traced.collector.of_trace(trace_id)
    assert spans["chat"].attributes["error.type"] == spans["tollgate.admission"].attributes["error.type"] == "MODEL_NOT_FOUND"  # fmt: skip
    assert not [raw for raw in traced.collector.raw if b"ecret words" in raw or b"no-such-words" in raw]


async def test_a_graphql_call_joins_its_callers_trace_too(traced: Traced) -> None:
    trace_id = new_trace()
    payload = {"chat": {"messages": [{"role": "USER", "content": "Secret words"}]}}
    body = {"query": CALL, "variables": {"input": {"model": "sandbox-chat", "payload": payload}}}
    assert (await traced.post(body, trace_id, path="/graphql"))[0] == 200
    spans = await traced.collector.of_trace(trace_id)
    assert spans["tollgate.hold"].trace_id == trace_id


async def test_a_caller_that_does_not_sample_is_not_traced_and_the_provider_hears_so(traced: Traced) -> None:
    trace_id, after = new_trace(), new_trace()
    assert (await traced.post(chat(), trace_id, flags="00"))[0] == 200
    assert traced.echo.headers[-1]["traceparent"].endswith("-00")
    assert (await traced.post(chat(), after))[0] == 200
    await traced.collector.of_trace(after)
    assert not [span for span in traced.collector.spans if span.trace_id == trace_id]
    assert (await traced.post(chat(), "nonsense"))[0] == 200


async def test_without_an_endpoint_nothing_is_traced_or_sent_along(traced: Traced, database_url: str, redis_url: str, tmp_path: Path) -> None:  # fmt: skip
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 20_000_000_000_000)
    await database.close()
    gateway = await start_gateway(gateway_env(database_url, redis_url, tmp_path, TOLLGATE_SANDBOX_URL=traced.echo.url))
    untraced = Traced(gateway, traced.echo, traced.collector, seeded)
    assert (await untraced.post(chat(), new_trace()))[0] == 200
    assert not {"traceparent", "tracestate"} & {name.lower() for name in traced.echo.headers[-1]}
    assert await gateway.stop() == 0
