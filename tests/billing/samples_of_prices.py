"""Prices without a catalog, for tests of pure rules."""

from billing.views import PriceView
from kit.ids import uuid7
from models.enums import PricePeriod


def monthly(amount_usd_micro: int) -> PriceView:
    return PriceView(uuid7(), uuid7(), "monthly", amount_usd_micro, PricePeriod.MONTH, 0, None, None, retired=False)
