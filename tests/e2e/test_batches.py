"""A batch by the official SDK, with gateway and workers as processes, of which one is killed in the middle."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import openai
import orjson
import pytest

from models.database import Database
from tests.e2e.echo import Echo, echo_provider
from tests.metering.invariants import assert_invariants
from tests.processes import Running, gateway_env, start_gateway, start_worker
from tests.seeding import Seeded, apply_catalog, seed_workspace

LINES = 12
GRANTED_MICRO = 20_000_000_000_000


@pytest.fixture
async def served(
    database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[tuple[Running, Running, dict[str, str], Echo, Seeded]]:
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, GRANTED_MICRO)
    await database.close()
    async with echo_provider() as echo:
        env = gateway_env(database_url, redis_url, tmp_path, TOLLGATE_SANDBOX_URL=echo.url, TOLLGATE_HOLD_TTL_S="5")
        gateway, worker = await asyncio.gather(start_gateway(env), start_worker(env))
        yield gateway, worker, env, echo, seeded
        assert await gateway.stop() == 0


def asked() -> bytes:
    lines = []
    for number in range(LINES):
        slow = {"wait": "4"} if number >= LINES // 2 else {}
        messages = [{"role": "user", "content": f"number {number}"}]
        body = {"model": "sandbox-chat", "max_tokens": 20, "messages": messages, "metadata": slow}
        call = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        lines.append(orjson.dumps(call))
    return b"\n".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_batch_outlives_a_killed_worker_and_every_line_is_charged_once(served, pg: asyncpg.Connection) -> None:
    gateway, killed, env, echo, seeded = served
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=seeded.api_key, max_retries=0) as client:
        file = await client.files.create(file=("calls.jsonl", asked()), purpose="batch")
        assert (file.bytes, file.purpose, file.filename) == (len(asked()), "batch", "calls.jsonl")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"job": "one"}
        )
        async with asyncio.timeout(40):
            while len(echo.headers) <= LINES // 2:  # the slow ones have begun
                await asyncio.sleep(0.05)
        await killed.kill()
        # The killed worker's claims would lapse after a minute.
        await pg.execute("UPDATE batch_lines SET claimed_until = now()")
        worker = await start_worker(env)
        async with asyncio.timeout(60):
            while (batch := await client.batches.retrieve(batch.id)).status != "completed":
                await asyncio.sleep(0.3)
        assert (batch.request_counts.total, batch.request_counts.completed) == (LINES, LINES)
        text = (await client.files.content(batch.output_file_id)).text
        assert [listed.id async for listed in client.batches.list()] == [batch.id]
    async with asyncio.timeout(30):  # what the killed worker held lapses
        while await pg.fetchval("SELECT count(*) FROM holds"):
            await asyncio.sleep(0.1)
    await worker.stop()
    lines = {line["custom_id"]: line for line in map(orjson.loads, text.splitlines())}
    assert len(lines) == LINES
    for number in range(LINES):
        body = lines[f"c{number}"]["response"]["body"]
        assert body["choices"][0]["message"]["content"] == f"you said number {number}"
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == LINES
    charged = await pg.fetchval("SELECT sum(charged_micro)::bigint FROM usage_events")
    assert await pg.fetchval("SELECT balance_micro FROM wallets") == GRANTED_MICRO - charged
    assert await pg.fetchval("SELECT count(*) FROM holds") == 0
    await assert_invariants(pg)
