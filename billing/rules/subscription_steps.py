"""Plays a subscription's life forward: what is due next, and what the row is after it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from billing.rules.grant_schedule import next_grant_at
from billing.rules.periods import boundary_after, period_unit
from billing.rules.subscription_states import ACTIVE, ENDED, INCOMPLETE, PAST_DUE, TRIALING, Event, target_of
from billing.views import PriceView
from models.enums import GrantCadence, PricePeriod, SubscriptionStatus

CHECKOUT_LIFE: Final = timedelta(hours=24)
"""How long a checkout can be paid; then the incomplete subscription makes room for another."""

RENEWAL_WAIT: Final = timedelta(hours=24)
"""How long after a period's end a payment may be under way before the subscription is past due."""

GRACE: Final = timedelta(days=7)
"""How long after a period's end an unpaid subscription still gives its plan (A9)."""


@dataclass(frozen=True, slots=True)
class Life:
    """What time and money change of a subscription. `scheduled`: the price that it renews onto instead of its own."""

    status: SubscriptionStatus
    price: PriceView
    anchor_at: datetime
    period_start: datetime
    period_end: datetime | None
    created_at: datetime
    scheduled: PriceView | None = None
    period_number: int = 0
    grant_number: int = 0
    next_grant_at: datetime | None = None
    trial_ends_at: datetime | None = None
    grace_ends_at: datetime | None = None
    cancel_at_period_end: bool = False
    canceled_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def in_trial(self) -> bool:
        """Whether its only period so far is the trial."""
        return self.trial_ends_at is not None and self.trial_ends_at == self.period_end


@dataclass(frozen=True, slots=True)
class Due:
    """What is due, and since when. `event` None: a grant of the schedule."""

    at: datetime
    event: Event | None


def next_credits_at(life: Life) -> datetime | None:
    """When the next credits are to come: within the period, or with the renewal that is expected; None for none."""
    policy = (life.scheduled or life.price).credits
    if life.next_grant_at is not None or policy is None or policy.cadence is GrantCadence.ONCE:
        return life.next_grant_at
    renewing = life.status in {ACTIVE, TRIALING} and not life.cancel_at_period_end
    return life.period_end if renewing else None


def next_due(life: Life, renewal: PriceView | None) -> Due | None:
    """The next thing that happens by time alone; None where nothing will.

    `renewal`: the price onto which the catalog lets it renew. A grant goes before what ends the subscription, and never
    lies at or after the period's end: credits come for time that is paid for.
    """
    if life.status in ENDED:
        return None
    if life.status is INCOMPLETE:
        return Due(life.created_at + CHECKOUT_LIFE, Event.CHECKOUT_LAPSED)
    end = _next_end(life, renewal)
    if life.next_grant_at is not None and (end is None or life.next_grant_at < end.at):
        return Due(life.next_grant_at, None)
    return end


def _next_end(life: Life, renewal: PriceView | None) -> Due | None:
    if life.status is PAST_DUE:
        return None if life.grace_ends_at is None else Due(life.grace_ends_at, Event.GRACE_ENDED)
    if life.period_end is None:
        return None
    if life.cancel_at_period_end:
        return Due(life.period_end, Event.CANCELED_PERIOD_ENDED)
    if renewal is None:
        return Due(life.period_end, Event.NOT_RENEWED)
    if renewal.period is PricePeriod.FREE:
        return Due(life.period_end, Event.RENEWED_FREE)
    if life.price.period is PricePeriod.FREE:
        return Due(life.period_end, Event.NOT_RENEWED)  # nobody has agreed to be charged
    return Due(life.period_end + RENEWAL_WAIT, Event.UNPAID)


def play(life: Life, due: Due, renewal: PriceView | None) -> Life:
    """The life after what was due, which `next_due` answered."""
    if due.event is None:
        following = next_grant_at(life.anchor_at, life.price, due.at, life.period_end)
        return replace(life, grant_number=life.grant_number + 1, next_grant_at=following)
    if due.event is Event.RENEWED_FREE and renewal is not None:
        assert life.period_end is not None
        return begin_period(life, renewal, life.period_end, anew=life.status is TRIALING)
    if due.event is Event.UNPAID:
        return past_due(life, due.at)
    return ended(life, due.event, due.at)


