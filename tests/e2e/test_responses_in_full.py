"""The Responses API natively, with OpenAI's official SDK over real sockets: to a provider that speaks it and back as it came."""

import aiohttp
import openai
import orjson
import pydantic
import pytest

from tests.e2e.vendors import (
    PICTURE,
    RESPONSE_TOOL,
    SANDBOX,
    WEATHER,
    Line,
    assert_charged,
    price_micro,
    response_price,
)
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
from tests.providers.upstreams import answer

MODEL = "o4-mini"
WHERE = "where? " * 200
"""As much input as the scripted usage reports: nothing is charged above a call's bound."""
PRICE = price_micro(MODEL, INPUT_TOKENS=176, CACHED_INPUT_TOKENS=1_024, OUTPUT_TOKENS=80, REASONING_TOKENS=320)
ASKED = {
    "model": MODEL,
    "instructions": "Be brief.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": WHERE},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PICTURE}"},
            ],
        },
        THOUGHT,
        CALLED,
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "sunny"}]},
        CUSTOM,
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "1"},
    ],
    "tools": [RESPONSE_TOOL, {"type": "custom", "name": "odd", "format": {"type": "text"}}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
    "parallel_tool_calls": False,
    "text": {"format": {"type": "json_schema", "name": "w", "strict": True, "schema": WEATHER}, "verbosity": "low"},
    "reasoning": {"effort": "high", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 5_000,
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "service_tier": "default",
    "store": False,
    "truncation": "auto",
    "user": "u",
    "surprise": {"a": [1]},
}


@pytest.fixture
async def gpt(vendors: Line):
    vendors.gpt_answers.append(lambda heard: streamed(events()) if heard.json.get("stream") else whole())
    return vendors


async def test_D2_a_response_is_unchanged_both_ways_but_for_the_model_and_the_charge(gpt: Line) -> None:
    got = orjson.loads(await gpt.post("/v1/responses", ASKED))
    heard = gpt.gpt.requests[-1]
    assert heard.head.startswith("POST /v1/responses ")
    assert heard.json == ASKED
    charge = {name: got["usage"].pop(name) for name in ("credits", "usd", "estimated")}
    assert got == response()
    assert charge["estimated"] is False
    assert await gpt.spent() == PRICE
    event = await gpt.event()
    used = [event[f"{name}_tokens"] for name in ("input", "cached_input", "output", "reasoning")]
    assert used == [1_200, 1_024, 400, 320]


async def test_a_streamed_response_is_forwarded_byte_for_byte_but_for_the_charge(gpt: Line) -> None:
    raw = await gpt.post("/v1/responses", {**ASKED, "stream": True, "stream_options": {"include_obfuscation": False}})
    assert gpt.gpt.requests[-1].json == {**ASKED, "stream": True, "stream_options": {"include_obfuscation": False}}
    expected = [event_text(event) for event in events()]
    assert raw.startswith(b"".join(expected[:-1]))
    last = orjson.loads(raw.removeprefix(b"".join(expected[:-1])).split(b"data: ")[1])
    charge = {name: last["response"]["usage"].pop(name) for name in ("credits", "usd", "estimated")}
    assert last == events()[-1]
    assert await gpt.spent() == PRICE == int(float(charge["credits"]) * 1_000_000)


async def test_openais_sdk_reads_structured_output_reasoning_and_tools_of_a_native_response(gpt: Line) -> None:
    class Weather(pydantic.BaseModel):
        city: str

    async with gpt.openai() as client:
        parsed = await client.responses.parse(model=MODEL, input=WHERE, text_format=Weather)
        assert parsed.output_parsed == Weather(city="Zürich")
        assert gpt.gpt.requests[-1].json["text"]["format"]["type"] == "json_schema"
        assert gpt.gpt.requests[-1].json["store"] is False
        assert_charged(parsed.usage, PRICE)
        async with client.responses.stream(
            model=MODEL, input=WHERE, text_format=Weather, tools=[RESPONSE_TOOL]
        ) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert final.output_parsed == Weather(city="Zürich")
        assert {"response.reasoning_summary_text.delta", "response.function_call_arguments.delta"} <= set(kinds)
        assert [item.type for item in final.output] == [item["type"] for item in ITEMS]
        assert final.output[0].encrypted_content == THOUGHT["encrypted_content"]
        assert_charged(final.usage, PRICE)
        result = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
        await client.responses.create(
            model=MODEL, input=[{"role": "user", "content": WHERE}, *final.output, result], tools=[RESPONSE_TOOL],
            include=["reasoning.encrypted_content"],
        )  # fmt: skip
    sent = gpt.gpt.requests[-1].json["input"]
    assert [item.get("type") for item in sent] == [None, *(item["type"] for item in ITEMS), "function_call_output"]
    assert sent[1]["encrypted_content"] == THOUGHT["encrypted_content"]
    assert await gpt.spent() == 3 * PRICE


async def test_a_response_that_is_cut_short_or_refused_says_so(vendors: Line) -> None:
    def script(heard) -> bytes:
        if heard.json["input"] == "wrong":
            return answer(b'{"error": {"message": "no such thing", "type": "invalid_request_error", "param": "input", "code": null}}', "400 Bad Request")  # fmt: skip
        if heard.json["input"] == "broken":
            error = {"code": "server_error", "message": "oops"}
            return whole(status="failed", items=(), usage=None, error=error)
        told = {"items": (SAID,), "status": "incomplete"}
        return streamed(events(**told)) if heard.json.get("stream") else whole(**told)

    vendors.gpt_answers.append(script)
    async with vendors.openai() as client:
        short = await client.responses.create(model=MODEL, input=WHERE)
        assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        told = [event async for event in await client.responses.create(model=MODEL, input=WHERE, stream=True)]
        assert (told[-1].type, told[-1].response.output_text) == ("response.incomplete", TEXT)
        with pytest.raises(openai.BadRequestError, match="no such thing"):
            await client.responses.create(model=MODEL, input="wrong")
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model=MODEL, input="broken")
    assert await vendors.spent() == 2 * PRICE


