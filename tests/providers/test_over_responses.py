"""Chats with a model that only speaks the Responses API, over a real socket: the request, whole answers, streams, failures."""

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.so_far import SoFar
from providers.base import Operation, ProviderRequest, StreamChunk, Usage
from providers.chat_of_response import ChunksOfResponse, chat_of_response
from providers.chat_to_responses import response_of_request
from providers.errors import (
    NotInThisForm,
    ProviderError,
    UpstreamGarbage,
    UpstreamRejected,
    UpstreamUnavailable,
)
from providers.openai_content import generated_bytes
from providers.openai_responses import ResponseReader
from providers.openai_usage import usage_of_openai
from providers.over_responses import OverResponses
from providers.response_content import bytes_of_response
from providers.response_of_chat import ResponseOfChat
from providers.sandbox import SandboxProvider
from tests.providers.gpt import CALLED, ITEMS, SAID, TEXT, USAGE, events, response, streamed, whole
from tests.providers.test_message_forms import json_values
from tests.providers.upstreams import KEY, answer, closing, scripted

PICTURE = {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
GRAMMAR = {"definition": "start: WORD", "syntax": "lark"}
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}},
    {"id": "call_2", "type": "custom", "custom": {"name": "odd", "input": "print(1)"}},
]
ASKED = {
    "model": "public",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "In verse."}]},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": "What is it?", "prompt_cache_breakpoint": {"mode": "explicit"}},
            PICTURE,
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
        ]},
        {"role": "assistant", "content": "Let me look.", "reasoning_content": "hm", "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "tool", "tool_call_id": "call_2", "content": "1"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "content": None, "refusal": "I cannot."},
        {"role": "user", "content": "Go on"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "bare", "strict": True}},
        {"type": "custom", "custom": {"name": "odd", "format": {"type": "grammar", "grammar": GRAMMAR}}},
        {"type": "custom", "custom": {"name": "free", "format": {"type": "text"}}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": SCHEMA}},
    "reasoning_effort": "high",
    "verbosity": "low",
    "max_completion_tokens": 64,
    "temperature": 0.5,
    "top_p": 0.9,
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m", "comparison_response_id": "resp_0"},
    "service_tier": "flex",
    "metadata": {"a": "b"},
    "surprise": {"a": [1]},
    # Without a word there:
    "seed": 7, "logprobs": True, "top_logprobs": 2, "presence_penalty": 1, "frequency_penalty": 1, "logit_bias": {"5": 1},
    "prediction": {"type": "content", "content": "x"}, "n": 1, "modalities": ["text"], "store": True,
    "stream_options": {"include_usage": False},
}  # fmt: skip
TOLD = {
    "model": "up",
    "store": False,
    "input": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "input_text", "text": "In verse."}]},
        {"role": "user", "content": [
            {"type": "input_text", "text": "What is it?", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "low"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
        ]},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Zürich"}'},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "odd", "input": "print(1)"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "1"},
        {"role": "assistant", "content": [
            {"type": "output_text", "text": "It is "}, {"type": "refusal", "refusal": "no"}
        ]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]},
        {"role": "user", "content": "Go on"},
    ],
    "tools": [
        {"type": "function", "name": "weather", "description": "of a city", "parameters": SCHEMA, "strict": False},
        {"type": "function", "name": "bare", "parameters": {"type": "object", "properties": {}}, "strict": True},
        {"type": "custom", "name": "odd", "format": {"type": "grammar", **GRAMMAR}},
        {"type": "custom", "name": "free", "format": {"type": "text"}},
    ],
    "tool_choice": {"type": "function", "name": "weather"},
    "parallel_tool_calls": False,
    "text": {"format": {"type": "json_schema", "name": "w", "strict": True, "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "high"},
    "max_output_tokens": 64,
    "temperature": 0.5,
    "top_p": 0.9,
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
    "service_tier": "flex",
    "metadata": {"a": "b"},
    "surprise": {"a": [1]},
}  # fmt: skip
SEEN = Usage(1_200, 1_024, 400, 320)
CHAT_USAGE = {
    "prompt_tokens": 1_200,
    "completion_tokens": 400,
    "total_tokens": 1_600,
    "prompt_tokens_details": USAGE["input_tokens_details"],
    "completion_tokens_details": USAGE["output_tokens_details"],
}
MESSAGE = {
    "role": "assistant",
    "content": TEXT,
    "reasoning_content": "Let me look.",
    "tool_calls": CALLS,
}


@pytest.fixture
def over(provider_at):
    def make(url: str) -> OverResponses:
        return OverResponses(provider_at(url, responses=True))

    return make


def chat(**body) -> ProviderRequest:
    return ProviderRequest(Operation.CHAT, "up", {**ASKED, **body}, "req-1")


def merged(chunks: list[StreamChunk]) -> dict:
    so_far = SoFar()
    for each in chunks:
        if each.parsed is not None:
            so_far.add(each.parsed)
    return so_far.body()


def told(chat: dict) -> tuple:
    """What a reader of a chat is told, whole or put together of its chunks: a text that is empty is none."""
    choice = chat["choices"][0]
    texts = [choice["message"].get(name) or None for name in ("content", "refusal", "reasoning_content")]
    return *texts, choice["message"].get("tool_calls"), choice["finish_reason"], chat.get("usage")


async def test_a_chat_becomes_a_response_and_each_word_finds_its_place_or_is_left_out(over):
    async with scripted(whole()) as upstream:
        got = await over(upstream.url).complete(chat(stream=True))
        heard = upstream.requests[0]
    assert heard.head.startswith("POST /v1/responses HTTP/1.1")
    assert heard.json == TOLD
    assert got.raw is None
    assert got.body == {
        "id": "chatcmpl-up", "object": "chat.completion", "created": 1, "model": "o4-mini-2025", "usage": CHAT_USAGE,
        "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "tool_calls"}],
    }  # fmt: skip
    assert (got.usage, got.content_bytes) == (SEEN, bytes_of_response(response()))


async def test_a_streamed_response_becomes_a_streamed_chat(over):
    async with scripted(streamed(events())) as upstream:
        chunks = [each async for each in await over(upstream.url).stream(chat(stream=True))]
        assert upstream.requests[0].json == {**TOLD, "stream": True}
    first, *others, usage, end = chunks
    assert first.parsed["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {each.parsed["id"] for each in chunks[:-1]} == {"chatcmpl-up"}
    assert {each.parsed["object"] for each in chunks[:-1]} == {"chat.completion.chunk"}
    assert [each.data for each in chunks[:-1]] == [orjson.dumps(each.parsed) for each in chunks[:-1]]
    assert others[-1].parsed["choices"][0] == {
        "index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"
    }  # fmt: skip
    assert (usage.parsed["choices"], usage.parsed["usage"], usage.usage) == ([], CHAT_USAGE, SEEN)
    assert (usage.content_bytes, end.data, end.parsed, end.done) == (0, b"[DONE]", None, True)
    assert not any(each.done or each.usage for each in (first, *others))
    assert told(merged(chunks)) == told(chat_of_response(response()))
    assert sum(each.content_bytes for each in chunks) == bytes_of_response(response())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"n": 2}, "n must be 1"),
        ({"stop": ["."]}, "stop"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"messages": [{"role": "function", "name": "x", "content": "y"}]}, "function"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "input_audio"),
        ({"messages": [{"role": "assistant", "content": [PICTURE]}]}, "must be a text"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "must name its function"),
    ],
)
def test_what_responses_cannot_do_is_refused_by_name_and_left_to_other_providers(more, words):
    with pytest.raises(NotInThisForm, match=words):
        response_of_request({**ASKED, **more})


