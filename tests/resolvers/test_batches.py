"""Look-ups of one turn become one query."""

import asyncio

import pytest

from resolvers.batches import MAX_BATCH, Batch


async def test_look_ups_of_one_turn_are_one_query_and_are_remembered() -> None:
    asked: list[list[int]] = []

    async def read(keys):
        asked.append(list(keys))
        return {key: str(key) for key in keys if key > 0}

    batch = Batch(read)
    assert await asyncio.gather(*(batch.load(key) for key in (1, 2, 1, -1))) == ["1", "2", "1", None]
    assert await batch.load(2) == "2"
    assert asked == [[1, 2, -1]]
    await asyncio.gather(*(batch.load(key) for key in range(10, 10 + MAX_BATCH + 1)))
    assert [len(keys) for keys in asked[1:]] == [MAX_BATCH, 1]


async def test_a_failure_reaches_everyone_who_waits() -> None:
    async def read(keys):
        raise ValueError("away")

    batch = Batch(read)
    results = await asyncio.gather(batch.load(1), batch.load(2), return_exceptions=True)
    assert [str(result) for result in results] == ["away", "away"]


async def test_one_reader_who_leaves_does_not_take_the_others_answer() -> None:
    begun = asyncio.Event()

    async def read(keys):
        begun.set()
        await asyncio.sleep(0)
        return {key: key for key in keys}

    batch = Batch(read)
    leaving, staying = asyncio.create_task(batch.load(1)), asyncio.create_task(batch.load(1))
    await begun.wait()
    leaving.cancel()
    assert await staying == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving
