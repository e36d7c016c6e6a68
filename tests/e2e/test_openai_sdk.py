"""OpenAI's official SDK over a real socket: chats with Claude, and /v1/responses for models of either vendor."""

import json
from fractions import Fraction

import openai
import pytest

from tests.e2e.vendors import (
    CHAT_TOOL,
    CLAUDE,
    CLAUDE_PRICE,
    CLAUDE_TOOL,
    HELLO,
    RESPONSE_TOOL,
    SANDBOX,
    WEATHER,
    Line,
    assert_charged,
    chat_price,
    message_price,
    response_price,
)
from tests.providers.claude import TEXT, THINKING, TOOL


async def test_D2_openais_sdk_chats_with_claude_whole_and_streamed(vendors: Line) -> None:
    ask = {
        "model": CLAUDE, "max_completion_tokens": 64, "tools": [CHAT_TOOL], "tool_choice": "required",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "think, then tool"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": WEATHER}},
        "reasoning_effort": "high",
    }  # fmt: skip
    async with vendors.openai() as client:
        whole = await client.chat.completions.create(**ask)
        assert vendors.heard["system"] == [{"type": "text", "text": "Be brief."}]
        assert vendors.heard["tools"] == [CLAUDE_TOOL]
        assert vendors.heard["tool_choice"] == {"type": "any"}
        assert vendors.heard["output_config"] == {
            "format": {"type": "json_schema", "schema": WEATHER},
            "effort": "high",
        }
        choice = whole.choices[0]
        called = choice.message.tool_calls[0]
        assert (choice.finish_reason, called.function.name) == ("tool_calls", "weather")
        assert json.loads(called.function.arguments) == TOOL["input"]
        assert_charged(whole.usage, CLAUDE_PRICE)
        assert chat_price(CLAUDE, whole.usage) == CLAUDE_PRICE

        text, arguments, finish, usage = "", "", None, None
        async for chunk in await client.chat.completions.create(stream=True, **ask):
            for each in chunk.choices:
                text += each.delta.content or ""
                arguments += "".join(call.function.arguments or "" for call in each.delta.tool_calls or [])
                finish = each.finish_reason or finish
            usage = chunk.usage or usage
        assert (text, json.loads(arguments), finish) == (TEXT["text"], TOOL["input"], "tool_calls")
        assert_charged(usage, CLAUDE_PRICE)

        await client.chat.completions.create(
            model=CLAUDE, tools=[CHAT_TOOL],
            messages=[*ask["messages"], choice.message, {"role": "tool", "tool_call_id": called.id, "content": "sunny"}],
        )  # fmt: skip
    assert vendors.heard["max_tokens"] == 64_000
    assert vendors.heard["messages"][1]["content"][-1] == {
        "type": "tool_use", "id": "toolu_1", "name": "weather", "input": TOOL["input"]
    }  # fmt: skip
    assert vendors.heard["messages"][2] == {
        "role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]
    }  # fmt: skip
    assert await vendors.spent() == 3 * CLAUDE_PRICE


@pytest.mark.parametrize("model", [SANDBOX, CLAUDE])
async def test_D2_openais_sdk_gets_a_response(vendors: Line, model: str) -> None:
    async with vendors.openai() as client:
        answer = await client.responses.create(
            model=model, input="Hello there", instructions="Be brief.", max_output_tokens=64, metadata={"a": "b"}
        )
    assert answer.output_text
    assert (answer.status, answer.object, answer.store) == ("completed", "response", False)
    assert (answer.instructions, answer.metadata) == ("Be brief.", {"a": "b"})
    assert_charged(answer.usage, response_price(model, answer.usage))
    assert await vendors.spent() == response_price(model, answer.usage)


@pytest.mark.parametrize("model", [SANDBOX, CLAUDE])
async def test_openais_sdk_streams_a_response(vendors: Line, model: str) -> None:
    async with vendors.openai() as client:
        events = [e async for e in await client.responses.create(model=model, input="Hello there", stream=True)]
        async with client.responses.stream(model=model, input="Hello there") as stream:
            final = await stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"
    ]  # fmt: skip
    assert kinds.count("response.output_text.delta") >= 2
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    done = events[-1].response
    assert text == done.output_text == final.output_text
    assert {event.response.id for event in events if hasattr(event, "response")} == {done.id}
    assert_charged(done.usage, response_price(model, done.usage))
    assert await vendors.spent() == 2 * response_price(model, done.usage)