def test_words_of_responses_alone_are_not_let_through_in_a_chat():
    alone = {
        "input": "x", "instructions": "x", "max_output_tokens": 9, "reasoning": {"effort": "high"}, "text": {},
        "include": ["x"], "background": True, "previous_response_id": "resp_1", "conversation": "c", "max_tool_calls": 9,
        "prompt": {"id": "x"}, "truncation": "auto",
    }  # fmt: skip
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    assert response_of_request({**asked, **alone}) == {"input": asked["messages"]}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("required", "required"),
        ({"type": "custom", "custom": {"name": "odd"}}, {"type": "custom", "name": "odd"}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [ASKED["tool_choice"]]}},
            {"type": "allowed_tools", "mode": "auto", "tools": [TOLD["tool_choice"]]},
        ),
    ],
)
def test_what_tool_is_chosen_is_said_in_the_other_form(choice, expected):
    assert response_of_request({**ASKED, "tool_choice": choice})["tool_choice"] == expected


def test_an_older_limit_and_plain_json_are_said_in_the_other_form():
    asked = {"messages": [], "max_tokens": 5, "response_format": {"type": "json_object"}}
    assert response_of_request(asked) == {
        "input": [], "max_output_tokens": 5, "text": {"format": {"type": "json_object"}}
    }  # fmt: skip


