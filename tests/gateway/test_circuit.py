"""Circuits of providers: their steps, the same ones in Lua, shared between processes, and alone while Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.breakers import Breakers
from gateway.rules import circuit
from gateway.rules.circuit import Circuit, CircuitTerms, Passage
from metering.redis_link import connect, script_link
from metering.redis_pipeline import LinkDown, Script, ScriptLink
from tests.metering.redis_servers import Server

TERMS = CircuitTerms(failures=3, cooldown_ms=1_000)
START_MS = 1_700_000_000_000


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[ScriptLink]:
    client = connect(redis_url)
    made = script_link(client, timeout_s=30)
    yield made
    await made.aclose()
    await client.aclose()


def test_it_opens_on_failures_that_are_at_least_half_and_forgets_old_ones() -> None:
    made = Circuit()
    circuit.report(made, TERMS, 1_000, 10, 9, trial=False)
    assert circuit.admit(made, 1_001) is Passage.CLOSED
    circuit.report(made, TERMS, 2_000 + circuit.WINDOW_MS, 0, 2, trial=False)
    assert circuit.admit(made, 62_001) is Passage.CLOSED
    circuit.report(made, TERMS, 62_002, 0, 1, trial=False)
    assert circuit.admit(made, 62_003) is Passage.OPEN


def test_trials_pass_one_by_one_and_close_it_or_double_the_time() -> None:
    made = Circuit()
    circuit.report(made, TERMS, 0, 0, 3, trial=False)
    assert [circuit.admit(made, at) for at in (999, 1_000, 1_001)] == [Passage.OPEN, Passage.TRIAL, Passage.OPEN]
    circuit.report(made, TERMS, 1_100, 5, 0, trial=False)  # late ends of calls from before
    assert circuit.admit(made, 1_200) is Passage.OPEN
    circuit.report(made, TERMS, 1_500, 0, 1, trial=True)
    assert [circuit.admit(made, at) for at in (3_499, 3_500)] == [Passage.OPEN, Passage.TRIAL]
    assert circuit.admit(made, 3_500 + circuit.TRIAL_MS) is Passage.TRIAL, "a trial that never came back"
    circuit.report(made, TERMS, 3_600, 1, 0, trial=True)
    assert circuit.admit(made, 3_601) is Passage.CLOSED
    for _ in range(20):
        circuit.report(made, TERMS, 4_000, 0, 3, trial=True)
    assert circuit.admit(made, 4_000 + circuit.MAX_COOLDOWN_MS) is Passage.TRIAL


def test_without_a_number_of_failures_it_never_opens() -> None:
    made = Circuit()
    circuit.report(made, CircuitTerms(0, 1_000), 0, 0, 1_000, trial=False)
    assert circuit.admit(made, 1) is Passage.CLOSED


STEPS = st.lists(
    st.tuples(
        st.integers(0, 40_000),
        st.sampled_from(["report", "trial", "admit"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
async def test_the_script_in_redis_takes_the_same_steps(link: ScriptLink, steps: list) -> None:
    script = Script.named("circuit")
    key = f"tg:{{providers}}:{uuid4()}".encode()
    own, at_ms = Circuit(), START_MS
    passages = [Passage.CLOSED, Passage.TRIAL, Passage.OPEN]
    outcome = [TERMS.failures, TERMS.cooldown_ms, circuit.MAX_COOLDOWN_MS, circuit.WINDOW_MS]
    for after_ms, action, good, bad in steps:
        at_ms += after_ms
        if action == "admit":
            answer = await link.run(script, [key], [b"admit", at_ms, circuit.TRIAL_MS])
            assert passages[answer[0]] is circuit.admit(own, at_ms)
            continue
        trial = action == "trial"
        answer = await link.run(script, [key], [b"report", at_ms, good, bad, int(trial), *outcome])
        circuit.report(own, TERMS, at_ms, good, bad, trial=trial)
        assert answer == [max(0, own.open_until_ms - at_ms) if own.open_until_ms else -1]
        assert await link.run(script, [key], [b"look", at_ms]) == answer


class Clock:
    """Moves Redis' time and the processes' together."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def ms(self) -> int:
        return int(self.seconds * 1000)


