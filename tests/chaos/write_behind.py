"""The control: the gateway with one fault, it answers before it settles and writes its debits every second.

`python -m tests.chaos.write_behind serve` instead of `python -m app serve`. The audit must catch it losing debits.
"""

import asyncio
import sys

from app.cli import main
from gateway.settling import Settling
from metering.operations import Settle

FLUSH_EVERY_S = 1.0


class WriteBehind:
    def __init__(self) -> None:
        self.waiting: list[Settle] = []
        self.flushing: asyncio.Task | None = None

    async def settle(self, settling: Settling, operation: Settle) -> None:
        self.waiting.append(operation)
        if self.flushing is None:
            self.flushing = asyncio.create_task(self._flush(settling))

    async def _flush(self, settling: Settling) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            waiting, self.waiting = self.waiting, []
            await asyncio.gather(*(_settle(settling, each) for each in waiting), return_exceptions=True)


_settle = Settling.settle
_behind = WriteBehind()


async def _answer_first(self: Settling, operation: Settle) -> None:
    await _behind.settle(self, operation)


if __name__ == "__main__":
    Settling.settle = _answer_first
    sys.exit(main())
