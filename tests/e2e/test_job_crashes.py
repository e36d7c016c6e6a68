"""Jobs with real processes that are killed at the worst moments: gateway, workers and a sandbox server over HTTP."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import orjson
import pytest

from models.database import Database
from tests.gateway.job_shop import EXTRA, WEBHOOK_SECRET
from tests.metering.invariants import assert_invariants
from tests.processes import Running, free_port, gateway_env, start, start_gateway, start_sandbox
from tests.seeding import CATALOG, Seeded, apply_catalog, seed_workspace

pytestmark = pytest.mark.slow
GRANTED_MICRO = 1_000_000_000
START = """mutation($input: ModelCallInput!) { startCall(input: $input) { call { id status } userErrors { code message } } }"""
CALL = """query($id: ID!) { node(id: $id) { ... on ModelCall { status error { message } usage { credits }
    output { ... on AssetsOutput { assets { url sizeBytes } } } } } }"""


@dataclass
class Line:
    starting: asyncio.Task[Running]
    """The gateway, which starts beside a test's first worker."""
    sandbox: Running
    env: dict[str, str]
    pg: asyncpg.Connection
    database_url: str
    seeded: Seeded
    log: Path
    workers: list[Running] = field(default_factory=list)

    async def worker(self) -> Running:
        running = await start(sys.executable, "-m", "app", "worker", env=self.env)
        self.workers.append(running)
        return running

    async def ask(self, document: str, **variables: object) -> dict:
        gateway = await self.starting
        headers = {"Authorization": f"Bearer {self.seeded.api_key}"}
        body = {"query": document, "variables": variables}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{gateway.url}/graphql", json=body) as answer,
        ):
            told = await answer.json()
        assert "errors" not in told, told
        return told["data"]

    async def start(self, model: str = "clip", **metadata: object) -> str:
        told = {"sandbox_delay_ms": "300", **{name: str(value) for name, value in metadata.items()}}
        asked = {"prompt": "a wave", "seconds": 3, "metadata": told}
        answer = (await self.ask(START, input={"model": model, "payload": {"custom": asked}}))["startCall"]
        assert answer["userErrors"] == []
        return answer["call"]["id"]

    async def ended(self, call_id: str) -> dict:
        """The call, once it has ended; jobs that a dead worker had taken are due now and not when its lease is over."""
        async with asyncio.timeout(60):
            while True:
                shown = (await self.ask(CALL, id=call_id))["node"]
                if shown["status"] not in {"QUEUED", "RUNNING"}:
                    return shown
                await asyncio.sleep(0.1)

    async def free_leases(self) -> None:
        await self.pg.execute("UPDATE jobs SET due_at = now() WHERE ended_at IS NULL")

    def served(self, event: str) -> list[dict]:
        return [line for line in map(orjson.loads, self.log.read_text().splitlines()) if line.get("event") == event]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.01)

    async def spent(self) -> int:
        await assert_invariants(self.pg)
        balance, held = await self.pg.fetchrow(
            "SELECT balance_micro, held_micro FROM wallets WHERE id = $1", self.seeded.wallet_id
        )
        assert held == 0
        return (GRANTED_MICRO - balance) // 1_000_000


@pytest.fixture
async def line(database_url: str, redis_url: str, tmp_path: Path, pg: asyncpg.Connection) -> AsyncIterator[Line]:
    database = await Database.open(database_url, max_size=2)
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG.read_text(encoding="utf-8") + EXTRA, encoding="utf-8")
    await apply_catalog(database, catalog)
    seeded = await seed_workspace(database, GRANTED_MICRO)
    await database.close()
    log = tmp_path / "log"
    data = tmp_path / "data"
    data.mkdir()
    port = free_port()
    async with AsyncExitStack() as stack:
        sandbox = await start_sandbox("--log", str(log), "--webhook-secret", "secret of the sandbox")
        stack.push_async_callback(sandbox.stop)
        env = gateway_env(database_url, redis_url, data, PRINTS_URL=sandbox.url, PRINTS_SECRET=WEBHOOK_SECRET)
        env["TOLLGATE_PUBLIC_URL"] = f"http://127.0.0.1:{port}"
        starting = asyncio.create_task(start_gateway({**env, "TOLLGATE_PORT": str(port)}))

        async def end() -> None:
            await (await starting).stop()

        stack.push_async_callback(end)
        line = Line(starting, sandbox, env, pg, database_url, seeded, log)
        yield line
        for running in (*line.workers, await starting):
            await running.stop()
            assert not [text for text in running.lines if "Traceback" in text], running.lines


