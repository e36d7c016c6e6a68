"""Ending background tasks."""

import asyncio

import pytest

from kit.tasks import stop


async def test_a_task_that_lost_its_first_cancellation_is_ended_all_the_same() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            lost += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await stop(task)
    assert task.cancelled()
    assert lost == 1


async def test_what_a_task_ended_with_is_raised() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        await stop(task)
