"""When a webhook is tried again, and when its endpoint is given up; pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""After each failed attempt; ten attempts over three days, as Standard Webhooks recommends."""
GIVE_UP_AFTER: Final = timedelta(days=5)
"""An endpoint that has failed for so long without one success is turned off."""
GONE: Final = 410
_OK: Final = range(200, 300)


class DisabledReason(StrEnum):
    """Why an endpoint gets nothing any more."""

    FAILING = "FAILING"
    GONE = "GONE"
    BY_HAND = "BY_HAND"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt. `retry_at` None: it is over, well or not."""

    delivered: bool
    retry_at: datetime | None = None
    disable: DisabledReason | None = None


def judge(status_code: int | None, attempt: int, failing_since: datetime | None, now: datetime) -> Verdict:
    """`attempt` counts from 1; `status_code` None: no answer. A redirect is not followed and is a failure."""
    if status_code is not None and status_code in _OK:
        return Verdict(delivered=True)
    if status_code == GONE:
        return Verdict(delivered=False, disable=DisabledReason.GONE)
    if failing_since is not None and now - failing_since >= GIVE_UP_AFTER:
        return Verdict(delivered=False, disable=DisabledReason.FAILING)
    retry_at = now + PAUSES[attempt - 1] if attempt <= len(PAUSES) else None
    return Verdict(delivered=False, retry_at=retry_at)
