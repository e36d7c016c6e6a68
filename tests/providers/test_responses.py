"""OpenAI's Responses form over a real socket: sent and read as it is where the provider speaks it, translated where not."""

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.response_events import events_of_response
from gateway.response_so_far import ResponseSoFar
from providers.base import Operation, ProviderRequest, StreamChunk, Usage
from providers.chat_of_response import chat_of_response
from providers.errors import (
    NotInThisForm,
    ProviderError,
    UpstreamAuthFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from providers.openai_usage import usage_of_openai
from providers.response_content import bytes_of_response
from providers.response_of_chat import ResponseOfChat, response_of_chat
from providers.responses_to_chat import chat_of_request
from providers.sandbox import SandboxProvider
from tests.providers.gpt import (
    CALLED,
    CUSTOM,
    ITEMS,
    SAID,
    TEXT,
    THOUGHT,
    USAGE,
    event_text,
    events,
    response,
    streamed,
    whole,
)
from tests.providers.upstreams import KEY, STREAM_HEAD, answer, chunk, closing, scripted

ASKED = {
    "model": "public",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hi", "odd": 1}]},
        {"type": "reasoning", "id": "rs_0", "summary": []},
        THOUGHT,
        CALLED,
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ],
    "include": ["reasoning.encrypted_content"],
    "store": True,
    "metadata": {"a": "b"},
    "user": "u",
    "safety_identifier": "s",
    "surprise": {"a": [1]},
}
SEEN = Usage(1_200, 1_024, 400, 320)


def asking(**body) -> ProviderRequest:
    return ProviderRequest(Operation.RESPONSES, "up", {**ASKED, **body}, "req-1")


async def test_the_request_goes_as_it_came_but_for_model_store_and_what_only_refers(provider_at):
    expected = {**ASKED, "model": "up", "store": False, "input": [ASKED["input"][0], *ASKED["input"][2:]]}
    async with scripted(whole()) as upstream:
        got = await provider_at(upstream.url, responses=True).complete(asking(stream=True, stream_options={"a": 1}))
        assert upstream.requests[0].json == expected
        assert upstream.requests[0].head.startswith("POST /v1/responses HTTP/1.1")
    assert (got.body, got.usage, got.content_bytes) == (response(), SEEN, bytes_of_response(response()))
    async with scripted(streamed(events())) as upstream:
        told = [each async for each in await provider_at(upstream.url, responses=True).stream(asking(stream_options={"include_obfuscation": False}))]  # fmt: skip
        assert upstream.requests[0].json == {
            **expected, "stream": True, "stream_options": {"include_obfuscation": False}
        }  # fmt: skip
    assert [each.parsed for each in told] == events()
    assert [each.data for each in told] == [orjson.dumps(event) for event in events()]
    assert [each.usage for each in told if each.usage] == [SEEN]
    assert (told[-1].done, told[-1].content_bytes) == (True, 0)
    assert sum(each.content_bytes for each in told) == got.content_bytes


