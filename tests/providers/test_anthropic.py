"""Anthropic's adapter against a scripted server: what is sent, what is read, and how it fails."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.anthropic import AnthropicProvider
from providers.anthropic_usage import usage_of_anthropic
from providers.base import Operation, ProviderRequest, Timeouts, Usage
from providers.errors import (
    ProviderNotConfigured,
    UpstreamAuthFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.registry import ProviderKind, ProviderSpec, Registry
from tests.providers.claude import TEXT, THINKING, TOOL, USAGE, events, failure, message, refused, sse, stream
from tests.providers.upstreams import KEY, STREAM_HEAD, answer, call, chunk, scripted

BELIEVED = Usage(input_tokens=15, cached_input_tokens=10, output_tokens=45, cache_write_input_tokens=3)
INPUT = replace(BELIEVED, output_tokens=0)


@pytest.fixture
def claude_at(transport):
    def make(url: str, **settings) -> AnthropicProvider:
        return AnthropicProvider("claude", base_url=url, api_key=KEY, transport=transport, **settings)

    return make


def ask(*headers, **body) -> ProviderRequest:
    base = {"model": "public", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    return ProviderRequest(Operation.MESSAGES, "claude-up", {**base, **body}, "req-1", vendor_headers=headers)


async def read(opened) -> list:
    return [each async for each in opened]


async def test_a_message_goes_and_comes_unchanged_but_for_the_model(claude_at):
    told = message([THINKING, TEXT, TOOL], "tool_use", surprise=[1])
    async with scripted(answer(orjson.dumps(told))) as upstream:
        given_body = {
            "top_k": 5,
            "unheard_of": {"a": 1},
            "system": [{"type": "text", "text": "s", "cache_control": {}}],
        }
        got = await claude_at(upstream.url).complete(ask(("anthropic-beta", "b-1"), stream=False, **given_body))
    heard = upstream.requests[0]
    assert heard.json == {
        "model": "claude-up",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hi"}],
        **given_body,
    }
    head = heard.head.lower()
    assert head.startswith("post /v1/messages http/1.1")
    assert f"x-api-key: {KEY}\r\n" in head
    assert "anthropic-version: 2023-06-01\r\n" in head
    assert "anthropic-beta: b-1\r\n" in head
    assert "authorization" not in head
    assert got.body == told
    assert got.usage == BELIEVED
    texts = (THINKING["thinking"], TEXT["text"], TOOL["name"])
    assert got.content_bytes == sum(len(text.encode()) for text in texts) + len(orjson.dumps(TOOL["input"]))


async def test_a_stream_is_forwarded_event_by_event_its_input_told_with_the_first_output_and_its_usage_at_the_end(
    claude_at,
):
    async with scripted(stream(events([THINKING, TEXT, TOOL], "tool_use"))) as upstream:
        chunks = await read(await claude_at(upstream.url).stream(ask()))
    assert upstream.requests[0].json["stream"] is True
    assert [each.usage for each in chunks if each.usage] == [INPUT, BELIEVED]
    assert next(each for each in chunks if each.content_bytes).usage == INPUT
    assert [each.done for each in chunks] == [False] * (len(chunks) - 1) + [True]
    sent = events([THINKING, TEXT, TOOL], "tool_use")[:-3]
    assert [orjson.loads(each.data) for each in chunks[:-2]] == sent
    last = chunks[-2].parsed
    assert last["delta"]["stop_reason"] == "tool_use"
    assert last["usage"] == USAGE
    whole = (
        len(TEXT["text"].encode()) + len(THINKING["thinking"]) + len(TOOL["name"]) + len(orjson.dumps(TOOL["input"]))
    )
    assert sum(each.content_bytes for each in chunks) == whole


@pytest.mark.parametrize("told", [None, {}, {"output_tokens": None}, {"input_tokens": 2}])
@pytest.mark.parametrize("asked", [ask, call])
async def test_the_output_that_a_stream_begins_with_is_not_taken_for_all_of_it(claude_at, asked, told):
    """`message_start` says 1 token of output; where the end says no number, no output was reported."""
    sent = [{**each, "usage": told} if each["type"] == "message_delta" else each for each in events()]
    async with scripted(stream(sent)) as upstream:
        chunks = await read(await claude_at(upstream.url).stream(asked()))
    assert [each.usage for each in chunks if each.usage] == [INPUT]
    assert sum(each.content_bytes for each in chunks) == len(TEXT["text"].encode())
    assert not [each for each in chunks if each.parsed and (each.parsed.get("usage") or {}).get("completion_tokens")]


async def test_each_event_is_given_before_the_next_one_is_written(claude_at):
    told = events()
    may_write = asyncio.Semaphore(0)

    async def step_by_step(reader, writer):
        writer.write(STREAM_HEAD)
        for event in told:
            await may_write.acquire()
            writer.write(chunk(sse(event)))
        writer.write(b"0\r\n\r\n")

    async with scripted(step_by_step) as upstream:
        may_write.release()
        opened = await claude_at(upstream.url).stream(ask())
        for event in told[:-2]:
            got = await asyncio.wait_for(anext(opened), 30)
            assert got.parsed["type"] == event["type"]
            may_write.release()
        may_write.release()
        assert (await asyncio.wait_for(anext(opened), 30)).done


async def test_a_chat_is_translated_and_so_is_its_answer(claude_at):
    async with scripted(answer(orjson.dumps(message([THINKING, TEXT, TOOL], "tool_use")))) as upstream:
        got = await claude_at(upstream.url).complete(call("hello", max_completion_tokens=9))
    heard = upstream.requests[0].json
    assert heard["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    assert (heard["model"], heard["max_tokens"]) == ("upstream-model", 9)
    choice = got.body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == TEXT["text"]
    assert choice["message"]["reasoning_content"] == THINKING["thinking"]
    function = choice["message"]["tool_calls"][0]["function"]
    assert (function["name"], orjson.loads(function["arguments"])) == ("weather", TOOL["input"])
    assert got.body["usage"]["prompt_tokens"] == 15
    assert got.body["usage"]["prompt_tokens_details"]["cached_tokens"] == 10
    assert got.usage == BELIEVED


async def test_a_streamed_chat_is_translated_chunk_by_chunk(claude_at):
    async with scripted(stream(events([THINKING, TEXT, TOOL], "tool_use"))) as upstream:
        chunks = await read(await claude_at(upstream.url).stream(call()))
    deltas = [each.parsed["choices"][0]["delta"] for each in chunks if each.parsed and each.parsed["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == TEXT["text"]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == THINKING["thinking"]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert {each["index"] for each in calls} == {0}
    assert calls[0]["id"] == "toolu_1"
    assert orjson.loads("".join(each["function"]["arguments"] for each in calls)) == TOOL["input"]
    assert chunks[-3].parsed["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-2].usage == BELIEVED
    assert chunks[-1].done


async def test_a_limit_nobody_set_is_what_was_reckoned_with(claude_at):
    async with scripted(answer(orjson.dumps(message()))) as upstream:
        for reckoned, expected in ((77, 77), (None, 4_096)):
            request = ProviderRequest(
                Operation.CHAT, "m", {"messages": [{"role": "user", "content": "x"}]}, "r", max_output_tokens=reckoned
            )
            await claude_at(upstream.url).complete(request)
            assert upstream.requests[-1].json["max_tokens"] == expected


FAILURES = [
    (refused("400 X", "invalid_request_error"), UpstreamRejected),
    (refused("413 X", "request_too_large"), UpstreamRejected),
    (refused("401 X", "authentication_error"), UpstreamAuthFailed),
    (refused("403 X", "permission_error"), UpstreamAuthFailed),
    (refused("500 X", "api_error"), UpstreamUnavailable),
    (refused("529 X", "overloaded_error"), UpstreamUnavailable),
    (refused("504 X", "timeout_error"), UpstreamTimeout),
    (answer(b"<html>", "200 OK"), UpstreamGarbage),
    (answer(b"[]", "200 OK"), UpstreamGarbage),
    (answer(b'{"type":"message","content":"x"}', "200 OK"), UpstreamGarbage),
    (answer(orjson.dumps(failure("overloaded_error", KEY))), UpstreamUnavailable),
]


@pytest.mark.parametrize(("script", "kind"), FAILURES)
async def test_each_failure_has_its_name_and_none_shows_the_key(claude_at, script, kind):
    async with scripted(script) as upstream:
        for operation in (ask(), call()):
            with pytest.raises(kind) as caught:
                await claude_at(upstream.url).complete(operation)
            assert KEY not in str(vars(caught.value))


async def test_the_wait_of_a_rate_limit_is_kept(claude_at):
    async with scripted(refused("429 X", "rate_limit_error", "Retry-After: 7\r\n")) as upstream:
        with pytest.raises(UpstreamRateLimited) as caught:
            await claude_at(upstream.url).stream(ask())
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", UpstreamUnavailable),
        ("rate_limit_error", UpstreamRateLimited),
        ("invalid_request_error", UpstreamRejected),
        ("authentication_error", UpstreamAuthFailed),
        ("timeout_error", UpstreamTimeout),
        ("what_error", UpstreamUnavailable),
    ],
)
async def test_an_error_inside_a_stream_says_what_it_is_and_whether_output_came_before(claude_at, kind, expected):
    for before, produced in ((2, False), (5, True)):
        async with scripted(stream([*events()[:before], failure(kind)])) as upstream:
            with pytest.raises(expected) as caught:
                await read(await claude_at(upstream.url).stream(ask()))
        assert caught.value.produced is produced


@pytest.mark.parametrize("told", [events()[:6], events()[:4], []])
async def test_a_stream_that_ends_in_the_middle_is_no_answer(claude_at, told):
    async with scripted(stream(told)) as upstream:
        with pytest.raises(UpstreamGarbage):
            await read(await claude_at(upstream.url).stream(ask()))


async def test_a_clean_end_after_the_stop_reason_is_taken_for_one(claude_at):
    async with scripted(stream(events()[:-2])) as upstream:
        assert (await read(await claude_at(upstream.url).stream(ask())))[-1].done


async def test_a_stream_left_early_closes_the_connection(claude_at):
    async def endless(reader, writer):
        writer.write(STREAM_HEAD)
        while not writer.is_closing():
            writer.write(chunk(sse({"type": "ping"})))
            await writer.drain()

    async with scripted(endless) as upstream:
        opened = await claude_at(upstream.url).stream(ask())
        await anext(opened)
        await opened.aclose()
        await asyncio.wait_for(upstream.ended.wait(), 30)


async def test_silence_times_out(claude_at):
    async def hang(reader, writer):
        await reader.read()

    async with scripted(hang) as upstream:
        with pytest.raises(UpstreamTimeout, match="first byte"):
            await claude_at(upstream.url, timeouts=Timeouts(first_byte_s=0.1)).complete(ask())


async def test_other_work_than_chats_is_left_to_the_next_provider(claude_at):
    with pytest.raises(ProviderNotConfigured) as caught:
        await claude_at("http://127.0.0.1:9").complete(call(operation=Operation.EMBEDDING, input="x"))
    assert caught.value.elsewhere


async def test_the_catalog_names_it_by_kind_and_its_variables():
    spec = ProviderSpec("c", ProviderKind.ANTHROPIC, "https://api.example", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
    async with scripted(answer(orjson.dumps(message()))) as upstream:
        env = {"ANTHROPIC_BASE_URL": upstream.url.removesuffix("/v1"), "ANTHROPIC_API_KEY": KEY}
        registry = Registry.from_specs([spec], env)
        assert registry.unconfigured() == {}
        assert (await registry.get("c").complete(ask())).usage == BELIEVED
        await registry.aclose()
    registry = Registry.from_specs([spec], {})
    assert "ANTHROPIC_API_KEY" in registry.unconfigured()["c"]
    await registry.aclose()


def test_thinking_is_a_part_of_the_output():
    usage = usage_of_anthropic({**USAGE, "output_tokens_details": {"thinking_tokens": 30}})
    assert (usage.output_tokens, usage.reasoning_tokens) == (45, 30)


@pytest.mark.parametrize(
    "change",
    [
        {"input_tokens": -1},
        {"output_tokens": -1},
        {"cache_read_input_tokens": -5},
        {"cache_creation_input_tokens": 10**12},
        {"output_tokens": True},
        {"output_tokens": None},
        {"input_tokens": "many"},
    ],
)
def test_usage_that_cannot_be_is_not_believed(change):
    assert usage_of_anthropic({**USAGE, **change}) is None


@pytest.mark.parametrize(
    ("written", "lives", "long"),
    [
        (60, {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40}, 40),
        (60, {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 0}, 0),
        (60, {"ephemeral_1h_input_tokens": 40}, 40),
        (60, None, 0),
        (60, {}, 0),
        (60, [1], 0),
        (60, {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 40}, 10),  # more than the total
        (60, {"ephemeral_5m_input_tokens": 70, "ephemeral_1h_input_tokens": 40}, 0),
        (60, {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 900}, 60),
        (60, {"ephemeral_5m_input_tokens": "x", "ephemeral_1h_input_tokens": -4}, 0),
        (None, {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40}, 0),  # the total is believed
    ],
)
def test_of_what_was_written_to_the_cache_the_total_is_believed_and_the_lives_within_it(written, lives, long):
    usage = usage_of_anthropic({**USAGE, "cache_creation_input_tokens": written, "cache_creation": lives})
    assert (usage.input_tokens, usage.cached_input_tokens) == (12 + (written or 0), 10)
    assert (usage.cache_write_input_tokens, usage.long_cache_write_input_tokens) == (written or 0, long)


async def test_a_stream_that_tells_the_lives_of_the_cache_at_its_beginning_only_keeps_them(claude_at):
    lives = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}
    told = events(usage={**USAGE, "cache_creation": lives})
    told[-3]["usage"] = {**USAGE, "cache_creation_input_tokens": 3}
    del told[-3]["usage"]["service_tier"]
    async with scripted(stream(told)) as upstream:
        chunks = await read(await claude_at(upstream.url).stream(ask()))
    last = [chunk.usage for chunk in chunks if chunk.usage is not None][-1]
    assert last == replace(BELIEVED, long_cache_write_input_tokens=2)


counts = st.none() | st.integers(-5, 2**40) | st.booleans() | st.sampled_from(["", "7", "x"]) | st.floats()


@given(
    st.dictionaries(
        st.sampled_from([*USAGE, "output_tokens_details", "cache_creation"]),
        counts
        | st.dictionaries(
            st.sampled_from(["thinking_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), counts
        ),
    )
)
def test_whatever_is_reported_what_is_believed_adds_up(payload):
    usage = usage_of_anthropic(payload)
    if usage is not None:
        assert 0 <= usage.cached_input_tokens <= usage.input_tokens - usage.cache_write_input_tokens
        assert 0 <= usage.long_cache_write_input_tokens <= usage.cache_write_input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens
