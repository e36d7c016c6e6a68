"""The Python program of docs/clients.md, run as it stands against a gateway process."""

import re
import sys
from pathlib import Path

from models.database import Database
from tests.processes import gateway_env, start, start_gateway
from tests.seeding import ROOT, apply_catalog, seed_workspace


async def test_the_documented_python_client_queries_and_subscribes(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 1_000_000_000)
    await database.close()
    gateway = await start_gateway(gateway_env(database_url, redis_url, tmp_path))
    try:
        client = await start(
            sys.executable,
            "-W",
            "error",
            "-c",
            program,
            env={"TOLLGATE_URL": gateway.url, "TOLLGATE_KEY": seeded.api_key},
        )
        assert await client._ended() == 0, client.lines
    finally:
        assert await gateway.stop() == 0
    assert client.lines[0] == "available: 1000"
    assert client.lines[1] == "wallet: {'available': '1000', 'held': '0'}"
    assert "'content'" in client.lines[2]
    assert re.search(r"'usage': \{'credits': '[0-9.]+', 'usd': '[0-9.]+'\}", client.lines[-1])
