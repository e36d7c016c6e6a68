"""Computes what is left of a model's price on each plan after its provider is paid, exactly."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

import orjson

from billing.catalog_settings import MeterCost
from billing.catalog_terms import CatalogFile, MeterPriceTerms, ModelTerms, PlanTerms
from kit.json_values import is_list, is_object
from kit.money import MICRO, micro_of
from metering.rules.conditions import Conditions, compared, conditions_of
from models.enums import GrantCadence, Meter, PricePeriod

MOST_LINES: Final = 50_000
_GRANTS_A_YEAR: Final = 12


class CostsError(ValueError):
    """The file of costs cannot be read; the message names the line."""


@dataclass(frozen=True, slots=True)
class Margin:
    """For `per` units of a meter on one plan, in dollars. `revenue_usd`: the price less the plan's compute discount.

    `cost_usd` None: the provider's price is not known.
    """

    slug: str
    price_index: int
    meter: Meter
    when: Conditions
    per: int
    plan_code: str
    discount_percent: int
    revenue_usd: Fraction
    cost_usd: Fraction | None

    @property
    def percent(self) -> Fraction | None:
        """The margin in percent of the revenue; None where the cost is not known, or nothing is taken for it."""
        if self.cost_usd is None or not self.revenue_usd:
            return None
        return (self.revenue_usd - self.cost_usd) / self.revenue_usd * 100

    @property
    def is_loss(self) -> bool:
        """Whether the provider takes more than the customer gives."""
        return self.cost_usd is not None and self.cost_usd > self.revenue_usd


@dataclass(frozen=True, slots=True)
class Cheaper:
    """Credits that are sold below the catalog's rate. `share`: what a credit brings, as a share of what it stands for.

    Whoever pays with them brings that share of each price.
    """

    name: str
    share: Fraction


def margins_of(file: CatalogFile, costs: Sequence[MeterCost]) -> list[Margin]:
    """Every model's every meter on every plan that gives it: models in the file's order, plans by rank."""
    known = {(cost.slug, cost.meter, cost.when): Fraction(cost.usd_micro, MICRO * cost.per) for cost in costs}
    plans = sorted(file.plans.values(), key=lambda plan: (plan.rank, plan.code))
    return [
        _margin(file, model, index, price, plan, known.get((model.slug, price.meter, price.when)))
        for model in file.models.values()
        for index, price in enumerate(model.prices)
        for plan in plans
        if plan.access.allows(model.slug, model.modality, model.tier)
    ]


def _margin(
    file: CatalogFile,
    model: ModelTerms,
    index: int,
    price: MeterPriceTerms,
    plan: PlanTerms,
    cost_of_one: Fraction | None,
) -> Margin:
    discount = plan.access.discount_percent(model.slug, model.modality, model.tier)
    full = Fraction(price.credits_micro, MICRO) / Fraction(file.credits_per_usd)
    return Margin(
        slug=model.slug,
        price_index=index,
        meter=price.meter,
        when=price.when,
        per=price.per,
        plan_code=plan.code,
        discount_percent=discount,
        revenue_usd=full * (100 - discount) / 100,
        cost_usd=None if cost_of_one is None else cost_of_one * price.per,
    )


def cheaper_credits(file: CatalogFile) -> list[Cheaper]:
    """Plans and packs whose credits cost less than the rate says, the cheapest first; bonuses are not counted.

    A lifetime's credits have no end, so no such figure; nor have those that come with a free price.
    """
    return sorted((found for found in _offers(file) if found.share < 1), key=lambda found: (found.share, found.name))


def _offers(file: CatalogFile) -> Iterator[Cheaper]:
    rate = Fraction(file.credits_per_usd)
    for plan in file.plans.values():
        for price in plan.prices:
            if not price.credits_micro or not price.amount_usd_micro or price.period is PricePeriod.LIFETIME:
                continue
            yearly_drip = price.period is PricePeriod.YEAR and price.cadence is GrantCadence.MONTH
            granted = price.credits_micro * (_GRANTS_A_YEAR if yearly_drip else 1)
            yield Cheaper(f"{plan.code}.{price.code}", Fraction(price.amount_usd_micro, granted) * rate)
    for pack in file.packs.values():
        yield Cheaper(f"pack {pack.code}", Fraction(pack.price_usd_micro, pack.credits_micro) * rate)


def read_costs(text: str) -> tuple[MeterCost, ...]:
    """Costs from CSV with the columns model, meter, usd and per (1 where it is left out); CostsError names a bad line.

    A column `when` says of a conditional price which one it is, as JSON: {"quality": ["hd"]}.
    """
    reader = csv.DictReader(io.StringIO(text))
    if not {"model", "meter", "usd"} <= set(reader.fieldnames or ()):
        raise CostsError("the file of costs needs a header line with the columns model, meter, usd, and perhaps per")
    found: list[MeterCost] = []
    for line, row in enumerate(reader, start=2):
        if line > MOST_LINES:
            raise CostsError(f"the file of costs has more than {MOST_LINES} lines")
        try:
            per = int((row.get("per") or "1").replace("_", ""))
            usd_micro = micro_of(Decimal(row["usd"]))
            cost = MeterCost(row["model"].strip(), Meter(row["meter"].strip()), usd_micro, per, _when(row.get("when")))
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
            raise CostsError(f"line {line} of the file of costs cannot be read: {error}") from error
        if cost.usd_micro < 0 or per < 1:
            raise CostsError(f"line {line} of the file of costs: usd is zero or more, per is one or more")
        found.append(cost)
    return tuple(found)


def _when(text: str | None) -> Conditions:
    if not text:
        return ()
    given: object = orjson.loads(text)
    if not is_object(given):
        raise TypeError("when is an object of fields and their values")
    listed = {field: values if is_list(values) else [values] for field, values in given.items()}
    return conditions_of({field: [compared(value) or "" for value in values] for field, values in listed.items()})
