"""Decides whether, when and how much to recharge: every guard that keeps a declined card from being tried for ever."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

COOLDOWN: Final = timedelta(seconds=30)
WINDOW: Final = timedelta(minutes=10)
MOST_IN_WINDOW: Final = 2
PAUSE_AFTER_FAILURE: Final = timedelta(hours=1)
MOST_FAILURES: Final = 3
NEVER_SENT: Final = "never_sent"
"""The failure code of a request that never reached the provider and is too old to be sent again: no decline."""

TOO_MANY_FAILURES: Final = "too_many_failures"
SUSPENDING: Final = frozenset(
    {"authentication_required", "lost_card", "stolen_card", "fraudulent", "expired_card", "pickup_card"}
)
"""Decline codes that no further try will mend: recharging stops at once, until another payment method is set."""


class RechargeState(StrEnum):
    """AutoRechargeStatus of the public contract."""

    OFF = "OFF"
    READY = "READY"
    IN_PROGRESS = "IN_PROGRESS"
    COOLING_DOWN = "COOLING_DOWN"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, slots=True)
class RechargeFacts:
    """What is known of a workspace's recharging. Amounts in micro-dollars.

    `attempts_at`: of the last ten minutes at least. `this_month_usd_micro`: of this month's recharges, open ones
    included. `monthly_limit_usd_micro`: the workspace's, or the catalog's. `largest_usd_micro`: of one charge.
    `lacks_plan`: what is bought could not be spent now (A9).
    """

    enabled: bool
    threshold_usd_micro: int
    amount_usd_micro: int
    monthly_limit_usd_micro: int
    largest_usd_micro: int
    suspended: bool
    in_progress: bool
    has_method: bool
    attempts_at: Sequence[datetime]
    last_failure_at: datetime | None
    this_month_usd_micro: int
    lacks_plan: bool = False


@dataclass(frozen=True, slots=True)
class Recharge:
    """Charge this much now."""

    amount_usd_micro: int


class NoRecharge(StrEnum):
    """Why nothing is charged now."""

    NOT_LOW = "NOT_LOW"
    OFF = "OFF"
    SUSPENDED = "SUSPENDED"
    IN_PROGRESS = "IN_PROGRESS"
    NO_METHOD = "NO_METHOD"
    NO_PLAN = "NO_PLAN"
    COOLING_DOWN = "COOLING_DOWN"
    MONTHLY_LIMIT = "MONTHLY_LIMIT"


def decide(
    facts: RechargeFacts, available_usd_micro: int, pending_usd_micro: int, now: datetime
) -> Recharge | NoRecharge:
    """Recharge where what is spendable, with what is being paid already, is below the threshold (B4), or gone (D4).

    One charge closes the gap: the set amount, or the least multiple of it that reaches the threshold, within the month's
    limit and the largest charge.
    """
    state = state_at(facts, now)
    if state is RechargeState.OFF:
        return NoRecharge.OFF
    if state is RechargeState.SUSPENDED:
        return NoRecharge.SUSPENDED
    if state is RechargeState.IN_PROGRESS:
        return NoRecharge.IN_PROGRESS
    gap = lowest_wanted(facts.threshold_usd_micro) - (available_usd_micro + pending_usd_micro)
    if gap <= 0:
        return NoRecharge.NOT_LOW
    if not facts.has_method:
        return NoRecharge.NO_METHOD
    if facts.lacks_plan:
        return NoRecharge.NO_PLAN
    if state is RechargeState.COOLING_DOWN:
        return NoRecharge.COOLING_DOWN
    room = min(facts.monthly_limit_usd_micro - facts.this_month_usd_micro, facts.largest_usd_micro)
    times = min(-(-gap // facts.amount_usd_micro), room // facts.amount_usd_micro)
    if times < 1:
        return NoRecharge.MONTHLY_LIMIT
    return Recharge(times * facts.amount_usd_micro)


def lowest_wanted(threshold: int) -> int:
    """Below this it is due; a threshold of 0 means when nothing is left."""
    return max(threshold, 1)


def state_at(facts: RechargeFacts, now: datetime) -> RechargeState:
    """What is shown of it."""
    if not facts.enabled:
        return RechargeState.OFF
    if facts.suspended:
        return RechargeState.SUSPENDED
    if facts.in_progress:
        return RechargeState.IN_PROGRESS
    ready_at = ready_again_at(facts.attempts_at, facts.last_failure_at)
    if ready_at is not None and now < ready_at:
        return RechargeState.COOLING_DOWN
    return RechargeState.READY


def ready_again_at(attempts_at: Sequence[datetime], last_failure_at: datetime | None) -> datetime | None:
    """From when on another attempt is allowed: 30 seconds after the last, two in ten minutes, an hour after a failure."""
    waits: list[datetime] = []
    latest = sorted(attempts_at, reverse=True)
    if latest:
        waits.append(latest[0] + COOLDOWN)
    if len(latest) >= MOST_IN_WINDOW:
        waits.append(latest[MOST_IN_WINDOW - 1] + WINDOW)
    if last_failure_at is not None:
        waits.append(last_failure_at + PAUSE_AFTER_FAILURE)
    return max(waits, default=None)


def suspension_after(failures: int, failure_code: str) -> str | None:
    """Why recharging stops after this decline, the last of so many in a row; None where it may try again later."""
    if failure_code in SUSPENDING:
        return failure_code
    return TOO_MANY_FAILURES if failures >= MOST_FAILURES else None
