"""Persisted documents sealed on their way into Redis: a document may hold a prompt that somebody wrote into it (D12)."""

from collections.abc import Awaitable
from typing import Protocol

from app.graphql.documents import TextStore
from kit.sealing import Sealer, SealError


class ByteStore(Protocol):
    """What is needed of Redis: redis-py's asyncio client, single or cluster, that answers bytes."""

    # As TextStore of redis-py, but for the bytes that are set.
    def getex(self, name: str, ex: int) -> Awaitable[bytes | str | None]:
        """The value, which then lives `ex` seconds more."""
        ...

    def set(self, name: str, value: bytes, ex: int) -> Awaitable[object]:
        """Keep it for `ex` seconds."""
        ...


class SealedTexts(TextStore):
    """Serves TextStore over another store, which sees ciphertext only."""

    def __init__(self, store: ByteStore, sealer: Sealer) -> None:
        """`sealer` holds the keys made from TOLLGATE_SECRET_KEY."""
        self._store = store
        self._sealer = sealer

    async def getex(self, name: str, ex: int) -> bytes | None:
        """The text; None where there is none, or none that our keys open."""
        sealed = await self._store.getex(name, ex=ex)
        if not isinstance(sealed, bytes):
            return None
        try:
            return self._sealer.open(sealed, name.encode())
        except SealError:
            return None

    async def set(self, name: str, value: str, ex: int) -> None:
        """Keep it for `ex` seconds."""
        await self._store.set(name, self._sealer.seal(value.encode(), name.encode()), ex=ex)
