"""A gateway's services in this process with a sandbox server as its provider of predictions, and what a test asks them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from app.lifespan import Services, open_services
from app.settings import Settings
from gateway.views import Caller, CallRequest
from kit import clock
from metering.usage import calls_by_id
from metering.views import CallView
from models.database import Database
from providers.base import Operation
from tests.metering.invariants import assert_invariants
from tests.processes import Running
from tests.seeding import CATALOG, Seeded, apply_catalog, seed_workspace

CREDITS_MICRO = 1_000_000_000
SECRET_KEY = "a secret key for the tests of jobs and assets"
WEBHOOK_SECRET = "whsec_c2VjcmV0IG9mIHRoZSBzYW5kYm94"
FORGETFUL = "127.0.0.1:9"

EXTRA = """
[providers.prints]
kind = "prediction"
base_url_env = "PRINTS_URL"
[providers.prints.prediction]
cancel_path = "/predictions/{id}/cancel"
idempotency_header = "Idempotency-Key"
webhook_field = "webhook"
usage = { IMAGES = "usage.images", SECONDS = "usage.seconds" }
webhook_secret_env = "PRINTS_SECRET"
longest_poll_s = 1

[providers.once]
kind = "prediction"
base_url_env = "PRINTS_URL"
[providers.once.prediction]
usage = { SECONDS = "usage.seconds" }
longest_poll_s = 1

[providers.rest]
kind = "openai_compatible"
base_url_env = "PRINTS_URL"

[providers.nowhere]
kind = "prediction"
base_url = "http://127.0.0.1:9/v1"

[models.clip]
name = "Clip"
modality = "VIDEO"
max_seconds = 10
job_deadline_s = 600
asset_bytes = 1000
routes = [{ provider = "prints", upstream_model = "a-video" }]
prices = [{ meter = "REQUESTS", credits = "1" }, { meter = "SECONDS", credits = "2" }]

[models.clip-once]
name = "Clip of a provider without keys and without an end"
modality = "VIDEO"
max_seconds = 10
routes = [{ provider = "once", upstream_model = "a-video" }]
prices = [{ meter = "SECONDS", credits = "2" }]

[models.clip-elsewhere]
name = "Clip with two routes"
modality = "VIDEO"
max_seconds = 10
routes = [
    { provider = "nowhere", upstream_model = "a-video", order = 0 },
    { provider = "prints", upstream_model = "a-video", order = 1 },
]
prices = [{ meter = "SECONDS", credits = "2" }]

[models.print]
name = "Print"
modality = "IMAGE"
max_images = 10
asset_bytes = 1000
routes = [{ provider = "prints", upstream_model = "an-image" }]
prices = [{ meter = "IMAGES", credits = "3" }]

[models.speaker]
name = "Speaker"
modality = "AUDIO"
max_characters = 100
asset_bytes = 1000
routes = [{ provider = "rest", upstream_model = "sandbox-audio" }]
prices = [{ meter = "CHARACTERS", credits = "1" }]

