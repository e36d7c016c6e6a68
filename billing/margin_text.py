"""Prints margins as a table of models and plans for the operator."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from billing.catalog_terms import CatalogFile
from billing.rules.catalog_words import conditions_words
from billing.rules.margins import Cheaper, Margin, cheaper_credits
from billing.rules.text_table import text_table

_NONE: Final = "–"
_SHOWN_DIGITS: Final = Decimal("0.000001")


def render_margins(file: CatalogFile, margins: Sequence[Margin]) -> str:
    """A line for each model and meter; for each plan what it brings and the margin. Below it what is sold at a loss."""
    plans = sorted(file.plans.values(), key=lambda plan: (plan.rank, plan.code))
    by_cell = {(margin.slug, margin.price_index, margin.plan_code): margin for margin in margins}
    rows: list[list[str]] = []
    for model in file.models.values():
        for index, price in enumerate(model.prices):
            cells = [by_cell.get((model.slug, index, plan.code)) for plan in plans]
            known = next((cell for cell in cells if cell is not None), None)
            cost = _NONE if known is None or known.cost_usd is None else _dollars(known.cost_usd)
            per = "" if price.per == 1 else f" / {price.per:,}"
            where = f" where {conditions_words(price.when)}" if price.when else ""
            rows.append([model.slug, f"{price.meter.value}{per}{where}", cost, *(_cell(cell) for cell in cells)])
    head = ["model", "meter", "cost USD", *(plan.code for plan in plans)]
    right = frozenset(range(2, len(head)))
    parts = [
        f"{file.name}: revenue in USD after the plan's compute discount, and the margin over the provider's price",
        text_table(head, rows, right=right),
        *_losses(margins),
        *_cheaper(cheaper_credits(file), margins),
    ]
    unknown = sorted({margin.slug for margin in margins if margin.cost_usd is None})
    if unknown:
        parts.append(f"no cost is known of: {', '.join(unknown)} (`cost` beside a price, or --costs)")
    return "\n\n".join(parts) + "\n"


def loss_words(margin: Margin) -> str:
    """One loss in a sentence."""
    assert margin.cost_usd is not None
    where = f" where {conditions_words(margin.when)}" if margin.when else ""
    discount = f" (-{margin.discount_percent} %)" if margin.discount_percent else ""
    return (
        f"{margin.meter}{where} is sold under cost on '{margin.plan_code}': ${_dollars(margin.revenue_usd)}{discount} for"
        f" ${_dollars(margin.cost_usd)} that the provider takes"
    )


def _losses(margins: Sequence[Margin]) -> list[str]:
    losses = [f"warning: {margin.slug}: {loss_words(margin)}" for margin in margins if margin.is_loss]
    return ["\n".join(losses)] if losses else []


def _cheaper(offers: Sequence[Cheaper], margins: Sequence[Margin]) -> list[str]:
    lines: list[str] = []
    for offer in offers:
        plan_code = None if offer.name.startswith("pack ") else offer.name.partition(".")[0]
        own = [margin for margin in margins if plan_code in {None, margin.plan_code} and margin.percent is not None]
        line = f"{offer.name}: a credit brings {_percent(offer.share * 100)} of what it stands for"
        if own:
            worst = min(own, key=lambda margin: _at(margin, offer.share))
            line += f"; the least margin then is {_percent(_at(worst, offer.share))} ({worst.slug}, {worst.meter})"
        lines.append(line)
    return ["\n".join(["Credits sold below the rate:", *lines])] if lines else []


def _at(margin: Margin, share: Fraction) -> Fraction:
    """The margin in percent where each credit brings this share."""
    assert margin.cost_usd is not None
    revenue = margin.revenue_usd * share
    return (revenue - margin.cost_usd) / revenue * 100


def _cell(margin: Margin | None) -> str:
    if margin is None:
        return _NONE
    percent = margin.percent
    worth = _dollars(margin.revenue_usd)
    return worth if percent is None else f"{worth} ({_percent(percent)})"


def _dollars(amount: Fraction) -> str:
    exact = Decimal(amount.numerator) / Decimal(amount.denominator)
    text = f"{exact.quantize(_SHOWN_DIGITS):f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}"


def _percent(amount: Fraction) -> str:
    return f"{Decimal(amount.numerator) / Decimal(amount.denominator):.1f} %"
