"""Anthropic's official SDK over a real socket: /v1/messages for models of either vendor."""

import asyncio
from fractions import Fraction

import aiohttp
import anthropic
import pytest

from tests.e2e.vendors import (
    CLAUDE,
    CLAUDE_PRICE,
    CLAUDE_TOOL,
    HELLO,
    PICTURE,
    SANDBOX,
    WRITING_PRICE,
    Line,
    assert_charged,
    message_price,
    price_micro,
)
from tests.providers.claude import TEXT, TOOL, USAGE
from tests.providers.upstreams import KEY
from tests.seeding import seed_workspace


async def test_D2_anthropics_sdk_calls_models_of_both_vendors_and_is_charged_to_the_micro_credit(vendors: Line) -> None:
    async with vendors.anthropic() as client:
        ours = await client.messages.create(model=SANDBOX, max_tokens=64, messages=HELLO, system="Be brief.")
        assert ours.content[0].type == "text"
        assert ours.content[0].text
        assert ours.stop_reason == "end_turn"
        assert_charged(ours.usage, spent := message_price(SANDBOX, ours.usage))
        assert ours._request_id

        theirs = await client.messages.create(
            model=CLAUDE, max_tokens=64, messages=HELLO, extra_body={"top_k": 3, "unheard_of": [1]},
            extra_headers={"anthropic-beta": "some-beta-2026-01-01"},
        )  # fmt: skip
        assert theirs.id == "msg_up"
        assert theirs.content[0].text == TEXT["text"]
        assert theirs.usage.service_tier == "standard"
        assert_charged(theirs.usage, CLAUDE_PRICE)
        assert message_price(CLAUDE, theirs.usage) == CLAUDE_PRICE
    assert vendors.heard == {
        "model": "claude-sonnet-4-0", "max_tokens": 64, "messages": HELLO, "top_k": 3, "unheard_of": [1]
    }  # fmt: skip
    head = vendors.claude.upstream.requests[-1].head.lower()
    assert f"x-api-key: {KEY}" in head
    assert "anthropic-beta: some-beta-2026-01-01" in head
    assert vendors.seeded.api_key not in head
    assert await vendors.spent() == spent + CLAUDE_PRICE
    event = await vendors.event()
    assert (event["input_tokens"], event["cached_input_tokens"], event["output_tokens"]) == (15, 10, 45)


@pytest.mark.parametrize("model", [SANDBOX, CLAUDE])
async def test_anthropics_sdk_streams(vendors: Line, model: str) -> None:
    async with (
        vendors.anthropic() as client,
        client.messages.stream(model=model, max_tokens=64, messages=HELLO) as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_message()
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds.count("text") >= 2
    assert kinds[-1] == "message_stop"
    assert final.content[0].text
    assert final.stop_reason == "end_turn"
    assert_charged(
        next(event.usage for event in events if event.type == "message_delta"), message_price(model, final.usage)
    )
    assert await vendors.spent() == message_price(model, final.usage)


async def test_anthropics_sdk_uses_tools_of_a_chat_model_whole_and_streamed(vendors: Line) -> None:
    ask = {
        "model": SANDBOX, "max_tokens": 64, "messages": HELLO, "tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"},
    }  # fmt: skip
    async with vendors.anthropic() as client:
        whole = await client.messages.create(**ask)
        async with client.messages.stream(**ask) as stream:
            streamed = await stream.get_final_message()
        used = whole.content[0]
        assert (whole.stop_reason, used.type, used.name) == ("tool_use", "tool_use", "weather")
        assert used.input["text"]
        assert (streamed.stop_reason, streamed.content[0].input) == ("tool_use", used.input)
        result = {"type": "tool_result", "tool_use_id": used.id, "content": [{"type": "text", "text": "sunny"}]}
        answer = await client.messages.create(
            model=SANDBOX, max_tokens=64, tools=[CLAUDE_TOOL],
            messages=[*HELLO, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}],
        )  # fmt: skip
    assert answer.content[0].text
    assert await vendors.spent() == sum(message_price(SANDBOX, each.usage) for each in (whole, streamed, answer))


