"""Billing periods: they follow one another without a gap, and a proration is never more than its whole."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from stripe_double.periods import after, period_at, prorated

INSTANTS = st.integers(1_600_000_000, 2_000_000_000)
RECURRING = st.builds(
    lambda interval, count: {"interval": interval, "interval_count": count},
    st.sampled_from(["day", "week", "month", "year"]),
    st.integers(1, 40),
)


@given(INSTANTS, RECURRING, st.integers(0, 400_000_000))
def test_an_instant_lies_in_one_period_of_its_anchor(anchor: int, recurring: dict, later: int) -> None:
    start, end = period_at(anchor, recurring, anchor + later)
    assert start <= anchor + later < end
    assert period_at(anchor, recurring, end)[0] == end
    assert period_at(anchor, recurring, start) == (start, end)


@given(INSTANTS, st.integers(0, 100))
def test_a_month_without_the_day_ends_on_its_last(anchor: int, months: int) -> None:
    day = datetime.fromtimestamp(anchor, UTC).day
    then = datetime.fromtimestamp(after(anchor, {"interval": "month", "interval_count": 1}, months), UTC)
    tomorrow = datetime.fromtimestamp(int(then.timestamp()) + 86_400, UTC)
    assert then.day == day or (then.day < day and tomorrow.month != then.month)


@given(st.integers(0, 10**7), INSTANTS, st.integers(1, 10**8), st.floats(0, 1))
def test_what_is_used_and_unused_make_the_whole(amount: int, start: int, length: int, share: float) -> None:
    at = start + int(length * share)
    unused = prorated(amount, start, start + length, at)
    assert 0 <= unused <= amount
    assert abs(unused - amount * (start + length - at) / length) <= 0.5 + 1e-6
    assert prorated(amount, start, start + length, start) == amount
    assert prorated(amount, start, start + length, start + length) == 0
