"""Attempts at one request: which earlier one a retry repeats."""

import pytest

from kit.ids import uuid7
from metering import attempts as module
from metering.attempts import ENDED_S, RUNNING_S, Attempt, AttemptEnd, RequestAttempts
from metering.redis_link import connect, script_link
from tests.metering.redis_servers import Server

SECOND_MS = 1_000


@pytest.fixture(scope="module")
def server():
    server = Server().start()
    yield server
    server.stop()


class Clock:
    at_ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.at_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def attempts(server, clock):
    client = connect(server.url)
    await client.flushall()
    link = script_link(client, timeout_s=5)
    yield RequestAttempts(link, test_clock=clock)
    await link.aclose()
    await client.aclose()


def attempt(retry: int, digest: str = "d", workspace: str = "w") -> Attempt:
    return Attempt(workspace, digest, uuid7(), retry)


async def test_two_first_attempts_are_two_calls(attempts):
    assert await attempts.begin(attempt(0)) is None
    assert await attempts.begin(attempt(0)) is None


async def test_a_retry_repeats_the_attempt_before_it_while_it_runs_and_after_its_answer(attempts):
    first = attempt(0)
    await attempts.begin(first)
    assert await attempts.begin(attempt(1)) == first.call_id
    await attempts.end(first, AttemptEnd.ANSWERED)
    assert await attempts.begin(attempt(2)) == first.call_id


async def test_a_retry_of_a_failed_attempt_is_a_call_of_its_own_that_the_next_retry_repeats(attempts):
    first, second = attempt(0), attempt(1)
    await attempts.begin(first)
    await attempts.end(first, AttemptEnd.FAILED)
    assert await attempts.begin(second) is None
    assert await attempts.begin(attempt(2)) == second.call_id


async def test_a_retry_whose_first_attempt_never_came_is_a_call_of_its_own(attempts):
    assert await attempts.begin(attempt(1)) is None


async def test_a_failed_attempt_is_retried_before_an_equal_call_that_was_answered(attempts):
    answered, failed, again = attempt(0), attempt(0), attempt(1)
    for each, end in ((answered, AttemptEnd.ANSWERED), (failed, AttemptEnd.FAILED)):
        await attempts.begin(each)
        await attempts.end(each, end)
    assert await attempts.begin(again) is None
    assert await attempts.begin(attempt(2)) == again.call_id  # not the answered one


async def test_equal_calls_that_lose_their_clients_are_each_repeated_once(attempts):
    first, second = attempt(0), attempt(0)
    await attempts.begin(first)
    await attempts.begin(second)
    repeated = [await attempts.begin(attempt(1)) for _ in range(3)]
    assert repeated == [first.call_id, second.call_id, None]


async def test_a_running_attempt_is_repeated_before_an_answered_one_and_of_answered_ones_the_newest(attempts):
    old, new, running = attempt(0), attempt(0), attempt(0)
    for each in (old, new, running):
        await attempts.begin(each)
    for each in (old, new):
        await attempts.end(each, AttemptEnd.ANSWERED)
    assert [await attempts.begin(attempt(1)) for _ in range(3)] == [running.call_id, new.call_id, old.call_id]


async def test_the_attempt_whose_last_asker_came_just_before_is_meant(attempts):
    first, second = attempt(0), attempt(0)
    await attempts.begin(first)
    await attempts.begin(second)
    assert await attempts.begin(attempt(1)) == first.call_id
    assert await attempts.begin(attempt(2)) == first.call_id


async def test_a_call_made_instead_takes_the_place_of_the_one_that_came_to_nothing(attempts):
    first, second = attempt(0), attempt(1)
    await attempts.begin(first)
    assert await attempts.begin(second) == first.call_id
    await attempts.instead(second, first.call_id)
    await attempts.end(first, AttemptEnd.FAILED)
    assert await attempts.begin(attempt(2)) == second.call_id


async def test_an_attempt_is_forgotten_in_time(attempts, clock):
    first = attempt(0)
    await attempts.begin(first)
    clock.at_ms += RUNNING_S * SECOND_MS - 1
    assert await attempts.begin(attempt(1)) == first.call_id
    await attempts.end(first, AttemptEnd.ANSWERED)
    clock.at_ms += ENDED_S * SECOND_MS
    assert await attempts.begin(attempt(2)) is None
    await attempts.end(first, AttemptEnd.ANSWERED)  # of one that is forgotten
    assert await attempts.begin(attempt(9)) is not None  # the one of retry 2


async def test_every_key_lapses(attempts, server):
    await attempts.begin(attempt(0))
    client = connect(server.url)
    (key,) = await client.keys()
    assert 0 < await client.pttl(key) <= RUNNING_S * SECOND_MS
    await client.aclose()


async def test_requests_and_workspaces_do_not_mix(attempts):
    await attempts.begin(attempt(0))
    assert await attempts.begin(attempt(1, digest="other")) is None
    assert await attempts.begin(attempt(1, workspace="other")) is None


async def test_no_more_are_remembered_than_the_bound(attempts, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 3)
    for _ in range(10):
        await attempts.begin(attempt(0))
    repeated = [await attempts.begin(attempt(1)) for _ in range(4)]
    assert [one is not None for one in repeated] == [True, True, True, False]


async def test_without_redis_each_retry_is_a_call_of_its_own(caplog):
    gone = Server().start()
    client = connect(gone.url)
    link = script_link(client, timeout_s=1)
    attempts = RequestAttempts(link)
    gone.stop()
    assert await attempts.begin(attempt(0)) is None
    assert await attempts.begin(attempt(1)) is None
    assert "retries are not recognised" in caplog.text
    await link.aclose()
    await client.aclose()