async def test_anthropics_sdk_uses_tools_and_thinking_of_claude(vendors: Line) -> None:
    think = [{"role": "user", "content": "think, then tool"}]
    async with vendors.anthropic() as client, client.messages.stream(
        model=CLAUDE, max_tokens=2_000, messages=think, tools=[CLAUDE_TOOL],
        thinking={"type": "enabled", "budget_tokens": 1_024},
    ) as stream:  # fmt: skip
        final = await stream.get_final_message()
    assert vendors.heard["thinking"] == {"type": "enabled", "budget_tokens": 1_024}
    assert final.content[-1].input == TOOL["input"]
    assert final.stop_reason == "tool_use"
    assert await vendors.spent() == CLAUDE_PRICE


async def test_pictures_in_a_message_are_held_for_and_reach_either_vendor(vendors: Line) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    ask = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}]}]
    async with vendors.anthropic() as client:
        ours = await client.messages.create(model=SANDBOX, max_tokens=9, messages=ask)
        assert ours.usage.input_tokens == 3 + 85
        await client.messages.create(model=CLAUDE, max_tokens=9, messages=ask)
    assert vendors.heard["messages"] == ask
    async with vendors.openai() as client:
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
        chat = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]
        await client.chat.completions.create(model=CLAUDE, max_tokens=9, messages=chat)
    assert vendors.heard["messages"] == ask


async def test_the_beta_part_of_the_sdk_works_as_well(vendors: Line) -> None:
    async with vendors.anthropic() as client:
        message = await client.beta.messages.create(model=CLAUDE, max_tokens=64, messages=HELLO, betas=["some-beta"])
    assert message.content[0].text == TEXT["text"]
    assert "anthropic-beta: some-beta\r\n" in vendors.claude.upstream.requests[-1].head
    assert await vendors.spent() == CLAUDE_PRICE


async def test_tokens_are_counted_for_nothing(vendors: Line) -> None:
    async with vendors.anthropic() as client:
        short = await client.messages.count_tokens(model=CLAUDE, messages=HELLO)
        long = await client.messages.count_tokens(
            model=SANDBOX, system="x" * 4_000, tools=[CLAUDE_TOOL], messages=[{"role": "user", "content": "y" * 4_000}]
        )
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.count_tokens(model="no-such", messages=HELLO)
    assert 3 <= short.input_tokens <= 20
    assert long.input_tokens >= 2_000
    assert await vendors.spent() == 0


async def test_models_are_listed_in_the_form_of_who_asks(vendors: Line) -> None:
    async with vendors.anthropic() as client:
        names = {model.id: model.display_name async for model in client.models.list()}
        assert names[CLAUDE] == "Claude Sonnet 4"
        assert (await client.models.retrieve(SANDBOX)).id == SANDBOX
    async with vendors.openai() as client:
        assert {model.id async for model in client.models.list()} == set(names)


@pytest.mark.parametrize("model", [SANDBOX, CLAUDE])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_in_anthropics_form_gives_the_first_message_and_one_charge(
    vendors: Line, model: str, stream: bool
) -> None:
    ask = {"model": model, "max_tokens": 64, "messages": HELLO, "extra_headers": {"Idempotency-Key": "one"}}
    async with vendors.anthropic() as client:
        if stream:
            finals = []
            for _ in range(2):
                async with client.messages.stream(**ask) as opened:
                    finals.append(await opened.get_final_message())
        else:
            finals = [await client.messages.create(**ask) for _ in range(2)]
    first, second = finals
    assert [block.text for block in second.content] == [block.text for block in first.content]
    assert (second.stop_reason, second.usage.output_tokens) == (first.stop_reason, first.usage.output_tokens)
    assert await vendors.spent() == message_price(model, first.usage)


