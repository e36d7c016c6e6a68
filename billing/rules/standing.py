"""Says whether a subscription gives its workspace the plan at an instant."""

from datetime import datetime


def gives_plan(
    status: str,
    now: datetime,
    *,
    current_period_end: datetime | None,
    grace_ends_at: datetime | None,
    cancel_at_period_end: bool,
) -> bool:
    """True for TRIALING and ACTIVE, and for PAST_DUE within grace (A9).

    A cancelled subscription gives its plan up to the period's end and not after it (C11), however late the worker is
    that ends it; one that renews keeps the plan while its renewal is being worked off.
    """
    if cancel_at_period_end and current_period_end is not None and current_period_end <= now:
        return False
    if status == "PAST_DUE":
        return grace_ends_at is not None and now < grace_ends_at
    return status in {"TRIALING", "ACTIVE"}
