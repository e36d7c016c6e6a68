"""The one door to the present time; tests and simulations move it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime


def _system_now() -> datetime:
    return datetime.now(UTC)


_sources: list[Callable[[], datetime]] = [_system_now]
"""Where now() looks: the last one counts, for the whole process."""


def now() -> datetime:
    """The present instant, timezone-aware, UTC."""
    return _sources[-1]()


class VirtualClock:
    """A clock that stands still until it is moved; see `installed`."""

    def __init__(self, start: datetime) -> None:
        """`start` must be timezone-aware."""
        self.at = start

    def __call__(self) -> datetime:
        """The instant at which this clock stands."""
        return self.at


@contextmanager
def installed(read: Callable[[], datetime]) -> Generator[None]:
    """Within the block, now() answers what `read` says. For tests and `tollgate simulate`."""
    _sources.append(read)
    try:
        yield
    finally:
        _sources.pop()
