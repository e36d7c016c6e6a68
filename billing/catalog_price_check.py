"""Finds prices of one meter that leave a request without a price, or leave open which of them it has."""

from collections.abc import Iterator

from billing.catalog_terms import MeterPriceTerms, ModelTerms
from metering.rules.price_list import ListedPrice, ambiguous
from metering.rules.rating import MeterPrice
from models.enums import Meter


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


def _listed(price: MeterPriceTerms) -> ListedPrice:
    return ListedPrice(MeterPrice(price.meter, price.credits_micro, price.per), price.when)
