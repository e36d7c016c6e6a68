"""The Tortoise backend of this product: the asyncpg one, opened from the DSN itself and safe against cancellation.

Tortoise 1.1.9 takes a pool connection and only then begins the transaction, with nothing to give it back when the task
is cancelled in between, and lets cancellation tear COMMIT and ROLLBACK. Clients that hang up would empty the pool.
"""

# ruff: noqa: SLF001  the backend's hooks are underscored in Tortoise
# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from contextlib import suppress
from types import TracebackType
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import (
    NestedTransactionContext,
    PoolConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
    TransactionContextPooled,
)
from tortoise.connection import get_connections

from kit.errors import Unavailable
from models.pool import PoolConnection, checked_out, close_pool, finished, give_back, open_pool, unavailable_on_loss


class OrmTransaction(TransactionContextPooled):
    """in_transaction() that gives its connection back whatever happens."""

    client: TransactionWrapper
    _lent: PoolConnection

    async def __aenter__(self) -> TransactionalDBClient:
        await self.ensure_connection()
        pool = _opened(self.client._parent)
        connection = await checked_out(pool)
        self._lent = connection
        self.client._connection = connection
        try:
            await self.client.begin()
        except BaseException:
            await give_back(pool, connection)
            raise
        self.token = get_connections().set(self.connection_name, self.client)
        return self.client

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            await finished(self._end(failed=exc_type is not None))
        finally:
            get_connections().reset(self.token)

    async def _end(self, *, failed: bool) -> None:
        try:
            if self.client._finalized:
                return
            if failed:
                await self.client.rollback()
            else:
                await self.client.commit()
        finally:
            await give_back(_opened(self.client._parent), self._lent)


class OrmCheckout(PoolConnectionWrapper[PoolConnection]):
    """One query's pool connection, taken with a time limit and given back whatever happens."""

    async def __aenter__(self) -> PoolConnection:
        await self.ensure_connection()
        self.connection = await checked_out(_opened(self.client))
        return self.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if self.connection is not None:
            await give_back(_opened(self.client), self.connection)


def _opened(client: Any) -> asyncpg.Pool:  # Any: Tortoise types the client by a base that has no pool
    pool: asyncpg.Pool | None = client._pool
    if pool is None:
        raise Unavailable("The database has been closed.")
    return pool


class OrmClient(AsyncpgDBClient):
    """Tortoise's connection to PostgreSQL, made from credentials {"dsn", "max_size"}."""

    def __init__(self, dsn: str, max_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dsn = dsn
        self._max_size = max_size

    async def create_connection(self, with_db: bool) -> None:  # noqa: ARG002
        """Open the pool. Not Tortoise's own way, which logs its parameters."""
        self._pool = await open_pool(self._dsn, min_size=0, max_size=self._max_size, codecs=False)

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await close_pool(pool)

    async def _translate_exceptions(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        with unavailable_on_loss():
            return await super()._translate_exceptions(func, *args, **kwargs)

    def _in_transaction(self) -> TransactionContext:
        return OrmTransaction(OrmTransactionClient(self), self._pool_init_lock)

    def acquire_connection(self) -> PoolConnectionWrapper[PoolConnection]:
        """Take a pool connection for one query."""
        return OrmCheckout(self, self._pool_init_lock)


class OrmTransactionClient(TransactionWrapper):
    """The connection inside in_transaction(), nested ones included; a lost server is Unavailable here too."""

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(OrmTransactionClient(self))

    async def commit(self) -> None:
        """Commit, or release the savepoint."""
        with unavailable_on_loss():
            await super().commit()

    async def rollback(self) -> None:
        """Roll back, or back to the savepoint; a lost connection has done so already, and the block's error stands."""
        with suppress(Unavailable), unavailable_on_loss():
            await super().rollback()

    async def _translate_exceptions(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        with unavailable_on_loss():
            return await super()._translate_exceptions(func, *args, **kwargs)


client_class = OrmClient
"""What Tortoise looks for in an engine's module."""
