"""Every row of the metering truth table, played by a provider over a real socket and read back from the ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from gateway.rules.requests import RequestShape
from gateway.rules.truth import ROWS, End, Ground, Seen, verdict
from metering.operations import UsageFacts
from providers.base import Usage
from tests.gateway.upstream import (
    ENDED_WITHIN_S,
    INPUT_BYTES,
    Theatre,
    asked,
    catalog,
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
from tests.seeding import apply_catalog

TEXT = "word " * 10  # 50 bytes
COUNTED = (-(-INPUT_BYTES // 4), 0, 13, 0)
"""What is counted for the prompt and TEXT."""
TRUE = used(100, 30)
Told = tuple[int, int, int, int] | None
"""(input, cached, output, reasoning) tokens that must be charged; None: nothing."""


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Theatre]:
    more, patience = "retries = 1", patience_s(request)
    async with theatre(database_url, redis_url, tmp_path, more, patience_s=patience) as made:
        yield made


async def plain(stage: Theatre, play, status: int = 200, **more: object) -> None:
    stage.plays.plays = [play]
    assert (await stage.gate.ask(asked(**more))).status == status


async def streamed(stage: Theatre, play, *, failed: bool = False) -> list[dict]:
    stage.plays.plays = [play]
    answer = await stage.gate.ask(asked(stream=True))
    assert answer.status == 200, answer.raw
    events = [orjson.loads(line[6:]) for line in answer.raw.split(b"\n\n") if line and line != b"data: [DONE]"]
    assert ("error" in events[-1]) == failed
    return events


async def answered(stage: Theatre) -> Told:
    await plain(stage, whole(usage=TRUE))
    return 100, 0, 30, 0


async def answered_after_others(stage: Theatre) -> Told:
    stage.beta_plays.plays = [whole(usage=used(90, 20))]
    await plain(stage, failing(), model="duo")
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (2, 1)
    event = await stage.settled()
    assert event["provider"] == "beta"
    route = [["alpha", "unavailable"], ["alpha", "unavailable"], ["beta", "answered"]]
    assert orjson.loads(event["details"])["route"] == route
    return 90, 0, 20, 0


async def usage_last(stage: Theatre) -> Told:
    events = await streamed(stage, streaming(event(TEXT), event(None, "stop"), usage_event(TRUE)))
    assert events[-1]["usage"]["credits"] == "700"
    return 100, 0, 30, 0


async def usage_in_each_chunk(stage: Theatre) -> Told:
    await streamed(
        stage,
        streaming(event("word ", usage=used(100, 1)), event("word", usage=used(100, 2)), usage_event(used(100, 3))),
    )
    return 100, 0, 3, 0


async def no_usage(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT))
    return COUNTED


async def negative_usage(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(-100, -1)))
    return COUNTED


async def absurd_usage(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(10**15, 10**15)))
    return COUNTED


async def no_output_reported(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(100, 0)))
    return 100, 0, 13, 0


async def nothing_reported(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(0, 0)))
    return COUNTED


async def usage_above_bound(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(9_000, 900)))
    reported = orjson.loads((await stage.settled())["details"])["reported"]
    assert (reported["input_tokens"], reported["output_tokens"]) == (9_000, 900)
    return INPUT_BYTES + 16, 0, 50, 0


async def inconsistent_usage(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(100, 30, cached=500, reasoning=900)))
    return 100, 100, 30, 30


async def usage_before_output(stage: Theatre) -> Told:
    await streamed(stage, streaming(event("", usage=used(100, 1)), event(TEXT), event(None, "stop")))
    return 100, 0, 13, 0


async def cached_and_reasoning(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(100, 30, cached=80, reasoning=20)))
    return 100, 80, 30, 20


async def cache_writes(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(100, 30, cached=20, writes=WRITES["cache_writes"])), model="writer")
    return 100, 20, 30, 0


async def inconsistent_writes(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(100, 30, cached=20, writes=(500, 300))), model="writer")
    return 100, 20, 30, 0


async def client_gone_after_writes(stage: Theatre) -> Told:
    usage = used(100, 0, cached=20, writes=WRITES["client_gone_after_writes"])
    await leave(stage, streaming(event("", usage=usage), event(TEXT), then=silent), model="writer")
    return 100, 20, 13, 0


WRITES = {"cache_writes": (60, 40), "inconsistent_writes": (80, 0), "client_gone_after_writes": (60, 40)}
"""Tokens written to a cache that must be charged, and of them those for the longer life; of the other rows none."""


async def tool_calls(stage: Theatre) -> Told:
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
    await plain(stage, whole(None, TRUE, "tool_calls", tool_calls=[call]))
    return 100, 0, 30, 0


async def empty_output(stage: Theatre) -> Told:
    await plain(stage, whole("", used(100, 0)))
    return 100, 0, 0, 0


async def empty_output_no_usage(stage: Theatre) -> Told:
    await streamed(stage, streaming(event(""), event(None, "stop")))
    return COUNTED[0], 0, 0, 0


async def content_filter(stage: Theatre) -> Told:
    await plain(stage, whole("wo", used(100, 1), "content_filter"))
    return 100, 0, 1, 0


async def several_choices(stage: Theatre) -> Told:
    await plain(stage, whole(TEXT, used(100, 90)), n=3)
    return 100, 0, 90, 0


async def price_changed(stage: Theatre) -> Told:
    doubled = asyncio.Event()

    async def play(reader, writer):
        await doubled.wait()
        await whole(TEXT, TRUE)(reader, writer)

    stage.plays.plays = [play]
    asking = asyncio.create_task(stage.gate.ask(asked()))
    await until(lambda: stage.alpha.requests)
    stage.catalog.write_text(catalog(stage.alpha.url, stage.beta.url, factor=2))
    await apply_catalog(stage.database, stage.catalog)
    assert await stage.gate.services.catalog.refresh_if_changed()
    doubled.set()
    assert (await asking).body["usage"]["credits"] == "700"
    return 100, 0, 30, 0


async def client_gone_whole(stage: Theatre) -> Told:
    gone = asyncio.Event()

    async def play(reader, writer):
        await gone.wait()
        await whole(TEXT, TRUE)(reader, writer)

    stage.plays.plays = [play]
    asking = asyncio.create_task(stage.gate.ask(asked(), idempotency_key="k"))
    await until(lambda: stage.alpha.requests)
    asking.cancel()
    await asyncio.wait({asking})
    gone.set()
    await stage.settled()
    repeat = await stage.gate.ask(asked(), idempotency_key="k")
    assert repeat.body["choices"][0]["message"]["content"] == TEXT
    assert len(stage.alpha.requests) == 1
    return 100, 0, 30, 0


async def refused(stage: Theatre) -> Told:
    body = b'{"error": {"message": "filtered", "code": "content_filter"}}'
    stage.beta_plays.plays = [whole()]
    await plain(stage, failing("400 Bad Request", body=body), 400, model="duo")
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 0)
    return None


async def failed_before(stage: Theatre) -> Told:
    stage.plays.plays = [streaming(event(""), then=closing)]
    assert (await stage.gate.ask(asked(stream=True))).status == 502
    assert len(stage.alpha.requests) == 2
    return None


async def failed_after_usage(stage: Theatre) -> Told:
    stage.plays.plays = [streaming(usage_event(used(100, 0)), then=closing)]
    assert (await stage.gate.ask(asked(stream=True))).status == 502
    return None


async def failed_during(stage: Theatre) -> Told:
    await streamed(stage, streaming(event(TEXT), then=closing), failed=True)
    assert len(stage.alpha.requests) == 1
    return COUNTED


async def failed_at_end(stage: Theatre) -> Told:
    await streamed(stage, streaming(event(TEXT), usage_event(TRUE), then=saying(b"rubbish")), failed=True)
    return 100, 0, 30, 0


async def timed_out_before(stage: Theatre) -> Told:
    await plain(stage, silent, 504)
    assert len(stage.alpha.requests) == 1
    return None


async def timed_out_during(stage: Theatre) -> Told:
    await streamed(stage, streaming(event(TEXT), then=silent), failed=True)
    return COUNTED


async def client_gone_before(stage: Theatre) -> Told:
    gone = asyncio.Event()
    stage.plays.plays = [streaming(event(""), then=silent)]
    asking = asyncio.create_task(stage.gate.ask(asked(stream=True), leave=gone))
    await until(lambda: stage.alpha.requests)
    gone.set()
    await asyncio.wait({asking})
    await asyncio.wait_for(stage.alpha.ended.wait(), ENDED_WITHIN_S)
    return None


async def client_gone_during(stage: Theatre) -> Told:
    await leave(stage, streaming(event(TEXT), then=silent))
    return COUNTED


async def client_gone_after_input(stage: Theatre) -> Told:
    await leave(stage, streaming(event("", usage=used(100, 0)), event(TEXT), then=silent))
    return 100, 0, 13, 0


async def client_gone_at_end(stage: Theatre) -> Told:
    await leave(stage, streaming(event(TEXT), usage_event(TRUE), then=silent))
    return 100, 0, 30, 0


async def leave(stage: Theatre, play, **more: object) -> None:
    gone = asyncio.Event()
    stage.plays.plays = [play]
    asking = asyncio.create_task(stage.gate.ask(asked(stream=True, **more), leave=gone))
    await until(lambda: stage.alpha.requests)
    await read_by_now()
    gone.set()
    await asking
    await asyncio.wait_for(stage.alpha.ended.wait(), ENDED_WITHIN_S)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


Scene = Callable[[Theatre], Awaitable[Told]]
SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        answered, answered_after_others, usage_last, usage_in_each_chunk, no_usage, negative_usage, absurd_usage,
        no_output_reported, nothing_reported, usage_above_bound, inconsistent_usage, usage_before_output, cached_and_reasoning, cache_writes,
        inconsistent_writes, tool_calls, empty_output,
        empty_output_no_usage, content_filter, several_choices, price_changed, client_gone_whole, refused, failed_before,
        failed_after_usage, failed_during, failed_at_end, timed_out_before, timed_out_during, client_gone_before,
        client_gone_during, client_gone_after_input, client_gone_after_writes, client_gone_at_end,
    )
}  # fmt: skip
OF_PREDICTIONS = {row.name for row in ROWS if row.name.startswith("prediction_")}
"""Jobs: tests/gateway/test_truth_of_predictions.py plays them."""


def test_every_row_has_its_scene() -> None:
    assert {row.name for row in ROWS} == SCENES.keys() | OF_PREDICTIONS


@pytest.mark.parametrize("name", SCENES)
async def test_a_row_of_the_truth_table(stage: Theatre, name: str, pg) -> None:
    expected = await SCENES[name](stage)
    row = next(row for row in ROWS if row.name == name).verdict
    event = await stage.settled()
    assert event["status"] == row.status
    if expected is None:
        assert row.usage is None
        assert event["call_id"] is None
        assert await stage.spent_micro() == 0
    else:
        assert row.usage is not None
        assert event["estimated"] == row.usage.estimated
        told = tuple(event[f"{name}_tokens"] for name in ("input", "cached_input", "output", "reasoning"))
        assert told == expected
        writes = WRITES.get(name, (0, 0))
        details = orjson.loads(event["details"] or "{}")
        assert tuple(details.get(f"{each}_input_tokens", 0) for each in ("cache_write", "long_cache_write")) == writes
        assert event["charged_micro"] == price_micro(expected, writes=writes) == await stage.spent_micro()
    await assert_invariants(pg)


def test_a_canceled_or_failed_prediction_is_charged_for_what_was_made_only() -> None:
    for name in OF_PREDICTIONS:
        told = next(row for row in ROWS if row.name == name).verdict
        assert told.status == ("FAILED" if "failed" in name else "CANCELED")
        assert (told.usage is not None) == name.endswith("_partly")
        assert told.ground is (Ground.REPORTED if name.endswith("_partly") else Ground.NOTHING)
        assert told.usage is None or told.usage.images == 1


@pytest.mark.parametrize(
    ("bound", "usage", "content"),
    [
        (UsageFacts(input_tokens=50), Usage(5), 0),  # of an embedding
        (UsageFacts(input_tokens=50), Usage(5), 7),
        (UsageFacts(input_tokens=50, images=2), Usage(images=2), 7),
        (UsageFacts(input_tokens=50, images=2), Usage(), 0),  # no picture came
        (UsageFacts(input_tokens=50, characters=9), Usage(characters=9), 7),
        (UsageFacts(input_tokens=50, output_tokens=20, seconds=60), Usage(seconds=3), 7),  # of a transcription
        (UsageFacts(seconds=60), Usage(seconds=3), 0),
        (UsageFacts(input_tokens=50, output_tokens=20), Usage(5), 0),  # of a chat that gave nothing
    ],
)
def test_no_output_tokens_are_believed_where_nothing_shows_that_there_were_some(bound, usage, content) -> None:
    told = verdict(End.FINISHED, Seen(usage, content), RequestShape(400, 1, 1, 20, 0, 0, stream=False), bound, "p")
    assert told.ground is Ground.REPORTED
    assert told.usage is not None
    assert (told.usage.output_tokens, told.usage.estimated) == (0, False)


@pytest.mark.parametrize("content", [0, 7])
@pytest.mark.parametrize("output", [0, 20])
def test_input_that_was_sent_is_counted_where_all_that_is_reported_is_zero(output, content) -> None:
    bound = UsageFacts(input_tokens=500, output_tokens=output)
    shape = RequestShape(400, 1, 1, output, 0, 0, stream=False)
    told = verdict(End.FINISHED, Seen(Usage(), content, content), shape, bound, "p")
    assert told.usage is not None
    assert (told.usage.input_tokens, told.usage.output_tokens) == (100, 2 if output and content else 0)
    assert (told.ground, told.usage.estimated) == (Ground.COUNTED, True)


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize(
    "usage", [None, Usage(), Usage(5), Usage(5, output_tokens=3), Usage(10**9, output_tokens=10**9)]
)
@pytest.mark.parametrize(("content", "after"), [(0, 0), (7, 0), (7, 7), (10**9, 10**9)])
def test_no_verdict_goes_beyond_the_bound_and_nothing_is_charged_for_nothing(end, usage, content, after) -> None:
    bound = UsageFacts(input_tokens=50, output_tokens=20)
    shape = RequestShape(400, 1, 1, 20, 0, 0, stream=True)
    told = verdict(end, Seen(usage, content, after if usage else 0), shape, bound, "p")
    if told.usage is not None:
        assert told.usage.input_tokens <= 50
        assert told.usage.output_tokens <= 20
        assert told.usage.provider == "p"
    if end is not End.FINISHED and not content and (usage is None or not usage.output_tokens):
        assert told.usage is None
    assert (told.ground is Ground.NOTHING) == (told.usage is None)
