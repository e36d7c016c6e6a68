"""Token buckets on a single Valkey and on a cluster of three: what passes, what does not, and what it answers."""

import asyncio
import sys

import pytest
import redis.asyncio

from metering.limiter import Bucket, BucketKind, Decision, Limiter
from metering.redis_link import RedisClient, connect, script_link
from metering.rules.bucket import MAX_CAPACITY
from tests.metering.redis_servers import Cluster, Server

EPOCH_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
PER_MINUTE = 60  # an hour's refill for each token a minute


class Clock:
    def __init__(self) -> None:
        self.at_us = EPOCH_US

    def __call__(self) -> int:
        return self.at_us


@pytest.fixture(scope="module", params=["single", "cluster"])
def url(request):
    server = (Cluster() if request.param == "cluster" else Server()).start()
    yield server.url
    server.stop()


@pytest.fixture
async def client(url):
    client = connect(url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def link(client: RedisClient):
    link = script_link(client, timeout_s=5)
    yield link
    await link.aclose()


@pytest.fixture
def limiter(link):
    return Limiter(link)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def clocked(link, clock):
    return Limiter(link, test_clock=clock)


def workspace_bucket(capacity: int, per_hour: int, cost: int = 1) -> Bucket:
    return Bucket(BucketKind.WORKSPACE, "w", capacity, per_hour, cost)


async def allowed_of(limiter: Limiter, attempts: int, *buckets: Bucket, tag: str = "w1") -> int:
    decisions = await asyncio.gather(*[limiter.take(buckets, tag=tag) for _ in range(attempts)])
    assert not any(decision.degraded for decision in decisions)
    return sum(decision.allowed for decision in decisions)


async def remaining(limiter: Limiter, bucket: Bucket, tag: str = "w1") -> int:
    return (await limiter.peek([bucket], tag=tag)).states[0].remaining


async def test_a_full_bucket_gives_its_capacity_and_no_more(limiter):
    assert await allowed_of(limiter, 25, workspace_bucket(10, 1)) == 10


async def test_a_decision_tells_what_is_left_and_when_it_is_full_again(clocked):
    decision = await clocked.take([workspace_bucket(10, 3600, cost=4)], tag="w1")
    state = decision.states[0]
    assert decision == Decision(allowed=True, limiting=None, states=(state,))
    assert (state.limit, state.remaining, state.reset_after_us, state.retry_after_us) == (10, 6, 4 * SECOND_US, 0)


async def test_a_refusal_tells_when_the_cost_will_fit_and_it_then_does(clocked, clock):
    bucket = workspace_bucket(10, 7, cost=10)
    assert (await clocked.take([bucket], tag="w1")).allowed
    refused = await clocked.take([workspace_bucket(10, 7, cost=3)], tag="w1")
    assert (refused.allowed, refused.limiting) == (False, 0)
    wait_us = refused.states[0].retry_after_us
    assert wait_us == -(-3 * 3600 * SECOND_US // 7)
    clock.at_us += wait_us - 1
    assert not (await clocked.take([workspace_bucket(10, 7, cost=3)], tag="w1")).allowed
    clock.at_us += 1
    assert (await clocked.take([workspace_bucket(10, 7, cost=3)], tag="w1")).allowed


async def test_the_production_path_runs_on_the_servers_clock(limiter):
    bucket = workspace_bucket(1, 3_600_000)  # a token a millisecond
    assert (await limiter.take([bucket], tag="w1")).allowed
    await asyncio.sleep(0.01)
    assert (await limiter.take([bucket], tag="w1")).allowed


async def test_one_refusing_bucket_leaves_all_others_untouched(limiter):
    address = Bucket(BucketKind.ADDRESS, "192.0.2.1", 10, 1)
    key = Bucket(BucketKind.API_KEY, "key", 10, 1)
    narrow = Bucket(BucketKind.MODEL_CLASS, "large", 3, 1)
    assert await allowed_of(limiter, 8, address, key, workspace_bucket(10, 1), narrow) == 3
    refused = await limiter.take([address, key, workspace_bucket(10, 1), narrow], tag="w1")
    assert (refused.allowed, refused.limiting) == (False, 3)
    assert [state.remaining for state in refused.states] == [7, 7, 7, 0]


async def test_the_bucket_that_refuses_longest_is_the_limiting_one(clocked):
    slow, slower = workspace_bucket(1, 60), Bucket(BucketKind.API_KEY, "k", 1, 30)
    assert (await clocked.take([slow, slower], tag="w1")).allowed
    assert (await clocked.take([slower, slow], tag="w1")).limiting == 0
    assert (await clocked.take([slow, slower], tag="w1")).limiting == 1


async def test_fifty_requests_in_a_document_cost_fifty(limiter):
    decision = await limiter.take([workspace_bucket(60, 1, cost=50)], tag="w1")
    assert (decision.allowed, decision.states[0].remaining) == (True, 10)
    assert not (await limiter.take([workspace_bucket(60, 1, cost=50)], tag="w1")).allowed


async def test_a_cost_above_the_capacity_is_refused_for_ever_and_takes_nothing(limiter):
    never, other = workspace_bucket(10, 1, cost=11), Bucket(BucketKind.API_KEY, "k", 5, 1)
    refused = await limiter.take([other, never], tag="w1")
    assert (refused.allowed, refused.limiting) == (False, 1)
    assert refused.states[1].retry_after_us is None
    assert [state.remaining for state in refused.states] == [5, 10]


async def test_asking_takes_nothing(limiter):
    for _ in range(3):
        assert (await limiter.take([workspace_bucket(4, 1, cost=0)], tag="w1")).states[0].remaining == 4
        assert (await limiter.peek([workspace_bucket(4, 1, cost=4)], tag="w1")).allowed
    assert not (await limiter.peek([workspace_bucket(4, 1, cost=5)], tag="w1")).allowed
    assert await remaining(limiter, workspace_bucket(4, 1)) == 4


async def test_a_refund_gives_back_but_never_above_the_capacity(limiter):
    bucket = workspace_bucket(10, 1)
    await limiter.take([workspace_bucket(10, 1, cost=8)], tag="w1")
    await limiter.refund([bucket], 5, tag="w1")
    assert await remaining(limiter, bucket) == 7
    await limiter.refund([bucket], 50, tag="w1")
    assert await remaining(limiter, bucket) == 10
    assert await allowed_of(limiter, 15, bucket) == 10


async def test_a_larger_plan_brings_its_rate_at_once_but_no_tokens(clocked, clock):
    small, large = workspace_bucket(10, 3600), workspace_bucket(1000, 36_000)
    assert await allowed_of(clocked, 12, small) == 10
    assert await allowed_of(clocked, 12, large) == 0
    clock.at_us += SECOND_US
    assert await allowed_of(clocked, 12, large) == 10


async def test_a_smaller_plan_counts_from_its_first_question_also_when_that_is_refused(clocked, clock):
    large, small = workspace_bucket(1000, 3_600_000), workspace_bucket(10, 3600)
    assert await allowed_of(clocked, 1, workspace_bucket(1000, 3_600_000, cost=1000)) == 1
    assert await allowed_of(clocked, 1, small) == 0
    clock.at_us += SECOND_US
    assert await allowed_of(clocked, 5, small) == 1
    assert await remaining(clocked, large) == 0


async def test_a_smaller_plan_cuts_the_bucket_to_its_capacity(clocked):
    assert await allowed_of(clocked, 1, workspace_bucket(1000, 3600, cost=10)) == 1
    assert await allowed_of(clocked, 20, workspace_bucket(10, 3600)) == 10


async def test_going_back_and_forth_between_plans_makes_no_tokens(clocked, clock):
    large, small = workspace_bucket(500, 3600), workspace_bucket(1, 3600)
    passed = await allowed_of(clocked, 1, workspace_bucket(500, 3600, cost=500)) * 500
    for _ in range(5):
        clock.at_us += 2 * SECOND_US
        passed += await allowed_of(clocked, 5, small)
        passed += await allowed_of(clocked, 5, large)
    assert passed <= 500 + 10


async def test_a_clock_that_steps_back_gives_nothing_and_locks_nobody_out(clocked, clock):
    bucket = workspace_bucket(5, 3600)
    assert await allowed_of(clocked, 9, bucket) == 5
    clock.at_us -= 3600 * SECOND_US
    assert await allowed_of(clocked, 3, bucket) == 0
    clock.at_us += SECOND_US
    assert await allowed_of(clocked, 3, bucket) == 1


async def test_a_bucket_of_seven_an_hour_gives_exactly_seven_in_every_hour(clocked, clock):
    bucket = workspace_bucket(2, 7)
    assert await allowed_of(clocked, 3, bucket) == 2
    passed = 0
    for step in range(1, 7 * 50 + 1):
        clock.at_us = EPOCH_US + -(-step * 3600 * SECOND_US // 7)
        passed += await allowed_of(clocked, 2, bucket)
    assert passed == 350
    assert clock.at_us == EPOCH_US + 50 * 3600 * SECOND_US


async def test_the_largest_bucket_is_exact(clocked, clock):
    bucket = workspace_bucket(MAX_CAPACITY, 7)
    assert (await clocked.take([workspace_bucket(MAX_CAPACITY, 7, cost=MAX_CAPACITY)], tag="w1")).allowed
    wait_us = (await clocked.take([bucket], tag="w1")).states[0].retry_after_us
    assert wait_us == -(-3600 * SECOND_US // 7)
    clock.at_us += wait_us
    assert await allowed_of(clocked, 3, bucket) == 1


async def test_every_key_lapses(limiter, client):
    await limiter.take([workspace_bucket(10, 60), Bucket(BucketKind.ADDRESS, "192.0.2.1", 10, 3600)], tag="w1")
    assert 1000 < await client.pttl("tollgate:{w1}:ADDRESS:192.0.2.1") <= 2000
    assert 3_500_000 < await client.pttl("tollgate:{w1}:WORKSPACE:w") <= 3_600_000


async def test_two_tags_are_two_buckets(limiter):
    assert await allowed_of(limiter, 3, workspace_bucket(2, 1), tag="one") == 2
    assert await allowed_of(limiter, 3, workspace_bucket(2, 1), tag="two") == 2


async def test_tags_all_over_the_slots_are_served(limiter):
    decisions = await asyncio.gather(*[limiter.take([workspace_bucket(2, 1)], tag=f"w{n}") for n in range(60)])
    assert all(decision.allowed and not decision.degraded for decision in decisions)


@pytest.mark.parametrize("key", ["", "a b\r\nc", "{x}", "\ud800", "ключ", "x" * 10_000, "nul\0"])
async def test_any_text_is_a_key(limiter, key):
    bucket = Bucket(BucketKind.ATTEMPTS, key, 2, 1)
    assert await allowed_of(limiter, 3, bucket, tag="::1") == 2


@pytest.mark.parametrize("tag", ["", "a{b", "a}b"])
async def test_a_tag_that_would_spread_over_slots_is_an_error(limiter, tag):
    with pytest.raises(ValueError, match="a tag is"):
        await limiter.take([workspace_bucket(1, 1)], tag=tag)


async def test_the_same_bucket_twice_or_none_is_an_error(limiter):
    for buckets in ([], [workspace_bucket(1, 1)] * 2, [workspace_bucket(1, 1)] * 17):
        with pytest.raises(ValueError, match="a decision"):
            await limiter.take(buckets, tag="w1")


@pytest.mark.parametrize("numbers", [(-1, 1, 1), (MAX_CAPACITY + 1, 1, 1), (1, 0, 1), (1, 2**60, 1), (1, 1, -1)])
def test_a_bucket_outside_the_exact_bounds_cannot_be_made(numbers):
    with pytest.raises(ValueError, match="not"):
        workspace_bucket(*numbers)


async def test_a_key_of_another_form_counts_as_a_full_bucket(limiter, client):
    await client.set("tollgate:{w1}:WORKSPACE:w", "rubbish")
    assert await allowed_of(limiter, 5, workspace_bucket(3, 1)) == 3


async def test_a_flushed_script_is_loaded_again_and_no_decision_is_lost(limiter, client):
    bucket = workspace_bucket(50, 1)
    assert await allowed_of(limiter, 5, bucket) == 5
    await client.script_flush()
    assert await allowed_of(limiter, 64, bucket) == 45


WORKER = """
import asyncio, sys
from metering.limiter import Bucket, BucketKind, Limiter
from metering.redis_link import connect, script_link

async def main():
    client = connect(sys.argv[1])
    link = script_link(client, timeout_s=10)
    bucket = Bucket(BucketKind.WORKSPACE, "w", 300, 18_000)
    passed = 0
    for instant in sys.argv[2:]:
        limiter = Limiter(link, test_clock=(lambda: int(instant)) if int(instant) else None)
        print("ready", flush=True)
        sys.stdin.readline()
        decisions = await asyncio.gather(*[limiter.take([bucket], tag="w1") for _ in range(150)])
        assert not any(decision.degraded for decision in decisions)
        print(sum(decision.allowed for decision in decisions), flush=True)
    await link.aclose()
    await client.aclose()

asyncio.run(main())
"""


async def burst_of_two_workers(url: str, *instants_us: int) -> list[int]:
    """How many pass in each of the rounds, in which two processes at once ask 150 times each."""
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, url, *map(str, instants_us), stdin=-1, stdout=-1
        )
        for _ in range(2)
    ]
    passed = []
    for _ in instants_us:
        for worker in workers:
            assert await worker.stdout.readline() == b"ready\n"
        for worker in workers:
            worker.stdin.write(b"go\n")
        passed.append(sum([int(await worker.stdout.readline()) for worker in workers]))
    for worker in workers:
        await worker.communicate()
        assert worker.returncode == 0
    return passed


async def test_a_burst_over_a_minutes_edge_from_two_workers_passes_no_more_than_the_capacity(url, client):
    edge_us = EPOCH_US - EPOCH_US % MINUTE_US
    # 600 requests at 300 a minute; a fixed window would let 600 pass, a sliding one with two counters nearly as many.
    assert await burst_of_two_workers(url, edge_us - 1000, edge_us + 1000) == [300, 0]


async def test_a_burst_in_real_time_passes_no_more_than_capacity_and_refill(url, client):
    async with redis.asyncio.Redis.from_url(url.replace("redis+cluster", "redis")) as node:
        seconds, microseconds = await node.time()
        passed = sum(await burst_of_two_workers(url, 0, 0))
        seconds_after, microseconds_after = await node.time()
    elapsed_us = (seconds_after - seconds) * SECOND_US + microseconds_after - microseconds
    assert 300 <= passed <= 300 + elapsed_us * 18_000 // (3600 * SECOND_US)


async def test_many_more_calls_at_once_than_there_are_connections_are_all_decided(limiter):
    assert await allowed_of(limiter, 1500, workspace_bucket(1000, 1)) == 1000
