"""What the limiter says while Redis is away, and that it decides again when Redis is back."""

import asyncio
import logging
import signal

import pytest
from prometheus_client import REGISTRY

from kit.errors import Unavailable
from metering.limiter import DEFAULT_POLICIES, Bucket, BucketKind, FailurePolicy, Limiter
from metering.redis_link import connect, script_link
from metering.redis_pipeline import LinkDown, Script
from tests.metering.redis_servers import Server

ADDRESS = Bucket(BucketKind.ADDRESS, "192.0.2.1", 3, 1)
ATTEMPTS = Bucket(BucketKind.ATTEMPTS, "ada", 3, 1)
PAUSE_S = 0.05
RECOVERY_LIMIT_S = 30


@pytest.fixture
def server():
    server = Server(append_only=True).start()
    yield server
    server.stop()


@pytest.fixture
async def client(server):
    client = connect(server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def link(client):
    link = script_link(client, timeout_s=5, pause_s=PAUSE_S)
    yield link
    await link.aclose()


@pytest.fixture
def limiter(link):
    return Limiter(link)


def degraded_count(policy: FailurePolicy) -> float:
    return REGISTRY.get_sample_value("tollgate_limiter_degraded_total", {"policy": policy.value}) or 0.0


async def recovered(limiter: Limiter, *buckets: Bucket):
    """The first decision that Redis makes again."""
    async with asyncio.timeout(RECOVERY_LIMIT_S):
        while True:
            try:
                decision = await limiter.take(buckets, tag="t")
            except Unavailable:
                decision = None
            if decision is not None and not decision.degraded:
                return decision
            await asyncio.sleep(PAUSE_S / 2)


async def test_an_open_bucket_lets_pass_while_redis_is_away_and_counts_again_afterwards(server, limiter):
    for _ in range(3):
        assert (await limiter.take([ADDRESS], tag="t")).allowed
    assert not (await limiter.take([ADDRESS], tag="t")).allowed
    server.kill()
    before = degraded_count(FailurePolicy.OPEN)
    for _ in range(5):
        decision = await limiter.take([ADDRESS], tag="t")
        assert (decision.allowed, decision.degraded, decision.limiting) == (True, True, None)
    assert degraded_count(FailurePolicy.OPEN) == before + 5
    server.start()
    # The append-only file kept the level: the bucket is as empty as before, with its script forgotten.
    assert not (await recovered(limiter, ADDRESS)).allowed


async def test_a_closed_bucket_refuses_while_redis_is_away_and_decides_again_afterwards(server, limiter):
    assert (await limiter.take([ATTEMPTS], tag="t")).allowed
    server.kill()
    before = degraded_count(FailurePolicy.CLOSED)
    for buckets in ([ATTEMPTS], [ADDRESS, ATTEMPTS]):
        with pytest.raises(Unavailable):
            await limiter.take(buckets, tag="t")
    assert degraded_count(FailurePolicy.CLOSED) == before + 2
    server.start()
    assert (await recovered(limiter, ATTEMPTS)).allowed


async def test_the_policy_of_a_kind_can_be_chosen(server, link):
    limiter = Limiter(link, {**DEFAULT_POLICIES, BucketKind.ADDRESS: FailurePolicy.CLOSED})
    server.kill()
    with pytest.raises(Unavailable):
        await limiter.take([ADDRESS], tag="t")


def test_every_kind_has_a_policy_and_only_sign_in_attempts_are_closed():
    closed = {kind for kind in BucketKind if DEFAULT_POLICIES[kind] is FailurePolicy.CLOSED}
    assert closed == {BucketKind.ATTEMPTS}


async def test_an_outage_is_logged_once_a_minute_not_once_a_request(server, limiter, caplog):
    server.kill()
    with caplog.at_level(logging.WARNING, "metering.limiter"):
        for _ in range(20):
            await limiter.take([ADDRESS], tag="t")
            await limiter.refund([ADDRESS], 1, tag="t")
    assert len(caplog.records) == 1


async def test_a_server_that_hangs_costs_a_call_its_timeout_and_no_more(server, client):
    link = script_link(client, timeout_s=1)
    limiter = Limiter(link)
    assert (await limiter.take([ADDRESS], tag="t")).allowed
    server.signal(signal.SIGSTOP)
    async with asyncio.timeout(RECOVERY_LIMIT_S):
        decisions = await asyncio.gather(*[limiter.take([ADDRESS], tag="t") for _ in range(50)])
        assert all(decision.degraded for decision in decisions)
        # The next ones do not wait at all: nothing is sent for a while.
        with pytest.raises(LinkDown, match="a moment ago"):
            await link.run(Script.named("buckets"), [b"k"], [b"peek", 0, 1, 1, 1, 0])
    server.signal(signal.SIGCONT)
    await recovered(limiter, ADDRESS)
    await link.aclose()


async def test_a_restarted_server_is_given_its_script_again_in_the_middle_of_a_load(server, limiter):
    async def load() -> int:
        exact = 0
        while exact < 40:
            decision = await limiter.take([Bucket(BucketKind.WORKSPACE, "w", 1_000_000, 1)], tag="t")
            exact += not decision.degraded
            await asyncio.sleep(0.002)
        return exact

    loads = [asyncio.create_task(load()) for _ in range(16)]
    await asyncio.sleep(0.02)
    server.kill()
    server.start()
    async with asyncio.timeout(RECOVERY_LIMIT_S):
        assert sum(await asyncio.gather(*loads)) == 16 * 40


async def test_callers_that_leave_do_not_mix_up_the_answers_of_the_others(limiter):
    async def question(number: int):
        bucket = Bucket(BucketKind.WORKSPACE, f"w{number}", number, 1)
        decision = await limiter.take([bucket], tag="t")
        assert not decision.degraded
        return decision.states[0].remaining, number

    tasks = [asyncio.create_task(question(number)) for number in range(1, 401)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    kept = [answer for answer in answers if not isinstance(answer, asyncio.CancelledError)]
    assert len(kept) == 266
    assert all(remaining == number - 1 for remaining, number in kept)
    state = (await limiter.peek([Bucket(BucketKind.WORKSPACE, "w400", 400, 1)], tag="t")).states[0]
    assert state.remaining in {399, 400}


async def test_a_wrong_password_is_an_outage_and_not_an_exception(server):
    async with connect(server.url) as admin:
        await admin.config_set("requirepass", "secret")
    client = connect(f"{server.url}?password=wrong")
    link = script_link(client, pause_s=PAUSE_S)
    assert (await Limiter(link).take([ADDRESS], tag="t")).degraded
    await link.aclose()
    await client.aclose()


async def test_credentials_and_database_of_the_address_are_used(server):
    async with connect(server.url) as admin:
        await admin.config_set("requirepass", "secret")
    client = connect(f"{server.url}?password=secret&db=3")
    link = script_link(client, timeout_s=5)
    assert not (await Limiter(link).take([ADDRESS], tag="t")).degraded
    assert await client.dbsize() == 1
    await link.aclose()
    await client.aclose()


async def test_an_error_of_the_server_is_an_outage_of_that_call_only(server, client, limiter):
    await limiter.take([ADDRESS], tag="t")
    await client.config_set("maxmemory", 1)
    assert (await limiter.take([ADDRESS], tag="t")).degraded
    await client.config_set("maxmemory", 0)
    assert not (await limiter.take([ADDRESS], tag="t")).degraded


async def test_decisions_of_one_tick_share_their_writes(client, limiter):
    bucket = Bucket(BucketKind.WORKSPACE, "w", 1000, 1)
    await limiter.take([bucket], tag="t")
    before = (await client.info("stats"))["total_reads_processed"]
    await asyncio.gather(*[limiter.take([bucket], tag="t") for _ in range(160)])
    # At most ten writes of sixteen, and the two questions for the count.
    assert (await client.info("stats"))["total_reads_processed"] - before <= 12
