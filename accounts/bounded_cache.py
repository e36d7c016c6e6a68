"""A map in memory with a bound: the least recently used entry makes room, and an entry's age is the reader's to judge."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Not shared between processes or threads."""

    def __init__(self, limit: int) -> None:
        """At most `limit` entries."""
        self._limit = limit
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        """Entries, old ones included."""
        return len(self._entries)

    def get(self, key: K, max_age_s: float) -> V | None:
        """The value, unless it is absent or was put more than `max_age_s` ago."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if monotonic() - entry[0] > max_age_s:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: K, value: V) -> None:
        """Remember the value from now on."""
        self._entries[key] = (monotonic(), value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget one entry, if it is there."""
        self._entries.pop(key, None)

    def drop_where(self, condition: Callable[[K, V], bool]) -> None:
        """Forget the entries of which it holds: a walk over all, as revocations are rare."""
        for key in [key for key, (_, value) in self._entries.items() if condition(key, value)]:
            del self._entries[key]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
