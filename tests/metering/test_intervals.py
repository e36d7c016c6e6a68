"""Hours, days and months of time zones, where clocks change too."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from metering.rules.intervals import QUARTER, UsageInterval, bucket_starts, floor_to

DAY, HOUR, MONTH = UsageInterval.DAY, UsageInterval.HOUR, UsageInterval.MONTH


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def starts(begin, end, interval, zone="UTC"):
    return bucket_starts(begin, end, interval, ZoneInfo(zone), 10_000)


def test_a_day_has_23_hours_in_spring_and_25_in_autumn():
    for month, hours in ((3, 23), (10, 25)):
        days = starts(utc(2026, month, 20), utc(2026, month + 1, 5), DAY, "Europe/Berlin")
        lengths = {after - before for before, after in itertools.pairwise(days)}
        assert lengths == {timedelta(hours=24), timedelta(hours=hours)}


def test_the_first_bucket_holds_the_beginning_and_the_last_is_before_the_end():
    assert starts(utc(2026, 3, 2, 12), utc(2026, 3, 4), DAY) == (utc(2026, 3, 2), utc(2026, 3, 3))
    assert starts(utc(2026, 1, 31, 23, 30), utc(2026, 2, 1, 0, 1), MONTH, "Asia/Kolkata") == (utc(2026, 1, 31, 18, 30),)


def test_months_are_those_of_the_zone():
    months = starts(utc(2026, 1, 1), utc(2027, 1, 1), MONTH, "America/New_York")
    assert months[:4] == (utc(2025, 12, 1, 5), utc(2026, 1, 1, 5), utc(2026, 2, 1, 5), utc(2026, 3, 1, 5))
    assert months[4] == utc(2026, 4, 1, 4)


def test_hours_of_zones_with_half_and_three_quarter_hours_begin_on_their_own_full_hour():
    assert starts(utc(2026, 3, 1), utc(2026, 3, 1, 1), HOUR, "Asia/Kathmandu") == (
        utc(2026, 2, 28, 23, 15),
        utc(2026, 3, 1, 0, 15),
    )
    assert starts(utc(2026, 3, 1), utc(2026, 3, 1, 1), HOUR, "Asia/Kolkata")[1] == utc(2026, 3, 1, 0, 30)


def test_hours_rise_through_a_change_of_half_an_hour():
    hours = starts(utc(2026, 4, 4, 12), utc(2026, 4, 4, 18), HOUR, "Australia/Lord_Howe")
    assert hours == tuple(sorted(set(hours)))
    zone = ZoneInfo("Australia/Lord_Howe")
    assert hours[-1].astimezone(zone).minute == 0


def test_a_day_that_a_zone_left_out_has_no_bucket():
    days = starts(utc(2011, 12, 29, 12), utc(2012, 1, 1), DAY, "Pacific/Apia")
    assert [day.astimezone(ZoneInfo("Pacific/Apia")).day for day in days] == [29, 31, 1]


def test_a_midnight_that_clocks_skip_is_the_instant_at_which_they_do():
    zone = ZoneInfo("Africa/Cairo")  # midnight of the last Friday of April does not exist
    days = starts(utc(2026, 4, 23), utc(2026, 4, 26), DAY, "Africa/Cairo")
    assert utc(2026, 4, 23, 22) in days
    assert utc(2026, 4, 23, 22).astimezone(zone).hour == 1


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"])
@pytest.mark.parametrize("interval", list(UsageInterval))
def test_every_boundary_is_a_quarter_and_every_instant_has_one_bucket(zone, interval):
    begin, end = utc(2026, 1, 10, 7, 3), utc(2026, 11, 20)
    found = starts(begin, end, interval, zone)
    assert found[0] <= begin
    assert all(before < after for before, after in itertools.pairwise(found))
    assert all(floor_to(start, QUARTER) == start for start in found)


def test_a_range_too_long_ends_one_above_what_is_allowed():
    assert len(bucket_starts(utc(2026, 1, 1), utc(2100, 1, 1), HOUR, ZoneInfo("UTC"), 100)) == 101
