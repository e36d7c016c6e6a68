"""X-Tollgate-Fit: a call's output limit is lowered to what its wallet can pay."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.estimate import fitted_output
from metering.operations import UsageFacts
from metering.rules.rating import MeterPrice, Rates
from tests.gateway.upstream import INPUT_BYTES, PRICES, Theatre, asked, theatre, used, whole

INPUT_BOUND = INPUT_BYTES + 16
SPENDABLE = INPUT_BOUND * PRICES["INPUT_TOKENS"] + 7 * PRICES["REASONING_TOKENS"]
"""Credits that pay the input and seven tokens of the dearest output."""


@pytest.fixture
async def stage(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Theatre]:
    async with theatre(database_url, redis_url, tmp_path, credits_micro=SPENDABLE * 1_000_000) as made:
        made.plays.plays = [whole(usage=used(10, 5))]
        yield made


async def test_without_it_the_call_is_refused(stage: Theatre) -> None:
    assert (await stage.gate.ask(asked())).code == "insufficient_credits"
    assert (await stage.gate.ask(asked(), x_tollgate_fit="false")).code == "insufficient_credits"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_limit_that_the_caller_set_is_lowered(stage: Theatre, name: str) -> None:
    body = asked()
    body[name] = body.pop("max_tokens")
    assert (await stage.gate.ask(body, x_tollgate_fit="true")).status == 200
    sent = stage.alpha.requests[0].json
    assert sent[name] == 7
    assert sent.keys() == body.keys()


async def test_of_two_limits_none_is_raised(stage: Theatre) -> None:
    assert (await stage.gate.ask(asked(max_completion_tokens=3), x_tollgate_fit="true")).status == 200
    sent = stage.alpha.requests[0].json
    assert (sent["max_completion_tokens"], sent["max_tokens"]) == (3, 7)


async def test_all_choices_must_fit_and_a_limit_that_fits_stays(stage: Theatre) -> None:
    assert (await stage.gate.ask(asked(n=3), x_tollgate_fit="true")).status == 200
    assert stage.alpha.requests[0].json["max_tokens"] == 2
    assert (await stage.gate.ask(asked(max_tokens=1), x_tollgate_fit="true")).status == 200
    assert stage.alpha.requests[1].json["max_tokens"] == 1


async def test_an_input_that_is_too_dear_is_refused_all_the_same(stage: Theatre) -> None:
    body = asked(messages=[{"role": "user", "content": "x" * 4_000}])
    assert (await stage.gate.ask(body, x_tollgate_fit="true")).code == "insufficient_credits"
    assert stage.alpha.requests == []


async def test_a_repeat_is_the_same_call_though_less_can_be_paid_by_then(stage: Theatre) -> None:
    first = await stage.gate.ask(asked(), idempotency_key="k", x_tollgate_fit="true")
    again = await stage.gate.ask(asked(), idempotency_key="k", x_tollgate_fit="true")
    assert (first.status, again.status) == (200, 200)
    assert again.body["usage"]["credits"] == first.body["usage"]["credits"]
    assert len(stage.alpha.requests) == 1


@given(
    st.integers(0, 1000), st.integers(1, 4), st.integers(1, 5000), st.integers(0, 50_000), st.integers(0, 99),
    st.integers(0, 40), st.integers(0, 40),
)  # fmt: skip
def test_what_fits_is_the_most_that_does(input_tokens, choices, each, limit, discount, price, reasoning) -> None:
    rates = Rates(
        [MeterPrice("INPUT_TOKENS", 3, 2), MeterPrice("OUTPUT_TOKENS", price, 3), MeterPrice("REASONING_TOKENS", reasoning, 1)]
    )  # fmt: skip
    bound = UsageFacts(input_tokens=input_tokens, output_tokens=each * choices, requests=1)

    def costs(tokens: int) -> int:
        return rates.highest_micro(UsageFacts(input_tokens, 0, tokens * choices), discount)

    fitted = fitted_output(bound, rates, discount, choices, limit)
    if fitted is None:
        assert costs(1) > limit
    else:
        assert 1 <= fitted <= each
        assert costs(fitted) <= limit
        assert fitted == each or costs(fitted + 1) > limit
