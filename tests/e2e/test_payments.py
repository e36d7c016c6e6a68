"""`tollgate run --stripe-double`: a newcomer walks through card, top-up and plan offline, webhooks included."""

import io
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from billing.stripe_inbox import HANDLED
from tests.e2e.visitor import Visitor, open_visitor


@pytest.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[Visitor]:
    async with open_visitor(tmp_path) as visitor:
        yield visitor


@pytest.mark.slow
async def test_a_newcomer_walks_through_card_top_up_and_return_page(visitor):
    page = await visitor.do("createPaymentMethodSetup", "url", returnUrl="https://app.example/back")
    await visitor.pay(page["url"])
    found = await visitor.until("paymentMethods { brand last4 isDefault }", lambda node: node["paymentMethods"])
    assert found["paymentMethods"] == [{"brand": "visa", "last4": "4242", "isDefault": True}]
    before = float((await visitor.workspace("wallet { available }"))["wallet"]["available"])
    bought = await visitor.do("addCredits", "payment { status }", amount="25", idempotencyKey="first")
    assert bought["payment"]["status"] == "SUCCEEDED"
    await visitor.until("invoices { nodes { status } }", lambda node: node["invoices"]["nodes"] == [{"status": "paid"}])
    hosted = await visitor.do("addCredits", "actionUrl", amount="10", idempotencyKey="second", checkout=True)
    await visitor.pay(hosted["actionUrl"])
    await visitor.until("wallet { available }", lambda node: float(node["wallet"]["available"]) == before + 35)
    session = re.search(r"cs_\w+", hosted["actionUrl"])[0]
    async with visitor.http.get(f"{visitor.running.url}/billing/return?session_id={session}") as page:
        assert page.status == 200
        assert "Thank you" in await page.text()
    found = await visitor.until("invoices { nodes { pdfUrl } }", lambda node: len(node["invoices"]["nodes"]) == 2)
    assert all(invoice["pdfUrl"] for invoice in found["invoices"]["nodes"])
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
