"""Says which credits a purchase brings and how long they last."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.catalog_settings import TopUpTerms
from billing.rules.periods import add_months
from billing.views import PackView
from kit.money import credits_micro_for_usd


@dataclass(frozen=True, slots=True)
class BoughtCredits:
    """One lot that is bought, or comes on top."""

    amount_micro: int
    expires_at: datetime | None
    requires_active_plan: bool
    transferable: bool


def pack_credits(pack: PackView, bought_at: datetime) -> BoughtCredits:
    """A pack's credits: for ever, or so many months from the purchase, whatever becomes of the plan (A8, C7)."""
    expires_at = _months_later(bought_at, pack.expires_after_months)
    return BoughtCredits(pack.credits_micro, expires_at, pack.requires_active_plan, transferable=False)


def top_up_credits(
    terms: TopUpTerms | None, amount_usd_micro: int, rate: Decimal, bought_at: datetime
) -> BoughtCredits:
    """An amount's credits at the catalog's rate. `terms` None: no longer on offer, yet paid; they last for ever."""
    amount = credits_micro_for_usd(amount_usd_micro, rate)
    if terms is None:
        return BoughtCredits(amount, None, requires_active_plan=False, transferable=False)
    expires_at = _months_later(bought_at, terms.expires_after_months)
    return BoughtCredits(amount, expires_at, terms.requires_active_plan, terms.transferable)


def bonus_credits(
    terms: TopUpTerms | None, amount_usd_micro: int, rate: Decimal, bought_at: datetime
) -> BoughtCredits | None:
    """What comes on top by the highest step that the amount reaches; None where there is none or it is paused (D6)."""
    if terms is None or terms.bonus_paused:
        return None
    percent = max((step.percent for step in terms.bonus if step.from_usd_micro <= amount_usd_micro), default=0)
    amount = credits_micro_for_usd(amount_usd_micro, rate) * percent // 100
    if not amount:
        return None
    expires_at = _months_later(bought_at, terms.bonus_expires_after_months)
    return BoughtCredits(amount, expires_at, terms.requires_active_plan, transferable=False)


def refunded_micro(granted_micro: int, refunded_usd_micro: int, amount_usd_micro: int) -> int:
    """The part of a grant that goes with a refunded part of its payment, rounded down in the customer's favour.

    Of what cost nothing no part can be given back.
    """
    if not amount_usd_micro:
        return 0
    return granted_micro * refunded_usd_micro // amount_usd_micro


def _months_later(start: datetime, months: int | None) -> datetime | None:
    return None if months is None else add_months(start, months)
