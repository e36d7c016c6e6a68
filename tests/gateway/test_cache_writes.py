"""What a provider wrote to its cache: held for at its dearest, repeated as it was, given again from the cache of answers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.upstream import (
    INPUT_BYTES,
    PATIENCE_S,
    PRICES,
    WRITE_PRICES,
    Theatre,
    asked,
    event,
    price_micro,
    streaming,
    usage_event,
    used,
    whole,
)
from tests.gateway.upstream import theatre as opened
from tests.metering.invariants import assert_invariants

TEMPLATE_TOKENS = 16
USAGE = used(100, 30, cached=20, writes=(60, 40))
PRICE = price_micro((100, 20, 30, 0), writes=(60, 40))
PARTS = {"cached_tokens": 20, "cache_write_tokens": 60, "long_cache_write_tokens": 40}


@pytest.fixture
async def stage(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Theatre]:
    async with opened(database_url, redis_url, tmp_path, patience_s=PATIENCE_S) as made:
        made.plays.plays = [whole(usage=USAGE)]
        yield made


async def parts(stage: Theatre, answer) -> dict:
    record = await stage.gate.ask(path=f"/v1/calls/{answer.headers['x-tollgate-call-id']}")
    return record.body["usage"]["prompt_tokens_details"]


async def test_as_much_is_held_as_if_all_of_the_input_were_written_for_the_longer_life(stage: Theatre, pg) -> None:
    held: list[int] = []

    async def play(reader, writer):
        held.append(await pg.fetchval("SELECT amount_micro FROM holds"))
        await whole(usage=used(INPUT_BYTES + TEMPLATE_TOKENS, 50, reasoning=50, writes=(INPUT_BYTES + 16,) * 2))(
            reader, writer
        )

    stage.plays.plays = [play]
    assert (await stage.gate.ask(asked("writer"))).status == 200
    dearest = WRITE_PRICES["LONG_CACHE_WRITE_INPUT_TOKENS"]
    most = ((INPUT_BYTES + TEMPLATE_TOKENS) * dearest + 50 * PRICES["REASONING_TOKENS"]) * 1_000_000
    assert held == [most]
    assert await stage.spent_micro() == most
    await assert_invariants(pg)


async def test_a_model_without_such_prices_takes_what_was_written_as_input(stage: Theatre, pg) -> None:
    answer = await stage.gate.ask(asked("solo"))
    assert await parts(stage, answer) == PARTS
    assert await stage.spent_micro() == price_micro((100, 20, 30, 0)) < PRICE
    await assert_invariants(pg)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_stream_in_any_form_is_charged_for_what_was_written(stage: Theatre, pg, path: str) -> None:
    stage.plays.plays = [streaming(event("word " * 10), event(None, "stop"), usage_event(USAGE))]
    ask = asked("writer", stream=True)
    if path == "/v1/responses":
        ask = {"model": "writer", "input": ask["messages"], "max_output_tokens": 50, "stream": True}
    assert (await stage.gate.ask(ask, path=path)).status == 200
    assert (await stage.settled())["charged_micro"] == PRICE == await stage.spent_micro()
    await assert_invariants(pg)


@pytest.mark.parametrize("lapsed", [False, True])
async def test_a_repeat_tells_what_the_first_answer_wrote_and_costs_nothing_more(
    stage: Theatre, pg, lapsed: bool
) -> None:
    ask = {"path": "/v1/messages", "idempotency_key": "k"}
    first = await stage.gate.ask(asked("writer"), **ask)
    if lapsed:
        await pg.execute("DELETE FROM call_outputs")
    again = await stage.gate.ask(asked("writer"), **ask)
    for answer in (first, again):
        told = answer.body["usage"]
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
        assert [told[name] for name in names] == [20, 60, 20, 30]
    assert ("message" in again.body) == lapsed
    assert await stage.spent_micro() == PRICE
    await assert_invariants(pg)


async def test_an_answer_from_the_cache_tells_what_was_written_when_it_was_made(stage: Theatre, pg) -> None:
    answers = [await stage.gate.ask(asked("writer"), x_tollgate_cache="on") for _ in range(2)]
    assert [answer.headers["x-tollgate-cache"] for answer in answers] == ["miss", "hit"]
    assert [await parts(stage, answer) for answer in answers] == [PARTS, PARTS]
    assert await stage.spent_micro() == PRICE
    await assert_invariants(pg)
