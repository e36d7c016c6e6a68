"""Rating: exact, rounded up once, nothing counted twice."""

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from metering.operations import UsageFacts
from metering.rules.rating import MeterPrice, Rates

COUNTS = st.integers(0, 10**9)
PRICE = st.tuples(st.integers(0, 10**9), st.integers(1, 10**7))


def usage(**counts):
    return UsageFacts(**counts)


@given(
    counts=st.lists(COUNTS, min_size=8, max_size=8),
    prices=st.lists(PRICE, min_size=8, max_size=8),
    discount=st.integers(0, 100),
)
def test_the_cost_is_the_exact_sum_rounded_up_once(counts, prices, discount):
    cached, reasoning = min(counts[0], counts[1]), min(counts[2], counts[3])
    facts = usage(
        input_tokens=counts[0], cached_input_tokens=cached, output_tokens=counts[2], reasoning_tokens=reasoning,
        requests=counts[4], images=counts[5], seconds=counts[6], characters=counts[7],
    )  # fmt: skip
    meters = [
        "INPUT_TOKENS",
        "CACHED_INPUT_TOKENS",
        "OUTPUT_TOKENS",
        "REASONING_TOKENS",
        "REQUESTS",
        "IMAGES",
        "SECONDS",
        "CHARACTERS",
    ]
    billed = [counts[0] - cached, cached, counts[2] - reasoning, reasoning, *counts[4:]]
    exact = sum(Fraction(n * price, per) for n, (price, per) in zip(billed, prices, strict=True))
    offered = [MeterPrice(meter, price, per) for meter, (price, per) in zip(meters, prices, strict=True)]
    assert Rates(offered).cost_micro(facts, discount) == ceil(exact * (100 - discount) / 100)


def test_cached_and_reasoning_tokens_cost_as_what_they_are_part_of_where_they_have_no_price():
    prices = [MeterPrice("INPUT_TOKENS", 2, 1), MeterPrice("OUTPUT_TOKENS", 3, 1)]
    facts = usage(input_tokens=10, cached_input_tokens=4, output_tokens=5, reasoning_tokens=5)
    assert Rates(prices).cost_micro(facts) == 35
    assert Rates([*prices, MeterPrice("CACHED_INPUT_TOKENS", 1, 1)]).cost_micro(facts) == 31


def test_a_provider_that_reports_more_cached_than_input_does_not_make_a_credit():
    prices = [MeterPrice("INPUT_TOKENS", 5, 1), MeterPrice("CACHED_INPUT_TOKENS", 1, 1)]
    assert Rates(prices).cost_micro(usage(input_tokens=1, cached_input_tokens=9)) == 9


def test_a_fraction_of_a_micro_credit_is_one_and_nothing_is_nothing():
    price = [MeterPrice("INPUT_TOKENS", 1, 1_000_000)]
    assert Rates(price).cost_micro(usage(input_tokens=1)) == 1
    assert Rates(price).cost_micro(usage()) == 0
    assert Rates([]).cost_micro(usage(input_tokens=5)) == 0
    assert Rates(price).cost_micro(usage(input_tokens=1), 100) == 0


@given(
    counts=st.lists(COUNTS, min_size=6, max_size=6),
    prices=st.lists(st.one_of(st.none(), PRICE), min_size=8, max_size=8),
    discount=st.integers(0, 100),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_no_split_into_cached_and_reasoned_costs_more_than_the_highest_and_one_costs_as_much(
    counts, prices, discount, parts
):
    meters = [
        "INPUT_TOKENS", "CACHED_INPUT_TOKENS", "OUTPUT_TOKENS", "REASONING_TOKENS", "REQUESTS", "IMAGES", "SECONDS",
        "CHARACTERS",
    ]  # fmt: skip
    offered = [MeterPrice(meter, *price) for meter, price in zip(meters, prices, strict=True) if price is not None]

    def facts(cached, reasoned):
        return usage(
            input_tokens=counts[0], cached_input_tokens=cached, output_tokens=counts[1], reasoning_tokens=reasoned,
            requests=counts[2], images=counts[3], seconds=counts[4], characters=counts[5],
        )  # fmt: skip

    corners = [
        Rates(offered).cost_micro(facts(cached, reasoned), discount)
        for cached in (0, counts[0])
        for reasoned in (0, counts[1])
    ]
    highest = Rates(offered).highest_micro(facts(0, 0), discount)
    assert highest == max(corners)
    assert Rates(offered).cost_micro(facts(int(counts[0] * parts[0]), int(counts[1] * parts[1])), discount) <= highest
