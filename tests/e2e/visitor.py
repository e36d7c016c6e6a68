"""A visitor of `tollgate run --stripe-double`, with the key that it printed."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.app.test_run import EVERYTHING_STARTS_WITHIN_S, printed_key
from tests.processes import free_port, start

PATIENCE_S = 30
WORKSPACE = "{ viewer { workspaces(first: 1) { nodes { id %s } } } }"


class Visitor:
    """A browser with the printed key."""

    def __init__(self, running, http: aiohttp.ClientSession) -> None:
        self.running = running
        self.http = http
        self.double_url = re.search(r"Stripe double at (http://[^\s:]+:\d+)", "\n".join(running.lines))[1]

    async def ask(self, query: str, **variables):
        headers = {"Authorization": f"Bearer {printed_key(self.running)}"}
        body = {"query": query, "variables": variables}
        async with self.http.post(f"{self.running.url}/graphql", json=body, headers=headers) as answer:
            found = await answer.json()
        assert "errors" not in found, found
        return found["data"]

    async def workspace(self, selection: str):
        return (await self.ask(WORKSPACE % selection))["viewer"]["workspaces"]["nodes"][0]

    async def do(self, name: str, selection: str, **given):
        kind = name[0].upper() + name[1:] + "Input"
        given["workspaceId"] = (await self.workspace(""))["id"]
        found = await self.ask(
            f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {selection} userErrors {{ code message }} }} }}",
            input=given,
        )
        assert found[name]["userErrors"] == [], found
        return found[name]

    async def pay(self, url: str, card: str = "pm_card_visa") -> None:
        session = re.search(r"cs_\w+", url)[0]
        async with self.http.post(f"{self.double_url}/_double/checkout/{session}/pay", json={"card": card}) as answer:
            assert answer.status == 200, await answer.text()

    async def until(self, selection: str, good):
        async with asyncio.timeout(PATIENCE_S):
            while not good(found := await self.workspace(selection)):
                await asyncio.sleep(0.1)
        return found

    async def books(self):
        async with self.http.get(f"{self.double_url}/_double/books") as answer:
            return await answer.json()


@asynccontextmanager
async def open_visitor(directory: Path) -> AsyncIterator[Visitor]:
    """Everything started, and stopped in the end."""
    port = free_port()
    running = await start(
        *(sys.executable, "-m", "app", "run", "--stripe-double", "--port", str(port)),
        env={
            "TOLLGATE_DATA_DIR": str(directory / "data"),
            "TOLLGATE_LOG_LEVEL": "warning",
            "TOLLGATE_CATALOG": "catalogs/usd-balance.toml",
        },
    )
    running.url = f"http://localhost:{port}"
    async with asyncio.timeout(EVERYTHING_STARTS_WITHIN_S):
        while not any("-d '" in line for line in running.lines):
            assert running.process.returncode is None, running.lines
            await asyncio.sleep(0.02)
    async with aiohttp.ClientSession() as http:
        yield Visitor(running, http)
    assert await running.stop() == 0
