"""Responses natively by a scripted provider over a real socket: each end by the truth table, a provider of chats behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from gateway.rules.truth import ROWS
from tests.gateway.test_truth_table import COUNTED, OF_PREDICTIONS, TEXT, WRITES, Told, until
from tests.gateway.upstream import (
    ENDED_WITHIN_S,
    INPUT_BYTES,
    PROMPT,
    Play,
    Theatre,
    Writes,
    closing,
    event,
    failing,
    patience_s,
    price_micro,
    read_by_now,
    saying,
    silent,
    streaming,
    theatre,
    usage_event,
    used,
    whole,
)
from tests.metering.invariants import assert_invariants
from tests.providers.gpt import SAID, event_text, events, response
from tests.providers.upstreams import STREAM_HEAD, answer, chunk
from tests.seeding import seed_workspace

PATH = "/v1/responses"
ITEM = {**SAID, "content": [{**SAID["content"][0], "text": TEXT}]}


def usage(of_input: object, of_output: object, cached: int = 0, reasoning: int = 0, writes: Writes = (0, 0)) -> dict:
    written, long = writes
    lives = {"ttl_30m_tokens": written - long, "ttl_12h_tokens": long}
    of_writes = {"cache_write_tokens": written, "cache_write_tokens_details": lives} if written else {}
    return {
        "input_tokens": of_input,
        "input_tokens_details": {"cached_tokens": cached, **of_writes},
        "output_tokens": of_output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
    }


TRUE = usage(100, 30)


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Theatre]:
    more, patience = {"more": "retries = 1", "alpha_more": "responses = true"}, patience_s(request)
    async with theatre(database_url, redis_url, tmp_path, **more, patience_s=patience) as made:
        yield made


def asked(model: str = "solo", **more: object) -> dict:
    return {"model": model, "input": [{"role": "user", "content": PROMPT}], "max_output_tokens": 50, **more}


def responding(reported: object = TRUE, status: str = "completed", items: tuple = (ITEM,), **more: object) -> Play:
    return saying(answer(orjson.dumps(response(items, reported, status, **more))))


def telling(told: list[dict], then: Play | None = None) -> Play:
    async def play(reader, writer):
        writer.write(STREAM_HEAD + b"".join(chunk(event_text(each)) for each in told))
        await writer.drain()
        if then is not None:
            await then(reader, writer)
        else:
            writer.write(b"0\r\n\r\n")

    return play


def told(reported: object = TRUE, status: str = "completed", items: tuple = (ITEM,)) -> list[dict]:
    return events(items, reported, status)


SPOKEN = told()[:-1]
"""All events but the last."""
SILENT = told()[:3]
"""Those before the first output."""


async def plain(stage: Theatre, play: Play, status: int = 200, **more: object) -> dict:
    stage.plays.plays = [play]
    got = await stage.gate.ask(asked(**more), path=PATH)
    assert got.status == status, got.raw
    return got.body


async def streamed(stage: Theatre, play: Play, last: str = "response.completed", **more: object) -> list[dict]:
    stage.plays.plays = [play]
    got = await stage.gate.ask(asked(stream=True, **more), path=PATH)
    assert got.status == 200, got.raw
    lines = [block.split(b"\n") for block in got.raw.split(b"\n\n") if block]
    heard = [orjson.loads(data.removeprefix(b"data: ")) for _, data in lines]
    assert [name.removeprefix(b"event: ").decode() for name, _ in lines] == [each["type"] for each in heard]
    assert heard[-1]["type"] == last
    assert len([each for each in heard if each["type"] in {"response.completed", "response.incomplete", "response.failed"}]) == 1  # fmt: skip
    assert [each["sequence_number"] for each in heard] == list(range(len(heard)))
    return heard


async def answered(stage: Theatre) -> Told:
    body = await plain(stage, responding())
    charge = {name: body["usage"].pop(name) for name in ("credits", "usd", "estimated")}
    assert body == response((ITEM,), TRUE)
    assert charge == {"credits": "700", "usd": "0.70", "estimated": False}
    return 100, 0, 30, 0


async def answered_after_others(stage: Theatre) -> Told:
    """The first route speaks the Responses API and fails; the second knows chats only."""
    stage.beta_plays.plays = [whole(usage=used(90, 20))]
    body = await plain(stage, failing(), model="duo")
    assert body["object"] == "response"
    assert body["output"][0]["content"][0]["text"] == TEXT
    assert [each.head.split()[1] for each in (*stage.alpha.requests, *stage.beta.requests)] == [
        PATH, PATH, "/v1/chat/completions"
    ]  # fmt: skip
    route = [["alpha", "unavailable"], ["alpha", "unavailable"], ["beta", "answered"]]
    assert orjson.loads((await stage.settled())["details"])["route"] == route
    return 90, 0, 20, 0


async def usage_last(stage: Theatre) -> Told:
    heard = await streamed(stage, telling(told()))
    assert heard[:-1] == SPOKEN
    assert heard[-1]["response"]["usage"] == {**TRUE, "credits": "700", "usd": "0.70", "estimated": False}
    return 100, 0, 30, 0


async def no_usage(stage: Theatre) -> Told:
    await plain(stage, responding(None))
    return COUNTED


async def negative_usage(stage: Theatre) -> Told:
    heard = await streamed(stage, telling(told(usage(-100, -1))))
    assert heard[-1]["response"]["usage"]["estimated"] is True
    return COUNTED


async def absurd_usage(stage: Theatre) -> Told:
    await plain(stage, responding(usage(10**15, 10**15)))
    return COUNTED


async def no_output_reported(stage: Theatre) -> Told:
    heard = await streamed(stage, telling(told(usage(100, 0))))
    assert heard[-1]["response"]["usage"]["estimated"] is True
    return 100, 0, 13, 0


async def nothing_reported(stage: Theatre) -> Told:
    await plain(stage, responding(usage(0, 0)))
    return COUNTED


async def cache_writes(stage: Theatre) -> Told:
    await streamed(stage, telling(told(usage(100, 30, cached=20, writes=(60, 40)))), model="writer")
    return 100, 20, 30, 0


async def inconsistent_writes(stage: Theatre) -> Told:
    await plain(stage, responding(usage(100, 30, cached=20, writes=(500, 300))), model="writer")
    return 100, 20, 30, 0


async def usage_above_bound(stage: Theatre) -> Told:
    await streamed(stage, telling(told(usage(9_000, 900))))
    return INPUT_BYTES + 2 * 16, 0, 50, 0


async def inconsistent_usage(stage: Theatre) -> Told:
    await plain(stage, responding(usage(100, 30, cached=500, reasoning=900)))
    return 100, 100, 30, 30


async def cached_and_reasoning(stage: Theatre) -> Told:
    await streamed(stage, telling(told(usage(100, 30, cached=80, reasoning=20))))
    return 100, 80, 30, 20


async def empty_output(stage: Theatre) -> Told:
    await plain(stage, responding(usage(100, 0), items=()))
    return 100, 0, 0, 0


async def empty_output_no_usage(stage: Theatre) -> Told:
    await streamed(stage, telling(told(None, items=())))
    return COUNTED[0], 0, 0, 0


async def content_filter(stage: Theatre) -> Told:
    heard = await streamed(stage, telling(told(usage(100, 1), "incomplete")), "response.incomplete")
    assert heard[-1]["response"]["usage"]["credits"] == "410"
    return 100, 0, 1, 0


async def client_gone_whole(stage: Theatre) -> Told:
    gone = asyncio.Event()

    async def play(reader, writer):
        await gone.wait()
        await responding()(reader, writer)

    stage.plays.plays = [play]
    asking = asyncio.create_task(stage.gate.ask(asked(), path=PATH, idempotency_key="k"))
    await until(lambda: stage.alpha.requests)
    asking.cancel()
    await asyncio.wait({asking})
    gone.set()
    await stage.settled()
    repeat = await stage.gate.ask(asked(), path=PATH, idempotency_key="k")
    assert repeat.body["output"] == [ITEM]
    assert len(stage.alpha.requests) == 1
    return 100, 0, 30, 0


async def refused(stage: Theatre) -> Told:
    stage.beta_plays.plays = [whole()]
    await plain(stage, failing("400 Bad Request", body=b'{"error": {"message": "no", "code": "x"}}'), 400, model="duo")
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 0)
    return None


async def failed_before(stage: Theatre) -> Told:
    failed = {
        "type": "response.failed",
        "response": {**response((), None, "failed"), "error": {"code": "server_error"}},
    }
    stage.plays.plays = [telling([*SILENT, failed])]
    assert (await stage.gate.ask(asked(stream=True), path=PATH)).status == 502
    assert len(stage.alpha.requests) == 2
    return None


async def failed_during(stage: Theatre) -> Told:
    heard = await streamed(stage, telling(SPOKEN, closing), "response.failed")
    failed = heard[-1]["response"]
    assert (failed["id"], failed["output"], failed["error"]["code"]) == ("resp_up", [ITEM], "upstream_error")
    assert failed["usage"]["estimated"] is True
    return COUNTED


async def failed_at_end(stage: Theatre) -> Told:
    failed = {"type": "response.failed", "response": {**response((ITEM,), TRUE, "failed"), "error": {"code": "server_error", "message": "no"}}}  # fmt: skip
    heard = await streamed(stage, telling([*SPOKEN, failed]), "response.failed")
    assert heard[-1]["response"]["usage"]["credits"] == "700"
    return 100, 0, 30, 0


async def timed_out_before(stage: Theatre) -> Told:
    stage.plays.plays = [telling(SILENT, silent)]
    assert (await stage.gate.ask(asked(stream=True), path=PATH)).status == 504
    return None


async def timed_out_during(stage: Theatre) -> Told:
    await streamed(stage, telling(SPOKEN, silent), "response.failed")
    return COUNTED


async def leaves(stage: Theatre, play: Play) -> None:
    gone = asyncio.Event()
    stage.plays.plays = [play]
    asking = asyncio.create_task(stage.gate.ask(asked(stream=True), path=PATH, leave=gone))
    await until(lambda: stage.alpha.requests)
    await read_by_now()
    gone.set()
    await asyncio.wait({asking})
    await asyncio.wait_for(stage.alpha.ended.wait(), ENDED_WITHIN_S)


async def client_gone_before(stage: Theatre) -> Told:
    await leaves(stage, telling(SILENT, silent))
    return None


async def client_gone_during(stage: Theatre) -> Told:
    await leaves(stage, telling(SPOKEN, silent))
    return COUNTED


Scene = Callable[[Theatre], Awaitable[Told]]
SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        answered, answered_after_others, usage_last, no_usage, negative_usage, absurd_usage, no_output_reported,
        nothing_reported, usage_above_bound,
        inconsistent_usage, cached_and_reasoning, cache_writes, inconsistent_writes, empty_output, empty_output_no_usage, content_filter, client_gone_whole,
        refused, failed_before, failed_during, failed_at_end, timed_out_before, timed_out_during, client_gone_before,
        client_gone_during,
    )
}  # fmt: skip
NOT_OF_RESPONSES = {"usage_in_each_chunk", "usage_before_output", "several_choices", "failed_after_usage", "client_gone_after_input", "client_gone_after_writes", "client_gone_at_end"}  # fmt: skip
"""A response's usage is in its last event only, and it has one choice."""
OF_ANY_FORM = {"tool_calls", "price_changed"}


