"""A short chaos run and its control, as processes of their own: `make chaos` is the long one (docs/chaos.md)."""

import asyncio
import sys

import pytest

from tests.processes import start

PATIENCE_S = 220
pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE_S + 20)]
"""Half a minute's work each, which shares two processors with the other test worker's."""


async def chaos(*options: str) -> tuple[int, str]:
    running = await start(sys.executable, "-m", "tests.chaos", *options)
    async with asyncio.timeout(PATIENCE_S):
        code = await running.process.wait()
        await asyncio.gather(*running.reading)
    return code, "\n".join(running.lines)


async def test_nothing_is_lost_doubled_or_overdrawn_while_everything_is_killed():
    code, said = await chaos("--calls", "1200", "--kills", "6", "--seed", "20", "--clients", "64", "--leavers", "300")

    assert code == 0, said
    assert "nothing lost, nothing doubled, nothing overdrawn" in said
    assert "300 clients left in the middle; of the burst after them 0 of 200 failed" in said
    assert "6 kills" in said


async def test_the_audit_catches_a_gateway_that_settles_after_it_answers():
    code, said = await chaos("--calls", "800", "--kills", "4", "--seed", "3", "--leavers", "0", "--control")

    assert code == 0, said
    assert "BROKEN answered, but never charged" in said
