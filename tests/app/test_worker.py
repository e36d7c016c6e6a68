"""The worker: one task's failure is its own, and what waits too long shows in the figures."""

import asyncio
import os
import sys
from datetime import timedelta

import aiohttp
import pytest
from prometheus_client import REGISTRY

from app.worker import Task, TasksFailed, Worker
from billing.backlog import backlog_seconds
from kit import clock
from kit.ids import uuid7
from models.database import Database
from tests.processes import free_port, gateway_env, start
from tests.seeding import apply_catalog, seed_workspace


async def test_a_task_that_fails_keeps_no_other_from_its_turn_and_is_told_at_the_end():
    left = {"first": 25, "last": 5}

    def works(name):
        async def run(limit):
            done = min(limit, left[name])
            left[name] -= done
            return done

        return Task(name, every_s=1, limit=10, run=run)

    async def fails(limit):
        raise RuntimeError("broken")

    def failures():
        return REGISTRY.get_sample_value("tollgate_worker_failures_total", {"task": "broken"}) or 0

    before = failures()
    with pytest.raises(TasksFailed, match="broken") as failed:
        await Worker([works("first"), Task("broken", every_s=1, limit=1, run=fails), works("last")]).run_once()
    assert failed.value.done == {"first": 25, "last": 5}
    assert failures() == before + 1
    assert await Worker([works("first")]).run_once() == {"first": 0}


@pytest.fixture
async def database(database_url):
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


async def test_the_backlog_is_how_long_the_oldest_due_item_of_each_queue_has_waited(database, pg):
    await apply_catalog(database)
    seeded = await seed_workspace(database, 10**6)
    assert set((await backlog_seconds(database)).values()) == {0}
    at = clock.now()
    await pg.execute(
        "INSERT INTO outbox_events (id, workspace_id, kind, payload, created_at, due_at)"
        " VALUES ($1, $2, 'balance.low', '{}', $3, $3), ($4, $2, 'balance.low', '{}', $3, $5)",
        uuid7(), seeded.workspace_id, at - timedelta(minutes=2), uuid7(), at + timedelta(hours=1),
    )  # fmt: skip
    await pg.execute("UPDATE credit_grants SET effective_at = $1, expires_at = $2", at - timedelta(days=2), at - timedelta(days=1))  # fmt: skip
    await pg.execute("INSERT INTO usage_marks (workspace_id, quarter_start) VALUES ($1, $2)", seeded.workspace_id, at - timedelta(minutes=46))  # fmt: skip
    with clock.installed(clock.VirtualClock(at)):
        assert await backlog_seconds(database) == {
            "holds": 0, "expiries": 86_400, "subscriptions": 0, "events": 120, "webhooks": 0, "usage": 1_800,
        }  # fmt: skip


async def test_a_worker_serves_its_own_figures_and_stops_in_good_order(database, database_url, redis_url, tmp_path):
    await apply_catalog(database)
    port = free_port()
    environment = gateway_env(database_url, redis_url, tmp_path)
    worker = await start(sys.executable, "-m", "app", "worker", "--metrics-port", str(port), env=environment)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            figures = await answered(client)
            assert 'tollgate_worker_lag_seconds{task="advance-subscriptions"}' in figures
            assert 'tollgate_worker_backlog_seconds{queue="events"} 0.0' in figures
            async with client.get("/readyz") as ready:
                assert (ready.status, (await ready.json())["database"]) == (200, "ok")
            async with client.get("/graphql") as other:
                assert other.status == 404
    finally:
        assert await worker.stop() == 0


async def answered(client):
    """The figures, once every task has had its first round."""
    for _ in range(600):
        try:
            async with client.get("/metrics") as response:
                text = await response.text()
                if 'queue="events"' in text and 'task="sweep-accounts"' in text:
                    return text
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError("the worker's page did not answer")


async def test_a_taken_port_is_said_in_a_sentence(database, database_url, redis_url, tmp_path):
    await apply_catalog(database)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environment = gateway_env(database_url, redis_url, tmp_path)
    worker = await start(sys.executable, "-m", "app", "worker", "--metrics-port", str(port), env=environment)
    assert await asyncio.wait_for(worker.process.wait(), 60) == 1
    await asyncio.gather(*worker.reading)
    assert any("cannot listen on" in line and "--metrics-port" in line for line in worker.lines), worker.lines
    server.close()


async def test_once_does_what_is_due_says_how_much_and_ends(database, database_url, redis_url, tmp_path):
    await apply_catalog(database)
    environment = gateway_env(database_url, redis_url, tmp_path)
    worker = await start(sys.executable, "-m", "app", "worker", "--once", env=environment)
    assert await asyncio.wait_for(worker.process.wait(), 60) == 0
    await asyncio.gather(*worker.reading)
    assert any(line.startswith("advance-subscriptions: 0") for line in worker.lines), worker.lines
    assert os.path.exists(tmp_path)
