"""The endpoint that Stripe tells things to: while PostgreSQL is away it answers 503, so that Stripe tells them again."""

import asyncio
import os
import signal
import time
from pathlib import Path

import aiohttp
import asyncpg
import orjson
import stripe

from app.embedded import EmbeddedServers
from models.database import Database
from models.migrate import migrate
from tests.processes import gateway_env, start_gateway
from tests.seeding import apply_catalog

SECRET = "whsec_of_the_tests"
BACK_WITHIN_S = 30


def told(id_: str) -> tuple[bytes, dict[str, str]]:
    """An event as Stripe sends it; each delivery is signed anew."""
    changed = {"id": "in_of_nobody", "object": "invoice"}
    body = orjson.dumps(
        {
            "id": id_,
            "object": "event",
            "type": "invoice.paid",
            "created": 1_801_000_000,
            "livemode": False,
            "data": {"object": changed},
        }
    )
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET, timestamp=int(time.time()))
    return body, {"stripe-signature": header, "content-type": "application/json"}


async def deliver(client: aiohttp.ClientSession, url: str, id_: str) -> tuple[int, dict]:
    body, headers = told(id_)
    async with client.post(f"{url}/webhooks/stripe", data=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def stored(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT event_id, count(*) AS times FROM inbox_events GROUP BY event_id")
        return {row["event_id"]: row["times"] for row in rows}
    finally:
        await connection.close()


async def kill(servers: EmbeddedServers) -> None:
    """As a machine that fails: nobody is told before."""
    postgres = servers.postgres
    assert postgres is not None
    os.kill(postgres.child.pid, signal.SIGKILL)
    assert await asyncio.to_thread(postgres.child.wait, 10)
    await servers.stop()


async def test_a_database_that_is_away_is_a_503_and_the_event_is_stored_once_when_stripe_sends_it_again(
    short_directory: Path, redis_url: str, tmp_path: Path
) -> None:
    data = short_directory / "data"
    servers = await EmbeddedServers.start(data, postgres=True, valkey=False, durable=True)
    url = servers.database_url
    gateway = None
    try:
        await migrate(url)
        database = await Database.open(url)
        await apply_catalog(database)
        await database.close()
        keys = {
            "STRIPE_API_KEY": "sk_test_double",
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "STRIPE_API_BASE": "http://127.0.0.1:9",
        }
        gateway = await start_gateway(gateway_env(url, redis_url, tmp_path, **keys))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as client:
            assert await deliver(client, gateway.url, "evt_before") == (200, {"received": True, "new": True})
            await kill(servers)
            for _ in range(3):  # of which the first meets connections that have just died
                status, answer = await deliver(client, gateway.url, "evt_meanwhile")
                assert (status, answer["error"]["message"]) == (503, "The database is away. Try again.")
            servers = await EmbeddedServers.start(data, postgres=True, valkey=False, durable=True)
            assert servers.database_url == url
            give_up_at = time.monotonic() + BACK_WITHIN_S
            while (delivered := await deliver(client, gateway.url, "evt_meanwhile"))[0] == 503:
                assert time.monotonic() < give_up_at
                await asyncio.sleep(0.1)
            assert delivered == (200, {"received": True, "new": True})
            for id_ in ("evt_meanwhile", "evt_before"):
                assert await deliver(client, gateway.url, id_) == (200, {"received": True, "new": False})
        assert await stored(url) == {"evt_before": 1, "evt_meanwhile": 1}
        assert await gateway.stop() == 0
    finally:
        if gateway is not None and gateway.process.returncode is None:
            await gateway.kill()
        await servers.stop()