async def test_failures_are_the_errors_that_anthropics_sdk_knows_and_cost_nothing(vendors: Line) -> None:
    def about(words: str, model: str = CLAUDE, **more):
        return {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": words}], **more}

    cases = [
        (about("x", "no-such"), anthropic.NotFoundError, 404, "not_found_error"),
        (about("x", max_tokens=-1), anthropic.BadRequestError, 400, "invalid_request_error"),
        (about("x", SANDBOX, max_tokens=20_000), anthropic.BadRequestError, 400, "invalid_request_error"),
        (about("x", "sandbox-embedding"), anthropic.BadRequestError, 400, "invalid_request_error"),
        (about("wrong"), anthropic.BadRequestError, 400, "invalid_request_error"),
        (about("overloaded"), anthropic.InternalServerError, 502, "api_error"),
        (about("x" * 9_000_000), anthropic.APIStatusError, 413, "request_too_large"),
    ]
    async with vendors.anthropic() as client:
        for ask, kind, status, word in cases:
            for call in (client.messages.create, lambda **each: client.messages.create(stream=True, **each)):
                with pytest.raises(kind) as caught:
                    await call(**ask)
                assert caught.value.status_code == status, ask
                assert caught.value.body["type"] == "error"
                assert caught.value.body["error"]["type"] == word
                assert caught.value.body["error"]["message"]
    for wrong in ({"api_key": "sk-wrong"}, {"api_key": None, "auth_token": "wrong"}):
        async with vendors.anthropic(**wrong) as client:
            with pytest.raises(anthropic.AuthenticationError) as refused:
                await client.messages.create(**about("x"))
            assert refused.value.body["error"]["type"] == "authentication_error"
    assert await vendors.spent() == 0
    poor = await seed_workspace(vendors.database, 1, name="poor")
    async with vendors.anthropic(api_key=poor.api_key) as client:
        with pytest.raises(anthropic.APIStatusError) as unpaid:
            await client.messages.create(**about("x"))
    assert (unpaid.value.status_code, unpaid.value.body["error"]["type"]) == (402, "billing_error")


async def test_the_key_may_come_as_x_api_key_or_as_bearer(vendors: Line) -> None:
    body = {"model": SANDBOX, "max_tokens": 9, "messages": HELLO}
    key = vendors.seeded.api_key
    async with aiohttp.ClientSession() as session:
        for headers, expected in (
            ({"x-api-key": key}, 200),
            ({"Authorization": f"Bearer {key}"}, 200),
            ({"x-api-key": f"{key}x"}, 401),
            ({}, 401),
        ):
            async with session.post(f"{vendors.gateway.url}/v1/messages", json=body, headers=headers) as answer:
                assert answer.status == expected, headers
                if expected == 200:
                    usage = (await answer.json())["usage"]
                    assert answer.headers["X-Tollgate-Credits"] == usage["credits"]
                    assert answer.headers["X-Tollgate-Usd"] == usage["usd"]
                assert answer.headers["request-id"]


async def test_a_stream_that_breaks_ends_with_anthropics_error_and_what_came_is_charged_as_estimated(
    vendors: Line,
) -> None:
    async with vendors.anthropic() as client:
        stream = await client.messages.create(
            model=CLAUDE, max_tokens=64, messages=[{"role": "user", "content": "break off"}], stream=True
        )
        with pytest.raises(anthropic.APIStatusError) as caught:
            async for _ in stream:
                pass
    assert caught.value.body["error"]["type"] == "api_error"
    charged = caught.value.body["usage"]
    assert charged["estimated"] is True
    assert await vendors.spent() == Fraction(charged["credits"]) * 1_000_000 > 0


async def test_usage_nobody_can_believe_is_estimated_and_says_so(vendors: Line) -> None:
    lying = {"model": CLAUDE, "max_tokens": 64, "messages": [{"role": "user", "content": "lying"}]}
    async with vendors.anthropic() as client:
        whole = await client.messages.create(**lying)
        events = [event async for event in await client.messages.create(stream=True, **lying)]
    usages = (whole.usage, events[-2].usage)
    assert [usage.estimated for usage in usages] == [True, True]
    assert (events[-2].delta.stop_reason, events[-1].type) == ("end_turn", "message_stop")
    spent = sum(Fraction(usage.credits) * 1_000_000 for usage in usages)
    assert await vendors.spent() == spent > 0


def test_the_scripted_usage_is_the_one_that_prices_are_reckoned_with() -> None:
    assert [USAGE[f"{each}input_tokens"] for each in ("", "cache_creation_", "cache_read_")] == [2, 3, 10]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_anthropic_writes_to_its_cache_is_charged_at_its_own_prices_by_its_life(
    vendors: Line, streamed: bool
) -> None:
    long = {"type": "ephemeral", "ttl": "1h"}
    ask = {
        "model": CLAUDE, "max_tokens": 64, "messages": [{"role": "user", "content": "writing"}],
        "system": [{"type": "text", "text": "Be brief.", "cache_control": long}],
    }  # fmt: skip
    async with vendors.anthropic() as client:
        if streamed:
            async with client.messages.stream(**ask) as stream:
                charged = [event.usage async for event in stream if event.type == "message_delta"][-1]
                usage = (await stream.get_final_message()).usage
        else:
            charged = usage = (await client.messages.create(**ask)).usage
    assert vendors.heard["system"][0]["cache_control"] == long
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (2, 10, 60)
    lives = usage.cache_creation
    assert (lives.ephemeral_5m_input_tokens, lives.ephemeral_1h_input_tokens) == (20, 40)
    assert_charged(charged, WRITING_PRICE)
    assert message_price(CLAUDE, usage, asks_to_write=True) == WRITING_PRICE == await vendors.spent()
    as_input = price_micro(CLAUDE, INPUT_TOKENS=62, CACHED_INPUT_TOKENS=10, OUTPUT_TOKENS=45)
    assert as_input < WRITING_PRICE
    headers = {"Authorization": f"Bearer {vendors.seeded.api_key}"}
    query = "{ workspace { calls(first: 1) { nodes { id usage { meters { meter quantity } } } } } }"
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{vendors.gateway.url}/graphql", json={"query": query}) as got:
            [call] = (await got.json())["data"]["workspace"]["calls"]["nodes"]
        async with session.get(f"{vendors.gateway.url}/v1/calls/{call['id']}") as got:
            record = (await got.json())["usage"]
        async with session.get(f"{vendors.gateway.url}/v1/usage.jsonl") as got:
            line = await got.json(content_type=None)
    counts = {reading["meter"]: int(reading["quantity"]) for reading in call["usage"]["meters"]}
    parts = ("INPUT_TOKENS", "CACHED_INPUT_TOKENS", "CACHE_WRITE_INPUT_TOKENS", "LONG_CACHE_WRITE_INPUT_TOKENS")
    assert [counts[meter] for meter in parts] == [line[meter.lower()] for meter in parts] == [72, 10, 60, 40]
    assert record["prompt_tokens_details"] == {
        "cached_tokens": 10, "cache_write_tokens": 60, "long_cache_write_tokens": 40
    }  # fmt: skip


async def test_a_chat_and_a_response_of_claude_tell_in_their_own_form_what_was_written(vendors: Line) -> None:
    text = "writing " + "x" * 72  # at most a token a byte is believed
    chats = {"model": CLAUDE, "max_tokens": 64, "messages": [{"role": "user", "content": text}]}
    to_write = {"extra_body": {"cache_control": {"type": "ephemeral", "ttl": "1h"}}}
    async with vendors.openai() as client:
        chat = await client.chat.completions.create(**chats, **to_write)
        stream = await client.chat.completions.create(**chats, **to_write, stream=True)
        last = [chunk.usage async for chunk in stream if chunk.usage is not None][-1]
        response = await client.responses.create(model=CLAUDE, max_output_tokens=64, input=text, **to_write)
    for usage in (chat.usage, last):
        details = usage.prompt_tokens_details
        assert (usage.prompt_tokens, details.cached_tokens, details.cache_write_tokens) == (72, 10, 60)
    details = response.usage.input_tokens_details
    assert (response.usage.input_tokens, details.cached_tokens, details.cache_write_tokens) == (72, 10, 60)
    for usage in (chat.usage, last, response.usage):
        assert_charged(usage, WRITING_PRICE)
    assert await vendors.spent() == 3 * WRITING_PRICE


async def test_two_streams_of_one_key_at_once_are_one_call(vendors: Line) -> None:
    ask = {
        "model": SANDBOX, "max_tokens": 64, "messages": HELLO, "metadata": {"sandbox_chunk_delay_ms": "20"},
        "extra_headers": {"Idempotency-Key": "at-once"},
    }  # fmt: skip

    async def final() -> anthropic.types.Message:
        async with vendors.anthropic() as client, client.messages.stream(**ask) as stream:
            return await stream.get_final_message()

    first, second = await asyncio.gather(final(), final())
    assert first.content[0].text == second.content[0].text
    assert await vendors.spent() == message_price(SANDBOX, first.usage)


@pytest.mark.parametrize("tools", [False, True])
async def test_a_repeat_follows_a_stream_that_still_runs_and_outlives_its_first_reader(
    vendors: Line, tools: bool
) -> None:
    ask = {
        "model": SANDBOX, "max_tokens": 64, "messages": HELLO,
        "metadata": {"sandbox_chunk_delay_ms": "800" if tools else "300", "sandbox_output_tokens": "16"},
        "extra_headers": {"Idempotency-Key": f"followed {tools}"},
        **({"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}} if tools else {}),
    }  # fmt: skip
    async with vendors.anthropic() as client:
        first = await client.messages.create(stream=True, **ask)
        begun = [event async for event in _until_deltas(first, 1 if tools else 3)]
        async with client.messages.stream(**ask) as second:
            caught_up = [event async for event in _until_deltas(second, 1)]
            assert await vendors.event() is None  # it still runs, and its second reader has what came so far
            assert _said(caught_up).startswith(_said(begun))
            await first.close()
            final = await second.get_final_message()
        again = await client.messages.create(**{**ask, "stream": True})
        usages = [event.usage async for event in again if event.type == "message_delta"]
    assert final.stop_reason == ("tool_use" if tools else "end_turn")
    said = final.content[0].input["text"] if tools else final.content[0].text
    assert len(said.split()) >= 4
    assert await vendors.spent() == message_price(SANDBOX, final.usage)
    assert usages[0].output_tokens == final.usage.output_tokens


async def _until_deltas(stream, count: int):
    async for event in stream:
        yield event
        count -= event.type == "content_block_delta"
        if not count:
            return


def _said(events: list) -> str:
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    return "".join(getattr(delta, "text", None) or getattr(delta, "partial_json", "") for delta in deltas)


async def test_who_leaves_a_stream_pays_for_what_came(vendors: Line) -> None:
    async with vendors.anthropic() as client:
        stream = await client.messages.create(
            model=SANDBOX, max_tokens=64, messages=HELLO, stream=True, metadata={"sandbox_chunk_delay_ms": "1000"}
        )
        async for event in stream:
            if event.type == "content_block_delta":
                break
        await stream.close()
    await vendors.left_and_paid_for_what_came()


async def test_graphql_chats_with_claude_and_reads_what_a_message_gave(vendors: Line) -> None:
    async with vendors.anthropic() as client:
        await client.messages.create(
            model=CLAUDE, max_tokens=64, messages=HELLO, extra_headers={"Idempotency-Key": "kept"}
        )
    query = """
    mutation {
      callModel(input: {model: "claude-sonnet-4", payload: {chat: {messages: [{role: SYSTEM, content: "Be brief."},
        {role: USER, content: "tool"}], maxOutputTokens: 50}}}) {
        call { usage { credits meters { meter quantity } } output { ... on ChatOutput { content toolCalls } } }
        userErrors { code message }
      }
    }"""
    kept = "{ workspace { calls(first: 2) { nodes { output { ... on ChatOutput { content finishReason } } } } } }"
    headers = {"Authorization": f"Bearer {vendors.seeded.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{vendors.gateway.url}/graphql", json={"query": query}) as answer:
            whole = await answer.json()
            assert "errors" not in whole, whole
            told = whole["data"]["callModel"]
        async with session.post(f"{vendors.gateway.url}/graphql", json={"query": kept}) as answer:
            calls = (await answer.json())["data"]["workspace"]["calls"]["nodes"]
    assert told["userErrors"] == []
    usage = told["call"]["usage"]
    assert Fraction(usage["credits"]) * 1_000_000 == CLAUDE_PRICE
    used = {reading["meter"]: int(reading["quantity"]) for reading in usage["meters"]}
    assert [used[name] for name in ("INPUT_TOKENS", "CACHED_INPUT_TOKENS", "OUTPUT_TOKENS")] == [15, 10, 45]
    assert told["call"]["output"]["content"] == TEXT["text"]
    assert told["call"]["output"]["toolCalls"][0]["function"]["name"] == "weather"
    assert vendors.heard["max_tokens"] == 50
    assert [call["output"] for call in calls] == [None, {"content": TEXT["text"], "finishReason": "stop"}]
    assert await vendors.spent() == 2 * CLAUDE_PRICE
