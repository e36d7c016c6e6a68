"""Busy polling: the event loop looks again and again for what has come, rather than sleep and have to be woken.

To wake a process that sleeps takes the kernel some 50 µs, on a virtual machine more, and its caches are cold by then. A streamed
call sleeps five times before its first output: for the limiter, twice for its hold's commit, and for the provider. Where a gateway has
a core for itself that time can be had back (docs/performance.md, "The first token of a stream"); elsewhere it takes the
core from whoever is waited for. So it is off unless an operator turns it on.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

MAX_US: Final = 1_000_000
"""The longest time to poll after a request, in microseconds."""
_US_PER_S: Final = 1_000_000


class BusyPolling:
    """One per process and event loop."""

    def __init__(self, microseconds: int, clock: Callable[[], float] = monotonic) -> None:
        """`microseconds`: how long the loop does not sleep after each `go_on`; 0: it sleeps whenever it can. `clock` in seconds."""
        self._for_s = microseconds / _US_PER_S
        self._clock = clock
        self._until_s = 0.0
        self._polls = False

    @property
    def polls(self) -> bool:
        """The loop does not sleep now."""
        return self._polls

    def go_on(self) -> None:
        """Something came, or was sent that is answered soon: the time begins anew. Called in the event loop."""
        if not self._for_s:
            return
        self._until_s = self._clock() + self._for_s
        if not self._polls:
            self._polls = True
            self._poll()

    def _poll(self) -> None:
        """A loop with something to run does not sleep; it looks at its sockets once before it runs this again."""
        if self._clock() < self._until_s:
            asyncio.get_running_loop().call_soon(self._poll)
        else:
            self._polls = False
