"""The vendors' own SDKs chat with a model that only speaks the Responses API, over real sockets: GPT-5 pro of the catalog."""

from fractions import Fraction

import openai
import orjson
import pydantic
import pytest

from tests.e2e.vendors import (
    CHAT_TOOL,
    CLAUDE_TOOL,
    PICTURE,
    WEATHER,
    Line,
    assert_charged,
    price_micro,
)
from tests.providers.gpt import CALLED, SAID, TEXT, events, response, streamed, whole
from tests.providers.upstreams import answer

MODEL = "gpt-5-pro"
WHERE = "where? " * 200
"""As much input as the scripted usage reports: nothing is charged above a call's bound."""
HELLO = [{"role": "user", "content": WHERE}]
PRICE = price_micro(MODEL, INPUT_TOKENS=1_200, OUTPUT_TOKENS=400)
"""It has no price of its own for cached input or reasoning."""
ASKED = {"model": MODEL, "messages": HELLO, "max_completion_tokens": 500}


class Weather(pydantic.BaseModel):
    city: str


@pytest.fixture
async def gpt(vendors: Line):
    """Answers with a call of a tool where one was offered and none has answered yet, else with a text."""

    def script(heard) -> bytes:
        answered = any(item.get("type") == "function_call_output" for item in heard.json["input"])
        items = (CALLED,) if heard.json.get("tools") and not answered else (SAID,)
        return streamed(events(items)) if heard.json.get("stream") else whole(items=items)

    vendors.gpt_answers.append(script)
    return vendors


async def test_D2_openais_sdk_chats_with_it_whole_and_streamed(gpt: Line) -> None:
    async with gpt.openai() as client:
        got = await client.chat.completions.create(
            model=MODEL, max_completion_tokens=500, reasoning_effort="high", verbosity="low",
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": WHERE},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
                ]},
            ],
        )  # fmt: skip
        heard = gpt.gpt.requests[-1]
        text, finish, usage, roles = "", None, None, []
        async for chunk in await client.chat.completions.create(stream=True, **ASKED):
            for each in chunk.choices:
                roles.append(each.delta.role)
                text += each.delta.content or ""
                finish = each.finish_reason or finish
            usage = chunk.usage or usage
    assert heard.head.startswith("POST /v1/responses ")
    assert heard.json == {
        "model": MODEL, "store": False, "max_output_tokens": 500,
        "reasoning": {"effort": "high"}, "text": {"verbosity": "low"},
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "input_text", "text": WHERE},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}", "detail": "auto"},
            ]},
        ],
    }  # fmt: skip
    assert (got.object, got.choices[0].message.content, got.choices[0].finish_reason) == (
        "chat.completion", TEXT, "stop"
    )  # fmt: skip
    assert (text, finish, roles[0], set(roles[1:])) == (TEXT, "stop", "assistant", {None})
    for each in (got.usage, usage):
        assert_charged(each, PRICE)
        assert (each.prompt_tokens, each.prompt_tokens_details.cached_tokens) == (1_200, 1_024)
        assert each.completion_tokens_details.reasoning_tokens == 320
    assert await gpt.spent() == 2 * PRICE
    event = await gpt.event()
    used = [event[f"{name}_tokens"] for name in ("input", "cached_input", "output", "reasoning")]
    assert used == [1_200, 1_024, 400, 320]


async def test_openais_sdk_parses_structured_output_whole_and_streamed(gpt: Line) -> None:
    async with gpt.openai() as client:
        parsed = await client.chat.completions.parse(response_format=Weather, **ASKED)
        form = gpt.gpt.requests[-1].json["text"]["format"]
        async with client.chat.completions.stream(response_format=Weather, **ASKED) as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_completion()
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "Weather", True)
    assert parsed.choices[0].message.parsed == final.choices[0].message.parsed == Weather(city="Zürich")
    assert await gpt.spent() == 2 * PRICE


