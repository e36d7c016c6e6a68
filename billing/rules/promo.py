"""Decides whether a promo code can be redeemed, and what it brings."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class PromoAnswer(StrEnum):
    """What becomes of an attempt, each refusal told apart (B2)."""

    REDEEMED = "REDEEMED"
    INVALID = "INVALID"
    EXPIRED = "EXPIRED"
    EXHAUSTED = "EXHAUSTED"
    ALREADY_REDEEMED = "ALREADY_REDEEMED"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it is now. `retired`: the catalog has it no more."""

    starts_at: datetime | None
    ends_at: datetime | None
    total_limit: int | None
    per_workspace_limit: int
    redeemed_count: int
    paused: bool
    retired: bool


def judge(campaign: Campaign | None, uses_of_workspace: int, now: datetime) -> PromoAnswer:
    """Unknown, paused, retired and not yet begun look alike. What the workspace did itself is told before what others did."""
    if campaign is None or campaign.paused or campaign.retired:
        return PromoAnswer.INVALID
    if campaign.starts_at is not None and now < campaign.starts_at:
        return PromoAnswer.INVALID
    if uses_of_workspace >= campaign.per_workspace_limit:
        return PromoAnswer.ALREADY_REDEEMED
    if campaign.ends_at is not None and now >= campaign.ends_at:
        return PromoAnswer.EXPIRED
    if campaign.total_limit is not None and campaign.redeemed_count >= campaign.total_limit:
        return PromoAnswer.EXHAUSTED
    return PromoAnswer.REDEEMED


def bonus_micro(bought_micro: int, percent: int) -> int:
    """What a percentage of bought credits is, rounded down."""
    return bought_micro * percent // 100


def grant_expires_at(now: datetime, days: int | None) -> datetime | None:
    """When promo credits end; None: never."""
    return None if days is None else now + timedelta(days=days)
