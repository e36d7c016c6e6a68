"""The process's ways to the database: a pool for raw SQL, connections of its own, and Tortoise on the same DSN."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Final, Self

import asyncpg
from asyncpg.transaction import Transaction
from tortoise.context import TortoiseContext

from kit.errors import Unavailable
from models.pool import (
    PoolConnection,
    checked_out,
    close_pool,
    finished,
    give_back,
    open_connection,
    open_pool,
    unavailable_on_loss,
)

MODEL_MODULES: Final = (
    "models.people",
    "models.catalog",
    "models.workspaces",
    "models.published",
    "models.subscriptions",
    "models.wallets",
    "models.calls",
    "models.batches",
    "models.jobs",
    "models.payments",
    "models.promo",
    "models.free_credits",
    "models.events",
    "models.alerts",
    "models.webhooks",
    "models.assets",
)
ORM_APP: Final = "models"


class Database:
    """One per process and DSN, opened by app.lifespan. See `transaction` and `connection` for raw SQL."""

    def __init__(self, url: str, pool: asyncpg.Pool) -> None:
        """Use `open`."""
        self.url = url
        self.pool = pool

    @classmethod
    async def open(cls, url: str, *, min_size: int = 1, max_size: int = 8) -> Self:
        """Connect the pool and initialise Tortoise; Unavailable where the server cannot be reached.

        A second Database of one process must have the same DSN (RuntimeError otherwise), since Tortoise's models
        belong to one database. Tortoise's pool opens at its first query and holds at most `max_size` more connections.
        """
        pool = await open_pool(url, min_size=min_size, max_size=max_size, codecs=True)
        try:
            await _Orm.open(url, max_size)
        except BaseException:
            pool.terminate()
            raise
        return cls(url, pool)

    async def close(self) -> None:
        """Give everything back; safe to call once."""
        await close_pool(self.pool)
        await _Orm.close()

    async def dedicated(self) -> asyncpg.Connection:
        """A connection outside the pool, for a lane that keeps it; the caller closes it."""
        return await open_connection(self.url)


@asynccontextmanager
async def connection(database: Database) -> AsyncGenerator[PoolConnection]:
    """A pool connection for a few statements, each its own transaction.

    Unavailable when none is free in time or the server is away. Given back whatever happens, cancellation included.
    """
    checked = await checked_out(database.pool)
    try:
        with unavailable_on_loss():
            yield checked
    finally:
        await give_back(database.pool, checked)


async def fetch_rows(database: Database, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of one statement; Unavailable where the database is away."""
    async with connection(database) as checked:
        return await checked.fetch(sql, *arguments)


async def fetch_row(database: Database, sql: str, *arguments: object) -> asyncpg.Record | None:
    """The first row of one statement; Unavailable where the database is away."""
    async with connection(database) as checked:
        return await checked.fetchrow(sql, *arguments)


async def execute(database: Database, sql: str, *arguments: object) -> str:
    """The status of one statement; Unavailable where the database is away."""
    async with connection(database) as checked:
        return await checked.execute(sql, *arguments)


@asynccontextmanager
async def transaction(database: Database) -> AsyncGenerator[PoolConnection]:
    """A pool connection in a transaction: committed at the end, rolled back when left by an exception.

    A cancelled task never tears COMMIT or ROLLBACK and never keeps the connection: these run to their end first.
    After Unavailable from the end of the block the outcome is unknown: repeat only what has a unique key.
    """
    async with connection(database) as checked:
        block = checked.transaction()
        await block.start()
        callbacks = _after_commit[id(checked)] = list[Callable[[], None]]()
        try:
            yield checked
        except BaseException:
            with suppress(Unavailable), unavailable_on_loss():  # a lost connection has rolled back; the cause stands
                await finished(block.rollback())
            raise
        finally:
            del _after_commit[id(checked)]
        await finished(_committed(block, callbacks))


async def _committed(block: Transaction, callbacks: list[Callable[[], None]]) -> None:
    await block.commit()
    for callback in callbacks:
        callback()


_after_commit: Final[dict[int, list[Callable[[], None]]]] = {}
"""By the identity of a connection that a `transaction` lends just now."""


def after_commit(lent: object, callback: Callable[[], None]) -> None:
    """Call it once the `transaction` that lends this connection has committed; never when that is rolled back.

    It must be quick and must not raise. With a connection of the caller's own nobody here sees the commit: it is called
    at once.
    """
    callbacks = _after_commit.get(id(lent))
    if callbacks is None:
        callback()
    else:
        callbacks.append(callback)


class _Orm:
    """Tortoise's state of this process, shared by every Database of one DSN.

    The models are set up once a process; a Database that is opened after the last one has closed brings its DSN only.
    """

    _context: ClassVar[TortoiseContext | None] = None
    _url: ClassVar[str] = ""
    _users: ClassVar[int] = 0

    @classmethod
    async def open(cls, url: str, max_size: int) -> None:
        if cls._users:
            if cls._url != url:
                raise RuntimeError("another database is open in this process; Tortoise's models can belong to one only")
            cls._users += 1
            return
        config = orm_config(url, max_size)
        if cls._context is None:
            context = TortoiseContext()
            # The global fallback and not the context variable: tasks started elsewhere must see the connections too.
            with context:  # while the models are set up they look for it there
                await context.init(config=config, _enable_global_fallback=True)
            cls._context = context
        else:
            cls._context.connections.db_config.update(config["connections"])
        cls._url, cls._users = url, 1

    @classmethod
    async def close(cls) -> None:
        cls._users -= 1
        if cls._users > 0 or cls._context is None:
            return
        connections = cls._context.connections
        await connections.close_all()
        connections.db_config.clear()  # a query from now on fails, rather than connect anew


def orm_config(url: str, max_size: int) -> dict[str, dict[str, Any]]:
    """Tortoise's configuration for this DSN."""
    return {
        "connections": {"default": {"engine": "models.orm_client", "credentials": {"dsn": url, "max_size": max_size}}},
        "apps": {ORM_APP: {"models": list(MODEL_MODULES), "default_connection": "default"}},
    }
