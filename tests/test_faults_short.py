"""A short run of faulty providers and clients, and its control: `make faults` is the long one (docs/chaos.md)."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from kit.tasks import stop
from tests.processes import start

PATIENCE_S = 400
pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE_S + 20)]
"""Half a minute's work each, where there are cores for it: with a tenth of two it took 215 s."""

Run = asyncio.Task[tuple[int, str]]


async def faults(*options: str) -> tuple[int, str]:
    running = await start(sys.executable, "-m", "tests.faults", *options)
    async with asyncio.timeout(PATIENCE_S):
        code = await running.process.wait()
        await asyncio.gather(*running.reading)
    return code, "\n".join(running.lines)


@pytest.fixture(scope="module")
async def control() -> AsyncIterator[Run]:
    """The control, begun with the first test: for half of its time that waits until kept connections have grown old."""
    run = asyncio.create_task(faults("--calls", "200", "--warm-up", "0", "--seed", "12", "--control"))
    yield run
    await stop(run)


async def test_every_debit_follows_from_the_providers_log_and_nothing_is_left_over(control: Run):
    code, said = await faults("--calls", "300", "--warm-up", "60", "--seed", "11")

    assert code == 0, said
    assert "every debit follows from the providers' log; nothing is left over" in said
    for seen in (
        "client: left",
        "client: broken",
        "client: refused",
        "answered, of sound",
        "broken, reset",
        "broken, stall",
        "later try",
    ):
        assert seen in said


async def test_the_audit_catches_a_gateway_that_believes_every_usage(control: Run):
    code, said = await control

    assert code == 0, said
    assert "BROKEN not derivable from the provider's log" in said
