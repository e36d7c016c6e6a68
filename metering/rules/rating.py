"""What a call costs: prices times usage, exact until one division that rounds up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Protocol

from metering.operations import UsageFacts


class PriceOfMeter(Protocol):
    """`credits_micro` micro-credits for every `per` units of a meter; the catalog's own views fit."""

    @property
    def meter(self) -> str:
        """A name of the Meter enum."""
        ...

    @property
    def credits_micro(self) -> int:
        """Zero or more."""
        ...

    @property
    def per(self) -> int:
        """One or more."""
        ...


@dataclass(frozen=True, slots=True)
class MeterPrice:
    """`credits_micro` micro-credits for every `per` units of a meter."""

    meter: str
    credits_micro: int
    per: int


def cost_micro(prices: Sequence[PriceOfMeter], usage: UsageFacts, discount_percent: int = 0) -> int:
    """The cost in micro-credits, rounded up once; `discount_percent` 0 to 100 is the plan's for this model.

    Cached input is priced as such where that meter has a price, else as the input that it is part of; reasoning and
    output alike: nothing is counted twice.
    """
    weights, denominator = _weights(prices)
    cached = usage.cached_input_tokens if "CACHED_INPUT_TOKENS" in weights else 0
    reasoning = usage.reasoning_tokens if "REASONING_TOKENS" in weights else 0
    weight = weights.get
    numerator = (
        max(0, usage.input_tokens - cached) * weight("INPUT_TOKENS", 0)
        + cached * weight("CACHED_INPUT_TOKENS", 0)
        + max(0, usage.output_tokens - reasoning) * weight("OUTPUT_TOKENS", 0)
        + reasoning * weight("REASONING_TOKENS", 0)
        + _rest(usage, weights)
    )
    return -(-numerator * (100 - discount_percent) // (denominator * 100))


def highest_micro(prices: Sequence[PriceOfMeter], usage: UsageFacts, discount_percent: int = 0) -> int:
    """The highest cost of this usage, whatever part of its input was cached and of its output reasoned."""
    weights, denominator = _weights(prices)
    weight = weights.get
    numerator = (
        usage.input_tokens * max(weight("INPUT_TOKENS", 0), weight("CACHED_INPUT_TOKENS", 0))
        + usage.output_tokens * max(weight("OUTPUT_TOKENS", 0), weight("REASONING_TOKENS", 0))
        + _rest(usage, weights)
    )
    return -(-numerator * (100 - discount_percent) // (denominator * 100))


def _weights(prices: Sequence[PriceOfMeter]) -> tuple[dict[str, int], int]:
    """What one unit of each priced meter costs, over the denominator that they have in common."""
    denominator = lcm(*[price.per for price in prices])
    weights: dict[str, int] = {}
    for price in prices:
        each = price.credits_micro * (denominator // price.per)
        weights[price.meter] = weights.get(price.meter, 0) + each
    return weights, denominator


def _rest(usage: UsageFacts, weights: Mapping[str, int]) -> int:
    weight = weights.get
    return (
        usage.requests * weight("REQUESTS", 0)
        + usage.images * weight("IMAGES", 0)
        + usage.seconds * weight("SECONDS", 0)
        + usage.characters * weight("CHARACTERS", 0)
    )
