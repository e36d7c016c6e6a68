"""What a call costs: prices times usage, exact until one division that rounds up."""

from collections.abc import Sequence
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


def quantities(usage: UsageFacts, priced: frozenset[str]) -> dict[str, int]:
    """How much of each priced meter was used, nothing counted twice.

    Cached input is priced as such where that meter has a price, else as the input that it is part of; reasoning and
    output alike.
    """
    cached = usage.cached_input_tokens if "CACHED_INPUT_TOKENS" in priced else 0
    reasoning = usage.reasoning_tokens if "REASONING_TOKENS" in priced else 0
    return {
        "INPUT_TOKENS": max(0, usage.input_tokens - cached),
        "CACHED_INPUT_TOKENS": cached,
        "OUTPUT_TOKENS": max(0, usage.output_tokens - reasoning),
        "REASONING_TOKENS": reasoning,
        "REQUESTS": usage.requests,
        "IMAGES": usage.images,
        "SECONDS": usage.seconds,
        "CHARACTERS": usage.characters,
    }


def cost_micro(prices: Sequence[PriceOfMeter], usage: UsageFacts, discount_percent: int = 0) -> int:
    """The cost in micro-credits, rounded up once; `discount_percent` 0 to 100 is the plan's for this model."""
    used = quantities(usage, frozenset(price.meter for price in prices))
    denominator = lcm(*(price.per for price in prices))
    numerator = sum(used[price.meter] * price.credits_micro * (denominator // price.per) for price in prices)
    return -(-numerator * (100 - discount_percent) // (denominator * 100))
