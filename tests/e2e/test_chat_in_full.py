"""A chat in full goes to an OpenAI-compatible provider and back as it came, and each part with a price is metered."""

import base64

import orjson
import pydantic
import pytest

from tests.e2e.vendors import CHAT_TOOL, PICTURE, WEATHER, Line, assert_charged, price_micro
from tests.providers.upstreams import STREAM_HEAD, answer, chunk

MODEL = "o4-mini"
WHERE = "where? " * 200
"""As much input as the scripted usage reports: nothing is charged above a call's bound."""
USAGE = {
    "prompt_tokens": 1_200,
    "completion_tokens": 400,
    "total_tokens": 1_600,
    "prompt_tokens_details": {"cached_tokens": 1_024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 320, "audio_tokens": 0, "unheard_of_tokens": 1},
}
PRICE = price_micro(
    MODEL, INPUT_TOKENS=176, CACHED_INPUT_TOKENS=1_024, OUTPUT_TOKENS=80, REASONING_TOKENS=320
)  # fmt: skip
FRAME = {
    "id": "chatcmpl-up",
    "created": 1,
    "model": "o4-mini-2025",
    "service_tier": "default",
    "system_fingerprint": "f",
}
MESSAGE = {
    "role": "assistant",
    "content": '{"city":"Zürich"}',
    "refusal": None,
    "reasoning_content": "hm",
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://x.example"}}],
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}},
        {"id": "call_2", "type": "custom", "custom": {"name": "odd", "input": "x"}},
    ],
    "unheard_of": {"a": [1, None]},
}
CHOICE = {"index": 0, "message": MESSAGE, "logprobs": {"content": [{"token": "x", "logprob": -1e-3}]}, "finish_reason": "tool_calls"}  # fmt: skip
WHOLE = {**FRAME, "object": "chat.completion", "choices": [CHOICE], "usage": USAGE, "extra": [1]}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "odd": 1}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": '{"city":'}, "logprobs": {"content": []}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": '"Zürich"}'}, "finish_reason": None}], "obfuscation": "xx"},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": USAGE},
]  # fmt: skip
ASKED = {
    "model": MODEL,
    "messages": [
        {"role": "developer", "content": "Be brief.", "name": "boss"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}", "detail": "low"}},
                {
                    "type": "input_audio",
                    "input_audio": {"data": base64.b64encode(b"RIFF" * 9).decode(), "format": "wav"},
                },
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": MESSAGE["tool_calls"], "reasoning_content": "kept"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
    ],
    "tools": [CHAT_TOOL, {"type": "custom", "custom": {"name": "odd"}}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": WEATHER}},
    "reasoning_effort": "high",
    "max_completion_tokens": 5_000,
    "prompt_cache_key": "k",
    "logprobs": True,
    "seed": 7,
    "surprise": {"a": [1]},
}


@pytest.fixture
async def gpt(vendors: Line):
    def script(heard) -> bytes:
        if heard.json.get("stream"):
            texts = [
                b"data: " + orjson.dumps({**FRAME, "object": "chat.completion.chunk", **each}) + b"\n\n"
                for each in CHUNKS
            ]
            return STREAM_HEAD + b"".join(chunk(text) for text in [*texts, b"data: [DONE]\n\n"]) + b"0\r\n\r\n"
        return answer(orjson.dumps(WHOLE))

    vendors.gpt_answers.append(script)
    return vendors


async def test_D2_a_whole_chat_is_unchanged_but_for_the_model_and_the_charge(gpt: Line) -> None:
    told = orjson.loads(await gpt.post("/v1/chat/completions", ASKED))
    assert gpt.gpt.requests[-1].json == ASKED
    charge = {name: told["usage"].pop(name) for name in ("credits", "usd", "estimated")}
    assert told == WHOLE
    assert charge["estimated"] is False
    assert await gpt.spent() == PRICE
    event = await gpt.event()
    used = {name: event[name] for name in ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")}
    assert list(used.values()) == [1_200, 1_024, 400, 320]


async def test_a_streamed_chat_is_forwarded_byte_for_byte_but_for_the_charge(gpt: Line) -> None:
    raw = await gpt.post(
        "/v1/chat/completions", {**ASKED, "stream": True, "stream_options": {"include_obfuscation": False}}
    )
    heard = gpt.gpt.requests[-1].json
    assert heard == {**ASKED, "stream": True, "stream_options": {"include_obfuscation": False, "include_usage": True}}
    events = [line.removeprefix(b"data: ") for line in raw.split(b"\n\n") if line]
    expected = [orjson.dumps({**FRAME, "object": "chat.completion.chunk", **each}) for each in CHUNKS[:-1]]
    assert events[:-2] == expected
    last = orjson.loads(events[-2])
    assert {name: last["usage"][name] for name in USAGE} == USAGE
    assert events[-1] == b"[DONE]"
    assert await gpt.spent() == PRICE == int(float(last["usage"]["credits"]) * 1_000_000)


async def test_openais_sdk_parses_structured_output_and_tools(gpt: Line) -> None:
    class Weather(pydantic.BaseModel):
        city: str

    async with gpt.openai() as client:
        whole = await client.chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": WHERE}], response_format=Weather
        )
        assert whole.choices[0].message.parsed == Weather(city="Zürich")
        assert_charged(whole.usage, PRICE)
        async with client.chat.completions.stream(
            model=MODEL, messages=[{"role": "user", "content": WHERE}], response_format=Weather
        ) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.parsed == Weather(city="Zürich")
        assert final.choices[0].message.tool_calls[0].function.name == "weather"
    assert gpt.gpt.requests[-1].json["response_format"]["json_schema"]["strict"] is True
    assert await gpt.spent() == 2 * PRICE


async def test_a_message_to_a_reasoning_model_shows_its_thinking_to_who_asks_for_it(gpt: Line) -> None:
    async with gpt.anthropic() as client:
        ask = {"model": MODEL, "max_tokens": 2_000, "messages": [{"role": "user", "content": WHERE}]}
        plain = await client.messages.create(**ask)
        thinking = await client.messages.create(thinking={"type": "enabled", "budget_tokens": 1_024}, **ask)
    assert gpt.gpt.requests[-1].json["max_completion_tokens"] == 2_000
    assert [block.type for block in plain.content] == ["text", "tool_use"]
    assert [block.type for block in thinking.content] == ["thinking", "text", "tool_use"]
    assert plain.usage.output_tokens_details.thinking_tokens == 320
    assert_charged(plain.usage, PRICE)
