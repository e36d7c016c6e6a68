"""Opens asyncpg connections and pools the way this product needs them."""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from kit.errors import Unavailable

CHECKOUT_TIMEOUT_S: Final = 5.0
"""How long a request waits for a free pool connection; after that it is refused as Unavailable, not queued for ever."""

CONNECT_TIMEOUT_S: Final = 10
COMMAND_TIMEOUT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 10.0

PoolConnection: TypeAlias = PoolConnectionProxy
"""A connection lent by a pool; has the methods of asyncpg.Connection."""

T = TypeVar("T")

_AWAY: Final = "The database is away. Try again."
_LOSS: Final = (
    asyncpg.PostgresConnectionError,  # class 08, also ConnectionDoesNotExistError
    asyncpg.OperatorInterventionError,  # class 57: shutdown, crash, starting up; a cancelled statement is one too
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # what asyncpg's protocol says when the server's farewell meets our next statement
    ConnectionError,
    TimeoutError,  # asyncpg's own: no answer within COMMAND_TIMEOUT_S
)
_LOSS_SIGNS: Final = ("is clos", "has been released back to the pool")
"""In InterfaceErrors: "connection is closed", "pool is closing"; and a pool takes a lost connection back by itself."""

_JSONB_VERSION: Final = b"\x01"


class PlainConnection(asyncpg.Connection):
    """A connection whose release sends no reset query: a quarter of a short query's cost.

    So nothing on a pooled connection may leave session state behind: no session advisory locks, LISTEN, SET or
    temporary tables. Inside a transaction use SET LOCAL and pg_advisory_xact_lock; else take `Database.dedicated()`.
    """

    def get_reset_query(self) -> str:
        """No reset; an open transaction is rolled back all the same."""
        return ""


async def open_connection(url: str) -> asyncpg.Connection:
    """One connection of its own; Unavailable where the server cannot be reached."""
    with unavailable_on_loss(connecting=True):
        connection: asyncpg.Connection = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": "tollgate"},
        )
    await install_codecs(connection)
    return connection


async def open_pool(url: str, *, min_size: int, max_size: int, codecs: bool) -> asyncpg.Pool:
    """A pool of PlainConnection; Unavailable where the server cannot be reached.

    `codecs` False leaves jsonb as text, as Tortoise's JSONField expects it.
    """
    with unavailable_on_loss(connecting=True):
        return await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            connection_class=PlainConnection,
            init=install_codecs if codecs else None,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": "tollgate"},
        )


async def close_pool(pool: asyncpg.Pool) -> None:
    """Wait for checked-out connections for a while, then cut them off."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def install_codecs(connection: asyncpg.Connection) -> None:
    """Let jsonb go to and from Python objects."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )


async def checked_out(pool: asyncpg.Pool) -> PoolConnection:
    """A connection of the pool, to be given back with `give_back`.

    Unavailable when none is free within CHECKOUT_TIMEOUT_S or the server is away. Cancellation leaks nothing: asyncpg
    puts the place back, and `timeout` runs in this task.
    """
    with unavailable_on_loss(connecting=True):
        async with asyncio.timeout(CHECKOUT_TIMEOUT_S):
            lent: PoolConnection = await pool.acquire()
            return lent


async def give_back(pool: asyncpg.Pool, connection: PoolConnection) -> None:
    """Return a connection to its pool, also when this task is cancelled meanwhile; a broken one is replaced."""
    with suppress(Unavailable), unavailable_on_loss():
        await finished(pool.release(connection))


async def finished(work: Coroutine[Any, Any, T]) -> T:  # Any: the types asyncio gives a coroutine it only awaits
    """Run to the end even when this task is cancelled meanwhile; the cancellation is raised afterwards.

    For the steps that must not be torn: commit, rollback, giving a connection back.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # seen, so that asyncio does not report it; the cancellation matters more
        raise cancelled
    return task.result()


@contextmanager
def unavailable_on_loss(*, connecting: bool = False) -> Generator[None]:
    """The one place where "the database is away" becomes kit.errors.Unavailable.

    While `connecting` any OSError counts: a missing socket file, an unknown host.
    """
    try:
        yield
    except _LOSS as error:
        raise Unavailable(_AWAY) from error
    except asyncpg.InterfaceError as error:
        if not any(sign in str(error) for sign in _LOSS_SIGNS):  # others are our own mistakes
            raise
        raise Unavailable(_AWAY) from error
    except OSError as error:
        if not connecting:
            raise
        raise Unavailable(_AWAY) from error


def dump_json(value: object) -> bytes:
    """JSON as jsonb columns get it: UUIDs as text (asyncpg's own subclass included), keys of other types refused."""
    return orjson.dumps(value, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in jsonb")


def _encode_jsonb(value: object) -> bytes:
    return _JSONB_VERSION + dump_json(value)


def _decode_jsonb(data: bytes) -> object:
    return orjson.loads(data[1:])
