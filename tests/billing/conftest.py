"""The database behind the billing room's tests."""

from collections.abc import AsyncIterator

import pytest

from models.database import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    yield database
    await database.close()