def test_every_row_of_the_truth_table_that_a_response_can_have_is_played() -> None:
    assert {row.name for row in ROWS} == SCENES.keys() | NOT_OF_RESPONSES | OF_ANY_FORM | OF_PREDICTIONS


@pytest.mark.parametrize("name", SCENES)
async def test_a_response_ends_by_the_truth_table(stage: Theatre, name: str, pg) -> None:
    expected = await SCENES[name](stage)
    row = next(row for row in ROWS if row.name == name).verdict
    ended = await stage.settled()
    assert ended["status"] == row.status
    if expected is None:
        assert row.usage is None
        assert (ended["call_id"], await stage.spent_micro()) == (None, 0)
    else:
        assert row.usage is not None
        assert ended["estimated"] == row.usage.estimated
        assert tuple(ended[f"{each}_tokens"] for each in ("input", "cached_input", "output", "reasoning")) == expected
        writes = WRITES.get(name, (0, 0))
        assert ended["charged_micro"] == price_micro(expected, writes=writes) == await stage.spent_micro()
    await assert_invariants(pg)


async def test_a_response_that_fails_without_usage_fails_once_and_what_came_is_counted(stage: Theatre) -> None:
    failed = {"type": "response.failed", "response": {**response((ITEM,), None, "failed"), "error": {"code": "server_error", "message": "no"}}}  # fmt: skip
    await streamed(stage, telling([*SPOKEN, failed]), "response.failed")
    assert (await stage.settled())["charged_micro"] == price_micro(COUNTED)


