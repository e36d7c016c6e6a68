"""Requests, answers and streams are put from one form of a chat into the other, and nothing with a price slips through."""

import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.anthropic import AnthropicProvider
from providers.anthropic_content import bytes_of_event
from providers.base import Operation, ProviderRequest, StreamChunk, Usage
from providers.chat_to_messages import messages_request
from providers.errors import UpstreamGarbage, UpstreamRejected
from providers.message_answers import chat_of_message, chat_usage, message_of_chat, message_usage
from providers.message_events import ChunksOfMessage, EventsOfChat
from providers.messages_to_chat import chat_request, limit_name
from providers.openai_usage import usage_of_openai
from providers.sandbox import SandboxProvider
from tests.providers.claude import TEXT, THINKING, TOOL, events, message
from tests.providers.upstreams import KEY, STREAM_HEAD, answer, call, scripted
from tests.providers.upstreams import chunk as chunked

PIXEL = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
USE = {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Bern"}}


def test_the_turns_of_a_chat_become_alternating_turns_with_results_first():
    request = messages_request(
        {
            "messages": [
                {"role": "system", "content": "one"},
                {
                    "role": "developer",
                    "content": [{"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}],
                },
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "", "tool_calls": [CALL, {**CALL, "id": "c2"}]},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"},
                {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "sun"}]},
                {"role": "user", "content": [{"type": "text", "text": "so?"}]},
            ]
        },
        99,
    )
    assert request["system"] == [
        {"type": "text", "text": "one"},
        {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}},
    ]
    assert request["max_tokens"] == 99
    assert request["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": [USE, {**USE, "id": "c2"}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "sun"}]},
                {"type": "text", "text": "so?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
            },
        ),
        (
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "document", "source": {"type": "file", "file_id": "f1"}},
        ),
    ],
)
def test_pictures_and_files_go_both_ways(part, block):
    chat = {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]}
    blocks = messages_request(chat, None)["messages"][0]["content"]
    assert blocks == [{"type": "text", "text": "see"}, block]
    back = chat_request({"messages": [{"role": "user", "content": blocks}]}, "m")["messages"][0]["content"]
    if part["type"] == "image_url":
        assert back[1] == {"type": "image_url", "image_url": {"url": part["image_url"]["url"]}}
    else:
        assert back[1] == part


@pytest.mark.parametrize(
    ("given_choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_tools_and_their_choice_go_both_ways(given_choice, expected):
    tool = {
        "type": "function",
        "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True},
    }
    chat = {"messages": [{"role": "user", "content": "x"}], "tools": [tool], "tool_choice": given_choice}
    request = messages_request({**chat, "parallel_tool_calls": False}, None)
    assert request["tools"] == [{"name": "weather", "description": "d", "input_schema": SCHEMA, "strict": True}]
    assert request["tool_choice"] == {**expected, "disable_parallel_tool_use": True}
    back = chat_request({**request, "max_tokens": 5}, "m")
    assert back["tools"] == [tool]
    assert back["tool_choice"] == given_choice
    assert back["parallel_tool_calls"] is False


def test_the_settings_of_a_chat_find_their_words():
    request = messages_request(
        {
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 7,
            "temperature": 1.7,
            "top_p": 0.5,
            "stop": "END",
            "user": "u1",
            "reasoning_effort": "minimal",
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
            "seed": 1,
            "logprobs": True,
            "store": True,
            "unheard_of": 1,
        },
        None,
    )
    del request["messages"]
    assert request == {
        "max_tokens": 7,
        "temperature": 1,
        "top_p": 0.5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        "unheard_of": 1,
    }


def test_any_json_object_is_asked_for_in_words():
    chat = {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}}
    assert "JSON object" in messages_request(chat, None)["system"][0]["text"]


def test_words_with_a_price_that_the_form_was_not_reckoned_by_are_not_let_through():
    priced = {"system": "x" * 9_000, "mcp_servers": [{}], "container": "c", "output_config": {"a": 1}, "speed": "fast"}
    chat = messages_request({"messages": [{"role": "user", "content": "x"}], **priced}, None)
    assert not set(priced) & set(chat)
    costly = {"n": 9, "max_completion_tokens": 10**6, "functions": [{}], "response_format": {}, "audio": {}}
    sent = chat_request({"max_tokens": 1, "messages": [{"role": "user", "content": "x"}], **costly}, "m")
    assert not set(costly) & set(sent)
    assert sent["max_tokens"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2, "messages": []},
        {"functions": [{"name": "x"}], "messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "web_search_20250305", "name": "w"}]},
    ],
)
def test_what_a_message_cannot_say_is_refused_in_a_sentence(body):
    with pytest.raises(UpstreamRejected) as caught:
        messages_request(body, None)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"messages": ["x"]},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "search_result"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "x"}}]}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "web_search_20250305", "name": "w"}]},
    ],
)
def test_what_a_chat_cannot_say_is_refused_in_a_sentence(body):
    with pytest.raises(UpstreamRejected) as caught:
        chat_request(body, "m")
    assert caught.value.status == 400


