"""The truth table's rows for streams in Anthropic's and the Responses form, on a provider that speaks OpenAI's chat form."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.rules.truth import ROWS
from tests.gateway.test_truth_table import until
from tests.gateway.upstream import (
    PROMPT,
    Play,
    Theatre,
    closing,
    event,
    price_micro,
    saying,
    silent,
    streaming,
    theatre,
    usage_event,
    used,
)
from tests.metering.invariants import assert_invariants

TEXT = "word " * 10
TRUE = used(100, 30)
STOP = event(None, "stop")
PATHS = {"messages": "/v1/messages", "responses": "/v1/responses"}


@pytest.fixture
async def stage(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Theatre]:
    async with theatre(database_url, redis_url, tmp_path) as opened:
        yield opened


def asked(form: str) -> dict:
    said = [{"role": "user", "content": PROMPT}]
    if form == "messages":
        return {"model": "solo", "messages": said, "max_tokens": 50, "stream": True}
    return {"model": "solo", "input": said, "max_output_tokens": 50, "stream": True}


ENDED: dict[str, tuple[str, Play, tuple[int, int]]] = {
    "usage_last": ("usage_last", streaming(event(TEXT), STOP, usage_event(TRUE)), (100, 30)),
    "usage with the finish reason": ("usage_last", streaming(event(TEXT), event(None, "stop", TRUE)), (100, 30)),
    "usage_in_each_chunk": (
        "usage_in_each_chunk",
        streaming(event("word ", usage=used(100, 1)), event(TEXT, usage=used(100, 9)), event(None, "stop", used(100, 12))),
        (100, 12),
    ),
    "negative_usage": ("negative_usage", streaming(event(TEXT), STOP, usage_event(used(-100, -1))), (100, 13)),
    "no_usage": ("no_usage", streaming(event(TEXT), STOP), (100, 13)),
    "usage_before_output": ("usage_before_output", streaming(event("", usage=used(100, 1)), event(TEXT), STOP), (100, 13)),
    "usage between output": (
        "usage_before_output",
        streaming(event("word "), usage_event(used(100, 1)), event(TEXT), STOP),
        (100, 14),
    ),
    "failed_during": ("failed_during", streaming(event(TEXT), then=closing), (100, 13)),
    "failed_at_end": ("failed_at_end", streaming(event(TEXT), STOP, usage_event(TRUE), then=saying(b"rubbish")), (100, 30)),
    "failed after a running usage": (
        "failed_at_end",
        streaming(event(TEXT, usage=TRUE), then=saying(b"rubbish")),
        (100, 30),
    ),
}  # fmt: skip
LEFT: dict[str, tuple[str, Play, tuple[int, int]]] = {
    "client_gone_during": ("client_gone_during", streaming(event(TEXT), then=silent), (100, 13)),
    "client_gone_at_end": (
        "client_gone_at_end",
        streaming(event(TEXT), STOP, usage_event(TRUE), then=silent),
        (100, 30),
    ),
    "left after a running usage": ("client_gone_at_end", streaming(event(TEXT, usage=TRUE), then=silent), (100, 30)),
}


async def check(stage: Theatre, row_name: str, tokens: tuple[int, int], pg) -> None:
    """`tokens` in and out; the input that nobody reported is about what was sent."""
    row = next(row for row in ROWS if row.name == row_name).verdict
    told = await stage.settled()
    assert row.usage is not None
    assert (told["status"], told["estimated"]) == (row.status, row.usage.estimated)
    expected_in = (
        tokens[0]
        if row_name not in {"negative_usage", "no_usage", "failed_during", "client_gone_during"}
        else told["input_tokens"]
    )
    assert (told["input_tokens"], told["output_tokens"]) == (expected_in, tokens[1])
    assert told["charged_micro"] == price_micro((expected_in, 0, tokens[1], 0)) == await stage.spent_micro()
    await assert_invariants(pg)


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("name", ENDED)
async def test_a_row_of_the_truth_table_in_another_form(stage: Theatre, form: str, name: str, pg) -> None:
    row_name, play, tokens = ENDED[name]
    stage.plays.plays = [play]
    got = await stage.gate.ask(asked(form), path=PATHS[form])
    assert got.status == 200, got.raw
    await check(stage, row_name, tokens, pg)
    assert got.raw.count(b'"credits"') == 1, "the charge is told once"


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("name", LEFT)
async def test_a_client_that_leaves_another_form_pays_what_it_would_of_a_chat(
    stage: Theatre, form: str, name: str, pg
) -> None:
    row_name, play, tokens = LEFT[name]
    stage.plays.plays = [play]
    gone = asyncio.Event()
    asking = asyncio.create_task(stage.gate.ask(asked(form), path=PATHS[form], leave=gone))
    await until(lambda: stage.alpha.requests)
    await asyncio.sleep(0.1)
    gone.set()
    await asking
    await check(stage, row_name, tokens, pg)
