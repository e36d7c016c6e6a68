"""The double's Checkout and portal, clicked through in a real browser before `tollgate run --stripe-double`."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from tests.browser.cdp import Page, browser_page
from tests.e2e.visitor import Visitor, open_visitor

GOOD = "card_visa 4242"
DECLINED = "card_chargeDeclined 4000000000000002"
PREPAID = "card_mastercard_prepaid"
ASKS_ITS_HOLDER = "card_authenticationRequired 4000002760003184"
TEXT = "document.body?.innerText"
RETURNED = "location.pathname"
METHODS = "paymentMethods { last4 isDefault }"
PLAN = "subscription { status cancelAtPeriodEnd plan { code } }"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
async def visitor(chromium: str, tmp_path_factory) -> AsyncIterator[Visitor]:
    async with open_visitor(tmp_path_factory.mktemp("run")) as visitor:
        yield visitor


@pytest.fixture(scope="module")
async def browser(chromium: str, visitor: Visitor, tmp_path_factory) -> AsyncIterator[Page]:
    async with browser_page(chromium, tmp_path_factory.mktemp("browser") / "profile") as page:
        await page.open(visitor.double_url)
        yield page


@pytest.fixture
async def page(browser: Page, visitor: Visitor) -> AsyncIterator[Page]:
    """The tab, for pages that break none of their own rules and ask nobody but the double and the gateway."""
    browser.requested.clear()
    yield browser
    assert await browser.violations() == []
    hosts = {urlsplit(url).netloc for url in browser.requested}
    assert hosts <= {urlsplit(url).netloc for url in (visitor.double_url, visitor.running.url)}


async def give(page: Page, card: str) -> None:
    """Choose the card, and press the button that pays."""
    await page.until("!!document.querySelector('select[name=card]')")
    await page.choose("select[name=card]", card)
    await page.leave_by("#submit")


async def press(page: Page, deed: str) -> None:
    """A button of the portal, by what its form does."""
    await page.leave_by(f"form:has(input[name=do][value={deed}]) button")


async def dollars(visitor: Visitor) -> float:
    return float((await visitor.workspace("wallet { available }"))["wallet"]["available"])


async def top_up(visitor: Visitor, key: str):
    return await visitor.do(
        "addCredits", "payment { id } actionUrl", amount="25", idempotencyKey=key, checkout=True,
        returnUrl=f"{visitor.running.url}/billing/return",
    )  # fmt: skip


async def status_of(visitor: Visitor, payment: str) -> str:
    found = await visitor.ask("query($id: ID!) { node(id: $id) { ... on Payment { status } } }", id=payment)
    return found["node"]["status"]


async def test_D8_a_prepaid_card_on_the_page_of_a_method_is_not_kept(page: Page, visitor: Visitor) -> None:
    back = f"{visitor.running.url}/billing/return"
    setup = await visitor.do("createPaymentMethodSetup", "url", returnUrl=back)
    await page.go_to(setup["url"])
    await give(page, PREPAID)
    await page.until(RETURNED, lambda path: path == "/billing/return")
    setup = await visitor.do("createPaymentMethodSetup", "url", returnUrl=back)
    await page.go_to(setup["url"])
    await give(page, GOOD)
    await page.until(RETURNED, lambda path: path == "/billing/return")
    found = await visitor.until(METHODS, lambda node: [one["last4"] for one in node["paymentMethods"]] == ["4242"])
    assert found["paymentMethods"][0]["isDefault"]


async def test_a_declined_card_gives_nothing_and_the_next_one_on_the_same_page_pays(
    page: Page, visitor: Visitor
) -> None:
    before = await dollars(visitor)
    bought = await top_up(visitor, "declined first")
    await page.go_to(bought["actionUrl"])
    await give(page, DECLINED)
    assert "declined" in str(await page.until("document.querySelector('.error')?.innerText"))
    assert await dollars(visitor) == before
    assert await status_of(visitor, bought["payment"]["id"]) == "PENDING"
    await give(page, GOOD)
    await page.until(RETURNED, lambda path: path == "/billing/return")
    await visitor.until("wallet { available }", lambda node: float(node["wallet"]["available"]) == before + 25)
    assert await status_of(visitor, bought["payment"]["id"]) == "SUCCEEDED"
    invoices = await visitor.until("invoices { nodes { status hostedUrl } }", lambda node: node["invoices"]["nodes"])
    await page.go_to(invoices["invoices"]["nodes"][0]["hostedUrl"])
    await page.until(TEXT, lambda text: "$25.00" in str(text))


async def test_the_return_page_says_that_the_payment_has_arrived(page: Page, visitor: Visitor) -> None:
    hosted = await visitor.do("addCredits", "actionUrl", amount="10", idempotencyKey="thanks", checkout=True)
    await page.go_to(hosted["actionUrl"])
    await give(page, GOOD)
    await page.until(TEXT, lambda text: "Thank you" in str(text))


async def test_the_holder_confirms_on_the_banks_page(page: Page, visitor: Visitor) -> None:
    before = await dollars(visitor)
    bought = await top_up(visitor, "confirmed")
    await page.go_to(bought["actionUrl"])
    await give(page, ASKS_ITS_HOLDER)
    await page.until(TEXT, lambda text: "3-D Secure" in str(text))
    assert await dollars(visitor) == before
    await page.leave_by("form:has(input[value=failed]) button")
    assert "authenticate" in str(await page.until("document.querySelector('.error')?.innerText"))
    await give(page, ASKS_ITS_HOLDER)
    await page.until(TEXT, lambda text: "3-D Secure" in str(text))
    await page.leave_by("#submit")
    await page.until(RETURNED, lambda path: path == "/billing/return")
    await visitor.until("wallet { available }", lambda node: float(node["wallet"]["available"]) == before + 25)


async def test_D8_a_prepaid_card_on_the_page_of_a_payment_is_given_back(page: Page, visitor: Visitor) -> None:
    before, refunded = await dollars(visitor), (await visitor.books())["refunded"]
    hosted = await visitor.do(
        "addCredits", "payment { id } actionUrl", amount="25", idempotencyKey="prepaid", checkout=True
    )
    await page.go_to(hosted["actionUrl"])
    await give(page, PREPAID)
    await page.until(TEXT, lambda text: "Given back" in str(text) and "Prepaid" in str(text))
    assert (await visitor.books())["refunded"] == refunded + 2_500
    assert await status_of(visitor, hosted["payment"]["id"]) in {"FAILED", "REFUNDED"}
    assert await dollars(visitor) == before


async def test_what_is_done_in_the_portal_is_so_in_the_product(page: Page, visitor: Visitor) -> None:
    plans = (await visitor.ask("{ plans { code prices { id } } }"))["plans"]
    [price] = [price["id"] for plan in plans if plan["code"] == "pro" for price in plan["prices"]]
    made = await visitor.do("subscribe", "checkoutUrl", priceId=price, idempotencyKey="pro")
    await page.go_to(made["checkoutUrl"])
    await give(page, GOOD)
    await visitor.until(PLAN, lambda node: node["subscription"] and node["subscription"]["plan"]["code"] == "pro")

    portal = await visitor.do("createBillingPortalSession", "url", returnUrl=f"{visitor.running.url}/billing/return")
    await page.go_to(portal["url"])
    await press(page, "cancel")
    await page.until(TEXT, lambda text: "ends on" in str(text))
    await visitor.until(PLAN, lambda node: node["subscription"]["cancelAtPeriodEnd"])
    await press(page, "resume")
    await page.until(TEXT, lambda text: "renews on" in str(text))
    await visitor.until(PLAN, lambda node: not node["subscription"]["cancelAtPeriodEnd"])

    def default_is(last4: str):
        return lambda node: [one["last4"] for one in node["paymentMethods"] if one["isDefault"]] == [last4]

    await page.choose("select[name=card]", "card_amex")
    await page.leave_by("#add")
    await visitor.until(METHODS, default_is("0005"))
    await page.until(TEXT, lambda text: "0005" in str(text))
    await press(page, "default")
    found = await visitor.until(METHODS, default_is("4242"))
    before = len(found["paymentMethods"])
    await press(page, "remove")
    await visitor.until(METHODS, lambda node: len(node["paymentMethods"]) == before - 1)
    await page.type_into("input[name=tax_value]", "DE123456789")
    await press(page, "tax")
    await visitor.until("taxIds { value }", lambda node: node["taxIds"] == [{"value": "DE123456789"}])
    await page.leave_by("#return")
    await page.until(RETURNED, lambda path: path == "/billing/return")