async def test_a_job_from_its_start_over_the_webhook_to_its_file(line: Line) -> None:
    worker = await line.worker()
    call_id = await line.start(sandbox_webhooks=2)
    ended = await line.ended(call_id)
    assert (ended["status"], ended["usage"]["credits"]) == ("SUCCEEDED", "7")
    (asset,) = ended["output"]["assets"]
    async with aiohttp.ClientSession() as session, session.get(asset["url"]) as answer:
        content = await answer.read()
    assert (answer.status, len(content), answer.headers["content-type"]) == (200, int(asset["sizeBytes"]), "video/mp4")
    await line.until(lambda: len(line.served("webhook")) == 2)
    assert [sent["status"] for sent in line.served("webhook")] == [204, 204]
    assert await line.spent() == 7
    assert await worker.stop() == 0


async def test_a_worker_killed_between_the_creation_and_its_commit_makes_no_second_prediction(line: Line) -> None:
    first = await line.worker()
    call_id = await line.start(sandbox_create_delay_ms=3_000)
    await line.until(lambda: len(line.served("created")) == 1)
    await first.kill()
    row = await line.pg.fetchrow("SELECT submitting_at, prediction_id, request IS NULL AS forgot FROM jobs")
    assert (row["submitting_at"] is not None, row["prediction_id"], row["forgot"]) == (True, None, False)
    await line.free_leases()
    await line.worker()
    assert (await line.ended(call_id))["status"] == "SUCCEEDED"
    assert (len(line.served("created")), len(line.served("repeated"))) == (1, 1)
    assert await line.spent() == 7


async def test_where_the_provider_promises_nothing_such_a_job_is_released(line: Line) -> None:
    first = await line.worker()
    call_id = await line.start("clip-once", sandbox_create_delay_ms=3_000)
    await line.until(lambda: len(line.served("created")) == 1)
    await first.kill()
    await line.free_leases()
    await line.worker()
    ended = await line.ended(call_id)
    assert (ended["status"], ended["error"]["message"]) == (
        "FAILED",
        "the call was interrupted while a provider was asked",
    )
    assert len(line.served("created")) == 1
    assert await line.spent() == 0


async def test_a_worker_killed_while_it_fetches_the_file_leaves_the_job_to_the_next(line: Line) -> None:
    first = await line.worker()
    call_id = await line.start(sandbox_file_delay_ms=2_000)
    await line.until(lambda: len(line.served("fetched")) == 1)
    await first.kill()
    await line.free_leases()
    await line.worker()
    assert (await line.ended(call_id))["status"] == "SUCCEEDED"
    assert len(line.served("fetched")) == 2
    assert await line.spent() == 7
    assert await line.pg.fetchval("SELECT count(*) FROM assets") == 1
    assert tuple(await line.pg.fetchrow("SELECT used_bytes, reserved_bytes FROM workspace_storage")) == (256, 0)


async def test_a_worker_killed_in_the_settling_transaction_settles_nothing_and_the_next_does_once(line: Line) -> None:
    first = await line.worker()
    call_id = await line.start()
    blocker = await asyncpg.connect(line.database_url)
    await line.until(lambda: len(line.served("created")) == 1)
    await blocker.execute("BEGIN")
    await blocker.execute("SELECT FROM wallets FOR UPDATE")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(60):
        while not line.served("fetched") or not await line.pg.fetchval(waiting):
            await asyncio.sleep(0.02)
    await first.kill()
    await blocker.execute("ROLLBACK")
    await blocker.close()
    assert await line.pg.fetchval("SELECT count(*) FROM usage_events") == 0
    await line.free_leases()
    await line.worker()
    assert (await line.ended(call_id))["status"] == "SUCCEEDED"
    assert await line.pg.fetchval("SELECT count(*) FROM usage_events") == 1
    assert await line.spent() == 7


async def test_jobs_survive_workers_that_are_killed_again_and_again(line: Line) -> None:
    ids = [await line.start(sandbox_delay_ms=200 * (number % 5)) for number in range(20)]
    for _ in range(3):
        worker = await line.worker()
        while not worker.lines:  # until it says that it runs
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.4)
        await worker.kill()
        await line.free_leases()
    await line.worker()
    ended = [await line.ended(call_id) for call_id in ids]
    assert {call["status"] for call in ended} == {"SUCCEEDED"}
    assert len(line.served("created")) == 20
    assert await line.spent() == 140
    assert await line.pg.fetchval("SELECT count(*) FROM assets") == 20
