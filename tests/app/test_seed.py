"""The demo of `tollgate run`: it has a key that works, whatever the catalog's default plan allows."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.lifespan import open_services
from app.seed import seed_demo
from app.settings import Settings
from billing.due import subscribe_by_default
from billing.plans import plan_of
from kit.clock import now
from metering.wallets import wallets_by_workspace
from models.database import Database
from tests.processes import ROOT, gateway_env
from tests.seeding import apply_catalog

FREE_WITHOUT_API = "usd-balance"
"""Its default plan is free, and has no API access."""


@asynccontextmanager
async def house(database_url: str, redis_url: str, data: Path, catalog: Path):
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database, catalog)
    await database.close()
    async with open_services(Settings.from_environment(gateway_env(database_url, redis_url, data))) as services:
        yield services


@pytest.mark.parametrize("catalog", sorted(path.stem for path in (ROOT / "catalogs").glob("*.toml")))
async def test_the_demo_has_a_key_under_every_example_catalog_and_keeps_it(
    database_url: str, redis_url: str, tmp_path: Path, catalog: str
) -> None:
    async with house(database_url, redis_url, tmp_path, ROOT / "catalogs" / f"{catalog}.toml") as services:
        first = await seed_demo(services)
        await subscribe_by_default(services.billing)
        again = await seed_demo(services)
        slugs = [row["slug"] for row in await services.database.pool.fetch("SELECT slug FROM workspaces")]
        confirmed = await services.database.pool.fetchval("SELECT email_verified_at IS NOT NULL FROM users")
    assert confirmed, "a mail's link opens no workspace beside the demo's"
    assert first.api_key is not None
    assert again.api_key == first.api_key
    assert slugs == ["example"]


async def test_the_worker_of_another_process_takes_no_api_access_from_a_new_demo(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "catalogs" / f"{FREE_WITHOUT_API}.toml"
    async with house(database_url, redis_url, tmp_path, path) as services:

        async def sweep_first(*given):
            """The worker comes as soon as the workspace is there."""
            await subscribe_by_default(services.billing)
            return await plan_of(*given)

        monkeypatch.setattr("app.seed.plan_of", sweep_first)
        demo = await seed_demo(services)
        await subscribe_by_default(services.billing)
        (workspace_id,) = [row["id"] for row in await services.database.pool.fetch("SELECT id FROM workspaces")]
        plan = await plan_of(services.database, services.catalog.current, workspace_id, now())
        wallets = await wallets_by_workspace(services.database, [workspace_id], now())
    assert demo.api_key is not None
    assert plan.entitlements.api_access
    assert wallets[workspace_id].available_micro > 0


async def test_a_demo_whose_own_subscription_has_no_api_access_is_told_without_a_key(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    path = ROOT / "catalogs" / f"{FREE_WITHOUT_API}.toml"
    async with house(database_url, redis_url, tmp_path, path) as services:
        await seed_demo(services)
        await services.database.pool.execute("UPDATE workspaces SET default_plan_id = NULL")
        await services.database.pool.execute("UPDATE api_keys SET revoked_at = now()")
        assert await subscribe_by_default(services.billing) == 1
        demo = await seed_demo(services)
    assert demo.api_key is None