def test_a_message_becomes_a_chat():
    request = chat_request(
        {
            "max_tokens": 5,
            "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [THINKING, TEXT, USE]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "c1",
                            "content": [
                                {"type": "text", "text": "rain"},
                                {"type": "image", "source": {"type": "url", "url": "https://x.example/a"}},
                            ],
                        },
                    ],
                },
            ],
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u"},
            "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}},
            "top_k": 4,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "unheard_of": 1,
        },
        "gpt-5-mini",
    )
    assert request == {
        "messages": [
            {"role": "system", "content": "a\n\nb"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": TEXT["text"], "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "https://x.example/a"}},
                ],
            },
        ],
        "max_completion_tokens": 5,
        "stop": ["END"],
        "user": "u",
        "reasoning_effort": "high",
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
        "unheard_of": 1,
    }


def test_a_limit_has_the_name_that_the_model_knows():
    names = {
        model: limit_name(model) for model in ("o3-mini", "gpt-5.2", "openai/o1", "gpt-4.1", "mistral-large", "opus")
    }
    assert [model for model, name in names.items() if name == "max_completion_tokens"] == [
        "o3-mini",
        "gpt-5.2",
        "openai/o1",
    ]


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls"), ("refusal", "content_filter")],
)
def test_an_answer_goes_both_ways(stop_reason, finish_reason):
    chat = chat_of_message(message([THINKING, TEXT, TOOL], stop_reason), 1)
    assert chat["choices"][0]["finish_reason"] == finish_reason
    back = message_of_chat(chat, with_thinking=True)
    assert back["content"] == [{**THINKING, "signature": ""}, TEXT, TOOL]
    assert back["stop_reason"] == stop_reason
    assert [block["type"] for block in message_of_chat(chat, with_thinking=False)["content"]] == ["text", "tool_use"]


@given(*[st.integers(0, 10**6)] * 4)
def test_usage_means_the_same_in_both_forms(fresh, written, read, output):
    told = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": output,
    }
    chat = chat_usage(told)
    assert usage_of_openai(chat) == Usage(
        input_tokens=fresh + written + read, cached_input_tokens=read, output_tokens=output,
        cache_write_input_tokens=written,
    )  # fmt: skip
    assert message_usage(chat) == told


def chunk(delta: dict, finish=None, size: int = 0, **more) -> StreamChunk:
    parsed = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return StreamChunk(orjson.dumps(parsed), parsed, None, size)


def test_an_input_told_with_output_that_a_chat_does_not_show_goes_on_with_the_first_that_it_shows():
    translation = ChunksOfMessage(0)
    hidden = {"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "x"}}
    shown = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "hi"}}
    assert translation.translate(StreamChunk(b"", hidden, Usage(90), 1)) == []
    told = [translation.translate(StreamChunk(b"", event, None, 2)) for event in (shown, shown)]
    assert [chunk.usage for chunks in told for chunk in chunks] == [Usage(90), None]


def test_the_chunks_of_a_chat_become_blocks_in_order_with_every_byte_counted():
    translation = EventsOfChat(with_thinking=False)
    usage = Usage(input_tokens=3, output_tokens=9)
    reported = {"prompt_tokens": 3, "completion_tokens": 9}
    last = {"id": "c", "choices": [], "usage": reported}
    told = [
        event
        for each in (
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "hidden"}, size=6),
            chunk({"content": "Hel"}, size=3),
            chunk({"content": "lo"}, size=2),
            chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]}, size=5),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}, size=3),
            chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}, size=3),
            chunk({}, "tool_calls"),
            StreamChunk(b"", last, usage, 0),
            StreamChunk(b"[DONE]", None, None, 0, done=True),
        )
        for event in translation.translate(each)
    ]
    kinds = [(event.parsed["type"], event.parsed.get("index")) for event in told[:-1]]
    assert kinds == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
    ]
    assert told[-2].parsed["delta"]["stop_reason"] == "tool_use"
    assert told[-2].usage == usage
    assert told[-1].done
    assert sum(event.content_bytes for event in told) == 22


