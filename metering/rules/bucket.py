"""The arithmetic of a token bucket, in whole numbers: what metering/lua/buckets.lua computes in the server.

A bucket holds at most `capacity` tokens and gains `refill_per_hour`, continuously. What is missing from a full one is
counted in parts of 1/3,600,000,000 token, so that refilling R tokens an hour gives back exactly R parts a microsecond:
nothing is rounded, a rate such as 7 an hour neither drifts nor ever passes more than capacity + refill × time.
This is generic cell rate arithmetic with the theoretical arrival time kept as (instant, parts missing) instead of as
their rounded quotient.

A change of plan makes no tokens: those in the bucket stay, cut to the new capacity, and refill at the new rate from the
first question under the new plan on.

Lua's numbers are doubles, exact below 2^53. The largest ones here are MAX_CAPACITY × PARTS_PER_TOKEN = 7.2e15 and
instants of 1.8e15; the product of elapsed time and refill may pass 2^53, but then it exceeds every bucket anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PARTS_PER_TOKEN: Final = 3_600_000_000
"""Microseconds in an hour: the unit in which a refill per hour is whole-numbered per microsecond."""

MAX_CAPACITY: Final = 2_000_000
"""Tokens; 2,000,000 × PARTS_PER_TOKEN is below 2^53."""

MAX_REFILL_PER_HOUR: Final = 3_600_000_000
"""Tokens; one a microsecond."""

MAX_COST: Final = 2**53 - 1
"""Tokens; a cost above the capacity is only ever compared."""


@dataclass(frozen=True, slots=True)
class Level:
    """A bucket as it was last written: `used` parts were missing at `at_us` under this capacity and refill."""

    at_us: int
    used: int
    capacity: int
    refill_per_hour: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of one bucket, with the plan that holds now. Tokens."""

    capacity: int
    refill_per_hour: int
    cost: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What one bucket answers: whole tokens left, time until full, time until the cost fits (0 now, None never)."""

    remaining: int
    reset_after_us: int
    retry_after_us: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer over all buckets, and their levels afterwards; None is a bucket without a key, hence full."""

    allowed: bool
    limiting: int | None
    standings: tuple[Standing, ...]
    levels: tuple[Level | None, ...]


def missing_parts(level: Level | None, ask: Ask, now_us: int) -> int:
    """How many parts are missing from the bucket at `now_us`, under the plan of `ask`."""
    if level is None:
        return 0
    elapsed_us = max(0, now_us - level.at_us)
    used = max(0, level.used - elapsed_us * level.refill_per_hour)
    held = level.capacity * PARTS_PER_TOKEN - used
    full = ask.capacity * PARTS_PER_TOKEN
    return full - min(held, full)


def retry_after_us(used: int, ask: Ask) -> int | None:
    """Microseconds until the cost fits beside `used` missing parts: 0 now, None never."""
    if ask.cost > ask.capacity:
        return None
    excess = used - (ask.capacity - ask.cost) * PARTS_PER_TOKEN
    return _quotient_up(max(0, excess), ask.refill_per_hour)


def take(levels: Sequence[Level | None], asks: Sequence[Ask], now_us: int, *, peek: bool = False) -> Outcome:
    """Take every cost or, when one does not fit, none. With `peek` nothing is taken, but the answer is the same."""
    befores = [missing_parts(level, ask, now_us) for level, ask in zip(levels, asks, strict=True)]
    retries = [retry_after_us(parts, ask) for parts, ask in zip(befores, asks, strict=True)]
    limiting = _longest(retries)
    kept: list[Level | None] = []
    standings: list[Standing] = []
    for level, ask, before, retry in zip(levels, asks, befores, retries, strict=True):
        after = before if peek or limiting is not None else before + ask.cost * PARTS_PER_TOKEN
        kept.append(_written(level, ask, before, after, now_us))
        standings.append(_standing(ask, after, retry))
    return Outcome(limiting is None, limiting, tuple(standings), tuple(kept))


def refund(levels: Sequence[Level | None], asks: Sequence[Ask], now_us: int) -> Outcome:
    """Give the costs back, never above capacity."""
    kept: list[Level | None] = []
    standings: list[Standing] = []
    for level, ask in zip(levels, asks, strict=True):
        before = missing_parts(level, ask, now_us)
        after = max(0, before - ask.cost * PARTS_PER_TOKEN)
        kept.append(_written(level, ask, before, after, now_us))
        standings.append(_standing(ask, after, 0))
    return Outcome(allowed=True, limiting=None, standings=tuple(standings), levels=tuple(kept))


def _standing(ask: Ask, parts: int, retry_us: int | None) -> Standing:
    remaining = (ask.capacity * PARTS_PER_TOKEN - parts) // PARTS_PER_TOKEN
    return Standing(remaining, _quotient_up(parts, ask.refill_per_hour), retry_us)


def _written(level: Level | None, ask: Ask, before: int, after: int, now_us: int) -> Level | None:
    """The level to keep: unwritten when neither tokens nor plan changed, and the clock did not step back."""
    plan = (ask.capacity, ask.refill_per_hour)
    changed = level is not None and ((level.capacity, level.refill_per_hour) != plan or now_us < level.at_us)
    return Level(now_us, after, *plan) if after != before or changed else level


def _longest(retries: Sequence[int | None]) -> int | None:
    """The index of the first bucket that refuses longest; None when none refuses."""
    found: int | None = None
    longest = 0
    for index, retry in enumerate(retries):
        if retry is None:
            return index
        if retry > longest:
            found, longest = index, retry
    return found


def _quotient_up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
