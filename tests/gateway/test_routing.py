"""Which provider answers, over real sockets: lots, tries, pauses, fallback, circuits, and what is told of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, generate_latest

from billing.views import RouteView
from gateway.rules.retrying import MAX_PAUSE_S, MAX_WAIT_S, Failure, in_turn, pause_s
from tests.gateway.upstream import (
    Theatre,
    asked,
    closing,
    event,
    failing,
    patience_s,
    silent,
    streaming,
    theatre,
    usage_event,
    used,
    whole,
)

COOLDOWN_S = 3
GOOD = whole(usage=used(10, 5))
GOOD_STREAM = streaming(event("word"), event(None, "stop"), usage_event(used(10, 5)))


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Theatre]:
    more = f"retries = 2\ncircuit_failures = 6\ncircuit_cooldown_s = {COOLDOWN_S}"
    async with theatre(database_url, redis_url, tmp_path, more, patience_s=patience_s(request)) as made:
        made.plays.plays = [GOOD]
        made.beta_plays.plays = [GOOD]
        yield made


def count(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


async def route_of(stage: Theatre) -> list:
    details = (await stage.settled())["details"]
    return [] if details is None else orjson.loads(details).get("route", [])


# Rules


def failure(**facts: object) -> Failure:
    return Failure(**{"repeatable": True, "slow": False, "unsent": False, "retry_after_s": None, **facts})


@given(st.integers(1, 6), st.integers(0, 5), st.booleans(), st.floats(0, 1))
def test_pauses_are_random_grow_and_are_bounded(tries: int, retries: int, has_next: bool, chance: float) -> None:
    pause = pause_s(failure(), tries, retries, has_next=has_next, chance=chance)
    assert (pause is None) == (tries > retries)
    if pause is not None:
        assert pause == chance * min(0.2 * 2 ** (tries - 1), MAX_PAUSE_S)


def test_what_was_slow_or_is_not_repeatable_is_not_tried_there_again() -> None:
    for facts in ({"repeatable": False}, {"slow": True}):
        assert pause_s(failure(**facts), 1, 5, has_next=False, chance=0.5) is None


def test_a_closed_connection_is_tried_again_at_once_the_first_time() -> None:
    assert pause_s(failure(unsent=True), 1, 2, has_next=True, chance=0.5) == 0
    assert pause_s(failure(unsent=True), 2, 2, has_next=True, chance=0.5) == 0.2


def test_a_wish_to_be_left_alone_is_kept_to_within_bounds() -> None:
    assert pause_s(failure(retry_after_s=3.0), 1, 2, has_next=True, chance=0.5) is None
    assert pause_s(failure(retry_after_s=3.0), 1, 2, has_next=False, chance=0.5) == pytest.approx(3.1)
    assert pause_s(failure(retry_after_s=MAX_WAIT_S + 1), 1, 2, has_next=False, chance=0.5) is None


def test_routes_are_drawn_by_weight_within_their_order() -> None:
    import random

    chance = random.Random(4)
    routes = [RouteView("c", "m", 9, 1), RouteView("a", "m", 3, 0), RouteView("b", "m", 1, 0)]
    drawn = Counter(
        "".join(route.provider for route in in_turn(routes, [chance.random() for _ in routes])) for _ in range(4_000)
    )
    assert drawn.keys() == {"abc", "bac"}
    assert 0.72 < drawn["abc"] / 4_000 < 0.78


# Tries


async def test_a_healthy_first_route_is_asked_once_and_leaves_no_route_behind(stage: Theatre) -> None:
    before = count("tollgate_provider_attempts_total", provider="alpha", outcome="answered")
    assert (await stage.gate.ask(asked("duo"))).status == 200
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 0)
    assert await route_of(stage) == []
    assert count("tollgate_provider_attempts_total", provider="alpha", outcome="answered") == before + 1


@pytest.mark.parametrize(
    "play",
    [failing(), closing, failing("502 Bad", body=b"<html>"), failing("200 OK", body=b"rubbish")],
    ids=["500", "closed", "502", "rubbish"],
)
async def test_a_call_that_produced_nothing_is_tried_again(stage: Theatre, play) -> None:
    stage.plays.plays = [play, play, GOOD]
    assert (await stage.gate.ask(asked())).status == 200
    assert len(stage.alpha.requests) == 3
    assert [outcome for _, outcome in await route_of(stage)][-1] == "answered"
    assert len(await route_of(stage)) == 3


async def test_then_the_next_provider_is_asked_with_its_own_name_for_the_model(stage: Theatre) -> None:
    stage.plays.plays = [failing()]
    assert (await stage.gate.ask(asked("duo"))).status == 200
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (3, 1)
    assert stage.beta.requests[0].json["model"] == "up"
    assert (await stage.settled())["provider"] == "beta"


@pytest.mark.parametrize(
    ("play", "asked_there"),
    [(failing("401 No"), 1), (silent, 1), (failing("429 Slow"), 1), (failing("503 Busy", "Retry-After: 1\r\n"), 1)],
    ids=["key refused", "silent", "rate limited", "asks for a pause"],
)
async def test_what_another_try_would_not_mend_goes_to_the_next_at_once(stage, play, asked_there) -> None:
    stage.plays.plays = [play]
    assert (await stage.gate.ask(asked("duo"))).status == 200
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (asked_there, 1)


async def test_a_refused_request_goes_nowhere_else(stage: Theatre) -> None:
    stage.plays.plays = [failing("422 Unprocessable")]
    answer = await stage.gate.ask(asked("duo"))
    assert (answer.status, answer.code) == (422, "upstream_rejected")
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 0)


@pytest.mark.parametrize(
    "broken",
    [
        streaming(event(""), then=closing),
        streaming(then=closing),
        streaming(event(""), b'data: {"error": {"message": "overloaded"}}\n\n', then=closing),
        streaming(event(""), then=silent),
    ],
    ids=["after its first chunk", "at once", "error event", "falls silent"],
)
async def test_a_stream_falls_back_until_its_first_output_and_shows_nothing_of_it(stage: Theatre, broken) -> None:
    stage.plays.plays, stage.beta_plays.plays = [broken], [GOOD_STREAM]
    answer = await stage.gate.ask(asked("duo", stream=True))
    assert answer.status == 200
    assert b"error" not in answer.raw
    assert answer.raw.count(b'"finish_reason":"stop"') == 1
    assert len(stage.beta.requests) == 1
    assert (await stage.settled())["provider"] == "beta"


async def test_a_stream_that_produced_something_is_not_begun_again(stage: Theatre) -> None:
    stage.plays.plays, stage.beta_plays.plays = [streaming(event("word"), then=closing)], [GOOD_STREAM]
    answer = await stage.gate.ask(asked("duo", stream=True))
    assert b"upstream_error" in answer.raw
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 0)
    assert (await stage.settled())["provider"] == "alpha"


async def test_chunks_are_forwarded_one_by_one_after_the_first_output(stage: Theatre) -> None:
    go_on = asyncio.Event()

    async def wait(reader, writer):
        await go_on.wait()
        writer.close()

    stage.plays.plays = [streaming(event(""), event("one"), then=wait)]
    from gateway.views import StreamedEvent

    services = stage.gate.services
    facts = await services.workspaces.facts(stage.gate.seeded.workspace_id)
    from gateway.views import Caller, CallRequest
    from providers.base import Operation

    caller = Caller("r", facts.workspace_id, facts.wallet_id, facts.plan)
    stream = await services.streams.open(caller, CallRequest("solo", Operation.CHAT, asked(stream=True)))
    first, second = await stream.__anext__(), await stream.__anext__()
    assert isinstance(first, StreamedEvent)
    assert second.parsed["choices"][0]["delta"]["content"] == "one"
    go_on.set()
    async for _ in stream:
        pass


# Pauses


async def test_the_only_provider_is_waited_for_as_long_as_it_asks(stage: Theatre) -> None:
    stage.plays.plays = [failing("429 Slow", "Retry-After-Ms: 300\r\n"), GOOD]
    at = time.monotonic()
    assert (await stage.gate.ask(asked())).status == 200
    assert time.monotonic() - at >= 0.3
    assert len(stage.alpha.requests) == 2


async def test_one_that_asks_for_long_is_not_asked_meanwhile(stage: Theatre) -> None:
    stage.plays.plays = [failing("429 Slow", "Retry-After: 50\r\n"), GOOD]
    assert (await stage.gate.ask(asked())).status == 502
    assert (await stage.gate.ask(asked())).status == 502
    assert (await stage.gate.ask(asked("duo"))).status == 200
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 1)
    assert await route_of(stage) == [["alpha", "left_alone"], ["beta", "answered"]]


async def test_where_no_other_would_take_the_call_a_short_pause_is_waited_for(stage: Theatre) -> None:
    stage.beta_plays.plays = [failing("429 Slow", "Retry-After: 30\r\n")]
    stage.plays.plays = [
        failing("429 Slow", "Retry-After-Ms: 200\r\n"),
        failing("429 Slow", "Retry-After-Ms: 200\r\n"),
        GOOD,
    ]
    assert (await stage.gate.ask(asked("duo"))).status == 502
    assert (await stage.gate.ask(asked("duo"))).status == 200
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (3, 1)


async def test_the_whole_time_holds_over_all_tries(database_url: str, redis_url: str, tmp_path: Path) -> None:
    more = "retries = 5\ntotal_timeout_s = 3\ncircuit_failures = 0"
    async with theatre(database_url, redis_url, tmp_path, more, patience_s=2) as stage:
        stage.plays.plays = [silent]
        stage.beta_plays.plays = [silent]
        answer = await stage.gate.ask(asked("duo"))
        assert (answer.status, len(stage.alpha.requests), len(stage.beta.requests)) == (504, 1, 1)
        assert "(total)" in answer.body["error"]["message"], "with a whole time of its own it waits for a first byte"


# Circuits


async def test_a_provider_that_keeps_failing_is_left_alone_and_taken_back_after_a_trial(stage: Theatre) -> None:
    stage.plays.plays = [failing()]
    for _ in range(2):
        assert (await stage.gate.ask(asked())).status == 502
    await stage.gate.services.calls._router._breakers.close()  # what is told behind the calls' backs
    assert count("tollgate_provider_circuit", provider="alpha") == 2
    seen = len(stage.alpha.requests)
    assert (await stage.gate.ask(asked())).status == 502
    assert (await stage.gate.ask(asked("duo"))).status == 200
    assert await route_of(stage) == [["alpha", "left_alone"], ["beta", "answered"]]
    assert len(stage.alpha.requests) == seen == 6
    await asyncio.sleep(COOLDOWN_S + 0.1)
    stage.plays.plays = [GOOD]
    assert (await stage.gate.ask(asked())).status == 200
    assert len(stage.alpha.requests) == seen + 1
    await stage.gate.services.calls._router._breakers.close()
    assert count("tollgate_provider_circuit", provider="alpha") == 0


async def test_a_failed_trial_is_one_request_only(stage: Theatre) -> None:
    stage.plays.plays = [failing()]
    for _ in range(2):
        await stage.gate.ask(asked())
    await asyncio.sleep(COOLDOWN_S + 0.2)
    seen = len(stage.alpha.requests)
    answers = await asyncio.gather(*(stage.gate.ask(asked()) for _ in range(5)))
    assert {answer.status for answer in answers} == {502}
    assert len(stage.alpha.requests) == seen + 1


async def test_refused_requests_and_limits_do_not_open_a_circuit(stage: Theatre) -> None:
    for play in (failing("400 Bad"), failing("429 Slow", "Retry-After-Ms: 1\r\n")):
        stage.plays.plays = [play]
        for _ in range(8):
            await stage.gate.ask(asked())
    stage.plays.plays = [GOOD]
    await asyncio.sleep(0.05)
    assert (await stage.gate.ask(asked())).status == 200


async def test_a_call_to_a_healthy_provider_asks_redis_nothing_about_it(stage: Theatre) -> None:
    asked_of_redis = []
    breakers = stage.gate.services.calls._router._breakers
    run = breakers._run

    async def noted(providers, action, *arguments):
        asked_of_redis.append(action)
        return await run(providers, action, *arguments)

    breakers._run = noted
    for model in ("solo", "duo"):
        assert (await stage.gate.ask(asked(model))).status == 200
    await breakers.close()
    assert set(asked_of_redis) <= {b"look"}, "only what is asked once a second, whatever is called"


async def test_the_operator_sees_the_route_of_a_call(stage: Theatre, database_url: str) -> None:
    from kit.ids import encode_id
    from metering.usage import details_of_call

    stage.plays.plays = [failing()]
    answer = await stage.gate.ask(asked("duo"))
    assert answer.headers["x-tollgate-call-id"] == encode_id("call", (await stage.settled())["call_id"])
    [details] = await details_of_call(stage.database, (await stage.settled())["call_id"])
    assert details["route"][-1] == ["beta", "answered"]


async def test_metrics_tell_of_models_and_providers_and_of_nobody(stage: Theatre) -> None:
    of_call = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "beta", "gen_ai_request_model": "duo"}

    def figures() -> list[float]:
        return [
            count("tollgate_calls_total", model="duo", status="SUCCEEDED"),
            count("tollgate_call_tokens_total", model="duo", kind="output"),
            count("tollgate_call_credits_total", model="duo"),
            count("tollgate_provider_attempts_total", provider="alpha", outcome="unavailable"),
            count("tollgate_provider_seconds_count", provider="beta"),
            count("tollgate_provider_seconds_bucket", provider="beta", le="+Inf"),
            count("gen_ai_server_request_duration_seconds_count", **of_call, error_type=""),
            count("gen_ai_server_request_duration_seconds_bucket", **of_call, error_type="", le="81.92"),
            count("gen_ai_client_token_usage_sum", **of_call, gen_ai_token_type="output"),
            count("gen_ai_client_token_usage_bucket", **of_call, gen_ai_token_type="output", le="4.0"),
            count("gen_ai_client_token_usage_bucket", **of_call, gen_ai_token_type="output", le="16.0"),
        ]

    before = figures()
    stage.plays.plays = [failing()]
    body = asked("duo", messages=[{"role": "user", "content": "a secret word"}])
    assert (await stage.gate.ask(body)).status == 200
    assert [after - was for after, was in zip(figures(), before, strict=True)] == [1, 5, 90, 3, 1, 1, 1, 1, 5, 0, 1]
    assert count("tollgate_calls_in_flight") == 0
    stage.plays.plays = [failing()]
    message = {"model": "duo", "max_tokens": 5, "messages": [{"role": "user", "content": "a secret word"}]}
    assert (await stage.gate.ask(message, path="/v1/messages")).status == 200
    told = generate_latest().decode()
    series = [line.rpartition(" ")[0] for line in told.splitlines() if line.startswith(("tollgate_", "gen_ai_"))]
    assert len(series) == len(set(series)), "a form of its own is no series of its own"
    for private in ("secret word", str(stage.gate.seeded.workspace_id), stage.gate.seeded.workspace_id.hex, "tg_live"):
        assert private not in told


async def test_D12_what_a_provider_says_in_an_error_is_not_logged(stage: Theatre, caplog) -> None:
    stage.plays.plays = [failing("400 Bad", body=b'{"error": {"message": "cannot read: a secret word"}}')]
    with caplog.at_level("DEBUG"):
        answer = await stage.gate.ask(asked("duo"))
    assert "a secret word" in answer.body["error"]["message"]
    assert "provider alpha: refused" in caplog.text
    assert "secret word" not in caplog.text