def past_due(life: Life, at: datetime) -> Life:
    """Unpaid; the grace counts from the period's end, or from now where that is still to come."""
    if life.status is PAST_DUE:
        return life
    start = at if life.period_end is None else life.period_end
    return replace(life, status=PAST_DUE, grace_ends_at=start + GRACE)


def ended(life: Life, event: Event, at: datetime) -> Life:
    """Over: nothing is granted any more."""
    target = target_of(life.status, event)
    assert target in ENDED, (life.status, event)
    canceled_at = life.canceled_at or (at if target is SubscriptionStatus.CANCELED else None)
    return replace(life, status=target, ended_at=at, canceled_at=canceled_at, next_grant_at=None, scheduled=None)


def with_cancel(life: Life, at: datetime, *, cancel: bool) -> Life:
    """It ends with its period, what was scheduled is forgotten (C11); or it goes on."""
    if not cancel:
        return replace(life, cancel_at_period_end=False, canceled_at=None)
    return replace(life, cancel_at_period_end=True, canceled_at=life.canceled_at or at, scheduled=None)


def begin_period(life: Life, price: PriceView, start: datetime, *, anew: bool) -> Life:
    """A period of this price, active from `start` on. `anew`: its boundaries are counted from there.

    They are as well where the length of the periods changes. A grant still to come before `start` comes as planned.
    """
    unit = period_unit(price.period)
    kept = not anew and unit is period_unit(life.price.period)
    anchor = life.anchor_at if kept else start
    once = price.credits is not None and price.credits.cadence is GrantCadence.ONCE
    first = not once or life.period_number == 0 or life.price.id != price.id
    granting = price.credits is not None and first
    waiting = life.next_grant_at if kept and life.next_grant_at is not None and life.next_grant_at < start else None
    return replace(
        life,
        status=SubscriptionStatus.ACTIVE,
        price=price,
        scheduled=None,
        anchor_at=anchor,
        period_start=start,
        period_end=boundary_after(anchor, unit, start),
        period_number=life.period_number + 1,
        next_grant_at=waiting or (start if granting else None),
        grace_ends_at=None,
        ended_at=None,
    )


def begin_trial(life: Life, days: int, at: datetime) -> Life:
    """The trial: its credits come as in a period of the price, and end with it."""
    ends = at + timedelta(days=days)
    return replace(
        life,
        status=TRIALING,
        anchor_at=at,
        period_start=at,
        period_end=ends,
        trial_ends_at=ends,
        next_grant_at=at if life.price.credits is not None else None,
    )


def paid(life: Life, price: PriceView, at: datetime) -> Life | None:
    """The life after a payment for one period of a price, made at `at`; None where such a payment has no place in it.

    A renewal continues where the last period ended, however late the news of it comes; what was paid after the grace
    begins anew.
    """
    if target_of(life.status, Event.PAID) is None:
        return None
    if life.price.period is PricePeriod.LIFETIME and life.period_number:
        return None  # a lifetime is paid once
    if life.period_end is None or price.period is PricePeriod.LIFETIME:
        return begin_period(_uncancelled(life), price, at, anew=True)
    if life.status is SubscriptionStatus.EXPIRED:
        in_time = life.grace_ends_at is not None and at < life.grace_ends_at
        return begin_period(life, price, life.period_end if in_time else at, anew=life.in_trial or not in_time)
    if life.in_trial:
        return begin_period(life, price, min(at, life.period_end), anew=True)
    if life.price.period is PricePeriod.FREE:
        return begin_period(_uncancelled(life), price, at, anew=True)
    return begin_period(life, price, life.period_end, anew=False)


def _uncancelled(life: Life) -> Life:
    return replace(life, cancel_at_period_end=False, canceled_at=None)


def with_price(life: Life, price: PriceView, at: datetime) -> Life:
    """Another price of the same length of period, at once: boundaries stay, the schedule goes on with its credits."""
    once = price.credits is not None and price.credits.cadence is GrantCadence.ONCE
    following = at if once else next_grant_at(life.anchor_at, price, at, life.period_end)
    return replace(life, price=price, scheduled=None, next_grant_at=following)


def look_again_at(life: Life, renewal: PriceView | None, now: datetime) -> datetime | None:
    """When to look at it next. Not before its period's end is over, since the catalog may end its price until then."""
    due = next_due(life, renewal)
    if due is None:
        return None
    if due.event is Event.UNPAID and life.period_end is not None and life.period_end > now:
        return life.period_end
    return due.at
