"""Ends background tasks."""

import asyncio
from typing import Final

_AGAIN_S: Final = 0.5


async def stop(task: "asyncio.Task[None]") -> None:
    """Cancel the task and wait for its end; raises what it ended with, if that is not the cancellation.

    It is cancelled again until it has ended: `asyncio.wait_for`, within which redis-py sends, loses a cancellation on
    Python 3.11 when what it waits for is done in the same turn.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)
    if not task.cancelled():
        task.result()
