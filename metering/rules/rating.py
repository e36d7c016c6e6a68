"""What a call costs: prices times usage, exact until one division that rounds up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import lcm
from typing import Final

from metering.operations import UsageFacts


@dataclass(frozen=True, slots=True)
class MeterPrice:
    """`credits_micro` micro-credits, zero or more, for every `per` units, one or more, of a meter of the Meter enum."""

    meter: str
    credits_micro: int
    per: int


class Rates:
    """A model's prices, weighed once for all its calls."""

    __slots__ = ("_cached", "_denominator", "_rest", "_tokens", "_without", "_written", "prices")

    def __init__(self, prices: Iterable[MeterPrice]) -> None:
        """`prices` of one meter add up; a meter without a price costs nothing."""
        self.prices: Final = tuple(prices)
        self._denominator = lcm(*[price.per for price in self.prices])
        weights: dict[str, int] = {}
        for price in self.prices:
            each = price.credits_micro * (self._denominator // price.per)
            weights[str(price.meter)] = weights.get(str(price.meter), 0) + each
        weight = weights.get
        # A part that has no price of its own is priced as the whole that it is part of.
        self._tokens = (weight("INPUT_TOKENS", 0), weight("OUTPUT_TOKENS", 0))
        self._cached = (weights.get("CACHED_INPUT_TOKENS"), weights.get("REASONING_TOKENS"))
        self._written = _written(weights)
        self._without: dict[frozenset[str], Rates] = {}
        self._rest = (weight("REQUESTS", 0), weight("IMAGES", 0), weight("SECONDS", 0), weight("CHARACTERS", 0))

    @property
    def prices_writes(self) -> bool:
        """Whether what is written to a cache has a price of its own."""
        return self._written is not None

    def without(self, meters: frozenset[str]) -> "Rates":
        """The same but for the prices of these meters; the same object each time."""
        found = self._without.get(meters)
        if found is None:
            found = self._without[meters] = Rates(price for price in self.prices if price.meter not in meters)
        return found

    def cost_micro(self, usage: UsageFacts, discount_percent: int = 0) -> int:
        """The cost in micro-credits, rounded up once; `discount_percent` 0 to 100 is the plan's for this model.

        Cached input is priced as such where that meter has a price, else as the input that it is part of; reasoning and
        output alike, and so is input written to a cache: nothing is counted twice.
        """
        (of_input, of_output), (of_cached, of_reasoning) = self._tokens, self._cached
        numerator = self._of_rest(usage)
        if self._written is not None:
            numerator += self._of_input(usage, *self._written)
        elif of_cached is None:
            numerator += usage.input_tokens * of_input
        else:
            cached = usage.cached_input_tokens
            numerator += max(0, usage.input_tokens - cached) * of_input + cached * of_cached
        if of_reasoning is None:
            numerator += usage.output_tokens * of_output
        else:
            reasoning = usage.reasoning_tokens
            numerator += max(0, usage.output_tokens - reasoning) * of_output + reasoning * of_reasoning
        return -(-numerator * (100 - discount_percent) // (self._denominator * 100))

    def highest_micro(self, usage: UsageFacts, discount_percent: int = 0) -> int:
        """The highest cost of this usage, whatever part of its input was cached or written to a cache and of its output reasoned.

        The cost is linear in all parts, so the highest stands where each part is nothing or all.
        """
        (of_input, of_output), (of_cached, of_reasoning) = self._tokens, self._cached
        numerator = (
            usage.input_tokens * max(of_input, of_cached or 0, *(self._written or ()))
            + usage.output_tokens * max(of_output, of_reasoning or 0)
            + self._of_rest(usage)
        )
        return -(-numerator * (100 - discount_percent) // (self._denominator * 100))

    def _of_input(self, usage: UsageFacts, of_written: int, of_long: int) -> int:
        of_input, of_cached = self._tokens[0], self._cached[0]
        cached, written = usage.cached_input_tokens, usage.cache_write_input_tokens
        long = usage.long_cache_write_input_tokens
        return (
            max(0, usage.input_tokens - cached - written) * of_input
            + cached * (of_input if of_cached is None else of_cached)
            + max(0, written - long) * of_written
            + long * of_long
        )

    def _of_rest(self, usage: UsageFacts) -> int:
        of_requests, of_images, of_seconds, of_characters = self._rest
        return (
            usage.requests * of_requests
            + usage.images * of_images
            + usage.seconds * of_seconds
            + usage.characters * of_characters
        )


def _written(weights: Mapping[str, int]) -> tuple[int, int] | None:
    """Of a token written to a cache, and of one for the longer life; None where neither has a price of its own."""
    written, long = weights.get("CACHE_WRITE_INPUT_TOKENS"), weights.get("LONG_CACHE_WRITE_INPUT_TOKENS")
    if written is None and long is None:
        return None
    if written is None:
        written = weights.get("INPUT_TOKENS", 0)
    return written, written if long is None else long


NO_RATES: Final = Rates(())
"""Everything for nothing."""
