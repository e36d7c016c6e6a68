"""What an SDK sends again by itself is charged once; what is sent twice on purpose is charged twice."""

import asyncio
from datetime import timedelta

import pytest

from kit import clock
from kit.clock import now
from tests.gateway.conftest import Answer, Gate, chat

REPLAYED = "idempotent-replayed"


async def sent(gate: Gate, retry: int, body: dict | None = None, **more: str) -> Answer:
    return await gate.ask(body or chat(), x_stainless_retry_count=str(retry), **more)


async def charged(pg) -> int:
    return await pg.fetchval("SELECT count(*) FROM usage_events")


async def held(pg) -> None:
    """The first attempt is under way, and known to be."""
    async with asyncio.timeout(30):
        while not await pg.fetchval("SELECT count(*) FROM holds"):
            await asyncio.sleep(0.01)


def slow(ms: int = 700, **metadata: str) -> dict:
    return chat(metadata={"sandbox_delay_ms": str(ms), **metadata})


async def written(gate: Gate) -> None:
    """What is remembered of attempts is written beside their calls."""
    while writing := gate.services.retries._writing:
        await asyncio.wait(writing)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat()),
        ("/v1/embeddings", {"model": "sandbox-embedding", "input": "one"}),
        ("/v1/images/generations", {"model": "sandbox-image", "prompt": "a gate"}),
    ],
    ids=["chat", "embedding", "image"],
)
async def test_a_retry_of_an_answered_call_gives_its_answer_and_is_not_charged(
    gate: Gate, pg, path: str, body: dict
) -> None:
    first = await sent(gate, 0, body, path=path)
    await written(gate)
    second = await sent(gate, 1, body, path=path)
    assert second.headers["x-tollgate-call-id"] == first.headers["x-tollgate-call-id"]
    assert (second.status, second.headers[REPLAYED]) == (200, "true")
    assert second.body == first.body
    assert await charged(pg) == 1


async def test_a_retry_waits_for_the_first_attempt_that_still_runs(gate: Gate, pg) -> None:
    first = asyncio.create_task(sent(gate, 0, slow()))
    await held(pg)
    retries = [await sent(gate, 1, slow()), await sent(gate, 2, slow())]
    assert {retry.headers["x-tollgate-call-id"] for retry in retries} == {(await first).headers["x-tollgate-call-id"]}
    assert await charged(pg) == 1


async def test_two_equal_calls_on_purpose_are_two_calls(gate: Gate, pg) -> None:
    answers = [await sent(gate, 0) for _ in range(2)] + list(await asyncio.gather(*(sent(gate, 0) for _ in range(3))))
    assert len({answer.headers["x-tollgate-call-id"] for answer in answers}) == 5
    assert not [answer for answer in answers if REPLAYED in answer.headers]
    assert await charged(pg) == 5


async def test_a_retry_of_a_failed_call_is_a_new_try(gate: Gate, pg) -> None:
    failing = chat(metadata={"sandbox_status": "500"})
    answers = [await sent(gate, retry, failing) for retry in range(3)]
    assert [answer.status for answer in answers] == [502, 502, 502]
    assert await pg.fetchval("SELECT count(*) FROM calls") == 3  # the provider was asked each time
    assert await charged(pg) == 0


async def test_a_retry_that_waited_for_a_call_that_fails_is_a_new_try(gate: Gate, pg) -> None:
    failing = slow(sandbox_status="500")
    first = asyncio.create_task(sent(gate, 0, failing))
    await held(pg)
    second = await sent(gate, 1, failing)
    assert [(await first).status, second.status] == [502, 502]
    assert await pg.fetchval("SELECT count(*) FROM calls") == 2


async def test_a_retry_after_a_refusal_of_ours_is_a_call_and_not_an_equal_one_made_before(gate: Gate, pg) -> None:
    key = await gate.key(requests_per_hour=1)
    assert (await sent(gate, 0, key=key)).status == 200
    assert (await sent(gate, 0, key=key)).status == 429
    await written(gate)
    await pg.execute("UPDATE api_keys SET requests_per_hour = NULL")
    gate.services.principals._principals.clear()
    again = await sent(gate, 1, key=key)
    assert (again.status, REPLAYED in again.headers) == (200, False)
    assert await charged(pg) == 2


@pytest.mark.parametrize("more", [{"x_tollgate_dedupe": "off"}, {"idempotency_key": "own"}], ids=["off", "own key"])
async def test_it_can_be_switched_off(gate: Gate, pg, more: dict) -> None:
    first = await sent(gate, 0, **more)
    second = await sent(gate, 1)
    assert second.headers["x-tollgate-call-id"] != first.headers["x-tollgate-call-id"]
    third = await sent(gate, 2, x_tollgate_dedupe="off")
    assert third.headers["x-tollgate-call-id"] != second.headers["x-tollgate-call-id"]
    assert await charged(pg) == 3


async def test_another_key_body_or_path_is_another_request(gate: Gate, pg) -> None:
    first = await sent(gate, 0)
    other = await gate.key()
    asked = [await sent(gate, 1, key=other), await sent(gate, 1, chat(max_tokens=6)), await gate.ask(chat())]
    assert not [answer for answer in asked if REPLAYED in answer.headers]
    assert first.headers["x-tollgate-call-id"] not in {answer.headers["x-tollgate-call-id"] for answer in asked}
    assert await charged(pg) == 4


async def test_a_retry_after_the_window_is_a_call_of_its_own(gate: Gate, pg) -> None:
    await sent(gate, 0)
    await written(gate)
    assert await pg.fetchval("SELECT expires_at < now() + interval '2 minutes' FROM call_outputs")
    with clock.installed(clock.VirtualClock(now() + timedelta(minutes=2, seconds=1))):
        late = await sent(gate, 1)  # Redis still remembers it, its output is gone
    assert (late.status, REPLAYED in late.headers) == (200, False)
    assert await charged(pg) == 2


@pytest.mark.parametrize("count", ["", "x", "-1", "1.5", "101", "9999", "¹"])
async def test_a_count_that_is_none_is_not_heeded(gate: Gate, pg, count: str) -> None:
    for _ in range(2):
        answer = await gate.ask(chat(), x_stainless_retry_count=count)
        assert answer.status == 200
    assert await charged(pg) == 2
    assert await pg.fetchval("SELECT count(*) FROM call_outputs") == 0


async def test_streams_are_not_among_them(gate: Gate, pg) -> None:
    for retry in range(2):
        assert (await sent(gate, retry, chat(stream=True))).status == 200
    assert await charged(pg) == 2


async def test_a_keys_failure_tells_the_sdk_not_to_try_again(gate: Gate, pg) -> None:
    failing = chat(metadata={"sandbox_status": "500"})
    first, second = [await sent(gate, retry, failing, idempotency_key="once") for retry in range(2)]
    assert (first.status, first.headers.get("x-should-retry")) == (502, None)
    assert (second.status, second.headers.get("x-should-retry")) == (502, "false")
    assert await pg.fetchval("SELECT count(*) FROM calls") == 1
