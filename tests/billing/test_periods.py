"""Where periods begin and end, over any anchor."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.periods import Unit, add_months, boundary, boundary_after, cycle_at, number_at, period_unit
from models.enums import PricePeriod

INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
UNITS = st.sampled_from([Unit.THIRTY_DAYS, Unit.MONTH, Unit.YEAR])


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def dates(anchor: str, unit: Unit, count: int) -> list[str]:
    return [boundary(at(anchor), unit, number).date().isoformat() for number in range(count)]


def test_A5_thirty_days_are_720_hours_whatever_the_calendar_does():
    assert dates("2027-01-31T08:30", Unit.THIRTY_DAYS, 4) == ["2027-01-31", "2027-03-02", "2027-04-01", "2027-05-01"]
    start, end = cycle_at(at("2027-03-20"), Unit.THIRTY_DAYS, at("2027-03-30"))  # Europe changes its clocks meanwhile
    assert end - start == timedelta(hours=720)


def test_a_month_from_the_31st_takes_the_last_day_of_short_months_and_returns():
    assert dates("2027-01-31", Unit.MONTH, 6) == [
        "2027-01-31",
        "2027-02-28",
        "2027-03-31",
        "2027-04-30",
        "2027-05-31",
        "2027-06-30",
    ]
    assert dates("2028-01-30", Unit.MONTH, 3) == ["2028-01-30", "2028-02-29", "2028-03-30"]


def test_A6_a_year_from_29_february_takes_the_28th_and_returns_in_the_next_leap_year():
    assert dates("2028-02-29", Unit.YEAR, 5) == ["2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]
    assert boundary(at("2028-02-29"), Unit.MONTH, 12) == at("2029-02-28")


def test_A7_a_lifetime_has_no_boundary_after_its_start():
    assert period_unit(PricePeriod.LIFETIME) is Unit.ENDLESS
    assert boundary_after(at("2027-01-01"), Unit.ENDLESS, at("2090-01-01")) is None
    assert cycle_at(at("2027-01-01"), Unit.ENDLESS, at("2090-01-01")) == (at("2027-01-01"), None)


@pytest.mark.parametrize("period", PricePeriod)
def test_every_period_has_a_unit(period):
    assert period_unit(period) in Unit


@given(INSTANTS, UNITS, st.integers(-400, 400))
def test_boundaries_grow_with_their_number(anchor, unit, number):
    assert boundary(anchor, unit, number) < boundary(anchor, unit, number + 1)


@given(INSTANTS, UNITS, INSTANTS)
def test_every_instant_lies_in_exactly_one_cycle(anchor, unit, instant):
    start, end = cycle_at(anchor, unit, instant)
    assert start <= instant < end
    assert boundary_after(anchor, unit, instant) == end
    assert number_at(anchor, unit, start) == number_at(anchor, unit, instant) == number_at(anchor, unit, end) - 1


@given(INSTANTS, UNITS, st.integers(0, 300))
def test_counting_from_boundary_to_boundary_equals_counting_from_the_anchor(anchor, unit, count):
    """So a worker that was away catches up on the same instants that one on duty would have taken."""
    instant = anchor
    for _ in range(min(count, 40)):
        instant = boundary_after(anchor, unit, instant)
    assert instant == boundary(anchor, unit, min(count, 40))


@given(INSTANTS, st.integers(0, 300))
def test_a_month_keeps_the_time_of_day_and_the_day_where_it_exists(anchor, months):
    moved = add_months(anchor, months)
    assert moved.timetz() == anchor.timetz()
    assert moved.day == anchor.day or (moved.day < anchor.day and (moved + timedelta(days=1)).day == 1)


@given(INSTANTS, st.integers(0, 30))
def test_A6_every_year_boundary_is_the_twelfth_month_boundary(anchor, years):
    assert boundary(anchor, Unit.YEAR, years) == boundary(anchor, Unit.MONTH, 12 * years)
