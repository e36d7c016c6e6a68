"""`tollgate catalog apply` at Stripe's double: the difference is shown first, made once, and made after an interruption."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.variables import VARIABLES
from tests.seeding import ROOT
from tests.stripe_shop import Shop, start_shop

TIERS = ROOT / "catalogs" / "creator-tiers.toml"
PRICES = ["starter.monthly", "starter.annual", "pro.monthly", "pro.annual"]


@pytest.fixture
async def double() -> AsyncIterator[Shop]:
    double = await start_shop()
    yield double
    await double.close()


class Operator:
    """Who types commands, with a database and an account."""

    def __init__(self, database_url: str, double: Shop) -> None:
        self.environment = {
            "TOLLGATE_DATABASE_URL": database_url,
            "STRIPE_API_KEY": "sk_test_double",
            "STRIPE_WEBHOOK_SECRET": "whsec_double",
            "STRIPE_API_BASE": double.url,
        }

    async def types(self, *words: str | Path, says: str = "") -> Result:
        """One command and what is answered to its questions; it runs an event loop of its own."""
        given = [str(word) for word in words]
        run = CliRunner().invoke
        return await asyncio.to_thread(run, cli, given, input=says, env=self.environment, catch_exceptions=False)


@pytest.fixture
def operator(database_url: str, double: Shop, monkeypatch: pytest.MonkeyPatch) -> Operator:
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    return Operator(database_url, double)


async def lookup_keys(double: Shop) -> list[str]:
    return sorted(price.lookup_key for price in (await double.v1.prices.list_async({"limit": 100})).data)


async def names(double: Shop) -> list[str]:
    return sorted(product.name for product in (await double.v1.products.list_async({"limit": 100})).data)


async def test_the_difference_at_stripe_is_shown_and_asked_for_before_anything_is_made(
    operator: Operator, double: Shop
) -> None:
    refused = await operator.types("catalog", "apply", TIERS, says="y\nn\n")
    assert refused.exit_code == 1
    for price in PRICES:
        assert f"+ price {price}" in refused.output
    assert "Make these at Stripe?" in refused.output
    assert await lookup_keys(double) == []


async def test_applying_the_same_file_again_makes_at_stripe_what_an_interrupted_run_left_out_and_then_nothing(
    operator: Operator, double: Shop
) -> None:
    await double.fault("error_before", "/v1/prices$", method="POST", after=2, times=9)
    stopped = await operator.types("catalog", "apply", "--yes", TIERS)
    assert stopped.exit_code == 1
    assert "Stripe:" in stopped.output
    assert len(await lookup_keys(double)) == 2
    await double.ask("DELETE", "faults")
    again = await operator.types("catalog", "apply", "--yes", TIERS)
    assert again.exit_code == 0, again.output
    assert "Apply this?" not in again.output
    made = await lookup_keys(double)
    assert len(made) == len(set(made)) == len(PRICES) + 2
    third = await operator.types("catalog", "apply", TIERS)
    assert (third.exit_code, "+ " in third.output) == (0, False)
    assert "Stripe has all that is sold" in third.output
    assert await lookup_keys(double) == made


async def test_another_name_of_a_plan_or_a_pack_is_shown_asked_for_and_made_at_stripe(
    operator: Operator, double: Shop, tmp_path: Path
) -> None:
    await operator.types("catalog", "apply", "--yes", TIERS)
    renamed = tmp_path / "renamed.toml"
    renamed.write_text(
        TIERS.read_text()
        .replace('name = "Starter"', 'name = "Beginner"')
        .replace('name = "1,000 credits"', 'name = "A thousand credits"')
    )
    prices = await lookup_keys(double)
    refused = await operator.types("catalog", "apply", renamed, says="y\nn\n")
    assert "~ name of plan starter: Starter → Beginner" in refused.output
    assert "~ name of pack small: 1,000 credits → A thousand credits" in refused.output
    assert {"Starter", "1,000 credits"} <= set(await names(double))
    made = await operator.types("stripe", "prices", "--yes")
    assert made.exit_code == 0
    assert {"Beginner", "A thousand credits"} <= set(await names(double))
    assert not {"Starter", "1,000 credits"} & set(await names(double))
    assert await lookup_keys(double) == prices
    assert "~ " not in (await operator.types("stripe", "prices")).output


async def test_a_dry_run_shows_what_stripe_lacks_and_makes_nothing(operator: Operator, double: Shop) -> None:
    await operator.types("catalog", "apply", TIERS, says="y\nn\n")
    shown = await operator.types("catalog", "apply", "--dry-run", TIERS)
    assert shown.exit_code == 0
    assert "+ price pro.monthly" in shown.output
    assert await lookup_keys(double) == []
