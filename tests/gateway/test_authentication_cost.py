"""What authentication asks of the servers with a warm cache: the limiter's one round trip, and nothing of the database."""

import asyncio

import redis.asyncio

from accounts.views import Environment
from tests.gateway.conftest import Gate

FOLLOWING = "max(number) FROM catalog_versions"
"""How a process follows the catalog, every other second: no part of a request."""


async def scripts_run(gate: Gate, client: redis.asyncio.Redis, key: str) -> int:
    """Scripts of a request, which asks Redis for nothing else: the fewest of five, as the process asks by itself too."""
    readings = []
    for _ in range(5):
        await client.config_resetstat()
        assert (await gate.ask(path="/v1/models", key=key)).status == 200
        stats = await client.info("commandstats")
        readings.append({name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()})
    counted = min(readings, key=lambda reading: sum(reading.values()))
    quiet = {"info", "config|resetstat", "ping", "subscribe", "client|setinfo", "hello", "select"}
    assert set(counted) <= quiet | {
        "evalsha",
        "time",
        "mget",
        "hmget",
        "hset",
        "hmset",
        "pexpire",
        "pttl",
        "get",
        "set",
    }, counted
    return counted.get("evalsha", 0)


async def test_a_warm_request_takes_one_round_trip_of_redis_and_no_query(gate: Gate, redis_url: str) -> None:
    queries: list[str] = []
    pool = gate.services.database.pool
    keys = [await gate.key(), await gate.key(requests_per_hour=1_000), await gate.key(Environment.TEST)]
    while not gate.services.accounts.invalidations.is_healthy:
        await asyncio.sleep(0.01)
    for key in keys:
        assert (await gate.ask(path="/v1/models", key=key)).status == 200
    held = [await pool.acquire() for _ in range(pool.get_max_size())]
    for connection in held:
        connection.add_query_logger(lambda record: queries.append(record.query))
        await pool.release(connection)
    async with redis.asyncio.from_url(redis_url) as client:
        for key in keys:
            assert await scripts_run(gate, client, key) == 1
    await asyncio.sleep(0.05)  # query loggers are told a turn later
    assert [query for query in queries if FOLLOWING not in query] == []


async def test_guessed_keys_are_told_by_their_checksum_without_a_query(gate: Gate) -> None:
    queries: list[str] = []
    pool = gate.services.database.pool
    held = [await pool.acquire() for _ in range(pool.get_max_size())]
    for connection in held:
        connection.add_query_logger(lambda record: queries.append(record.query))
        await pool.release(connection)
    for number in range(20):
        assert (await gate.ask(path="/v1/models", key=f"tg_live_{number:038d}")).status == 401
    await asyncio.sleep(0.05)
    assert [query for query in queries if FOLLOWING not in query] == []
