"""A picture by its quality and size, a film by its resolution: through processes, as clients ask for them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import asyncpg
import openai
import pytest

from models.database import Database
from tests.metering.invariants import assert_invariants
from tests.processes import Running, gateway_env, start_gateway, start_sandbox, start_worker
from tests.seeding import CATALOG, Seeded, apply_catalog, seed_workspace

GRANTED_MICRO = 1_000_000_000
START = "mutation($input: ModelCallInput!) { startCall(input: $input) { call { id } wallet { held } userErrors { message } } }"
CALL = "query($id: ID!) { node(id: $id) { ... on ModelCall { status usage { credits } } } }"
ESTIMATE = "query($input: ModelCallInput!) { estimateCall(input: $input) { maxCredits } }"
PRICES = "query($slug: String!) { model(slug: $slug) { prices { meter credits when { field values } } } }"
MODELS = """
[models.poster]
name = "Poster"
modality = "IMAGE"
max_images = 4
routes = [{ provider = "sandbox", upstream_model = "sandbox-image" }]
prices = [
    { meter = "IMAGES", credits = "4" },
    { meter = "IMAGES", when = { quality = "hd" }, credits = "8" },
    { meter = "IMAGES", when = { quality = "hd", size = ["1024x1792", "1792x1024"] }, credits = "12" },
]

[models.film]
name = "Film"
modality = "VIDEO"
max_seconds = 10
routes = [{ provider = "sandbox", upstream_model = "sandbox-video" }]
prices = [
    { meter = "SECONDS", credits = "2" },
    { meter = "SECONDS", when = { resolution = "1080p" }, credits = "5" },
]
"""


@dataclass
class Place:
    gateway: Running
    pg: asyncpg.Connection
    seeded: Seeded

    async def ask(self, document: str, **variables: object) -> dict:
        headers = {"Authorization": f"Bearer {self.seeded.api_key}"}
        body = {"query": document, "variables": variables}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self.gateway.url}/graphql", json=body) as answer,
        ):
            told = await answer.json()
        assert "errors" not in told, told
        return told["data"]

    async def spent(self) -> int:
        """In whole credits, with nothing held and every invariant of the money true."""
        await assert_invariants(self.pg)
        row = await self.pg.fetchrow(
            "SELECT balance_micro, held_micro FROM wallets WHERE id = $1", self.seeded.wallet_id
        )
        assert row["held_micro"] == 0
        return (GRANTED_MICRO - row["balance_micro"]) // 1_000_000


@pytest.fixture
async def place(database_url, redis_url, tmp_path) -> AsyncIterator[Place]:
    database = await Database.open(database_url, max_size=2)
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG.read_text(encoding="utf-8") + MODELS, encoding="utf-8")
    await apply_catalog(database, catalog)
    seeded = await seed_workspace(database, GRANTED_MICRO)
    await database.close()
    sandbox = await start_sandbox()
    env = gateway_env(database_url, redis_url, tmp_path, TOLLGATE_SANDBOX_URL=sandbox.url)
    gateway, worker = await asyncio.gather(start_gateway(env), start_worker(env))
    pg = await asyncpg.connect(database_url)
    yield Place(gateway, pg, seeded)
    await pg.close()
    assert await worker.stop() == 0
    assert await gateway.stop() == 0
    await sandbox.stop()


async def test_a_picture_through_openais_sdk_costs_by_its_quality_and_size(place: Place) -> None:
    client = openai.AsyncOpenAI(base_url=f"{place.gateway.url}/v1", api_key=place.seeded.api_key, max_retries=0)
    async with client:
        for more, cost in (
            ({}, 4),
            ({"quality": "hd"}, 8),
            ({"quality": "hd", "size": "1792x1024", "n": 2}, 24),
            ({"quality": "auto"}, 8),
        ):
            before = await place.spent()
            made = await client.images.generate(model="poster", prompt="a gate", **more)
            assert float(made.usage.credits) == cost  # pyright: ignore[reportOptionalMemberAccess]
            assert await place.spent() - before == cost


async def test_a_job_is_estimated_held_and_charged_by_its_resolution(place: Place) -> None:
    for more, cost in (({}, 6), ({"resolution": "1080P"}, 15)):
        before = await place.spent()
        asked = {"prompt": "a wave", "seconds": 3, "metadata": {"sandbox_delay_ms": "300"}, **more}
        wanted = {"model": "film", "payload": {"custom": asked}}
        assert (await place.ask(ESTIMATE, input=wanted))["estimateCall"]["maxCredits"] == str(cost)
        begun = (await place.ask(START, input=wanted))["startCall"]
        assert (begun["userErrors"], begun["wallet"]["held"]) == ([], str(cost))
        async with asyncio.timeout(60):
            while (call := (await place.ask(CALL, id=begun["call"]["id"]))["node"])["status"] in {"QUEUED", "RUNNING"}:
                await asyncio.sleep(0.1)
        assert (call["status"], call["usage"]["credits"]) == ("SUCCEEDED", str(cost))
        assert await place.spent() - before == cost


async def test_a_model_tells_which_requests_have_which_price(place: Place) -> None:
    prices = (await place.ask(PRICES, slug="poster"))["model"]["prices"]
    assert [(price["credits"], price["when"]) for price in prices] == [
        ("4", []),
        ("8", [{"field": "quality", "values": ["hd"]}]),
        ("12", [{"field": "quality", "values": ["hd"]}, {"field": "size", "values": ["1024x1792", "1792x1024"]}]),
    ]
