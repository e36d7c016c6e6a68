"""Rating: exact, rounded up once, nothing counted twice."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.operations import UsageFacts
from metering.rules.rating import MeterPrice, Rates

COUNTS = st.integers(0, 10**9)
PRICE = st.tuples(st.integers(0, 10**9), st.integers(1, 10**7))


def usage(**counts):
    return UsageFacts(**counts)


@given(
    counts=st.lists(COUNTS, min_size=10, max_size=10),
    prices=st.lists(PRICE, min_size=10, max_size=10),
    discount=st.integers(0, 100),
)
def test_the_cost_is_the_exact_sum_rounded_up_once(counts, prices, discount):
    written = min(counts[8], counts[0] - min(counts[0], counts[1]))
    long = min(counts[9], written)
    cached, reasoning = min(counts[0], counts[1]), min(counts[2], counts[3])
    facts = usage(
        input_tokens=counts[0], cached_input_tokens=cached, output_tokens=counts[2], reasoning_tokens=reasoning,
        requests=counts[4], images=counts[5], seconds=counts[6], characters=counts[7],
        cache_write_input_tokens=written, long_cache_write_input_tokens=long,
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
        "CACHE_WRITE_INPUT_TOKENS",
        "LONG_CACHE_WRITE_INPUT_TOKENS",
    ]
    plain = counts[0] - cached - written
    billed = [plain, cached, counts[2] - reasoning, reasoning, *counts[4:8], written - long, long]
    exact = sum(Fraction(n * price, per) for n, (price, per) in zip(billed, prices, strict=True))
    offered = [MeterPrice(meter, price, per) for meter, (price, per) in zip(meters, prices, strict=True)]
    assert Rates(offered).cost_micro(facts, discount) == ceil(exact * (100 - discount) / 100)


def test_cached_and_reasoning_tokens_cost_as_what_they_are_part_of_where_they_have_no_price():
    prices = [MeterPrice("INPUT_TOKENS", 2, 1), MeterPrice("OUTPUT_TOKENS", 3, 1)]
    facts = usage(input_tokens=10, cached_input_tokens=4, output_tokens=5, reasoning_tokens=5)
    assert Rates(prices).cost_micro(facts) == 35
    assert Rates([*prices, MeterPrice("CACHED_INPUT_TOKENS", 1, 1)]).cost_micro(facts) == 31


WRITTEN = UsageFacts(
    input_tokens=100, cached_input_tokens=20, cache_write_input_tokens=60, long_cache_write_input_tokens=40
)
"""20 of neither sort, 20 cached, 20 written for the shorter life and 40 for the longer."""


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({}, 100 * 4),
        ({"CACHED_INPUT_TOKENS": 1}, 80 * 4 + 20),
        ({"CACHE_WRITE_INPUT_TOKENS": 5}, 40 * 4 + 60 * 5),
        ({"LONG_CACHE_WRITE_INPUT_TOKENS": 8}, 60 * 4 + 40 * 8),
        ({"CACHE_WRITE_INPUT_TOKENS": 5, "LONG_CACHE_WRITE_INPUT_TOKENS": 8}, 40 * 4 + 20 * 5 + 40 * 8),
        ({"CACHED_INPUT_TOKENS": 1, "CACHE_WRITE_INPUT_TOKENS": 5}, 20 * 4 + 20 + 60 * 5),
        ({"CACHED_INPUT_TOKENS": 0, "CACHE_WRITE_INPUT_TOKENS": 0}, 20 * 4),
    ],
)
def test_a_long_cache_write_costs_as_a_cache_write_and_that_as_input_where_it_has_no_price(prices, cost):
    offered = [MeterPrice("INPUT_TOKENS", 4, 1), *(MeterPrice(meter, price, 1) for meter, price in prices.items())]
    assert Rates(offered).cost_micro(WRITTEN) == cost


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
    prices=st.lists(st.one_of(st.none(), PRICE), min_size=10, max_size=10),
    discount=st.integers(0, 100),
    parts=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_no_split_into_cached_written_and_reasoned_costs_more_than_the_highest_and_one_costs_as_much(
    counts, prices, discount, parts
):
    meters = [
        "INPUT_TOKENS", "CACHED_INPUT_TOKENS", "OUTPUT_TOKENS", "REASONING_TOKENS", "REQUESTS", "IMAGES", "SECONDS",
        "CHARACTERS", "CACHE_WRITE_INPUT_TOKENS", "LONG_CACHE_WRITE_INPUT_TOKENS",
    ]  # fmt: skip
    offered = [MeterPrice(meter, *price) for meter, price in zip(meters, prices, strict=True) if price is not None]

    def facts(cached, reasoned, written=0, long=0):
        return usage(
            input_tokens=counts[0], cached_input_tokens=cached, output_tokens=counts[1], reasoning_tokens=reasoned,
            requests=counts[2], images=counts[3], seconds=counts[4], characters=counts[5],
            cache_write_input_tokens=written, long_cache_write_input_tokens=long,
        )  # fmt: skip

    whole = counts[0]
    corners = [
        Rates(offered).cost_micro(facts(cached, reasoned, written, long), discount)
        for cached, written, long in ((0, 0, 0), (whole, 0, 0), (0, whole, 0), (0, whole, whole))
        for reasoned in (0, counts[1])
    ]
    highest = Rates(offered).highest_micro(facts(0, 0), discount)
    assert highest == max(corners)
    cached = int(whole * parts[0])
    written = int((whole - cached) * parts[2])
    split = facts(cached, int(counts[1] * parts[1]), written, int(written * parts[3]))
    assert Rates(offered).cost_micro(split, discount) <= highest
    for unasked in (frozenset(meters[-1:]), frozenset(meters[-2:])):
        fewer = Rates(offered).without(unasked)
        assert fewer.cost_micro(split, discount) <= fewer.highest_micro(facts(0, 0), discount)


def test_prices_without_some_meters_are_made_once():
    rates = Rates([MeterPrice("INPUT_TOKENS", 4, 1), MeterPrice("LONG_CACHE_WRITE_INPUT_TOKENS", 8, 1)])
    fewer = rates.without(frozenset({"LONG_CACHE_WRITE_INPUT_TOKENS"}))
    assert (rates.prices_writes, fewer.prices_writes) == (True, False)
    assert rates.without(frozenset({"LONG_CACHE_WRITE_INPUT_TOKENS"})) is fewer
    assert (rates.cost_micro(WRITTEN), fewer.cost_micro(WRITTEN)) == (560, 400)
