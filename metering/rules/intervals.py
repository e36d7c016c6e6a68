"""Cuts a range of time into the hours, days or months of a time zone; pure."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

QUARTER: Final = timedelta(minutes=15)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UsageInterval(StrEnum):
    """How long the buckets of a report are."""

    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"


def floor_to(at: datetime, step: timedelta) -> datetime:
    """The last multiple of `step` since the epoch that is not after `at`, in UTC."""
    return at - (at - _EPOCH) % step


def bucket_starts(
    begin: datetime, end: datetime, interval: UsageInterval, zone: ZoneInfo, at_most: int
) -> tuple[datetime, ...]:
    """Where the buckets begin that hold [begin, end): the first not after `begin`, all in UTC and rising.

    A day lasts from midnight to midnight of the zone, so 23 or 25 hours where clocks change; a midnight that clocks
    skip is the instant at which they do. Stops after `at_most` + 1, which the caller refuses.
    """
    match interval:
        case UsageInterval.HOUR:
            step: Callable[[datetime], datetime] = lambda start: _hour_after(start, zone)  # noqa: E731
            start = _hour_of(begin, zone)
        case UsageInterval.DAY:
            step = lambda start: _midnight_after(start, zone, _next_day)  # noqa: E731
            start = _midnight(begin.astimezone(zone).date(), zone)
        case UsageInterval.MONTH:
            step = lambda start: _midnight_after(start, zone, _next_month)  # noqa: E731
            start = _midnight(begin.astimezone(zone).date().replace(day=1), zone)
    starts: list[datetime] = []
    while start < end and len(starts) <= at_most:
        starts.append(start)
        start = step(start)
    return tuple(starts)


def _hour_of(at: datetime, zone: ZoneInfo) -> datetime:
    local = at.astimezone(zone)
    return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _hour_after(start: datetime, zone: ZoneInfo) -> datetime:
    """An hour later; where the clocks moved by half an hour meanwhile, the full hour that they show then."""
    after = _hour_of(start + HOUR, zone)
    return after if after > start else start + HOUR


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _midnight_after(start: datetime, zone: ZoneInfo, following: Callable[[date], date]) -> datetime:
    day = following(start.astimezone(zone).date())
    midnight = _midnight(day, zone)
    while midnight <= start:  # a whole day that a zone left out, such as Samoa's 30 December 2011
        day = following(day)
        midnight = _midnight(day, zone)
    return midnight


def _next_day(day: date) -> date:
    return day + timedelta(days=1)


def _next_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