async def test_an_end_mark_behind_the_last_event_and_a_kept_connection_do_no_harm(provider_at):
    text = streamed(events(), chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    async with scripted(text) as upstream:
        provider = provider_at(upstream.url, responses=True)
        for _ in range(2):
            assert [each.parsed async for each in await provider.stream(asking())] == events()


async def test_items_that_come_whole_are_counted_once(provider_at):
    for told in (events(), [event for event in events() if not event["type"].endswith(".delta")]):
        async with scripted(streamed(told)) as upstream:
            chunks = [each async for each in await provider_at(upstream.url, responses=True).stream(asking())]
        assert sum(each.content_bytes for each in chunks) == bytes_of_response(response())


async def _read(stream, told: list[StreamChunk]) -> None:
    async for each in stream:
        told.append(each)


ERRORS = [
    ({"code": "server_error", "message": "no"}, UpstreamUnavailable),
    ({"code": "rate_limit_exceeded", "message": "no"}, UpstreamRateLimited),
    ({"code": "invalid_prompt", "message": "no"}, UpstreamRejected),
    ({"code": "image_too_large", "message": "no"}, UpstreamRejected),
    ({"code": "insufficient_quota", "message": "no"}, UpstreamAuthFailed),
    ({"code": None, "message": "no"}, UpstreamUnavailable),
    ({"code": 429, "message": "no"}, UpstreamRateLimited),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
async def test_a_failed_response_fails_by_its_code(provider_at, error, kind):
    failed = {**response((), None, "failed"), "error": error}
    half = events()[:8]
    texts = [
        answer(orjson.dumps(failed)),
        streamed([{"type": "error", "sequence_number": 0, **error}]),
        streamed([{"type": "response.failed", "response": failed, "sequence_number": 0}]),
    ]
    async with scripted(texts[0]) as upstream:
        with pytest.raises(kind) as whole_error:
            await provider_at(upstream.url, responses=True).complete(asking())
    assert not whole_error.value.produced
    for text in texts[1:]:
        for before in ([], half):
            async with scripted(streamed(before, text.removeprefix(STREAM_HEAD))) as upstream:
                with pytest.raises(kind) as caught:
                    async for _ in await provider_at(upstream.url, responses=True).stream(asking()):
                        pass
            assert caught.value.produced == bool(before)


async def test_a_failed_stream_tells_its_usage_before_it_fails_and_waits_for_nothing(provider_at):
    failed = {"type": "response.failed", "response": {**response(usage=USAGE, status="failed"), "error": {"code": "server_error", "message": f"for {KEY}"}}}  # fmt: skip
    async with scripted(streamed([*events()[:8], failed], b"")) as upstream:  # the connection stays open
        told: list[StreamChunk] = []
        with pytest.raises(UpstreamUnavailable) as caught:
            await _read(await provider_at(upstream.url, responses=True).stream(asking()), told)
    assert (told[-1].usage, told[-1].done) == (SEEN, False)
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        answer(b'{"object": "response"}'),
        answer(orjson.dumps(response(output=["x"]))),
        answer(orjson.dumps(response((), None, "queued"))),
    ],
)
async def test_what_is_no_ended_response_is_rubbish(provider_at, text):
    async with scripted(text) as upstream:
        with pytest.raises(UpstreamGarbage):
            await provider_at(upstream.url, responses=True).complete(asking())


async def test_a_stream_that_ends_without_its_last_event_is_rubbish(provider_at):
    async with scripted(closing(streamed(events()[:-1]))) as upstream:
        with pytest.raises(UpstreamGarbage) as caught:
            async for _ in await provider_at(upstream.url, responses=True).stream(asking()):
                pass
    assert caught.value.produced


async def test_a_provider_that_does_not_speak_it_gets_a_chat(provider_at):
    chat = {"id": "chatcmpl-1", "created": 7, "model": "m", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "length"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}  # fmt: skip
    async with scripted(answer(orjson.dumps(chat))) as upstream:
        got = await provider_at(upstream.url).complete(asking())
        heard = upstream.requests[0]
    assert heard.head.startswith("POST /v1/chat/completions ")
    assert [message["role"] for message in heard.json["messages"]] == ["user", "assistant", "tool"]
    assert heard.json.keys() == {"model", "messages", "user", "safety_identifier", "surprise"}
    assert (got.body["id"], got.body["created_at"], got.body["status"]) == ("resp_1", 7, "incomplete")
    assert got.body["output"][0]["content"][0]["text"] == "Hi"
    assert got.usage == usage_of_openai(got.body["usage"]) == Usage(3, output_tokens=2)


@pytest.mark.parametrize("more", [{}, {"usage": "none"}, {"cached_tokens": "1", "reasoning_tokens": "9"}, {"tool_call": "1"}, {"content_filter": "1"}])  # fmt: skip
async def test_the_sandbox_says_the_same_natively_and_translated(more):
    metadata = {f"sandbox_{name}": value for name, value in more.items()}
    request = ProviderRequest(
        Operation.RESPONSES, "m", {"input": "hello", "metadata": metadata, "max_output_tokens": 20}, "r"
    )
    native, translated = SandboxProvider(responses=True), SandboxProvider()
    answers = [await each.complete(request) for each in (native, translated)]
    assert answers[0].usage == answers[1].usage
    told = [[each async for each in await provider.stream(request)] for provider in (native, translated)]
    for each in (one.parsed["response"] for chunks in told for one in chunks if "response" in one.parsed):
        each["created_at"] = 0  # the second may turn between the two
    assert [each.parsed for each in told[0]] == [each.parsed for each in told[1]]
    for answered, chunks in zip(answers, told, strict=True):
        last = chunks[-1]
        assert (last.usage, last.done) == (answered.usage, True)
        assert last.parsed["response"]["output"] == answered.body["output"]
        assert sum(each.content_bytes for each in chunks) > 0
        assert [each.parsed["sequence_number"] for each in chunks] == list(range(len(chunks)))