REFUSED = {**SAID, "content": [{"type": "refusal", "refusal": "I cannot."}]}
ENDS = [
    ((SAID,), "completed", {}, "stop"),
    ((SAID, CALLED), "completed", {}, "tool_calls"),
    ((SAID, CALLED), "incomplete", {}, "length"),
    ((SAID,), "incomplete", {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
    ((REFUSED,), "completed", {}, "stop"),
    ((), "completed", {}, "stop"),
]


@pytest.mark.parametrize(("items", "status", "more", "reason"), ENDS)
async def test_why_it_ended_is_said_in_a_chats_words(over, items, status, more, reason):
    async with scripted(whole(items=items, status=status, **more)) as upstream:
        choice = (await over(upstream.url).complete(chat())).body["choices"][0]
    async with scripted(streamed(events(items if items != (REFUSED,) else (), status=status, **more))) as upstream:
        chunks = [each async for each in await over(upstream.url).stream(chat())]
    assert choice["finish_reason"] == merged(chunks)["choices"][0]["finish_reason"] == reason
    message = choice["message"]
    expected = ("I cannot.", None) if items == (REFUSED,) else (None, TEXT if items else "")
    assert (message.get("refusal"), message["content"]) == expected


@given(st.lists(st.sampled_from(ITEMS), max_size=4), st.booleans(), st.sampled_from(["completed", "incomplete"]))
def test_chunks_put_together_are_the_whole_answer_and_every_byte_is_counted(items, in_pieces, status):
    reader, translation, chunks = ResponseReader(None), ChunksOfResponse(), []
    for event in events(items, status=status):
        if in_pieces or not event["type"].endswith(".delta"):
            chunks.extend(translation.translate(reader.read(orjson.dumps(event), event)))
    assert told(merged(chunks)) == told(chat_of_response(response(items, status=status)))
    assert sum(each.content_bytes for each in chunks) == bytes_of_response(response(items))
    assert [each.usage for each in chunks if each.usage] == [SEEN]


TEXTS = st.text(max_size=6)
DELTAS = st.lists(
    st.tuples(st.sampled_from(["content", "refusal", "reasoning_content", "arguments", "call"]), TEXTS), max_size=8
)


@given(DELTAS, st.sampled_from([None, "length", "content_filter"]))
def test_any_chat_told_as_a_response_and_back_is_the_same_chat(deltas, cut):
    """The other way round is what the sandbox answers in, and so the oracle of this one."""
    calls, calling, chunks = 0, False, []
    for name, text in deltas:
        if name == "call":
            calls, calling = calls + 1, True
            made = {"id": f"call_{calls}", "type": "function", "function": {"name": "f", "arguments": text}}
            delta = {"tool_calls": [{"index": calls - 1, **made}]}
        elif name == "arguments":
            delta = {"tool_calls": [{"index": calls - 1, "function": {"arguments": text}}]} if calling else {}
        else:
            delta, calling = {name: text}, False
        chunks.append({"id": "chatcmpl-7", "model": "m", "created": 1, "choices": [{"index": 0, "delta": delta}]})
    last = {"index": 0, "delta": {}, "finish_reason": cut or ("tool_calls" if calls else "stop")}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    chunks += [{"id": "chatcmpl-7", "choices": [last]}, {"id": "chatcmpl-7", "choices": [], "usage": usage}]
    there, back, shown = ResponseOfChat({}), ChunksOfResponse(), []
    for each in chunks:
        used = usage_of_openai(each.get("usage"))
        for event in there.translate(StreamChunk(b"", each, used, generated_bytes(each, "delta"))):
            shown.extend(back.translate(event))
    plain = SoFar()
    for each in chunks:
        plain.add(each)
    expected, got = plain.body(), merged(shown)
    for each in (expected, got):
        each["usage"] = usage_of_openai(each["usage"])
    assert told(got) == told(expected)
    assert got["id"] == "chatcmpl-7"
    assert sum(each.content_bytes for each in shown) == sum(generated_bytes(each, "delta") for each in chunks)
    assert (shown[-1].done, shown[-2].usage) == (True, Usage(3, output_tokens=2))


@pytest.mark.parametrize("more", [{}, {"usage": "none"}, {"cached_tokens": "1", "reasoning_tokens": "9"}, {"tool_call": "1"}, {"content_filter": "1"}])  # fmt: skip
@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.MESSAGES])
async def test_the_sandbox_says_the_same_to_a_chat_and_over_responses(operation, more):
    metadata = {f"sandbox_{name}": value for name, value in more.items()}
    body = {"messages": [{"role": "user", "content": "hello"}], "metadata": metadata, "max_tokens": 20}
    request = ProviderRequest(operation, "m", body, "r")
    sandbox = SandboxProvider(responses=True)
    plain, translated = [await each.complete(request) for each in (sandbox, OverResponses(sandbox))]
    assert plain.usage == translated.usage
    streams = [[each async for each in await one.stream(request)] for one in (sandbox, OverResponses(sandbox))]
    used = [[each.usage for each in chunks if each.usage][-1:] for chunks in streams]
    assert used[0] == used[1] == ([plain.usage] if plain.usage else [])
    sizes = [sum(each.content_bytes for each in chunks) for chunks in streams]
    assert sizes[0] == sizes[1] == translated.content_bytes
    if operation is Operation.CHAT:
        assert told(plain.body)[:5] == told(translated.body)[:5] == told(merged(streams[1]))[:5]
    else:
        names = ("content", "stop_reason", "usage")
        assert [plain.body[name] for name in names] == [translated.body[name] for name in names]


