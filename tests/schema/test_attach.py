"""A stream asked for again with the idempotency key of a call still running."""

import asyncio
import contextlib

from tests.schema.conftest import House
from tests.schema.test_live import other  # noqa: F401  a fixture

STREAM = """subscription($input: ModelCallInput!) { streamModel(input: $input) { __typename
  ... on CallDelta { callId content }
  ... on CallCompleted { call { id output { ... on ChatOutput { content finishReason } } usage { credits } } }
  ... on CallFailed { failed: callId userErrors { code } } } }"""


def slow(key: str, **behaviour: str) -> dict:
    body = {
        "messages": [{"role": "user", "content": "Count to ten"}],
        "max_tokens": 40,
        "metadata": {"sandbox_chunk_delay_ms": "30", "sandbox_output_tokens": "20", **behaviour},
    }
    return {"model": "sandbox-chat", "payload": {"custom": body}, "idempotencyKey": key}


@contextlib.asynccontextmanager
async def stream(house: House, given: dict):
    source = await house.schema.subscribe(
        STREAM, variable_values={"input": given}, context_value=house.context(house.key())
    )
    async with contextlib.aclosing(source):
        yield source


async def following(source) -> dict:
    async with asyncio.timeout(30):
        result = await anext(source)
    assert result.errors is None, result.errors
    return result.data["streamModel"]


async def rest(source) -> list[dict]:
    return [result.data["streamModel"] async for result in source]


def text_of(events: list[dict]) -> str:
    return "".join(event["content"] or "" for event in events if event["__typename"] == "CallDelta")


async def calls_made(house: House) -> int:
    return await house.services.database.pool.fetchval("SELECT count(*) FROM calls")


async def test_a_second_reader_is_given_what_has_come_and_then_follows_to_the_same_end(house: House) -> None:
    async with stream(house, slow("same")) as first:
        begun = [await following(first) for _ in range(5)]
        async with stream(house, slow("same")) as second:
            caught_up = await following(second)
            assert caught_up["content"].startswith(text_of(begun))
            ours, theirs = await asyncio.gather(rest(first), rest(second))
    assert ours[-1] == theirs[-1]
    assert ours[-1]["call"]["output"]["content"] == text_of(begun + ours) == text_of([caught_up, *theirs])
    assert caught_up["callId"] == ours[-1]["call"]["id"]
    assert await calls_made(house) == 1


async def test_the_call_goes_on_for_a_follower_when_its_first_reader_leaves(house: House) -> None:
    async with stream(house, slow("left")) as first:
        await following(first)
        async with stream(house, slow("left")) as second:
            await following(second)
            await first.aclose()
            last = (await rest(second))[-1]
    assert last["__typename"] == "CallCompleted"
    assert last["call"]["output"]["finishReason"] in {"stop", "length"}


async def test_when_the_last_reader_leaves_the_call_ends_and_what_was_produced_is_settled(house: House) -> None:
    async with stream(house, slow("both", sandbox_chunk_delay_ms="300")) as first:
        await following(first)
        async with stream(house, slow("both", sandbox_chunk_delay_ms="300")) as second:
            await following(second)
            await first.aclose()
    async with asyncio.timeout(30):
        while not await calls_made(house):
            await asyncio.sleep(0.01)
    assert await house.services.database.pool.fetchval("SELECT status FROM calls") == "CANCELED"


async def test_a_follower_of_a_call_that_fails_before_its_first_chunk_is_told_the_same(house: House) -> None:
    given = slow("fails", sandbox_delay_ms="400", sandbox_status="500")

    async def all_of() -> list[dict]:
        async with stream(house, given) as source:
            return await rest(source)

    answers = await asyncio.gather(all_of(), all_of(), all_of())
    assert answers[0] == answers[1] == answers[2]
    assert [event["userErrors"][0]["code"] for event in answers[0]] == ["UPSTREAM_ERROR"]
    assert answers[0][0]["failed"].startswith("call_")
    assert await calls_made(house) == 1


async def test_a_reader_in_another_process_waits_for_the_end_and_is_given_the_whole_output(house: House, other) -> None:  # noqa: F811
    async with stream(house, slow("far")) as first:
        begun = [await following(first)]
        async with stream(other, slow("far")) as second:
            ours, theirs = await asyncio.gather(rest(first), rest(second))
    assert text_of(theirs) == text_of(begun + ours)
    assert theirs[-1]["call"]["usage"] == ours[-1]["call"]["usage"]
    assert theirs[-1]["call"]["output"] == ours[-1]["call"]["output"]
    assert await calls_made(house) == 1


async def test_tool_calls_are_put_together_for_who_comes_later(house: House) -> None:
    body = slow("tools", sandbox_tool_call="true", sandbox_chunk_delay_ms="100")
    body["payload"]["custom"]["tools"] = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    document = STREAM.replace("content finishReason", "content finishReason toolCalls")
    outputs = []
    for _ in range(2):
        source = await house.schema.subscribe(
            document, variable_values={"input": body}, context_value=house.context(house.key())
        )
        outputs.append((await rest(source))[-1]["call"]["output"])
    assert outputs[0] == outputs[1]
    assert outputs[0]["toolCalls"]