def two(link: ScriptLink, clock: Clock) -> tuple[Breakers, Breakers]:
    terms = {"up": TERMS, "other": TERMS, "sandbox": CircuitTerms(0, 1_000)}
    one, other = (Breakers(link, terms, clock=clock, test_clock=clock.ms) for _ in range(2))
    return one, other


async def fail(breakers: Breakers, times: int, *, trial: bool = False) -> None:
    for _ in range(times):
        breakers.failed("up", trial=trial)
    await breakers.close()


async def test_what_one_process_sees_the_others_know_and_only_one_makes_the_trial(link: ScriptLink) -> None:
    clock = Clock()
    one, other = two(link, clock)
    await fail(one, 2)
    await fail(other, 1)
    assert not other.is_closed("up")
    assert one.is_closed("up")
    await one.look()
    assert not one.is_closed("up")
    assert one.is_closed("other")
    assert await one.admit("up") is Passage.OPEN
    clock.seconds += 1.1
    assert {await one.admit("up"), await other.admit("up")} == {Passage.TRIAL, Passage.OPEN}
    await fail(one, 1, trial=True)
    clock.seconds += 1.1
    assert await one.admit("up") is Passage.OPEN
    clock.seconds += 1.1
    assert await one.admit("up") is Passage.TRIAL
    one.succeeded("up", trial=True)
    await one.close()
    assert one.is_closed("up")
    await other.look()
    assert other.is_closed("up")


async def test_successes_weigh_against_failures(link: ScriptLink) -> None:
    one, _ = two(link, Clock())
    for _ in range(20):
        one.succeeded("up")
    await fail(one, 10)
    assert one.is_closed("up")
    await fail(one, 10)
    assert not one.is_closed("up")


async def test_a_sandbox_never_opens_and_an_unknown_provider_neither(link: ScriptLink) -> None:
    one, _ = two(link, Clock())
    for name in ("sandbox", "nobody"):
        for _ in range(50):
            one.failed(name)
        one.succeeded(name)
        await one.close()
        assert one.is_closed(name)


async def test_while_redis_is_away_each_process_decides_by_what_it_sees_itself() -> None:
    server = Server().start()
    client = connect(server.url)
    link = script_link(client, timeout_s=5, pause_s=0.05)
    clock = Clock()
    one, other = two(link, clock)
    try:
        await fail(one, 2)
        server.kill()
        await fail(one, 3)
        assert not one.is_closed("up")
        assert other.is_closed("up")
        assert await one.admit("up") is Passage.OPEN
        clock.seconds += 1.1
        assert [await one.admit("up"), await one.admit("up")] == [Passage.TRIAL, Passage.OPEN]
        await fail(one, 1, trial=True)
        assert await one.admit("up") is Passage.OPEN
        server.start()
        await until_back(link)
        await one.look()
        assert one.is_closed("up"), "what Redis says holds again"
    finally:
        await link.aclose()
        await client.aclose()
        server.stop()


async def test_a_circuit_that_was_open_when_redis_went_away_stays_open(link: ScriptLink) -> None:
    class Away:
        down = False

        async def run(self, *given) -> list[int]:
            if self.down:
                raise LinkDown("away")
            return await link.run(*given)

        async def aclose(self) -> None:
            return

    away, clock = Away(), Clock()
    one, _ = two(away, clock)
    await fail(one, 3)
    away.down = True
    await one.look()
    assert await one.admit("up") is Passage.OPEN
    clock.seconds += 1.1
    assert await one.admit("up") is Passage.TRIAL
    one.succeeded("up", trial=True)
    await one.close()
    assert one.is_closed("up")


async def until_back(link: ScriptLink) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await link.run(Script.named("circuit"), [b"tg:{providers}:x"], [b"look", 0])
            except LinkDown:
                await asyncio.sleep(0.05)
            else:
                return
