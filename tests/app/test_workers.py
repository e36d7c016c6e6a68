"""`tollgate serve` with several worker processes: one port, one limit, and an orderly end."""

import asyncio
import time

import aiohttp
import asyncpg

from models.database import Database
from tests.processes import gateway_env, start_gateway
from tests.seeding import apply_catalog, seed_workspace


def call(seeded, client, url, **metadata):
    body = {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x"}], "metadata": metadata}
    return client.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {seeded.api_key}"})


async def test_a_stop_tells_sockets_finishes_calls_and_ends_every_worker(database_url, redis_url, pg, tmp_path):
    database = await Database.open(database_url)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 10**13)
    await database.close()
    await pg.execute("UPDATE api_keys SET requests_per_hour = 100")  # which refills once in 36 s
    gateway = await start_gateway(gateway_env(database_url, redis_url, tmp_path, TOLLGATE_WORKERS="2"))
    async with aiohttp.ClientSession() as client:
        answers = await asyncio.gather(*(call(seeded, client, gateway.url) for _ in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        left = {int(answer.headers["ratelimit"].split("r=")[1].split(";")[0]) for answer in answers}
        assert min(left) in {80, 81}, "one bucket for both processes"
        async with client.ws_connect(f"{gateway.url}/graphql", protocols=["graphql-transport-ws"]) as socket:
            await socket.send_json(
                {"type": "connection_init", "payload": {"Authorization": f"Bearer {seeded.api_key}"}}
            )
            assert (await socket.receive_json())["type"] == "connection_ack"
            slow = asyncio.create_task(call(seeded, client, gateway.url, sandbox_delay_ms="1500"))
            await until(pg, "SELECT count(*) FROM holds")
            stopping = asyncio.create_task(gateway.stop())
            closed = await socket.receive()
            assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            assert (await slow).status == 200
            assert await stopping == 0
    assert await pg.fetchval("SELECT count(*) FROM holds") == 0
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 21


async def until(pg: asyncpg.Connection, question: str) -> None:
    give_up_at = time.monotonic() + 30
    while not await pg.fetchval(question):
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.02)
