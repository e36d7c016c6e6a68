"""Says when a subscription's credits come, how many, and how long they last: our own schedule, whoever charges."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.rules.periods import Unit, boundary_after, cycle_at, period_unit
from billing.views import PriceView
from models.enums import GrantCadence, PricePeriod

_MONTHS_OF_A_YEAR: Final = 12


@dataclass(frozen=True, slots=True)
class CycleGrant:
    """A grant of the schedule. `expires_at` None: it lasts as long as a subscription is active.

    `keeps_leftover`: what is left of the cycle before comes on top, `leftover_cap_micro` at most (None: all of it).
    """

    at: datetime
    amount_micro: int
    expires_at: datetime | None
    keeps_leftover: bool
    leftover_cap_micro: int | None


def cycle_unit(price: PriceView) -> Unit | None:
    """How far the grants of a price lie apart; None where it grants once or never.

    Monthly credits of a 30-day price come with each charge, every 30 days (A5); all other months are the calendar's.
    """
    if price.credits is None or price.credits.cadence is GrantCadence.ONCE:
        return None
    if price.credits.cadence is GrantCadence.BILLING_PERIOD or price.period is PricePeriod.DAYS_30:
        return period_unit(price.period)
    return Unit.MONTH


def cycle_credits_micro(price: PriceView, *, trial: bool) -> int:
    """The credits of one grant of a price, 0 without any; in a trial a whole year's count as a twelfth."""
    if price.credits is None:
        return 0
    amount = price.credits.amount_micro
    return max(1, amount // _MONTHS_OF_A_YEAR) if trial and cycle_unit(price) is Unit.YEAR else amount


def cycle_of(
    anchor: datetime, price: PriceView, at: datetime, period_end: datetime | None
) -> tuple[datetime, datetime | None]:
    """The credit cycle in which an instant lies; it ends with the period at the latest."""
    unit = cycle_unit(price) or Unit.ENDLESS
    start, end = cycle_at(anchor, unit, at)
    return start, _earlier(end, period_end) if unit is not Unit.ENDLESS else None


def grant_at(
    anchor: datetime, price: PriceView, at: datetime, period_end: datetime | None, *, trial: bool = False
) -> CycleGrant | None:
    """The grant that is due at an instant of the schedule; None for a price without credits.

    A reset is nothing but its expiry at the next one (A6, C8): it acts on this grant, never on the wallet.
    """
    policy = price.credits
    if policy is None:
        return None
    amount = cycle_credits_micro(price, trial=trial)
    unit = cycle_unit(price)
    ends = None if unit is None else _earlier(boundary_after(anchor, unit, at), period_end)
    return CycleGrant(at, amount, ends, policy.rollover, policy.rollover_cap_micro)


def next_grant_at(anchor: datetime, price: PriceView, after: datetime, period_end: datetime | None) -> datetime | None:
    """The next instant of the schedule later than `after` and within the period that is paid for; None without one."""
    unit = cycle_unit(price)
    if unit is None:
        return None
    following = boundary_after(anchor, unit, after)
    if following is None or (period_end is not None and following >= period_end):
        return None
    return following


def leftover_micro(left_micro: int, cap_micro: int | None) -> int:
    """How much of what a cycle left over is kept."""
    return left_micro if cap_micro is None else min(left_micro, cap_micro)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)