# A model with a provider of responses first, and one of chats behind it


async def test_a_stream_falls_back_to_a_provider_of_chats_until_its_first_output(stage: Theatre) -> None:
    stage.beta_plays.plays = [streaming(event(TEXT), event(None, "stop"), usage_event(used(90, 20)))]
    heard = await streamed(stage, telling(SILENT, closing), model="duo")
    assert [each["delta"] for each in heard if each["type"] == "response.output_text.delta"] == [TEXT]
    assert {each["response"]["id"] for each in heard if "response" in each} == {"resp_x"}
    assert (await stage.settled())["charged_micro"] == price_micro((90, 0, 20, 0))
    assert stage.beta.requests[0].json["max_tokens"] == 50


async def test_a_translated_stream_that_breaks_behind_its_usage_is_charged_by_it(stage: Theatre) -> None:
    stage.beta_plays.plays = [
        streaming(event(TEXT), event(None, "stop"), usage_event(used(90, 20)), then=saying(b"rubbish"))
    ]
    await streamed(stage, failing(), "response.failed", model="duo")
    assert (await stage.settled())["charged_micro"] == price_micro((90, 0, 20, 0))


async def test_a_custom_tool_that_a_chat_has_no_word_for_is_the_natives_alone(stage: Theatre) -> None:
    tools = [{"type": "custom", "name": "x"}]
    await plain(stage, responding(), model="duo", tools=tools)
    assert stage.alpha.requests[-1].json["tools"] == tools
    stage.plays.plays = [failing()]
    stage.beta_plays.plays = [whole()]
    got = await stage.gate.ask(asked("duo", tools=tools), path=PATH)
    assert (got.status, got.code) == (400, "upstream_rejected")
    assert not stage.beta.requests


