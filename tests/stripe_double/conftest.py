"""One double for the tests of a worker process, as new for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.stripe_shop import Shop, start_shop


@pytest.fixture(scope="session")
async def running_shop() -> AsyncIterator[Shop]:
    shop = await start_shop()
    yield shop
    await shop.close()


@pytest.fixture
async def shop(running_shop: Shop) -> Shop:
    """The double, empty, its clock running with the real one."""
    await running_shop.reset()
    return running_shop