async def test_a_repeat_follows_a_native_stream_that_still_runs(vendors: Line) -> None:
    ask = {
        "model": SANDBOX, "input": "Hello there", "stream": True,
        "metadata": {"sandbox_chunk_delay_ms": "250", "sandbox_output_tokens": "12"},
        "extra_headers": {"Idempotency-Key": "followed"},
    }  # fmt: skip
    async with vendors.openai() as client:
        first = await client.responses.create(**ask)
        async for event in first:
            if event.type == "response.output_text.delta":
                break
        told = [event async for event in await client.responses.create(**ask)]
        rest = [event async for event in first]
        again = [event async for event in await client.responses.create(**ask)]
    assert rest[-1].response == told[-1].response
    for events_ in (told, again):
        assert events_[0].type == "response.created"
        text = "".join(event.delta for event in events_ if event.type == "response.output_text.delta")
        assert text == told[-1].response.output_text == events_[-1].response.output_text
    assert again[-1].response.usage == told[-1].response.usage
    assert await vendors.spent() == response_price(SANDBOX, told[-1].response.usage)


async def test_who_leaves_a_native_stream_pays_for_what_came(vendors: Line) -> None:
    async with vendors.openai() as client:
        stream = await client.responses.create(
            model=SANDBOX, input="Hello there", stream=True, metadata={"sandbox_chunk_delay_ms": "1000"}
        )
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
    await vendors.left_and_paid_for_what_came()


async def test_graphql_reads_what_a_response_gave(gpt: Line) -> None:
    async with gpt.openai() as client:
        await client.responses.create(model=MODEL, input=WHERE, extra_headers={"Idempotency-Key": "kept"})
    kept = "{ workspace { calls(first: 1) { nodes { output { ... on ChatOutput { content finishReason toolCalls } } } } } }"
    headers = {"Authorization": f"Bearer {gpt.seeded.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{gpt.gateway.url}/graphql", json={"query": kept}) as got,
    ):
        output = (await got.json())["data"]["workspace"]["calls"]["nodes"][0]["output"]
    assert (output["content"], output["finishReason"]) == (TEXT, "tool_calls")
    assert output["toolCalls"][0]["function"]["name"] == "weather"
    assert USAGE["output_tokens"] == 400
