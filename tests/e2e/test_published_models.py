"""Published models with real processes: the official SDK as client, and a gateway killed in the middle of a chain."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import asyncpg
import openai
import pytest

from billing.catalog_apply import PromoCodes, apply
from billing.catalog_file import read_catalog
from kit.clock import now
from kit.ids import encode_id
from metering.ledger import Ledger
from metering.reaper import reap_holds
from metering.reconcile import reconcile
from models.database import Database
from tests.gateway.market import CREDITS_MICRO, Provider
from tests.metering.invariants import assert_invariants
from tests.processes import SECRET_KEY, Running, gateway_env, start_gateway
from tests.providers.upstreams import scripted
from tests.seeding import ROOT, Seeded, seed_workspace

PRICES = [{"meter": "OUTPUT_TOKENS", "credits": "1", "per": "1000"}]
EACH = 20_000
PUBLISH = "mutation($input: PublishModelInput!) { publishModel(input: $input) { publishedModel { model { slug } } userErrors { message } } }"


@dataclass
class Town:
    gateway: Running
    env: dict[str, str]
    database: Database
    pg: asyncpg.Connection
    maker: Seeded
    buyer: Seeded
    provider: Provider

    async def publish(self, slug: str, **more: object) -> str:
        provider = {"baseUrl": self.provider.upstream.url, "model": slug, "apiKey": "sk-maker"}
        given = {
            "workspaceId": encode_id("ws", self.maker.workspace_id),
            "slug": slug,
            "name": slug,
            "visibility": "PUBLIC",
            "maxOutputTokens": 100,
            "prices": PRICES,
            "provider": provider,
            **more,
        }
        headers = {"Authorization": f"Bearer {self.maker.api_key}"}
        body = {"query": PUBLISH, "variables": {"input": given}}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.gateway.url}/graphql", json=body, headers=headers) as answer,
        ):
            made = (await answer.json())["data"]["publishModel"]
        assert made["userErrors"] == []
        return made["publishedModel"]["model"]["slug"]

    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.gateway.url}/v1", api_key=self.buyer.api_key, max_retries=0)

    async def balance(self, seeded: Seeded) -> int:
        return await self.pg.fetchval("SELECT balance_micro FROM wallets WHERE id = $1", seeded.wallet_id)


@pytest.fixture
async def town(database_url: str, redis_url: str, tmp_path) -> AsyncIterator[Town]:
    database = await Database.open(database_url, max_size=4)
    codes = PromoCodes(SECRET_KEY.encode(), {"PROMO_WELCOME_CODE": "WELCOME-2026", "PROMO_TOP_UP_CODE": "MORE-FOR-ALL"})
    await apply(database, read_catalog(ROOT / "catalogs" / "usd-balance.toml"), now=now(), promo_codes=codes)
    maker = await seed_workspace(database, CREDITS_MICRO, "maker")
    buyer = await seed_workspace(database, CREDITS_MICRO, "buyer")
    await database.pool.execute(
        "UPDATE workspaces SET default_plan_id = (SELECT id FROM plans WHERE code = 'pro' AND retired_at IS NULL)"
    )
    provider = Provider()
    env = gateway_env(database_url, redis_url, tmp_path, TOLLGATE_HOLD_TTL_S="5", TOLLGATE_EGRESS_ALLOW="127.0.0.0/8")
    pg = await asyncpg.connect(database_url)
    async with scripted(provider.script) as upstream:
        provider.upstream = upstream
        gateway = await start_gateway(env)
        opened = Town(gateway, env, database, pg, maker, buyer, provider)
        yield opened
        if opened.gateway.process.returncode is None:
            assert await opened.gateway.stop() == 0
    await pg.close()
    await database.close()


async def test_B13_a_published_model_and_a_chain_are_called_with_the_official_sdk(town: Town) -> None:
    part = await town.publish("part")
    steps = [
        {"name": "one", "model": part, "prompt": "{{ input.topic }}"},
        {"name": "two", "model": part, "prompt": "{{ steps.one.content }}"},
    ]
    chain = await town.publish("chain", provider=None, maxOutputTokens=None, prices=[], chain={"steps": steps})
    async with town.client() as client:
        said = [{"role": "user", "content": "hi"}]
        answer = await client.chat.completions.create(model=part, messages=said, max_tokens=50)
        assert answer.choices[0].message.content == "made here"
        assert answer.usage.credits == "0.02"
        stream = await client.chat.completions.create(
            model=chain, messages=said, stream=True, extra_body={"input": {"topic": "the sea"}}
        )
        text, usage = "", None
        async for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            usage = chunk.usage or usage
        assert (text, usage.credits, usage.completion_tokens) == ("made here", "0.04", 40)
        assert (await client.models.retrieve(chain)).id == chain
    async with aiohttp.ClientSession() as visitor:
        for path in ("/m", "/m/"):
            async with visitor.get(f"{town.gateway.url}{path}") as page:
                told = await page.text()
            assert page.status == 200
            assert f'<a href="/m/{part}">' in told
            assert f'<a href="/m/{chain}">' in told
        async with visitor.get(f"{town.gateway.url}/m/{part}") as page:
            assert page.status == 200
    assert town.provider.asked[-2]["messages"] == [{"role": "user", "content": "the sea"}]
    assert await town.balance(town.buyer) == CREDITS_MICRO - 3 * EACH
    assert await town.balance(town.maker) == CREDITS_MICRO + 3 * EACH * 80 // 100
    await assert_invariants(town.pg)
    assert (await reconcile(town.database)).counts == {}
    assert not [line for line in town.gateway.lines if "Traceback" in line or "sk-maker" in line], town.gateway.lines


@pytest.mark.slow
async def test_B14_a_gateway_killed_in_the_middle_of_a_chain_charges_its_finished_steps(town: Town) -> None:
    parts = {name: await town.publish(name) for name in "ab"}
    steps = [
        {"name": "one", "model": parts["a"], "prompt": "x"},
        {"name": "two", "model": parts["b"], "prompt": "{{ steps.one.content }}"},
    ]
    chain = await town.publish("chain", provider=None, maxOutputTokens=None, prices=[], chain={"steps": steps})
    town.provider.gates["b"] = asyncio.Event()
    async with town.client() as client:
        call = asyncio.create_task(
            client.chat.completions.create(model=chain, messages=[{"role": "user", "content": "hi"}])
        )
        async with asyncio.timeout(30):
            while await town.pg.fetchval("SELECT checkpoint_micro FROM holds") != EACH:
                await asyncio.sleep(0.02)
        await town.gateway.kill()
        with pytest.raises(openai.APIConnectionError):
            await call
    ledger = await Ledger.open(town.database)
    async with asyncio.timeout(30):
        while await reap_holds(town.database, ledger) == 0:
            await asyncio.sleep(0.1)
    await ledger.close()
    assert await town.balance(town.buyer) == CREDITS_MICRO - EACH
    assert await town.balance(town.maker) == CREDITS_MICRO + EACH * 80 // 100
    row = await town.pg.fetchrow(
        "SELECT c.status, u.presumed, u.details->'steps'->0->>'step' FROM calls c JOIN usage_events u ON u.call_id = c.id"
    )
    assert tuple(row) == ("FAILED", True, "one")
    await assert_invariants(town.pg)
    assert (await reconcile(town.database)).counts == {}