@pytest.mark.parametrize("model", [SANDBOX, CLAUDE])
async def test_openais_sdk_uses_tools_of_a_response(vendors: Line, model: str) -> None:
    ask = {"model": model, "tools": [RESPONSE_TOOL], "tool_choice": "required", "input": "tool"}
    async with vendors.openai() as client:
        whole = await client.responses.create(**ask)
        called = whole.output[-1]
        assert (called.type, called.name, called.status) == ("function_call", "weather", "completed")
        streamed = [event async for event in await client.responses.create(stream=True, **ask)]
        done = next(event for event in streamed if event.type == "response.function_call_arguments.done")
        deltas = [event.delta for event in streamed if event.type == "response.function_call_arguments.delta"]
        assert done.arguments == "".join(deltas) == called.arguments
        assert streamed[-1].response.output[-1].call_id == called.call_id
        result = {"type": "function_call_output", "call_id": called.call_id, "output": "sunny"}
        answer = await client.responses.create(
            model=model, tools=[RESPONSE_TOOL], input=[{"role": "user", "content": "tool"}, *whole.output, result]
        )
    assert answer.output_text
    assert await vendors.spent() == sum(
        response_price(model, usage) for usage in (whole.usage, streamed[-1].response.usage, answer.usage)
    )


async def test_reasoning_and_a_full_answer_are_told_in_a_response(vendors: Line) -> None:
    async with vendors.openai() as client:
        answer = await client.responses.create(model=CLAUDE, input="think long", max_output_tokens=45)
        events = [e async for e in await client.responses.create(model=CLAUDE, input="think long", stream=True)]
    for response in (answer, events[-1].response):
        assert [item.type for item in response.output] == ["reasoning", "message"]
        assert response.output[0].content[0].text == THINKING["thinking"]
        assert response.status == "incomplete"
        assert response.incomplete_details.reason == "max_output_tokens"
    assert events[-1].type == "response.incomplete"


async def test_structured_output_goes_through_a_response_and_comes_back(vendors: Line) -> None:
    form = {"type": "json_schema", "name": "w", "schema": WEATHER, "strict": True}
    async with vendors.openai() as client:
        answer = await client.responses.create(model=CLAUDE, input="x", text={"format": form})
    assert vendors.heard["output_config"]["format"] == {"type": "json_schema", "schema": WEATHER}
    assert answer.text.format.type == "json_schema"


async def test_a_repeat_of_a_response_gives_the_first_and_one_charge(vendors: Line) -> None:
    ask = {"model": SANDBOX, "input": "Hello", "extra_headers": {"Idempotency-Key": "one"}}
    async with vendors.openai() as client:
        first = await client.responses.create(**ask)
        second = await client.responses.create(**ask)
    assert (second.id, second.output_text, second.usage) == (first.id, first.output_text, first.usage)
    assert await vendors.spent() == response_price(SANDBOX, first.usage)


async def test_what_a_response_cannot_do_here_is_refused_by_name(vendors: Line) -> None:
    cases = [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"max_output_tokens": 10**9}, "max_output_tokens"),
    ]
    async with vendors.openai() as client:
        for more, field in cases:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(**{"model": SANDBOX, "input": "x", **more})
            assert refused.value.param == field, more
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="no-such", input="x")
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_1")
    assert await vendors.spent() == 0


async def test_a_response_that_breaks_fails_and_says_what_came_was_charged(vendors: Line) -> None:
    async with vendors.openai() as client:
        events = [e async for e in await client.responses.create(model=CLAUDE, input="break off", stream=True)]
    failed = events[-1]
    assert failed.type == "response.failed"
    assert failed.response.status == "failed"
    assert failed.response.error.message
    assert failed.response.usage.estimated is True
    assert await vendors.spent() == Fraction(failed.response.usage.credits) * 1_000_000 > 0


async def test_cached_and_reasoning_tokens_of_a_chat_are_metered(vendors: Line) -> None:
    metadata = {"sandbox_cached_tokens": "2", "sandbox_reasoning_tokens": "7"}
    async with vendors.openai() as client:
        chat = await client.chat.completions.create(model=SANDBOX, messages=HELLO, metadata=metadata)
        response = await client.responses.create(model=SANDBOX, input="Hello there", metadata=metadata)
    assert response.usage.input_tokens_details.cached_tokens == 2
    assert response.usage.output_tokens_details.reasoning_tokens == 7
    event = await vendors.event()
    assert (event["cached_input_tokens"], event["reasoning_tokens"]) == (2, 7)
    async with vendors.anthropic() as client:
        message = await client.messages.create(model=SANDBOX, max_tokens=64, messages=HELLO, metadata=metadata)
    assert message.usage.cache_read_input_tokens == 2
    expected = chat_price(SANDBOX, chat.usage)
    assert response_price(SANDBOX, response.usage) == message_price(SANDBOX, message.usage) == expected
    assert await vendors.spent() == 3 * expected