async def test_a_message_becomes_a_response_and_its_answer_a_message(over):
    body = {
        "system": "Be brief.", "max_tokens": 64, "tools": [{"name": "weather", "input_schema": SCHEMA}],
        "messages": [{"role": "user", "content": "Where?"}],
    }  # fmt: skip
    request = ProviderRequest(Operation.MESSAGES, "up", body, "r", vendor_headers=(("anthropic-beta", "x"),))
    async with scripted(whole(items=(SAID, CALLED))) as upstream:
        got = await over(upstream.url).complete(request)
        heard = upstream.requests[0]
    assert "anthropic-beta" not in heard.head
    assert heard.json["input"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"}]
    assert (heard.json["max_output_tokens"], heard.json["store"]) == (64, False)
    assert [block["type"] for block in got.body["content"]] == ["text", "tool_use"]
    assert (got.body["stop_reason"], got.body["usage"]["cache_read_input_tokens"]) == ("tool_use", 1_024)
    assert got.usage == SEEN


async def test_all_that_is_no_chat_goes_as_it_came(over):
    async with scripted(whole()) as upstream:
        got = await over(upstream.url).complete(ProviderRequest(Operation.RESPONSES, "up", {"input": "x"}, "r"))
    assert got.body == response()
    async with scripted(streamed(events())) as upstream:
        stream = await over(upstream.url).stream(ProviderRequest(Operation.RESPONSES, "up", {"input": "x"}, "r"))
        assert [each.parsed async for each in stream] == events()
    async with scripted(answer(b'{"data": [{"embedding": [1]}]}')) as upstream:
        await over(upstream.url).complete(ProviderRequest(Operation.EMBEDDING, "up", {"input": "x"}, "r"))
        assert upstream.requests[0].head.startswith("POST /v1/embeddings ")


# Failures


async def _drain(stream, into: list[StreamChunk]) -> None:
    async for each in stream:
        into.append(each)


async def test_a_failed_response_is_the_chats_failure_and_its_usage_comes_before(over):
    failed = {**response(status="failed"), "error": {"code": "server_error", "message": f"for {KEY}"}}
    async with scripted(answer(orjson.dumps(failed))) as upstream:
        with pytest.raises(UpstreamUnavailable) as caught:
            await over(upstream.url).complete(chat())
    assert KEY not in caught.value.message
    last = {"type": "response.failed", "response": failed}
    async with scripted(streamed([*events()[:12], last], b"")) as upstream:
        chunks: list[StreamChunk] = []
        with pytest.raises(UpstreamUnavailable) as caught:
            await _drain(await over(upstream.url).stream(chat()), chunks)
    assert caught.value.produced
    assert (chunks[-1].usage, chunks[-1].done) == (SEEN, False)


async def test_a_refused_request_keeps_its_words(over):
    error = {"code": "invalid_prompt", "message": "no such thing", "param": "input"}
    async with scripted(answer(orjson.dumps({"error": error}), "400 Bad Request")) as upstream:
        with pytest.raises(UpstreamRejected, match="no such thing"):
            await over(upstream.url).complete(chat())


async def test_a_stream_that_ends_without_its_last_event_is_rubbish(over):
    async with scripted(closing(streamed(events()[:-1]))) as upstream:
        with pytest.raises(UpstreamGarbage) as caught:
            await _drain(await over(upstream.url).stream(chat()), [])
    assert caught.value.produced


@given(
    st.dictionaries(
        st.sampled_from(["messages", "tools", "tool_choice", "metadata", "response_format", "stop", "n", "modalities"]),
        json_values,
    ),
    st.lists(json_values, max_size=3),
)
def test_whatever_is_asked_is_translated_or_refused(body, messages):
    for request in (body, {**body, "messages": messages}):
        with contextlib.suppress(UpstreamRejected):
            orjson.dumps(response_of_request(request))


@given(json_values, json_values)
def test_whatever_is_answered_is_translated(content, usage):
    orjson.dumps(chat_of_response({"output": [content], "usage": usage, "status": content, "id": usage}))
    translation = ChunksOfResponse()
    reader = ResponseReader(None)
    for kind in ("created", "output_item.added", "output_text.delta", "function_call_arguments.delta", "output_item.done", "completed"):  # fmt: skip
        event = {"type": f"response.{kind}", "output_index": usage, "delta": content, "item": content, "response": content}  # fmt: skip
        with contextlib.suppress(ProviderError):
            translation.translate(reader.read(orjson.dumps(event), event))
