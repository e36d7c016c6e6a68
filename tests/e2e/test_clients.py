"""The Python programs of docs/clients.md, run as they stand against a gateway process."""

import re
import sys
from pathlib import Path

from models.database import Database
from tests.processes import gateway_env, start, start_gateway
from tests.seeding import ROOT, apply_catalog, seed_workspace


async def test_the_documented_python_clients_query_subscribe_and_call(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 1_000_000_000)
    await database.close()
    gateway = await start_gateway(gateway_env(database_url, redis_url, tmp_path))
    try:
        env = {"TOLLGATE_URL": gateway.url, "TOLLGATE_KEY": seeded.api_key}
        printed: list[list[str]] = []
        for program in programs:
            client = await start(sys.executable, "-W", "error", "-c", program, env=env)
            assert await client._ended() == 0, client.lines
            printed.append(client.lines)
    finally:
        assert await gateway.stop() == 0
    graphql, openai, anthropic = printed
    assert graphql[0] == "available: 1000"
    assert graphql[1] == "wallet: {'available': '1000', 'held': '0'}"
    assert "'content'" in graphql[2]
    assert re.search(r"'usage': \{'credits': '[0-9.]+', 'usd': '[0-9.]+'\}", graphql[-1])
    for text, charged, streamed, again in (openai, anthropic):
        assert text == streamed
        assert re.fullmatch(r"charged: [0-9.]+ credits, USD [0-9.]+", charged)
        assert again == charged.partition(" credits")[0]
