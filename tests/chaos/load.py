"""Drives the planned calls from many clients at once, tries keyed ones again, and kills by the schedule."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.chaos.client import Attempt, Came, Client
from tests.chaos.plan import Kill, PlannedCall
from tests.chaos.servers import Servers

MOST_ATTEMPTS = 30
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


@dataclass
class Load:
    """The clients' log of a run; `ended` counts calls (not attempts) that came to some end."""

    urls: list[str]
    keys: list[str]
    attempts: list[Attempt] = field(default_factory=list)
    ended: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, calls: Iterator[PlannedCall], clients: int, *, until: float, tell: Callable[[int], None] = lambda _: None
    ) -> None:
        """Make these calls until they end or the monotonic time `until` comes."""

        async def one() -> None:
            client = Client(self.urls)
            try:
                for call in calls:
                    await self._make(client, call, until)
                    self.ended += 1
                    self.moved.set()
                    tell(self.ended)
                    if time.monotonic() > until:
                        return
            finally:
                client.close()

        await asyncio.gather(*(one() for _ in range(clients)))

    async def _make(self, client: Client, call: PlannedCall, until: float) -> None:
        """Once; with a key again at another gateway until it is answered. What was never sent may be sent elsewhere."""
        pause = FIRST_PAUSE_S
        for number in range(MOST_ATTEMPTS):
            gateway = (call.gateway + number) % len(self.urls)
            request_id = f"chaos-{call.number}-{number}"
            attempt = await client.send(call, gateway, request_id, self.keys[call.wallet])
            self.attempts.append(attempt)
            if attempt.came in {Came.ANSWERED, Came.LEFT, Came.BROKEN}:
                return
            if attempt.came is Came.REFUSED and attempt.status not in {503, 409}:
                return
            if attempt.came is not Came.NOT_SENT and call.key is None:
                return
            if time.monotonic() > until:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)


async def kill_by_schedule(servers: Servers, load: Load, schedule: list[Kill]) -> None:
    """Each kill as soon as the load has come so far; their downtimes overlap as chance has it. Cancel to end it early."""
    under_way: set[asyncio.Task] = set()
    try:
        for kill in schedule:
            while load.ended < kill.after_calls:
                load.moved.clear()
                await load.moved.wait()
            under_way.add(asyncio.create_task(servers.kill(kill)))
    finally:
        if under_way:
            done, _ = await asyncio.wait(under_way)
            for task in done:
                task.result()
