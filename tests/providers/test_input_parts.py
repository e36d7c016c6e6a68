"""The parts of an input are cut to what they are part of, the dearest first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.input_parts import parts_within

COUNT = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("input_tokens", "told", "believed"),
    [
        (100, (20, 60, 40), (20, 60, 40)),
        (100, (20, 500, 300), (20, 80, 0)),
        (100, (20, 120, 60), (20, 80, 20)),
        (100, (0, 500, 500), (0, 100, 100)),
        (100, (500, 60, 40), (100, 0, 0)),
        (0, (20, 60, 40), (0, 0, 0)),
    ],
)
def test_what_was_cached_is_believed_before_what_was_written_and_the_short_life_before_the_long(
    input_tokens, told, believed
):
    assert parts_within(input_tokens, *told) == believed


@given(COUNT, COUNT, COUNT, COUNT)
def test_whatever_is_told_no_token_is_counted_twice(input_tokens, cached, written, long):
    got = parts_within(input_tokens, cached, written, min(long, written))
    assert all(0 <= part <= told for part, told in zip(got, (cached, written, long), strict=True))
    assert got[0] + got[1] <= input_tokens
    assert got[2] <= got[1]


@given(COUNT, COUNT, COUNT)
def test_parts_that_fit_stay_as_they_are(cached, written, long):
    long = min(long, written)
    assert parts_within(cached + written, cached, written, long) == (cached, written, long)
