"""Which providers asked to be left alone (`Retry-After`), as this process knows it: shared with the others through Redis.

A call looks into a dict. Redis is told of a new pause behind the call's back, and asked once a second for those of others.
Failure policy: while Redis does not answer, each process keeps to what its own calls were told, and tells the rest later.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gateway.breakers import POLL_S
from metering.redis_pipeline import Argument, LinkDown, Script, ScriptLink

Paused = tuple[str, str]
"""A provider and its own name of a model."""

MAX_SHARED: Final = 1_000
"""So many pauses are shared, those that last longest."""
_PAUSES: Final = Script.named("pauses")
_KEY: Final = b"tg:{providers}-pauses"
_BETWEEN: Final = "\n"


class Pauses:
    """One per process."""

    def __init__(self, link: ScriptLink, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is the one by which `until` is read."""
        self._link = link
        self._clock = clock
        self.until: Final[dict[Paused, float]] = {}
        """The end of each pause; those that are over may stand here for a second."""
        self._untold: dict[Paused, float] = {}
        self._telling: asyncio.Task[None] | None = None

    def ask(self, provider: str, model: str, for_s: float) -> None:
        """The provider wants no call for this model for so long. A pause that lasts longer stays."""
        key, until = (provider, model), self._clock() + for_s
        if until <= self.until.get(key, 0.0):
            return
        self.until[key] = self._untold[key] = until
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self.look(), name="pauses")

    async def run(self) -> None:
        """Hear of the pauses that others were asked for, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.look()

    async def look(self) -> None:
        """Once: tell what is new here, and hear what is elsewhere."""
        at = self._clock()
        for key in [key for key, until in self.until.items() if until <= at]:
            del self.until[key]
        told, self._untold = self._untold, {}
        arguments: list[Argument] = [MAX_SHARED]
        for (provider, model), until in told.items():
            arguments += [f"{provider}{_BETWEEN}{model}".encode(), max(0, round((until - at) * 1000))]
        try:
            answer = await self._link.run(_PAUSES, [_KEY], arguments)
        except LinkDown:
            self._untold = {key: until for key, until in told.items() if until > at} | self._untold
            return
        for key, left_ms in _pauses_in(answer):
            self.until[key] = max(self.until.get(key, 0.0), at + left_ms / 1000)

    async def close(self) -> None:
        """Wait until all that was asked for is told."""
        if self._telling is not None:
            await self._telling


def _pauses_in(answer: Sequence[object]) -> Iterator[tuple[Paused, int]]:
    """Members and milliseconds, which this script's answer has by turns."""
    for member, left_ms in zip(answer[::2], answer[1::2], strict=True):
        if isinstance(member, bytes) and isinstance(left_ms, int):
            provider, _, model = member.decode().partition(_BETWEEN)
            yield (provider, model), left_ms
