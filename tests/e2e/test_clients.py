"""The Python programs of docs/clients.md and docs/partners.md, run as they stand against a gateway process."""

import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from models.database import Database
from tests.processes import gateway_env, start, start_gateway, start_worker
from tests.seeding import ROOT, apply_catalog, seed_workspace

pytestmark = pytest.mark.timeout(400)
"""Each program takes seconds of two processors, which it shares."""


@pytest.fixture
async def env(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Mapping[str, str]]:
    """What the programs are told of a gateway with its worker."""
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 1_000_000_000)
    await database.close()
    settings = gateway_env(database_url, redis_url, tmp_path)
    gateway = await start_gateway(settings)
    worker = await start_worker(settings)
    yield {"TOLLGATE_URL": gateway.url, "TOLLGATE_KEY": seeded.api_key}
    assert await worker.stop() == 0
    assert await gateway.stop() == 0


async def printed_by_programs(page: str, env: Mapping[str, str], directory: Path) -> list[list[str]]:
    programs = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    printed: list[list[str]] = []
    for program in programs:
        there = f"__import__('os').chdir({str(directory)!r})\n{program}"
        client = await start(sys.executable, "-W", "error", "-c", there, env=env)
        assert await client._ended(100) == 0, client.lines
        printed.append(client.lines)
    return printed


async def test_the_documented_python_clients_query_subscribe_and_call(env: Mapping[str, str], tmp_path: Path) -> None:
    graphql, openai, anthropic = await printed_by_programs("clients.md", env, tmp_path)
    assert graphql[0] == "available: 1000"
    assert graphql[1] == "wallet: {'available': '1000', 'held': '0'}"
    assert "'content'" in graphql[2]
    assert re.search(r"'usage': \{'credits': '[0-9.]+', 'usd': '[0-9.]+'\}", graphql[-1])
    for text, charged, streamed, again in (openai, anthropic):
        assert text == streamed
        assert re.fullmatch(r"charged: [0-9.]+ credits, USD [0-9.]+", charged)
        assert again == charged.partition(" credits")[0]


async def test_the_documented_programs_of_partners_stream_speak_listen_and_make_a_batch(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    chat, sound, batch = await printed_by_programs("partners.md", env, tmp_path)
    assert re.search(r"\w+ ?[0-9.]+ [0-9.]+$", chat[-1])
    assert re.fullmatch(r"[0-9.]+", sound[0])
    assert re.fullmatch(r"[0-9.]+", sound[-1])
    assert (tmp_path / "hello.wav").stat().st_size > 0
    assert sorted(line for text in batch for line in re.findall(r'"custom_id":"(.*?)"', text)) == ["order-1", "order-2"]


def test_no_two_samples_share_an_idempotency_key() -> None:
    pages = "".join((ROOT / "docs" / page).read_text() for page in ("clients.md", "partners.md"))
    keys = re.findall(r"""(?:Idempotency-Key"?: "?|"key": ")([\w-]+)""", pages)
    assert len(keys) == len(set(keys)) == 3
