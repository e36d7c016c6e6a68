"""Chats and messages with a model that only speaks the Responses API, by a scripted provider: each end by the truth table."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from gateway.rules.truth import ROWS
from gateway.so_far import SoFar
from tests.gateway.test_batches import begun, content, line, work
from tests.gateway.test_batches import told as batch_told
from tests.gateway.test_responses import (
    ITEM,
    PATH,
    SILENT,
    SPOKEN,
    TRUE,
    responding,
    response,
    telling,
    told,
    usage,
)
from tests.gateway.test_truth_table import TEXT, until
from tests.gateway.upstream import (
    ENDED_WITHIN_S,
    INPUT_BYTES,
    PROMPT,
    Play,
    Theatre,
    closing,
    event,
    failing,
    patience_s,
    price_micro,
    read_by_now,
    silent,
    streaming,
    theatre,
    usage_event,
    used,
    whole,
)
from tests.metering.invariants import assert_invariants
from tests.seeding import apply_catalog, seed_workspace

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "f",
    "arguments": '{"a": "word word"}',
}
FAILED_AFTER_ITS_USAGE = {
    "type": "response.failed",
    "response": {**response((ITEM,), TRUE, "failed"), "error": {"code": "server_error", "message": "no"}},
}
FAILED = {"type": "response.failed", "response": {**response((), None, "failed"), "error": {"code": "server_error"}}}


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Theatre]:
    more, patience = {"more": "retries = 1", "alpha_more": "responses = true"}, patience_s(request)
    async with theatre(database_url, redis_url, tmp_path, **more, patience_s=patience) as made:
        yield made


def asked(model: str = "thinker", **more: object) -> dict:
    """The same in both forms of a chat."""
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 50, **more}


HERE = -1
SENT = {"chat": -(-INPUT_BYTES // 4), "messages": len(PROMPT) // 4}
"""Tokens that are counted for the prompt: of a chat for the names of its fields, too."""
Tokens = tuple[int, int, int, int] | None
"""(input, cached, output, reasoning) that must be charged; None: nothing. Input of HERE is counted here, by what was sent."""
WHOLE: dict[str, tuple[Play, Tokens]] = {
    "answered": (responding(), (100, 0, 30, 0)),
    "no_usage": (responding(None), (HERE, 0, 13, 0)),
    "negative_usage": (responding(usage(-100, -1)), (HERE, 0, 13, 0)),
    "absurd_usage": (responding(usage(10**15, 10**15)), (HERE, 0, 13, 0)),
    "no_output_reported": (responding(usage(100, 0)), (100, 0, 13, 0)),
    "nothing_reported": (responding(usage(0, 0)), (HERE, 0, 13, 0)),
    "inconsistent_usage": (responding(usage(100, 30, cached=500, reasoning=900)), (100, 100, 30, 30)),
    "cached_and_reasoning": (responding(usage(100, 30, cached=80, reasoning=20)), (100, 80, 30, 20)),
    "tool_calls": (responding(items=(CALL,)), (100, 0, 30, 0)),
    "empty_output": (responding(usage(100, 0), items=()), (100, 0, 0, 0)),
    "content_filter": (responding(usage(100, 1), "incomplete"), (100, 0, 1, 0)),
}
STREAMED: dict[str, tuple[Play, Tokens]] = {
    "usage_last": (telling(told()), (100, 0, 30, 0)),
    "no_usage": (telling(told(None)), (HERE, 0, 13, 0)),
    "negative_usage": (telling(told(usage(-100, -1))), (HERE, 0, 13, 0)),
    "no_output_reported": (telling(told(usage(100, 0))), (100, 0, 13, 0)),
    "nothing_reported": (telling(told(usage(0, 0))), (HERE, 0, 13, 0)),
    "cached_and_reasoning": (telling(told(usage(100, 30, cached=80, reasoning=20))), (100, 80, 30, 20)),
    "tool_calls": (telling(told(items=(CALL,))), (100, 0, 30, 0)),
    "empty_output": (telling(told(usage(100, 0), items=())), (100, 0, 0, 0)),
    "content_filter": (telling(told(usage(100, 1), "incomplete")), (100, 0, 1, 0)),
    "failed_during": (telling(SPOKEN, closing), (HERE, 0, 13, 0)),
    "failed_at_end": (telling([*SPOKEN, FAILED_AFTER_ITS_USAGE]), (100, 0, 30, 0)),
    "timed_out_during": (telling(SPOKEN, silent), (HERE, 0, 13, 0)),
    "failed_before": (telling([*SILENT, FAILED]), None),
    "timed_out_before": (telling(SILENT, silent), None),
}
LEFT: dict[str, tuple[Play, Tokens]] = {
    "client_gone_before": (telling(SILENT, silent), None),
    "client_gone_during": (telling(SPOKEN, silent), (HERE, 0, 13, 0)),
}


async def check(stage: Theatre, form: str, row_name: str, tokens: Tokens, pg) -> None:
    row = next(row for row in ROWS if row.name == row_name).verdict
    ended = await stage.settled()
    assert ended["status"] == row.status
    if tokens is None:
        assert row.usage is None
        assert (ended["call_id"], await stage.spent_micro()) == (None, 0)
        return
    assert row.usage is not None
    assert ended["estimated"] == row.usage.estimated
    if tokens[0] == HERE:
        tokens = (SENT[form], *tokens[1:])
    assert tuple(ended[f"{each}_tokens"] for each in ("input", "cached_input", "output", "reasoning")) == tokens
    assert ended["charged_micro"] == price_micro(tokens) == await stage.spent_micro()
    await assert_invariants(pg)


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("row_name", WHOLE)
async def test_a_whole_chat_over_responses_ends_by_the_truth_table(
    stage: Theatre, form: str, row_name: str, pg
) -> None:
    play, tokens = WHOLE[row_name]
    stage.plays.plays = [play]
    got = await stage.gate.ask(asked(), path=PATHS[form])
    assert got.status == 200, got.raw
    assert stage.alpha.requests[-1].head.split()[1] == PATH
    assert stage.alpha.requests[-1].json["store"] is False
    await check(stage, form, row_name, tokens, pg)
    assert got.raw.count(b'"credits"') == 1, "the charge is told once"


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("row_name", STREAMED)
async def test_a_streamed_chat_over_responses_ends_by_the_truth_table(
    stage: Theatre, form: str, row_name: str, pg
) -> None:
    play, tokens = STREAMED[row_name]
    stage.plays.plays = [play]
    got = await stage.gate.ask(asked(stream=True), path=PATHS[form])
    assert got.status == {"failed_before": 502, "timed_out_before": 504}.get(row_name, 200), got.raw
    await check(stage, form, row_name, tokens, pg)
    assert got.raw.count(b'"credits"') == (0 if tokens is None else 1)


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("row_name", LEFT)
async def test_a_client_that_leaves_a_chat_over_responses_pays_what_came(
    stage: Theatre, form: str, row_name: str, pg
) -> None:
    play, tokens = LEFT[row_name]
    stage.plays.plays = [play]
    gone = asyncio.Event()
    asking = asyncio.create_task(stage.gate.ask(asked(stream=True), path=PATHS[form], leave=gone))
    await until(lambda: stage.alpha.requests)
    await read_by_now()
    gone.set()
    await asyncio.wait({asking})
    await asyncio.wait_for(stage.alpha.ended.wait(), ENDED_WITHIN_S)
    await check(stage, form, row_name, tokens, pg)


async def test_a_provider_of_chats_behind_it_is_asked_for_the_chat_as_it_came(stage: Theatre) -> None:
    stage.plays.plays, stage.beta_plays.plays = [failing()], [whole(usage=used(90, 20))]
    got = await stage.gate.ask(asked("thinker-duo", seed=7))
    assert got.body["choices"][0]["message"]["content"] == TEXT
    assert [each.head.split()[1] for each in (*stage.alpha.requests, *stage.beta.requests)] == [
        PATH, PATH, PATHS["chat"]
    ]  # fmt: skip
    assert stage.beta.requests[0].json == {**asked("up"), "seed": 7}
    assert (await stage.settled())["charged_micro"] == price_micro((90, 0, 20, 0))


async def test_what_responses_cannot_do_is_refused_by_name_or_done_by_a_provider_of_chats(stage: Theatre) -> None:
    stage.beta_plays.plays = [whole(usage=used(90, 20))]
    refused = await stage.gate.ask(asked(stop=["."]))
    assert (refused.status, refused.code) == (400, "upstream_rejected")
    assert "stop" in refused.body["error"]["message"]
    assert (await stage.gate.ask(asked("thinker-duo", stop=["."]))).status == 200
    assert (stage.alpha.requests, stage.beta.requests[0].json["stop"]) == ([], ["."])


async def test_a_stream_falls_back_to_a_provider_of_chats_until_its_first_output(stage: Theatre) -> None:
    stage.plays.plays = [telling(SILENT, closing)]
    stage.beta_plays.plays = [streaming(event(TEXT), event(None, "stop"), usage_event(used(90, 20)))]
    got = await stage.gate.ask(asked("thinker-duo", stream=True))
    events = [orjson.loads(line[6:]) for line in got.raw.split(b"\n\n") if line and line != b"data: [DONE]"]
    assert {each["id"] for each in events} == {"x"}
    assert (await stage.settled())["charged_micro"] == price_micro((90, 0, 20, 0))


async def test_a_response_goes_to_it_unchanged(stage: Theatre) -> None:
    stage.plays.plays = [responding()]
    body = {"model": "thinker", "input": PROMPT, "max_output_tokens": 50, "reasoning": {"summary": "auto"}}
    got = await stage.gate.ask(body, path=PATH)
    assert got.body["output"] == [ITEM]
    assert stage.alpha.requests[0].json == {**body, "model": "up", "store": False}


async def test_the_steps_of_a_chain_are_put_into_responses(stage: Theatre, pg) -> None:
    step = '{{ name = "{}", model = "thinker", prompt = "{}", max_tokens = 50 }}'.format
    steps = ", ".join((step("one", "{{ input.text }}"), step("two", "Again: {{ steps.one.content }}")))
    chain = f'[models.pipe]\nname = "Pipe"\nmodality = "TEXT"\n[models.pipe.chain]\nsteps = [{steps}]\n'
    text = stage.catalog.read_text().replace("api_access = true", "api_access = true\nchained_models = true")
    stage.catalog.write_text(f"{text}\n{chain}")
    await apply_catalog(stage.database, stage.catalog)
    assert await stage.gate.services.catalog.refresh_if_changed()
    stage.plays.plays = [responding(usage(10, 30)), telling(told(usage(10, 30)))]
    got = await stage.gate.ask({"model": "pipe", "messages": [{"role": "user", "content": "Hi"}], "stream": True})
    assert got.status == 200, got.raw
    heard = [each.json["input"][-1]["content"] for each in stage.alpha.requests]
    assert heard == ["Hi", f"Again: {TEXT}"]
    assert {each.head.split()[1] for each in stage.alpha.requests} == {PATH}
    await stage.settled()
    assert await stage.spent_micro() == 2 * price_micro((10, 0, 30, 0))
    await assert_invariants(pg)


async def test_a_line_of_a_batch_is_put_into_a_response(stage: Theatre) -> None:
    stage.plays.plays = [responding()]
    batch_id = await begun(stage.gate, line("a", asked()))
    await work(stage.gate)
    (answered,) = await content(stage.gate, (await batch_told(stage.gate, batch_id))["output_file_id"])
    body = answered["response"]["body"]
    assert (body["object"], body["choices"][0]["message"]["content"]) == ("chat.completion", TEXT)
    assert body["usage"]["credits"] == "700"
    assert stage.alpha.requests[0].head.split()[1] == PATH


async def test_a_repeat_is_told_the_chat_and_the_provider_asked_once(stage: Theatre) -> None:
    stage.plays.plays = [telling(told(items=(ITEM, CALL)))]
    bodies = [await stage.gate.ask(asked(stream=True), idempotency_key="k") for _ in range(2)]
    texts = [[orjson.loads(line[6:]) for line in got.raw.split(b"\n\n")[:-2]] for got in bodies]
    merged = [SoFar(), SoFar()]
    for so_far, events in zip(merged, texts, strict=True):
        for each in events:
            so_far.add(each)
    first, again = (each.body()["choices"] for each in merged)
    assert first == again
    assert first[0]["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": CALL["arguments"]}
    assert len(stage.alpha.requests) == 1


async def test_a_chat_is_fitted_to_what_the_wallet_can_pay(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with theatre(database_url, redis_url, tmp_path, alpha_more="responses = true", credits_micro=0) as stage:
        poor = await seed_workspace(stage.database, (INPUT_BYTES + 32) * 4 * 1_000_000 + 7 * 20 * 1_000_000)
        stage.plays.plays = [responding(usage(100, 5))]
        got = await stage.gate.ask(asked(), key=poor.api_key, x_tollgate_fit="true")
        assert got.status == 200, got.raw
        assert 7 <= stage.alpha.requests[0].json["max_output_tokens"] < 50
