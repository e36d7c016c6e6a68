"""Says what a plan change is and what it is worth: money and credits by one fraction of the time that is left."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

from billing.rules.grant_schedule import cycle_credits_micro, cycle_of, cycle_unit
from billing.rules.periods import cycle_at, period_unit
from billing.views import PlanView, PriceView
from models.enums import PricePeriod

_SECOND: Final = timedelta(seconds=1)
_CENT_MICRO: Final = 10_000


class ChangeKind(StrEnum):
    """When and how a workspace gets from one price to another.

    AT_ONCE: now, for the difference. CHECKOUT: by buying the new price, which begins when it is paid. SCHEDULED: at the
    period's end. IMPOSSIBLE: there is no such way.
    """

    AT_ONCE = "AT_ONCE"
    CHECKOUT = "CHECKOUT"
    SCHEDULED = "SCHEDULED"
    IMPOSSIBLE = "IMPOSSIBLE"


@dataclass(frozen=True, slots=True)
class Offer:
    """A price with its plan."""

    plan: PlanView
    price: PriceView


def change_kind(current: Offer, wanted: Offer) -> ChangeKind:
    """An upgrade goes at once; a downgrade, and another length of period, wait for the period's end.

    From a free price to a paid one, and to a lifetime price, there is something to buy first. A lifetime price has no
    end to wait for: it can only be raised.
    """
    old, new = current.price, wanted.price
    if old.period is PricePeriod.FREE and new.period is not PricePeriod.FREE:
        return ChangeKind.CHECKOUT
    raised = is_raised(current, wanted)
    if old.period is PricePeriod.LIFETIME:
        return ChangeKind.AT_ONCE if raised and new.period is PricePeriod.LIFETIME else ChangeKind.IMPOSSIBLE
    if new.period is PricePeriod.LIFETIME:
        return ChangeKind.CHECKOUT
    return ChangeKind.AT_ONCE if raised and old.period is new.period else ChangeKind.SCHEDULED


def is_raised(current: Offer, wanted: Offer) -> bool:
    """Whether the wanted price is the higher one: by the plans' ranks, within a rank by what it costs."""
    old, new = current, wanted
    return (new.plan.rank, new.price.amount_usd_micro) > (old.plan.rank, old.price.amount_usd_micro)


def fraction_left(start: datetime, end: datetime | None, instant: datetime) -> Fraction:
    """The part of [start, end) from the instant on, in whole seconds, as payment providers count; an endless one is whole."""
    if end is None:
        return Fraction(1)
    whole = (end - start) // _SECOND
    left = -((instant - end) // _SECOND) if instant < end else 0
    return Fraction(min(max(left, 0), whole), whole) if whole > 0 else Fraction(0)


def money_due_micro(anchor: datetime, old: PriceView, new: PriceView, at: datetime, *, trial: bool = False) -> int:
    """What an upgrade costs now: the new price for the rest of the period less the old one; 0 in a trial.

    Each of the two is rounded to the nearest cent, as payment providers write them as lines of an invoice.
    """
    if trial:
        return 0
    left = fraction_left(*cycle_at(anchor, period_unit(old.period), at), at)
    return max(0, _nearest_cent(new.amount_usd_micro * left) - _nearest_cent(old.amount_usd_micro * left))


def credits_due_micro(
    anchor: datetime, old: PriceView, new: PriceView, at: datetime, end: datetime | None, *, trial: bool = False
) -> int:
    """The credits that an upgrade adds to the cycle under way, rounded up; nothing granted is ever taken back.

    The fraction is that of the money, taken of the cycle which the credits are for: for a yearly price with monthly
    credits the rest of this month, and each later month then brings the new amount whole. `end` is the period's. In a
    trial the amounts are those that a trial grants.
    """
    difference = _left_of(anchor, new, at, end, trial=trial) - _left_of(anchor, old, at, end, trial=trial)
    return max(0, -(-difference.numerator // difference.denominator))


def _left_of(anchor: datetime, price: PriceView, at: datetime, end: datetime | None, *, trial: bool) -> Fraction:
    if cycle_unit(price) is None:
        return Fraction(0)  # credits that come once are granted whole by the schedule
    return cycle_credits_micro(price, trial=trial) * fraction_left(*cycle_of(anchor, price, at, end), at)


def _nearest_cent(usd_micro: Fraction) -> int:
    """In micro-dollars; half a cent is rounded up."""
    cents = usd_micro / _CENT_MICRO
    return (2 * cents.numerator + cents.denominator) // (2 * cents.denominator) * _CENT_MICRO
