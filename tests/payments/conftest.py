"""One double of Stripe for the tests of a worker process, as new for each test."""

from collections.abc import AsyncIterator

import pytest

from models.database import Database
from tests.stripe_shop import Shop, start_shop


@pytest.fixture(scope="session")
async def running_double() -> AsyncIterator[Shop]:
    double = await start_shop()
    yield double
    await double.close()


@pytest.fixture
async def double(running_double: Shop) -> Shop:
    await running_double.reset()
    return running_double


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    yield database
    await database.close()
