"""What a provider wrote to its cache: held for at its dearest, repeated as it was, given again from the cache of answers."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.rules.request_rates import request_rates, writes_unasked
from metering.operations import UsageFacts
from metering.rules.conditions import conditions_of
from metering.rules.price_list import ListedPrice, PriceList
from metering.rules.rating import MeterPrice
from tests.gateway import upstream
from tests.gateway.test_chain_plan import model
from tests.gateway.upstream import (
    INPUT_BYTES,
    PATIENCE_S,
    PRICES,
    WRITE_PRICES,
    Theatre,
    asked,
    event,
    price_micro,
    saying,
    streaming,
    usage_event,
    used,
    whole,
)
from tests.gateway.upstream import theatre as opened
from tests.metering.invariants import assert_invariants
from tests.providers.upstreams import answer as answering

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


@pytest.fixture
async def claude(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Theatre]:
    kind = upstream.CATALOG.replace('"openai_compatible"\nbase_url = "{alpha}"', '"anthropic"\nbase_url = "{alpha}"')
    monkeypatch.setattr(upstream, "CATALOG", kind)
    async with opened(database_url, redis_url, tmp_path, patience_s=PATIENCE_S) as made:
        yield made


def all_written_for_an_hour(tokens: int) -> bytes:
    usage = {
        "input_tokens": 0,
        "cache_creation_input_tokens": tokens,
        "cache_creation": {"ephemeral_1h_input_tokens": tokens},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 50},
    }
    said = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "word"}]}
    return answering(orjson.dumps({"id": "m", "model": "up", "stop_reason": "end_turn", "usage": usage} | said))


@pytest.mark.parametrize(
    ("control", "each"),
    [
        (None, PRICES["INPUT_TOKENS"]),
        ({"type": "ephemeral"}, WRITE_PRICES["CACHE_WRITE_INPUT_TOKENS"]),
        ({"type": "ephemeral", "ttl": "5m"}, WRITE_PRICES["CACHE_WRITE_INPUT_TOKENS"]),
        ({"type": "ephemeral", "ttl": "1h"}, WRITE_PRICES["LONG_CACHE_WRITE_INPUT_TOKENS"]),
    ],
)
async def test_a_call_of_anthropics_is_held_and_charged_for_no_writes_but_those_that_it_asks_for(
    claude: Theatre, pg, control: dict | None, each: int
) -> None:
    tokens, held = INPUT_BYTES + TEMPLATE_TOKENS, []

    async def play(reader, writer):
        held.append(await pg.fetchval("SELECT amount_micro FROM holds"))
        await saying(all_written_for_an_hour(tokens))(reader, writer)

    claude.plays.plays = [play]
    got = await claude.gate.ask(asked("writer", cache_control=control))
    assert got.status == 200, got.raw
    most = (tokens * each + 50 * PRICES["REASONING_TOKENS"]) * 1_000_000
    assert held == [most]
    assert await claude.spent_micro() == most
    assert (await parts(claude, got))["cache_write_tokens"] == tokens
    await assert_invariants(pg)


LONG, BOTH = {"LONG_CACHE_WRITE_INPUT_TOKENS"}, {"CACHE_WRITE_INPUT_TOKENS", "LONG_CACHE_WRITE_INPUT_TOKENS"}


def marked(**control: object) -> dict:
    return {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", **control}}


@pytest.mark.parametrize(
    ("body", "unasked"),
    [
        ({"messages": [{"role": "user", "content": "cache_control"}]}, BOTH),
        ({"messages": [], "cache_control": None}, BOTH),
        ({"system": [marked()], "messages": []}, LONG),
        ({"system": [marked(ttl="5m")], "messages": []}, LONG),
        ({"system": [marked()], "messages": [{"role": "user", "content": [marked(ttl="1h")]}]}, set()),
        ({"messages": [{"role": "user", "content": [marked(ttl="1h"), marked()]}]}, set()),
        ({"messages": [], "tools": [{"name": "t", "cache_control": {"type": "ephemeral"}}]}, LONG),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [marked()]}]}]}, LONG),
        ({"messages": [], "cache_control": "ephemeral"}, set()),
        ({"messages": [], "cache_control": {"ttl": ["5m"]}}, set()),
        ({"messages": [], "cache_control": {"ttl": False}}, set()),
    ],
)
def test_what_a_request_asks_to_be_written_is_found_wherever_it_stands(body: dict, unasked: set) -> None:
    assert writes_unasked(body) == unasked


@pytest.mark.parametrize(
    ("body", "held", "charged"),
    [
        ({}, 400, 400),
        ({"service_tier": "priority"}, 800, 800),
        ({"cache_control": {"type": "ephemeral"}}, 500, 460),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}, "service_tier": "priority"}, 1_600, 1_160),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}, "service_tier": "auto"}, 1_600, 1_160),
    ],
)
def test_prices_of_writes_may_depend_on_what_is_asked_too(body: dict, held: int, charged: int) -> None:
    priority = conditions_of({"service_tier": ["priority"]})
    each = {"INPUT_TOKENS": 4, "CACHE_WRITE_INPUT_TOKENS": 5, "LONG_CACHE_WRITE_INPUT_TOKENS": 8}
    prices = PriceList(
        ListedPrice(MeterPrice(meter, price * times, 1), when)
        for meter, price in each.items()
        for times, when in ((1, ()), (2, priority))
    )
    rates = request_rates(replace(model(), caches_when_asked=True), prices, body)
    used_up = UsageFacts(input_tokens=100, cache_write_input_tokens=60, long_cache_write_input_tokens=40)
    assert (rates.highest_micro(UsageFacts(input_tokens=100)), rates.cost_micro(used_up)) == (held, charged)


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