async def test_openais_sdk_uses_tools_whole_and_streamed(gpt: Line) -> None:
    ask = {**ASKED, "tools": [CHAT_TOOL], "tool_choice": "required"}
    async with gpt.openai() as client:
        got = await client.chat.completions.create(**ask)
        async with client.chat.completions.stream(**ask) as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_completion()
        called = got.choices[0].message.tool_calls[0]
        result = {"role": "tool", "tool_call_id": called.id, "content": "sunny"}
        last = await client.chat.completions.create(
            **{**ask, "messages": [*HELLO, got.choices[0].message, result], "tool_choice": "auto"}
        )
    assert gpt.gpt.requests[-3].json["tools"] == [
        {"type": "function", "name": "weather", "description": "of a city", "parameters": WEATHER, "strict": False}
    ]
    for each in (got, final):
        function = each.choices[0].message.tool_calls[0].function
        assert (function.name, function.arguments) == ("weather", CALLED["arguments"])
        assert each.choices[0].finish_reason == "tool_calls"
    assert gpt.gpt.requests[-1].json["input"] == [
        *HELLO,
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": CALLED["arguments"]},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ]
    assert last.choices[0].message.content == TEXT
    assert await gpt.spent() == 3 * PRICE


async def test_D2_anthropics_sdk_sends_it_messages_whole_and_streamed(gpt: Line) -> None:
    ask = {"model": MODEL, "max_tokens": 500, "messages": HELLO, "system": "Be brief."}
    async with gpt.anthropic() as client:
        said = await client.messages.create(**ask)
        heard = gpt.gpt.requests[-1].json
        async with client.messages.stream(tools=[CLAUDE_TOOL], **ask) as stream:
            read = [event async for event in stream]
            used = await stream.get_final_message()
    assert heard == {
        "model": MODEL, "store": False, "max_output_tokens": 500,
        "input": [{"role": "system", "content": "Be brief."}, *HELLO],
    }  # fmt: skip
    assert (said.content[0].text, said.stop_reason) == (TEXT, "end_turn")
    assert_charged(said.usage, PRICE)
    assert (said.usage.input_tokens, said.usage.cache_read_input_tokens) == (176, 1_024)
    assert (used.content[0].name, used.content[0].input, used.stop_reason) == (
        "weather", {"city": "Zürich"}, "tool_use"
    )  # fmt: skip
    assert_charged(next(event.usage for event in read if event.type == "message_delta"), PRICE)
    assert await gpt.spent() == 2 * PRICE


async def test_graphql_calls_it(gpt: Line) -> None:
    payload = f'{{ chat: {{ messages: [{{ role: USER, content: "{WHERE}" }}], maxOutputTokens: 500 }} }}'
    told = "call { output { ... on ChatOutput { content finishReason } } usage { credits } } userErrors { code }"
    query = (
        f'mutation {{ callModel(input: {{ model: "{MODEL}", payload: {payload}, idempotencyKey: "k" }}) {{ {told} }} }}'
    )
    got = orjson.loads(await gpt.post("/graphql", {"query": query}))["data"]["callModel"]
    assert got["call"]["output"] == {"content": TEXT, "finishReason": "stop"}
    assert (Fraction(got["call"]["usage"]["credits"]) * 1_000_000, got["userErrors"]) == (PRICE, [])
    assert gpt.gpt.requests[-1].head.startswith("POST /v1/responses ")
    assert await gpt.spent() == PRICE


async def test_what_it_cannot_do_and_what_the_vendor_refuses_is_told_in_a_chats_words(vendors: Line) -> None:
    error = b'{"error": {"message": "no such thing", "type": "invalid_request_error", "param": "input", "code": null}}'
    vendors.gpt_answers.append(lambda heard: answer(error, "400 Bad Request"))
    sent = len(vendors.gpt.requests)
    async with vendors.openai() as client:
        for more, words, asked in (
            ({"stop": ["."]}, "stop", 0),
            ({"n": 2}, "n must be 1", 0),
            ({}, "no such thing", 1),
        ):
            with pytest.raises(openai.BadRequestError, match=words):
                await client.chat.completions.create(**{**ASKED, **more})
            assert len(vendors.gpt.requests) == sent + asked
    assert await vendors.spent() == 0


async def test_a_stream_that_breaks_is_charged_for_what_came(vendors: Line) -> None:
    failed = {
        "type": "response.failed",
        "response": {**response((), None, "failed"), "error": {"code": "server_error"}},
    }
    vendors.gpt_answers.append(lambda heard: streamed([*events((SAID,))[:6], failed]))
    raw = await vendors.post("/v1/chat/completions", {**ASKED, "stream": True})
    texts = [orjson.loads(line.removeprefix(b"data: ")) for line in raw.split(b"\n\n") if line.startswith(b"data: {")]
    assert texts[-1]["error"]["code"] == "upstream_error"
    assert texts[-1]["usage"]["estimated"] is True
    event = await vendors.event()
    assert await vendors.spent() == event["charged_micro"] > 0
