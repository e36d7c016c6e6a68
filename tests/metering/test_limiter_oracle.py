"""The script equals its oracle over random sequences, and the oracle keeps the law: capacity + refill × time."""

import asyncio
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.limiter import Bucket, BucketKind, Limiter
from metering.redis_link import connect, script_link
from metering.rules.bucket import MAX_CAPACITY, MAX_REFILL_PER_HOUR, Ask, Level, refund, take
from tests.metering.redis_servers import Server

EPOCH_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000
KINDS = [BucketKind.ADDRESS, BucketKind.API_KEY, BucketKind.WORKSPACE]


@pytest.fixture(scope="module")
def server():
    server = Server().start()
    yield server
    server.stop()


capacities = st.sampled_from([0, 1, 2, 5, 60, 10_000, MAX_CAPACITY]) | st.integers(0, 50)
refills = st.sampled_from([1, 7, 60, 18_000, 999_983, MAX_REFILL_PER_HOUR]) | st.integers(1, 100_000)
plans = st.lists(st.tuples(capacities, refills), min_size=1, max_size=3)
steps_us = st.one_of(
    st.integers(0, 5),
    st.integers(0, 2 * HOUR_US),
    st.integers(0, 3_000_000),
    st.integers(-HOUR_US, 0),
    st.just(400 * 24 * HOUR_US),
)


@st.composite
def sequences(draw):
    """Steps of (time passed, mode, one ask or more), with few plans for each bucket, so that they come back."""
    of_bucket = [draw(plans) for _ in KINDS]
    steps = []
    for _ in range(draw(st.integers(1, 25))):
        chosen = draw(st.lists(st.sampled_from(range(len(KINDS))), min_size=1, max_size=3, unique=True))
        asks = []
        for index in chosen:
            capacity, refill = draw(st.sampled_from(of_bucket[index]))
            costs = st.integers(0, 6) | st.sampled_from([capacity, capacity + 1, capacity // 2])
            asks.append((index, Ask(capacity, refill, draw(costs))))
        mode = draw(st.sampled_from(["take", "take", "take", "peek", "refund"]))
        steps.append((draw(steps_us), mode, asks))
    return steps


@given(steps=sequences())
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_script_equals_its_oracle(server, steps):
    asyncio.run(compare(server.url, steps))


async def compare(url, steps):
    client = connect(url)
    await client.flushdb()
    link = script_link(client, timeout_s=5)
    now_us = EPOCH_US
    limiter = Limiter(link, test_clock=lambda: now_us)
    levels: list[Level | None] = [None] * len(KINDS)
    try:
        for elapsed_us, mode, asks in steps:
            now_us += elapsed_us
            # Keys lapse on the server's clock, which stands still here; a lapsed key is full by then in any case.
            held = [levels[index] for index, _ in asks]
            wanted = [ask for _, ask in asks]
            buckets = [Bucket(KINDS[index], "b", ask.capacity, ask.refill_per_hour, ask.cost) for index, ask in asks]
            if mode == "refund":
                tokens = wanted[0].cost
                wanted = [Ask(ask.capacity, ask.refill_per_hour, tokens) for ask in wanted]
                expected = refund(held, wanted, now_us)
                await limiter.refund(buckets, tokens, tag="t")
            else:
                expected = take(held, wanted, now_us, peek=mode == "peek")
                decision = await (limiter.peek if mode == "peek" else limiter.take)(buckets, tag="t")
                assert not decision.degraded
                assert (decision.allowed, decision.limiting) == (expected.allowed, expected.limiting)
                got = [(s.remaining, s.reset_after_us, s.retry_after_us) for s in decision.states]
                assert got == [(s.remaining, s.reset_after_us, s.retry_after_us) for s in expected.standings]
            for (index, _), level in zip(asks, expected.levels, strict=True):
                levels[index] = level
    finally:
        await link.aclose()
        await client.aclose()


@given(
    st.tuples(st.integers(1, 1000), refills),
    st.lists(st.tuples(st.integers(0, HOUR_US), st.integers(1, 400), st.integers(1, 3)), max_size=60),
)
@settings(max_examples=150, deadline=None)
def test_never_more_than_capacity_and_refill_passes(plan, questions):
    capacity, refill = plan
    level, now_us, passed = None, EPOCH_US, 0
    for elapsed_us, cost, times in questions:
        now_us += elapsed_us
        for _ in range(times):
            outcome = take([level], [Ask(capacity, refill, cost)], now_us)
            (level,) = outcome.levels
            passed += cost * outcome.allowed
            assert passed <= capacity + Fraction(refill * (now_us - EPOCH_US), HOUR_US)


@given(
    st.lists(st.tuples(st.integers(1, 500), refills), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 10_000_000), st.integers(0, 3), st.integers(1, 500)), max_size=60),
)
@settings(max_examples=150, deadline=None)
def test_no_change_of_plan_lets_more_pass_than_the_first_bucket_and_the_fastest_refill(plans, questions):
    level, now_us, passed = None, EPOCH_US, 0
    first_capacity = None
    fastest = max(refill for _, refill in plans)
    for elapsed_us, which, cost in questions:
        capacity, refill = plans[which % len(plans)]
        now_us += elapsed_us
        outcome = take([level], [Ask(capacity, refill, cost)], now_us)
        (level,) = outcome.levels
        if level is not None and first_capacity is None:
            first_capacity = capacity
        passed += cost * outcome.allowed
        assert passed <= (first_capacity or 0) + Fraction(fastest * (now_us - EPOCH_US), HOUR_US)


@given(st.integers(1, 1000), refills, st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_a_bucket_that_is_never_full_neither_gains_nor_loses_a_token(capacity, refill, rounds):
    """Drained, then asked as soon as it can answer: after n tokens exactly n tokens' time has gone by, rounded up once."""
    level = take([None], [Ask(capacity + 1, refill, capacity + 1)], EPOCH_US).levels[0]
    now_us = EPOCH_US
    for taken in range(1, rounds + 1):
        wait_us = take([level], [Ask(capacity + 1, refill, 1)], now_us, peek=True).standings[0].retry_after_us
        now_us += wait_us
        assert now_us == EPOCH_US + -(-taken * HOUR_US // refill)
        outcome = take([level], [Ask(capacity + 1, refill, 1)], now_us)
        assert outcome.allowed
        (level,) = outcome.levels
