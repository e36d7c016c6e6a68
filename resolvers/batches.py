"""Gathers the look-ups of one turn of the event loop into one query, and remembers them for the request."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_BATCH: Final = 1_000
"""Keys in one query; more are asked in several."""


class Batch(Generic[K, V]):
    """`load` answers None for what is not there."""

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        """`read` answers those of the keys that exist."""
        self._read = read
        self._futures: dict[K, asyncio.Future[V | None]] = {}
        self._waiting: list[K] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self, key: K) -> V | None:
        """The value of this key, read together with those that others ask for in the same turn."""
        future = self._futures.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._futures[key] = loop.create_future()
            if not self._waiting:
                loop.call_soon(self._begin)
            self._waiting.append(key)
        return await asyncio.shield(future)

    def prime(self, key: K, value: V) -> None:
        """Remember what was read another way."""
        if key not in self._futures:
            future = self._futures[key] = asyncio.get_running_loop().create_future()
            future.set_result(value)

    def _begin(self) -> None:
        keys, self._waiting = self._waiting, []
        for start in range(0, len(keys), MAX_BATCH):
            task = asyncio.ensure_future(self._answer(keys[start : start + MAX_BATCH]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, keys: Sequence[K]) -> None:
        futures = [self._futures[key] for key in keys]
        try:
            found = await self._read(keys)
        except BaseException as error:  # noqa: BLE001  handed to everyone who waits for it
            for future in futures:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # a reader that left does not retrieve it
            return
        for key, future in zip(keys, futures, strict=True):
            if not future.done():
                future.set_result(found.get(key))


class Turns(Generic[K, V]):
    """The same without a memory: what is asked for in one turn is read together, in the next turn anew."""

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        """`read` answers those of the keys that exist."""
        self._read = read
        self._batch: Batch[K, V] | None = None

    async def load(self, key: K) -> V | None:
        """The value of this key, as it is after this was asked."""
        batch = self._batch
        if batch is None:
            batch = self._batch = Batch(self._read)
            asyncio.get_running_loop().call_soon(self._end)  # before the batch begins to read
        return await batch.load(key)

    def _end(self) -> None:
        self._batch = None
