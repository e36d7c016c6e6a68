"""Whether a failed try is repeated, where calls go first, and how long is waited in between."""

from collections.abc import Callable, Sequence
from typing import Final

from billing.views import RouteView
from kit.records import record

BASE_PAUSE_S: Final = 0.2
MAX_PAUSE_S: Final = 2.0
MAX_WAIT_S: Final = 5.0
"""The longest that a call waits where the provider asked for it; for more the call fails, and says so."""
MAX_RETRY_AFTER_S: Final = 60.0
"""A provider that asks to be left alone for longer is asked again after this."""


@record
class Failure:
    """What of a try's failure decides. `repeatable`: the same provider may be asked again. `unsent`: it never answered.

    `slow`: it took too long, so that a second try would make the caller wait as long again.
    """

    repeatable: bool
    slow: bool
    unsent: bool
    retry_after_s: float | None


def pause_s(failure: Failure, tries: int, retries: int, *, has_next: bool, chance: float) -> float | None:
    """Seconds before the same provider is tried again; None: not there. `tries` were made; `chance` is from 0 to 1.

    Where the provider asked for a wait, another provider is taken instead, if there is one.
    """
    if not failure.repeatable or failure.slow or tries > retries:
        return None
    if failure.retry_after_s is not None:
        if has_next or failure.retry_after_s > MAX_WAIT_S:
            return None
        return failure.retry_after_s + chance * BASE_PAUSE_S
    if failure.unsent and tries == 1:
        return 0.0  # a kept connection may have been closed in the instant it was written to: at once
    return chance * min(BASE_PAUSE_S * 2 ** (tries - 1), MAX_PAUSE_S)


def drawn(routes: Sequence[RouteView], chance: Callable[[], float]) -> list[RouteView]:
    """The routes `in_turn`, each with a lot by `chance`, which draws from 0 to 1."""
    # A lot of exactly 0 has no logarithm to stand on; the smallest one will do.
    return in_turn(routes, [chance() or 1e-9 for _ in routes])


def in_turn(routes: Sequence[RouteView], chances: Sequence[float]) -> list[RouteView]:
    """The routes in the order in which this call tries them: by `order`, within one by lot, weighted.

    `chances`, one a route, are from above 0 to 1: the route with the largest chance ** (1 / weight) is the first, so
    that each comes first in proportion to its weight.
    """
    drawn = zip(routes, chances, strict=True)
    return [each[0] for each in sorted(drawn, key=lambda each: (each[0].order, -(each[1] ** (1 / each[0].weight))))]