async def test_a_repeat_is_told_as_it_was_first_whole_and_streamed(stage: Theatre) -> None:
    stage.plays.plays = [telling(told())]
    key = {"path": PATH, "idempotency_key": "k"}
    first = await stage.gate.ask(asked(stream=True), **key)
    again = await stage.gate.ask(asked(stream=True), **key)
    assert again.headers["content-type"].startswith("text/event-stream")
    last = [orjson.loads(each.raw.split(b"data: ")[-1])["response"] for each in (first, again)]
    assert last[0] == last[1]
    assert len(stage.alpha.requests) == 1
    assert await stage.spent_micro() == price_micro((100, 0, 30, 0))


async def test_the_cache_gives_a_response_again(stage: Theatre) -> None:
    stage.plays.plays = [responding()]
    bodies = [(await stage.gate.ask(asked(), path=PATH, x_tollgate_cache="on")) for _ in range(2)]
    assert [each.headers["x-tollgate-cache"] for each in bodies] == ["miss", "hit"]
    assert bodies[0].body["output"] == bodies[1].body["output"] == [ITEM]
    assert len(stage.alpha.requests) == 1


async def test_an_sdks_retry_is_given_the_first_response(stage: Theatre) -> None:
    stage.plays.plays = [responding()]
    for number in ("0", "1"):
        got = await stage.gate.ask(asked(), path=PATH, x_stainless_retry_count=number)
        assert got.body["output"] == [ITEM]
    assert len(stage.alpha.requests) == 1
    assert await stage.spent_micro() == price_micro((100, 0, 30, 0))


@pytest.mark.parametrize("limit", [{}, {"max_output_tokens": 50}])
async def test_a_response_is_fitted_to_what_the_wallet_can_pay(
    database_url: str, redis_url: str, tmp_path: Path, limit: dict
) -> None:
    async with theatre(database_url, redis_url, tmp_path, alpha_more="responses = true", credits_micro=0) as stage:
        poor = await seed_workspace(stage.database, (INPUT_BYTES + 32) * 4 * 1_000_000 + 7 * 20 * 1_000_000)
        stage.plays.plays = [responding(usage(100, 5))]
        body = {name: value for name, value in asked().items() if name != "max_output_tokens"} | limit
        got = await stage.gate.ask(body, path=PATH, key=poor.api_key, x_tollgate_fit="true")
        assert got.status == 200, got.raw
        assert stage.alpha.requests[0].json["max_output_tokens"] == 7


async def test_nothing_of_the_providers_state_is_within_reach(stage: Theatre) -> None:
    stage.plays.plays = [responding()]
    await plain(stage, responding(), store=True)
    assert stage.alpha.requests[-1].json["store"] is False
    sent = len(stage.alpha.requests)
    for more in (
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"background": True},
        {"prompt_cache_options": {"comparison_response_id": "resp_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "image_generation_call", "id": "ig_1"}]},
        {"input": [{"type": "additional_tools", "tools": [{"type": "web_search"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "file_id": "file_1"}]}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "name": "x"}, {"type": "mcp", "server_url": "https://x"}]},
    ):  # fmt: skip
        got = await stage.gate.ask(asked(**more), path=PATH)
        assert (got.status, got.code) == (400, "invalid_value"), more
        assert got.body["error"]["param"].split(".")[0] in more
    assert len(stage.alpha.requests) == sent
