"""The gateway process that the vendors' SDKs talk to."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from models.database import Database
from tests.e2e.vendors import GRANTED_MICRO, Line
from tests.processes import gateway_env, start_gateway, start_sandbox
from tests.providers.claude import Claude
from tests.providers.upstreams import KEY, Heard, scripted
from tests.seeding import apply_catalog, seed_workspace


@pytest.fixture(scope="module")
async def vendor_processes(database_clones, valkey_server, tmp_path_factory) -> AsyncIterator[Line]:
    database_url = database_clones.url_of(await database_clones.take())
    database = await Database.open(database_url)
    await apply_catalog(database)
    sandbox = await start_sandbox()
    claude = Claude()
    answers: list[Callable[[Heard], bytes]] = []

    async def gpt(reader, writer) -> None:
        writer.write(answers[-1](gpt_upstream.requests[-1]))

    async with scripted(claude) as upstream, scripted(gpt) as gpt_upstream:
        claude.upstream = upstream
        gateway = await start_gateway(
            gateway_env(
                database_url,
                valkey_server.redis_url,
                tmp_path_factory.mktemp("gateway"),
                TOLLGATE_SANDBOX_URL=sandbox.url,
                ANTHROPIC_BASE_URL=upstream.url,
                ANTHROPIC_API_KEY=KEY,
                OPENAI_BASE_URL=gpt_upstream.url,
                OPENAI_API_KEY=KEY,
            )
        )
        pg = await asyncpg.connect(database_url)
        yield Line(gateway, claude, gpt_upstream, answers, pg, database, await seed_workspace(database, 0))
        assert await gateway.stop() == 0
    assert not [text for text in gateway.lines if "Traceback" in text or "ERROR" in text or KEY in text], gateway.lines
    await sandbox.stop()
    await pg.close()
    await database.close()


@pytest.fixture
async def vendors(vendor_processes: Line) -> Line:
    vendor_processes.seeded = await seed_workspace(vendor_processes.database, GRANTED_MICRO)
    return vendor_processes