async def test_the_sandbox_speaks_messages_too_whole_and_streamed():
    request = ask_message()
    sandbox = SandboxProvider()
    whole = await sandbox.complete(request)
    events = [event async for event in await sandbox.stream(request)]
    text = "".join(
        event.parsed["delta"]["text"]
        for event in events
        if event.parsed and event.parsed["type"] == "content_block_delta"
    )
    assert text == whole.body["content"][0]["text"]
    assert whole.body["stop_reason"] == "max_tokens"
    assert [event.usage for event in events if event.usage] == [whole.usage]
    assert sum(event.content_bytes for event in events) == whole.content_bytes


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["user", "text", "assistant", "tool", "image_url"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "source", "tool_calls", "function", "image_url", "input"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "system", "tools", "tool_choice", "metadata", "output_config", "stop", "n"]),
        json_values,
    ),
    st.lists(json_values, max_size=3),
)
def test_whatever_is_asked_is_translated_or_refused(body, messages):
    for request in (body, {**body, "messages": messages}):
        for translate in (lambda each: messages_request(each, 5), lambda each: chat_request(each, "m")):
            with contextlib.suppress(UpstreamRejected):
                orjson.dumps(translate(request))


@given(json_values, json_values, st.booleans())
def test_whatever_is_answered_is_translated(content, usage, thinking):
    orjson.dumps(chat_of_message({"content": content, "usage": usage, "stop_reason": content}, 1))
    chat = {"choices": [{"message": content, "finish_reason": usage}], "usage": usage}
    orjson.dumps(message_of_chat(chat, with_thinking=thinking))
    translation = EventsOfChat(with_thinking=thinking)
    for parsed in ({"choices": [{"delta": content, "finish_reason": usage}], "usage": usage}, None):
        translation.translate(StreamChunk(b"", parsed, None, 0, done=parsed is None))
    other_way = ChunksOfMessage(1)
    for kind in ("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"):
        event = {"type": kind, "index": usage, "message": content, "content_block": content, "delta": content}
        other_way.translate(StreamChunk(b"", {**event, "usage": usage}, None, 0))
        bytes_of_event(event)


@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.MESSAGES])
async def test_an_answer_nested_too_deeply_to_be_written_is_garbage(transport, operation):
    deep: dict = {}
    for _ in range(400):
        deep = {"a": deep}
    told = events([TEXT])
    told[2]["content_block"] = {**TOOL, "input": deep}
    async with scripted(answer(json.dumps(message([{**TOOL, "input": deep}])).encode())) as upstream:
        claude = AnthropicProvider("c", base_url=upstream.url, api_key=KEY, transport=transport)
        with pytest.raises(UpstreamGarbage):
            await claude.complete(call() if operation is Operation.CHAT else ask_message())
    streamed = STREAM_HEAD + b"".join(chunked(b"data: " + json.dumps(each).encode() + b"\n\n") for each in told)
    async with scripted(streamed + b"0\r\n\r\n") as upstream:
        claude = AnthropicProvider("c", base_url=upstream.url, api_key=KEY, transport=transport)
        with pytest.raises(UpstreamGarbage):
            async for _ in await claude.stream(call() if operation is Operation.CHAT else ask_message()):
                pass


def ask_message() -> ProviderRequest:
    body = {"model": "x", "max_tokens": 6, "messages": [{"role": "user", "content": "hello"}]}
    return ProviderRequest(Operation.MESSAGES, "sandbox-chat", body, "r")


def test_output_that_nobody_sees_is_told_before_the_last_event_which_waits_for_the_charge():
    translation = EventsOfChat(with_thinking=False)
    hidden = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]}
    stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    usage = Usage(3, output_tokens=2)
    told = [
        event
        for chunk in (
            *[StreamChunk(b"", hidden, None, 2)] * 2,
            StreamChunk(b"", stop, None, 0),
            StreamChunk(b"", {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}, usage, 0),
        )
        for event in translation.translate(chunk)
    ]
    assert [each.parsed["type"] for each in told] == ["message_start", "ping", "message_delta"]
    assert [(each.content_bytes, each.usage) for each in told] == [(2, None), (2, None), (0, usage)]