[models.snapshot]
name = "Snapshot"
modality = "IMAGE"
max_images = 10
asset_bytes = 1000
routes = [{ provider = "rest", upstream_model = "sandbox-image" }]
prices = [{ meter = "IMAGES", credits = "3" }]
"""


@dataclass
class Shop:
    services: Services
    seeded: Seeded
    pg: asyncpg.Connection
    log: Path
    sandbox: Running
    directory: Path

    async def caller(self, **more: object) -> Caller:
        facts = await self.services.workspaces.facts(self.seeded.workspace_id)
        known = {
            "request_id": "r",
            "workspace_id": facts.workspace_id,
            "wallet_id": facts.wallet_id,
            "plan": facts.plan,
            "api_key_id": self.seeded.api_key_id,
            "stored_days": facts.stored_days,
        }
        return Caller(**{**known, **more})

    async def start(
        self, model: str = "clip", *, key: str | None = None, caller: Caller | None = None, **body: object
    ) -> UUID:
        """A job of 3 seconds, or one picture; further fields of the body, of which `sandbox_` ones are metadata."""
        operation = Operation.IMAGE if model.startswith(("print", "snapshot")) else Operation.VIDEO
        metadata = {name: str(value) for name, value in body.items() if name.startswith("sandbox_")}
        asked = {name: value for name, value in body.items() if name not in metadata}
        usual: dict = {"prompt": "a marker of this prompt", "metadata": {"sandbox_delay_ms": "0", **metadata}}
        if operation is Operation.VIDEO:
            usual["seconds"] = 3
        request = CallRequest(model, operation, {**usual, **asked}, idempotency_key=key, way="job")
        return await self.services.jobs.jobs.start(caller or await self.caller(), request)

    async def call(self, call_id: UUID) -> CallView:
        return (await calls_by_id(self.services.database, [call_id]))[call_id]

    async def round(self, services: Services | None = None) -> int:
        return await (services or self.services).jobs.runner.advance(limit=20)

    async def hurry(self) -> None:
        """What is to be looked at later is due now."""
        await self.pg.execute("UPDATE jobs SET due_at = now() WHERE ended_at IS NULL")

    async def ended(self, call_id: UUID, *, rounds: int = 400) -> CallView:
        """Rounds of a worker until the call has ended."""
        for _ in range(rounds):
            await self.hurry()
            await self.round()
            found = await self.call(call_id)
            if found.completed_at is not None:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"call {call_id} has not ended: {await self.row(call_id)}")

    async def row(self, call_id: UUID) -> asyncpg.Record:
        return await self.pg.fetchrow("SELECT * FROM jobs WHERE call_id = $1", call_id)

    async def wallet(self) -> tuple[int, int]:
        """What is left, and what is held."""
        row = await self.pg.fetchrow(
            "SELECT balance_micro, held_micro FROM wallets WHERE id = $1", self.seeded.wallet_id
        )
        return row[0], row[1]

    async def spent(self) -> int:
        """In whole credits, with nothing held and every invariant of the money true."""
        await assert_invariants(self.pg)
        balance, held = await self.wallet()
        assert held == 0
        spent, rest = divmod(CREDITS_MICRO - balance, 1_000_000)
        assert rest == 0
        return spent

    async def room(self) -> tuple[int, int]:
        """Bytes used and set aside."""
        row = await self.pg.fetchrow(
            "SELECT used_bytes, reserved_bytes FROM workspace_storage WHERE workspace_id = $1", self.seeded.workspace_id
        )
        return (0, 0) if row is None else (row[0], row[1])

    async def give_plan(self, **entitlements: object) -> None:
        """The workspace's plan with other entitlements."""
        await self.pg.execute(
            "UPDATE plans SET entitlements = entitlements || $1::jsonb WHERE retired_at IS NULL",
            orjson.dumps(entitlements).decode(),
        )
        await self.services.catalog.reload()
        self.services.workspaces.forget_all()

    def served(self, event: str) -> list[dict]:
        """What the sandbox did, by its own log."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in map(orjson.loads, lines) if line.get("event") == event]


@asynccontextmanager
async def later(by: timedelta) -> AsyncIterator[None]:
    """Time has passed."""
    with clock.installed(lambda: datetime.now(UTC) + by):
        yield


async def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


def settings_of(database_url: str, redis_url: str, directory: Path, **more: str) -> Settings:
    return Settings.from_environment(
        {
            "TOLLGATE_DATABASE_URL": database_url,
            "TOLLGATE_REDIS_URL": redis_url,
            "TOLLGATE_SECRET_KEY": SECRET_KEY,
            "TOLLGATE_DATA_DIR": str(directory),
            **more,
        }
    )


def set_environment(patch: pytest.MonkeyPatch, sandbox: Running) -> None:
    patch.setenv("PRINTS_URL", sandbox.url)
    patch.setenv("PRINTS_SECRET", WEBHOOK_SECRET)


@asynccontextmanager
async def open_shop(
    database_url: str,
    redis_url: str,
    directory: Path,
    pg: asyncpg.Connection,
    sandbox: Running,
    log: Path,
    more: str = "",
) -> AsyncIterator[Shop]:
    """`more` of the catalog."""
    async with AsyncExitStack() as stack:
        database = await Database.open(database_url, max_size=2)
        catalog = directory / "catalog.toml"
        catalog.write_text(CATALOG.read_text(encoding="utf-8") + EXTRA + more, encoding="utf-8")
        await apply_catalog(database, catalog)
        seeded = await seed_workspace(database, CREDITS_MICRO)
        await database.close()
        services = await stack.enter_async_context(open_services(settings_of(database_url, redis_url, directory)))
        yield Shop(services, seeded, pg, log, sandbox, directory)
