"""Databases for the tests of the models."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.embedded import EmbeddedServers
from models.database import Database


@pytest.fixture
async def empty_database_url(postgres_server: EmbeddedServers) -> AsyncIterator[str]:
    """The address of a database that no migration has seen."""
    maintenance_url = postgres_server.database_url.replace("@/tollgate?", "@/postgres?")
    connection = await asyncpg.connect(maintenance_url)
    await connection.execute("CREATE DATABASE unmigrated TEMPLATE template0")
    yield maintenance_url.replace("@/postgres?", "@/unmigrated?")
    await connection.execute("DROP DATABASE unmigrated WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A small pool and Tortoise on the test's database."""
    database = await Database.open(database_url, max_size=4)
    yield database
    await database.close()


@pytest.fixture(scope="package")
async def shared_database_url(database_clones) -> AsyncIterator[str]:
    """A migrated database that several tests read; who writes rolls back."""
    name = await database_clones.take()
    yield database_clones.url_of(name)
    await database_clones.drop(name)


@pytest.fixture
async def shared_pg(shared_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the shared database, in a transaction that is rolled back."""
    connection = await asyncpg.connect(shared_database_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.fixture
async def shared_database(shared_database_url: str) -> AsyncIterator[Database]:
    """Tortoise on the shared database."""
    database = await Database.open(shared_database_url, min_size=0, max_size=1)
    yield database
    await database.close()
