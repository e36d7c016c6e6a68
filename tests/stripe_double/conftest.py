"""A short name for the double."""

import pytest

from tests.stripe_shop import Shop


@pytest.fixture
async def shop(stripe_double: Shop) -> Shop:
    """The Stripe double as the root fixture gives it."""
    return stripe_double
