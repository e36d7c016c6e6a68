"""The one table of a subscription's states and transitions; docs/subscriptions.md prints it, and a test compares."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from models.enums import SubscriptionStatus

TRIALING: Final = SubscriptionStatus.TRIALING
ACTIVE: Final = SubscriptionStatus.ACTIVE
PAST_DUE: Final = SubscriptionStatus.PAST_DUE
CANCELED: Final = SubscriptionStatus.CANCELED
EXPIRED: Final = SubscriptionStatus.EXPIRED
INCOMPLETE: Final = SubscriptionStatus.INCOMPLETE

ENDED: Final = frozenset({CANCELED, EXPIRED})
"""States in which `ended_at` is set."""


class Event(StrEnum):
    """What happens to a subscription."""

    SUBSCRIBED_FREE = "SUBSCRIBED_FREE"
    CHECKOUT_OPENED = "CHECKOUT_OPENED"
    TRIAL_STARTED = "TRIAL_STARTED"
    PAID = "PAID"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    UNPAID = "UNPAID"
    RENEWED_FREE = "RENEWED_FREE"
    PRICE_CHANGED = "PRICE_CHANGED"
    CANCEL_ASKED = "CANCEL_ASKED"
    RESUMED = "RESUMED"
    CANCELED_PERIOD_ENDED = "CANCELED_PERIOD_ENDED"
    NOT_RENEWED = "NOT_RENEWED"
    GRACE_ENDED = "GRACE_ENDED"
    CHECKOUT_LAPSED = "CHECKOUT_LAPSED"
    CHECKOUT_REPLACED = "CHECKOUT_REPLACED"
    ENDED_AT_ONCE = "ENDED_AT_ONCE"


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the table. `source` None: there was no subscription."""

    source: SubscriptionStatus | None
    event: Event
    target: SubscriptionStatus
    meaning: str


TRANSITIONS: Final = (
    Transition(None, Event.SUBSCRIBED_FREE, ACTIVE, "A free price begins at once; nothing is asked for (C1)."),
    Transition(None, Event.CHECKOUT_OPENED, INCOMPLETE, "A paid price waits for its first payment or its trial."),
    Transition(INCOMPLETE, Event.PAID, ACTIVE, "The first period begins when it was paid, with its grant (A5, C10)."),
    Transition(INCOMPLETE, Event.TRIAL_STARTED, TRIALING, "Once a workspace; credits come as in a paid period."),
    Transition(INCOMPLETE, Event.CHECKOUT_LAPSED, EXPIRED, "Nothing was paid within 24 hours."),
    Transition(INCOMPLETE, Event.CHECKOUT_REPLACED, CANCELED, "The workspace chose another price before it paid."),
    Transition(INCOMPLETE, Event.CANCEL_ASKED, CANCELED, "Nothing had begun."),
    Transition(INCOMPLETE, Event.PAYMENT_FAILED, INCOMPLETE, "Another try is possible until the checkout lapses."),
    Transition(INCOMPLETE, Event.ENDED_AT_ONCE, CANCELED, "By the operator, or at the payment provider."),
    Transition(TRIALING, Event.PAID, ACTIVE, "The first paid period begins where the trial ends."),
    Transition(
        TRIALING, Event.PAYMENT_FAILED, PAST_DUE, "The first charge failed; the grace counts from the trial's end."
    ),
    Transition(TRIALING, Event.UNPAID, PAST_DUE, "The trial is over and no payment has arrived."),
    Transition(TRIALING, Event.PRICE_CHANGED, TRIALING, "The trial goes on with the new price's credits."),
    Transition(TRIALING, Event.CANCEL_ASKED, TRIALING, "It ends with the trial."),
    Transition(TRIALING, Event.RESUMED, TRIALING, "Before the trial's end."),
    Transition(TRIALING, Event.CANCELED_PERIOD_ENDED, CANCELED, "The cancelled trial is over."),
    Transition(TRIALING, Event.RENEWED_FREE, ACTIVE, "A free price was scheduled and begins at the trial's end."),
    Transition(TRIALING, Event.NOT_RENEWED, EXPIRED, "The catalog ended this price."),
    Transition(TRIALING, Event.ENDED_AT_ONCE, CANCELED, "By the operator, or at the payment provider."),
    Transition(ACTIVE, Event.PAID, ACTIVE, "The next period begins where the last one ends, with its grant (A5, C10)."),
    Transition(
        ACTIVE, Event.PAYMENT_FAILED, PAST_DUE, "A renewal failed; credits that require a plan stay spendable (A9)."
    ),
    Transition(ACTIVE, Event.UNPAID, PAST_DUE, "The period is over and no payment has arrived."),
    Transition(ACTIVE, Event.RENEWED_FREE, ACTIVE, "Free prices renew each month by our own schedule."),
    Transition(ACTIVE, Event.PRICE_CHANGED, ACTIVE, "An upgrade, at once; the credits' difference comes pro rata."),
    Transition(ACTIVE, Event.CANCEL_ASKED, ACTIVE, "The plan stays until the period ends (C11)."),
    Transition(ACTIVE, Event.RESUMED, ACTIVE, "Before the period's end."),
    Transition(ACTIVE, Event.CANCELED_PERIOD_ENDED, CANCELED, "The plan ends, and its cycle's credits with it (C11)."),
    Transition(ACTIVE, Event.NOT_RENEWED, EXPIRED, "The catalog ended this price at the period's end."),
    Transition(ACTIVE, Event.ENDED_AT_ONCE, CANCELED, "By the operator, or at the payment provider."),
    Transition(PAST_DUE, Event.PAID, ACTIVE, "The period that was due begins where the last one ended."),
    Transition(PAST_DUE, Event.PAYMENT_FAILED, PAST_DUE, "Another try failed; the grace does not grow."),
    Transition(PAST_DUE, Event.CANCEL_ASKED, CANCELED, "The paid time is over, so it ends at once."),
    Transition(PAST_DUE, Event.GRACE_ENDED, EXPIRED, "The grace is over; credits that require a plan are frozen (A9)."),
    Transition(PAST_DUE, Event.ENDED_AT_ONCE, CANCELED, "By the operator, or at the payment provider."),
    Transition(
        EXPIRED, Event.PAID, ACTIVE, "The money came late: the subscription lives again, unless another one does."
    ),
)

_TARGETS: Final[Mapping[tuple[SubscriptionStatus | None, Event], SubscriptionStatus]] = MappingProxyType(
    {(line.source, line.event): line.target for line in TRANSITIONS}
)


def target_of(source: SubscriptionStatus | None, event: Event) -> SubscriptionStatus | None:
    """The state that the event leads to; None where it has no place in this state."""
    return _TARGETS.get((source, event))


def table_text() -> str:
    """The table as Markdown."""
    lines = ["| from | event | to | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {'–' if line.source is None else line.source} | {line.event} | {line.target} | {line.meaning} |"
        for line in TRANSITIONS
    ]
    return "\n".join(lines)