def test_what_chat_cannot_say_is_left_to_other_providers():
    for more in ({"tools": [{"type": "custom", "name": "x"}]}, {"input": [CUSTOM]}, {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]}):  # fmt: skip
        with pytest.raises(NotInThisForm):
            chat_of_request({**ASKED, **more}, "m")


def test_a_response_is_shown_as_a_chat_to_who_reads_that():
    choice = chat_of_response(response())["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "tool_calls")
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": CALLED["arguments"]}
    assert choice["message"]["tool_calls"][1]["custom"] == {"name": "odd", "input": "print(1)"}
    assert chat_of_response(response((SAID,), status="incomplete"))["choices"][0]["finish_reason"] == "length"


@given(st.lists(st.sampled_from(ITEMS), max_size=4), st.integers(0, 40), st.sampled_from(["completed", "incomplete"]))
def test_events_put_together_are_the_response_and_later_readers_are_told_the_same(items, cut, status):
    told = events(items, status=status)
    before, later = ResponseSoFar(), ResponseSoFar()
    for event in told[:cut]:
        before.add(event)
    copied = before.copy()
    for event in [*copied.chunks(), *told[cut:]]:
        later.add(event)
    assert later.body() == response(items, status=status)
    assert before.is_empty == (cut == 0)

    def texts(some: list[dict]) -> str:
        return "".join(event["delta"] for event in some if "delta" in event)

    assert texts(later.chunks()) == texts(told)
    assert len(before.chunks()) <= cut


@given(st.lists(st.sampled_from(ITEMS), max_size=4))
def test_a_whole_response_is_told_as_the_events_that_it_would_have_been(items):
    whole_ = response(items)
    told = events_of_response(whole_)
    plain = [event["type"] for event in events(items)]
    assert list(dict.fromkeys(event["type"] for event in told)) == list(dict.fromkeys(plain))
    so_far = ResponseSoFar()
    for event in told:
        so_far.add(event)
    assert so_far.body() == whole_


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "response.completed", "error", "function_call"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "response", "output", "delta", "item", "output_index", "usage", "error", "code", "content", "text", "summary"]), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["object", "status", "output", "error", "usage", "id"]), VALUES, max_size=5))
def test_any_response_can_be_told_and_shown(body):
    events_of_response(body)
    chat_of_response(body)
    bytes_of_response(body)
    response_of_chat(body, body)


async def test_any_events_give_a_stream_or_an_error(provider_at):
    @given(st.lists(VALUES | st.dictionaries(st.sampled_from(["type", "response", "delta", "item", "output_index"]), VALUES, max_size=4), max_size=5))  # fmt: skip
    def collected(found):
        batches.append(found)

    batches: list = []
    collected()
    text = b""

    async def script(reader, writer):
        await closing(text)(reader, writer)

    async with scripted(script) as upstream:
        provider = provider_at(upstream.url, responses=True)
        for found in batches[:60]:
            text = (
                STREAM_HEAD + b"".join(chunk(b"data: " + orjson.dumps(each) + b"\n\n") for each in found) + b"0\r\n\r\n"
            )
            with contextlib.suppress(ProviderError):
                async for _ in await provider.stream(asking()):
                    pass


def test_a_chats_usage_behind_its_output_ends_the_response_and_nothing_follows_it():
    translation = ResponseOfChat({"input": "x"})
    usage = Usage(3, output_tokens=2)
    raw = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    chunks = [
        {
            "id": "chatcmpl-1",
            "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
            "usage": raw,
        },
        {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "chatcmpl-1", "choices": [], "usage": raw},
    ]
    told = [translation.translate(StreamChunk(b"", each, usage if "usage" in each else None, 2 * (each is chunks[0]))) for each in chunks]  # fmt: skip
    assert (told[0][0].content_bytes, told[0][0].usage) == (2, usage)
    assert told[1] == []
    assert [each.parsed["type"] for each in told[2]][-1] == "response.completed"
    assert (told[2][-1].usage, told[2][-1].content_bytes, told[2][-1].done) == (usage, 0, True)
    assert translation.translate(StreamChunk(b"[DONE]", None, None, 0, done=True)) == []
    assert event_text(told[2][-1].parsed).startswith(b"event: response.completed\n")
