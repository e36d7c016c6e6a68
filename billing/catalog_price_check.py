"""Finds prices of one meter that leave a request without a price, or leave open which of them it has."""

from collections.abc import Iterable, Iterator

from billing.catalog_reader import shown
from billing.catalog_terms import MeterPriceTerms, ModelTerms
from kit.json_values import folded
from metering.rules.conditions import Conditions
from metering.rules.price_list import ListedPrice, ambiguous
from metering.rules.rating import MeterPrice
from models.enums import Meter
from providers.prediction_terms import PredictionTerms


def price_findings(model: ModelTerms, path: str) -> Iterator[tuple[str, str, bool]]:
    """Path, message, and whether it is an error, of everything that is wrong with a model's conditional prices."""
    by_meter: dict[Meter, list[int]] = {}
    for index, price in enumerate(model.prices):
        by_meter.setdefault(price.meter, []).append(index)
    if model.chain is not None and any(price.when for price in model.prices):
        yield f"{path}.prices", "a chain's own prices have no `when`: the prices of its steps' models may", True
    for meter, places in by_meter.items():
        if all(model.prices[place].when for place in places):
            message = f"{meter} has no price without `when`, so that a request with other values would be free"
            yield f"{path}.prices[{places[0]}].when", message, True
        for first, second in ambiguous([_listed(model.prices[place]) for place in places]):
            message = (
                f"a request can have this price and prices[{places[first]}], with as many conditions: the dearer one"
                " counts; a price with the conditions of both would decide"
            )
            yield f"{path}.prices[{places[second]}].when", message, False


def part_findings(
    model: ModelTerms, parts: Iterable[tuple[Meter, Meter]], path: str
) -> Iterator[tuple[str, str, bool]]:
    """The same of a meter whose price changes with a request where that of a part of it, which has its own, does not."""
    when_of: dict[Meter, set[Conditions]] = {}
    for price in model.prices:
        when_of.setdefault(price.meter, set()).add(price.when)
    for part, whole in parts:
        for index, price in enumerate(model.prices):
            if price.meter is whole and part in when_of and price.when not in when_of[part]:
                message = f"{part}, a part of {whole}, have no price under these conditions: their others count"
                yield f"{path}.prices[{index}].when", message, False


def renamed_findings(
    model: ModelTerms, spoken: Iterable[PredictionTerms], path: str
) -> Iterator[tuple[str, str, bool]]:
    """The same of conditions by a provider's name of what requests call otherwise: under it, nothing is sent on."""
    for terms in spoken:
        here = {folded(ours) for ours, _ in terms.rename}
        ours_of = {folded(theirs): ours for ours, theirs in terms.rename if folded(theirs) not in here}
        for index, price in enumerate(model.prices):
            for condition in price.when:
                ours = ours_of.get(folded(condition.field.partition(".")[0]))
                if ours is not None:
                    message = f"no request has this price here: the provider's {shown(condition.field)} is {shown(ours)} of a request"
                    yield f"{path}.prices[{index}].when", message, False


def _listed(price: MeterPriceTerms) -> ListedPrice:
    return ListedPrice(MeterPrice(price.meter, price.credits_micro, price.per), price.when)
