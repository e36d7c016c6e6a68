"""Python's garbage collector, set for a process that serves calls."""

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_COLLECT_AFTER: Final = (20_000, 20, 20)
"""Objects made, and younger collections had, before a collection of each generation."""


def calm_collector() -> None:
    """Leave what was made at start out of garbage collections, and make them rarer: a call makes hundreds of objects.

    Nearly all of them go by reference counts; with Python's own thresholds a tenth of a call's time was collections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


@contextmanager
def loading() -> Generator[None]:
    """No collections while modules are loaded: what they make stays, and to look through it was a tenth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
