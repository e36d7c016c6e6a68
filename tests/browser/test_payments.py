"""The double's Checkout and portal in a real browser, as a newcomer at `tollgate run --stripe-double` meets them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.cdp import Page
from tests.e2e.visitor import Visitor, walk_in

TEXT = "document.body?.innerText ?? ''"
PAYMENT = "query($id: ID!) { node(id: $id) { ... on Payment { status failureCode } } }"
PROBLEM = "document.querySelector('[role=alert]')?.innerText ?? ''"


@pytest.fixture
async def visitor(chromium: str, tmp_path: Path) -> AsyncIterator[Visitor]:
    async with walk_in(tmp_path / "data") as visitor:
        yield visitor


async def shows(tab: Page, *words: str) -> None:
    for word in words:
        await tab.until(TEXT, lambda text, word=word: word in str(text))


async def pay_with(tab: Page, card: str) -> None:
    await tab.choose("select[name=card]", card)
    await tab.click("#submit")


async def press(tab: Page, label: str) -> None:
    """The first button with this label."""
    await tab.until(f"[...document.querySelectorAll('button')].some(each => each.innerText === {label!r})")
    await tab.evaluate(f"[...document.querySelectorAll('button')].find(each => each.innerText === {label!r}).id = 'it'")
    await tab.click("#it")


async def available(visitor: Visitor) -> float:
    return float((await visitor.workspace("wallet { available }"))["wallet"]["available"])


async def test_a_top_up_is_declined_confirmed_and_given_back_in_the_browser(visitor: Visitor, tab: Page) -> None:
    before = await available(visitor)
    hosted = await visitor.do("addCredits", "actionUrl", amount="10", idempotencyKey="first", checkout=True)
    await tab.open(hosted["actionUrl"])
    await shows(tab, "$10.00", "No money moves")
    await pay_with(tab, "visa_chargeDeclined 4000000000000002")
    await tab.until(PROBLEM, lambda text: "declined" in str(text))
    assert await available(visitor) == before

    await pay_with(tab, "threeDSecure2Required")
    await shows(tab, "3-D Secure")
    await press(tab, "Fail")
    await tab.until(PROBLEM, lambda text: "unable to authenticate" in str(text))
    await pay_with(tab, "threeDSecure2Required")
    await shows(tab, "3-D Secure")
    await press(tab, "Complete")
    await shows(tab, "Thank you")
    await visitor.until("wallet { available }", lambda node: float(node["wallet"]["available"]) == before + 10)

    # D8: a prepaid card that slips through the hosted page is given back at once, and buys nothing.
    slipped = await visitor.do(
        "addCredits", "actionUrl payment { id }", amount="20", idempotencyKey="second", checkout=True
    )
    await tab.open(slipped["actionUrl"])
    await shows(tab, "$20.00")
    await pay_with(tab, "mastercard_prepaid")
    await shows(tab, "Given back")
    payment = await visitor.ask(PAYMENT, id=slipped["payment"]["id"])
    assert payment["node"] == {"status": "FAILED", "failureCode": "prepaid_not_accepted"}
    async with visitor.http.get(f"{visitor.double_url}/_double/books") as answer:
        books = await answer.json()
    assert (books["charged"], books["refunded"]) == (3_000, 2_000)
    assert await available(visitor) == before + 10
    assert await tab.violations() == []


async def test_a_plan_is_paid_and_cancelled_and_cards_are_kept_in_the_browser(visitor: Visitor, tab: Page) -> None:
    plans = (await visitor.ask("{ plans { code prices { id period } } }"))["plans"]
    monthly = next(price["id"] for plan in plans if plan["code"] == "pro" for price in plan["prices"])
    begun = await visitor.do(
        "subscribe",
        "checkoutUrl",
        priceId=monthly,
        idempotencyKey="plan",
        successUrl=f"{visitor.running.url}/billing/return?session_id={{CHECKOUT_SESSION_ID}}",
    )
    await tab.open(begun["checkoutUrl"])
    await pay_with(tab, "visa_chargeDeclined 4000000000000002")
    await tab.until(PROBLEM, lambda text: "declined" in str(text))
    await pay_with(tab, "visa 4242424242424242")
    await shows(tab, "Thank you")
    await visitor.until(
        "subscription { status plan { code } }",
        lambda node: node["subscription"] == {"status": "ACTIVE", "plan": {"code": "pro"}},
    )

    portal = await visitor.do("createBillingPortalSession", "url", returnUrl=visitor.running.url)
    await tab.open(portal["url"])
    await shows(tab, "Subscriptions", "renews on")
    await press(tab, "Cancel")
    await shows(tab, "ends on")
    await visitor.until(
        "subscription { cancelAtPeriodEnd }", lambda node: node["subscription"]["cancelAtPeriodEnd"] is True
    )
    await press(tab, "Resume")
    await shows(tab, "renews on")
    await visitor.until(
        "subscription { cancelAtPeriodEnd }", lambda node: node["subscription"]["cancelAtPeriodEnd"] is False
    )

    await tab.choose("select[name=card]", "mastercard 5555555555554444")
    await tab.click("#add")
    kept = await visitor.until(
        "paymentMethods { brand last4 isDefault }",
        lambda node: any(m["brand"] == "mastercard" for m in node["paymentMethods"]),
    )
    assert {method["last4"] for method in kept["paymentMethods"] if method["isDefault"]} == {"4444"}
    await tab.choose("select[name=card]", "mastercard_prepaid")
    await tab.click("#add")
    await shows(tab, "prepaid")
    await visitor.until("paymentMethods { last4 }", lambda node: "5100" not in str(node))
    assert await tab.violations() == []
