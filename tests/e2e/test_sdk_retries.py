"""The official SDK loses patience and tries again by itself: one charge, and the answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import openai
import pytest

from models.database import Database
from tests.e2e.echo import Echo, echo_provider
from tests.metering.invariants import assert_invariants
from tests.processes import Running, gateway_env, start_gateway
from tests.seeding import Seeded, apply_catalog, seed_workspace

ASKED = {"model": "sandbox-chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}


@pytest.fixture
async def served(
    database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[tuple[list[Running], Echo, Seeded]]:
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 20_000_000_000_000)
    await database.close()
    async with echo_provider() as echo:
        env = gateway_env(database_url, redis_url, tmp_path, TOLLGATE_SANDBOX_URL=echo.url)
        gateways = await asyncio.gather(*(start_gateway(env) for _ in range(2)))
        yield gateways, echo, seeded
        for gateway in gateways:
            assert await gateway.stop() == 0


class TwoGateways(openai.AsyncOpenAI):
    """Each attempt goes to the other gateway."""

    bases: list[str]

    async def _prepare_request(self, request) -> None:
        self.bases.append(self.bases.pop(0))
        request.url = request.url.copy_with(port=int(self.bases[0].rpartition(":")[2]))


@pytest.mark.slow
async def test_a_retry_after_a_time_out_at_another_gateway_is_charged_once(served, pg: asyncpg.Connection) -> None:
    gateways, echo, seeded = served
    client = TwoGateways(base_url=f"{gateways[0].url}/v1", api_key=seeded.api_key, max_retries=10, timeout=2.0)
    client.bases = [gateway.url for gateway in gateways]
    async with client:
        answer = await client.chat.completions.create(**ASKED, metadata={"wait": "3.5"})
    assert answer.choices[0].message.content == "you said hello"
    assert len(echo.headers) == 1
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 1
    await assert_invariants(pg)


async def test_without_it_each_attempt_would_be_a_call(served, pg: asyncpg.Connection) -> None:
    gateways, echo, seeded = served
    switched_off = {"X-Tollgate-Dedupe": "off"}
    async with openai.AsyncOpenAI(base_url=f"{gateways[0].url}/v1", api_key=seeded.api_key, max_retries=1, timeout=2.0) as client:  # fmt: skip
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(**ASKED, metadata={"wait": "2.5"}, extra_headers=switched_off)
    async with asyncio.timeout(30):
        while len(echo.headers) < 2:
            await asyncio.sleep(0.02)
    assert len(echo.headers) == 2
