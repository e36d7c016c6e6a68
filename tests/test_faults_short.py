"""A short run of faulty providers and clients, and its control: `make faults` is the long one (docs/chaos.md)."""

import asyncio
import sys

import pytest

from tests.processes import start


async def faults(*options: str) -> tuple[int, str]:
    running = await start(sys.executable, "-m", "tests.faults", *options)
    async with asyncio.timeout(115):
        code = await running.process.wait()
        await asyncio.gather(*running.reading)
    return code, "\n".join(running.lines)


@pytest.mark.slow
async def test_every_debit_follows_from_the_providers_log_and_nothing_is_left_over():
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


@pytest.mark.slow
async def test_the_audit_catches_a_gateway_that_believes_every_usage():
    code, said = await faults("--calls", "200", "--warm-up", "0", "--seed", "12", "--control")

    assert code == 0, said
    assert "BROKEN not derivable from the provider's log" in said
