"""Billing periods: from an anchor, by days, weeks, months or years; a month without the anchor's day ends on its last."""

import calendar
from datetime import UTC, datetime, timedelta

from stripe_double.values import Json

_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}
_LONGEST_S = {"day": 86_400, "week": 7 * 86_400, "month": 31 * 86_400, "year": 366 * 86_400}


def after(anchor: int, recurring: Json, periods: int) -> int:
    """The instant so many periods after the anchor (before it where negative)."""
    interval: str = recurring["interval"]
    steps: int = recurring["interval_count"] * periods
    start = datetime.fromtimestamp(anchor, UTC)
    if interval in _DAYS:
        return int((start + timedelta(days=_DAYS[interval] * steps)).timestamp())
    months = start.year * 12 + start.month - 1 + _MONTHS[interval] * steps
    year, month = divmod(months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def period_at(anchor: int, recurring: Json, at: int) -> tuple[int, int]:
    """Start and end of the period that contains an instant."""
    number = (at - anchor) // (_LONGEST_S[recurring["interval"]] * recurring["interval_count"]) - 1
    while after(anchor, recurring, number + 1) <= at:
        number += 1
    return after(anchor, recurring, number), after(anchor, recurring, number + 1)


def prorated(amount: int, start: int, end: int, at: int) -> int:
    """The part of an amount that belongs to the rest of the period, by the second, half cents up."""
    if end <= start:
        return 0
    rest = end - min(max(at, start), end)
    return (2 * amount * rest + (end - start)) // (2 * (end - start))
