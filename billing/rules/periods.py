"""Says where billing periods and credit cycles begin and end: boundaries counted from one anchor.

Every instant is UTC, as it is stored, so a boundary never falls into a daylight-saving gap and 30 days are always 720
hours. Months are counted from the anchor and never from the last boundary: an anchor on the 31st, or on 29 February,
takes a short month's last day and returns to its own day in the next longer one.
"""

from calendar import monthrange
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from models.enums import PricePeriod

THIRTY_DAYS: Final = timedelta(days=30)
_MONTHS_OF_A_YEAR: Final = 12


class Unit(StrEnum):
    """How far boundaries lie apart. ENDLESS: there is none after the anchor."""

    THIRTY_DAYS = "THIRTY_DAYS"
    MONTH = "MONTH"
    YEAR = "YEAR"
    ENDLESS = "ENDLESS"


def period_unit(period: PricePeriod) -> Unit:
    """The unit of a price's billing periods; a free plan renews by itself each month."""
    match period:
        case PricePeriod.DAYS_30:
            return Unit.THIRTY_DAYS
        case PricePeriod.MONTH | PricePeriod.FREE:
            return Unit.MONTH
        case PricePeriod.YEAR:
            return Unit.YEAR
        case PricePeriod.LIFETIME:
            return Unit.ENDLESS
        case _:
            assert_never(period)


def add_months(anchor: datetime, months: int) -> datetime:
    """The instant that many calendar months after the anchor; the day is the month's last where it has no such day."""
    month = anchor.year * _MONTHS_OF_A_YEAR + anchor.month - 1 + months
    year, month_index = divmod(month, _MONTHS_OF_A_YEAR)
    last_day = monthrange(year, month_index + 1)[1]
    return anchor.replace(year=year, month=month_index + 1, day=min(anchor.day, last_day))


def boundary(anchor: datetime, unit: Unit, number: int) -> datetime | None:
    """The boundary of this number; 0 is the anchor itself. None where an endless unit has no such boundary."""
    match unit:
        case Unit.THIRTY_DAYS:
            return anchor + number * THIRTY_DAYS
        case Unit.MONTH:
            return add_months(anchor, number)
        case Unit.YEAR:
            return add_months(anchor, number * _MONTHS_OF_A_YEAR)
        case Unit.ENDLESS:
            return anchor if number == 0 else None
        case _:
            assert_never(unit)


def number_at(anchor: datetime, unit: Unit, instant: datetime) -> int:
    """The number of the last boundary at or before the instant; negative before the anchor."""
    match unit:
        case Unit.THIRTY_DAYS:
            return (instant - anchor) // THIRTY_DAYS
        case Unit.MONTH | Unit.YEAR:
            months = (instant.year - anchor.year) * _MONTHS_OF_A_YEAR + instant.month - anchor.month
            months -= add_months(anchor, months) > instant
            if unit is Unit.MONTH:
                return months
            return months // _MONTHS_OF_A_YEAR
        case Unit.ENDLESS:
            return 0
        case _:
            assert_never(unit)


def boundary_after(anchor: datetime, unit: Unit, instant: datetime) -> datetime | None:
    """The first boundary later than the instant; None where the unit is endless."""
    return boundary(anchor, unit, number_at(anchor, unit, instant) + 1)


def cycle_at(anchor: datetime, unit: Unit, instant: datetime) -> tuple[datetime, datetime | None]:
    """Start and end of the cycle in which the instant lies: the start belongs to it, the end to the next."""
    number = number_at(anchor, unit, instant)
    start = boundary(anchor, unit, number)
    return anchor if start is None else start, boundary(anchor, unit, number + 1)
