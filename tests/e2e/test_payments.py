"""`tollgate run --stripe-double`: a newcomer walks through card, top-up and plan offline, webhooks included."""

import asyncio
import io
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from billing.stripe_inbox import HANDLED
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


@pytest.fixture
async def visitor(tmp_path: Path):
    port = free_port()
    running = await start(
        *(sys.executable, "-m", "app", "run", "--stripe-double", "--port", str(port)),
        env={
            "TOLLGATE_DATA_DIR": str(tmp_path / "data"),
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


async def test_a_newcomer_walks_through_card_top_up_and_return_page(visitor):
    page = await visitor.do("createPaymentMethodSetup", "url", returnUrl="https://app.example/back")
    await visitor.pay(page["url"])
    found = await visitor.until("paymentMethods { brand last4 isDefault }", lambda node: node["paymentMethods"])
    assert found["paymentMethods"] == [{"brand": "visa", "last4": "4242", "isDefault": True}]
    before = float((await visitor.workspace("wallet { available }"))["wallet"]["available"])
    bought = await visitor.do("addCredits", "payment { status }", amount="25", idempotencyKey="first")
    assert bought["payment"]["status"] == "SUCCEEDED"
    hosted = await visitor.do("addCredits", "actionUrl", amount="10", idempotencyKey="second", checkout=True)
    await visitor.pay(hosted["actionUrl"])
    await visitor.until("wallet { available }", lambda node: float(node["wallet"]["available"]) == before + 35)
    session = re.search(r"cs_\w+", hosted["actionUrl"])[0]
    async with visitor.http.get(f"{visitor.running.url}/billing/return?session_id={session}") as page:
        assert page.status == 200
        assert "Thank you" in await page.text()
    await visitor.until("invoices { nodes { status pdfUrl } }", lambda node: node["invoices"]["nodes"])
    portal = await visitor.do("createBillingPortalSession", "url", returnUrl="https://app.example/back")
    async with visitor.http.get(portal["url"]) as page:
        assert page.status == 200
    added = await visitor.do("addTaxId", "taxId { kind value }", kind="eu_vat", value="DE123456789")
    assert added["taxId"] == {"kind": "eu_vat", "value": "DE123456789"}
    assert (await visitor.workspace("taxIds { value }"))["taxIds"] == [{"value": "DE123456789"}]


async def test_webhooks_are_verified_and_answered_once_stored(visitor):
    url = f"{visitor.running.url}/webhooks/stripe"
    for headers in ({}, {"Stripe-Signature": "t=1,v1=abc"}):
        async with visitor.http.post(url, data=b"{}", headers=headers) as answer:
            assert answer.status == 400
    async with visitor.http.get(url) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    async with visitor.http.post(url, data=io.BytesIO(b"x" * 2_000_000)) as answer:
        assert answer.status == 413
    assert "invoice.paid" in HANDLED
