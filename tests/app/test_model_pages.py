"""The page of a published model: it shows what it is, takes no script, and a try on it is an ordinary call."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest

from accounts.rules.roles import Role
from kit.clock import now
from tests.app.test_pages import Reader, Shown
from tests.gateway.market import CREDITS_MICRO, Market, open_market

PRICES = [{"meter": "OUTPUT_TOKENS", "credits": "1", "per": "1000"}]
COST = 20_000
SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "title": "What about", "maxLength": 60, "description": "<b>A word</b>"},
        "long": {"type": "string"},
        "lines": {"type": "integer", "minimum": 1, "maximum": 9, "default": 4},
        "tone": {"type": "string", "enum": ["dry", "warm"]},
        "rhymes": {"type": "boolean"},
    },
    "required": ["topic"],
}
PROMPT = "{{ input.topic }}|{{ input.lines }}|{{ input.tone }}|{{ input.rhymes }}"
PASSWORD = "correct horse battery staple"


@pytest.fixture
async def market(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Market]:
    async with open_market(database_url, redis_url, tmp_path) as opened:
        yield opened


class Browser:
    """Asks the pages, and keeps their cookie."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.cookie = ""

    async def ask(self, slug: str, form: dict | bytes | None = None, **headers: str) -> Shown:
        sent: list[dict] = []
        raw = form if isinstance(form, bytes) else urlencode(form or {}).encode()
        given = {"cookie": self.cookie, "host": "localhost:8000", **headers}
        scope = {
            "type": "http", "method": "GET" if form is None else "POST", "path": f"/m/{slug}", "query_string": b"",
            "client": ("203.0.113.7", 1),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items() if value],
        }  # fmt: skip

        async def receive() -> dict:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: dict) -> None:
            sent.append(message)

        await self.market.services.model_pages(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        if "set-cookie" in answered:
            self.cookie = answered["set-cookie"].partition(";")[0]
        return Shown(sent[0]["status"], answered, sent[1]["body"].decode())

    async def sign_in(self, slug: str, email: str) -> Shown:
        return await self.ask(slug, {"do": "sign-in", "email": email, "password": PASSWORD})


async def with_password(market: Market, principal, email: str) -> None:
    digest = await market.services.accounts.hasher.digest(PASSWORD)
    await market.services.database.pool.execute(
        "UPDATE users SET password_digest = $2, email = $3, email_key = $3 WHERE id = $1", principal.user_id, digest, email
    )  # fmt: skip


def hidden(html: str, name: str) -> str:
    return next(each["value"] for each in Reader(html).named("input") if each.get("name") == name)


async def test_B15_each_published_model_has_a_page_with_a_form_of_its_input(market: Market) -> None:
    dearer = {"meter": "OUTPUT_TOKENS", "credits": "9", "when": [{"field": "effort", "values": ["high", "<i>&"]}]}
    made = await market.publish(
        prices=[*PRICES, dearer], inputSchema=SCHEMA, prompt=PROMPT, description='Says "so" <i>&</i>\nmore'
    )
    shown = await Browser(market).ask(made["model"]["slug"])
    assert shown.status == 200
    page = Reader(shown.html)
    assert not [tag for tag, given in page.tags if tag in {"script", "iframe", "link", "img", "i", "b"}]
    assert not [tag for tag, given in page.tags if any(name.startswith("on") or name == "style" for name in given)]
    fields = {each["name"]: each for tag in ("input", "textarea", "select") for each in page.named(tag)}
    assert {name for name in fields if name.startswith("in.")} == {
        "in.topic",
        "in.long",
        "in.lines",
        "in.tone",
        "in.rhymes",
    }
    assert fields["in.topic"]["maxlength"] == "60"
    assert "required" in fields["in.topic"]
    assert "required" not in fields["in.long"]
    assert (fields["in.lines"]["type"], fields["in.lines"]["min"], fields["in.lines"]["value"]) == ("number", "1", "4")
    assert [each["value"] for each in page.named("option")] == ["", "dry", "warm"]
    assert fields["in.rhymes"]["type"] == "checkbox"
    assert fields["key"]["type"] == "password"
    assert "1 credits" in shown.html
    assert "1,000 output tokens" in shown.html
    assert "where effort is &lt;i&gt;&amp; or high" in shown.html


async def test_a_pages_prices_say_which_of_them_counts_and_what_costs_nothing(market: Market) -> None:
    fee = {"meter": "REQUESTS", "credits": "4"}
    high, big = {"field": "effort", "values": ["high"]}, {"field": "length", "values": ["big"]}
    varying = [fee, {**fee, "credits": "0", "when": [high]}, {**fee, "credits": "9", "when": [high, big]}]
    made = await market.publish(prices=[*PRICES, *varying, {"meter": "INPUT_TOKENS", "credits": "0"}])
    cells = re.findall("<td>(.*?)</td>", (await Browser(market).ask(made["model"]["slug"])).html)
    assert cells[1::2] == [
        "for 1,000 output tokens",
        "for calls where effort is high and length is big",
        "for calls where effort is high",
        "for calls otherwise",
    ]
    assert [cost.partition(" ")[0] for cost in cells[::2]] == ["1", "9", "0", "4"]


async def test_a_model_that_is_not_served_now_has_a_page_that_says_so_and_no_form_to_try_it(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    slug, browser = made["model"]["slug"], Browser(market)
    form = {"do": "try", "in.prompt": "hi", "key": market.buyer.api_key}
    tried = hidden((await browser.ask(slug)).html, "once")
    await market.on_plan(market.maker.workspace_id, "personal")
    shown = await browser.ask(slug)
    assert "Not available now: the model" in shown.html
    assert "plan has no charging for its models" in shown.html
    assert "noindex" in shown.html
    assert not [each for each in Reader(shown.html).named("input") if each.get("name") == "once"]
    assert (await browser.ask(slug, {**form, "once": tried})).status == 422
    await market.on_plan(market.maker.workspace_id, "pro")
    assert hidden((await browser.ask(slug)).html, "once")
    await market.do("updatePublishedModel", "publishedModel { id }", publishedModelId=made["id"], enabled=False)
    assert "Not available now" in (await browser.ask(slug)).html


async def test_the_pages_policy_names_its_own_style_and_nothing_else(market: Market) -> None:
    made = await market.publish(colour="#aa0033", logoUrl="https://pictures.example/logo.png")
    slug = made["model"]["slug"]
    shown = await Browser(market).ask(slug)
    (style,) = re.findall("<style>(.*?)</style>", shown.html)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert shown.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data: https://pictures.example; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize(
    "stored", ["https://e.example\r\nx: y/", "https://e.example/\x01", "https://*/", "https://[/", "data:,x"]
)
async def test_a_stored_logo_that_could_not_be_set_now_is_not_shown(market: Market, stored: str) -> None:
    """It would stand in a header of its page."""
    made = await market.publish(colour="#aa0033", logoUrl="https://pictures.example/logo.png")
    await market.services.database.pool.execute("UPDATE published_models SET logo_url = $1", stored)
    market.services.resolver_services.publishing.models.forget_all()
    shown = await Browser(market).ask(made["model"]["slug"])
    assert shown.status == 200
    assert Reader(shown.html).named("img") == []
    assert "img-src data:; " in shown.headers["content-security-policy"]


async def test_B15_the_logo_and_colour_are_shown_while_the_publisher_is_on_pro(market: Market) -> None:
    made = await market.publish(colour="#aa0033", logoUrl="https://1.1.1.1/logo.png")
    browser, slug = Browser(market), made["model"]["slug"]
    branded = await browser.ask(slug)
    assert Reader(branded.html).named("img")[0]["src"] == "https://1.1.1.1/logo.png"
    assert "#aa0033" in branded.html
    await market.on_plan(market.maker.workspace_id, "personal")
    plain = await browser.ask(slug)
    assert plain.status == 200
    assert Reader(plain.html).named("img") == []
    assert "#aa0033" not in plain.html


async def test_B15_a_try_with_an_api_key_is_charged_to_its_workspace_once(market: Market) -> None:
    made = await market.publish(prices=PRICES, inputSchema=SCHEMA, prompt=PROMPT)
    slug = made["model"]["slug"]
    await market.on_plan(market.buyer.workspace_id, "pro")
    market.provider.texts["up"] = "<script>alert(1)</script>"
    browser = Browser(market)
    once = hidden((await browser.ask(slug)).html, "once")
    form = {"do": "try", "once": once, "in.topic": "the sea", "in.lines": "3", "in.tone": "dry", "in.rhymes": "true", "key": market.buyer.api_key}  # fmt: skip
    shown = await browser.ask(slug, form)
    assert shown.status == 200, shown.html
    assert market.provider.asked[0]["messages"] == [{"role": "user", "content": "the sea|3|dry|true"}]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.html
    assert "<script" not in shown.html
    assert "It cost 0.02 credits" in shown.html
    assert market.buyer.api_key not in shown.html
    assert hidden(shown.html, "once") != once
    again = await browser.ask(slug, form)
    assert again.status == 200
    assert len(market.provider.asked) == 1
    assert await market.balance(market.buyer) == CREDITS_MICRO - COST
    await market.agrees()


async def test_what_does_not_fit_the_form_is_told_on_the_page_and_kept_in_it(market: Market) -> None:
    made = await market.publish(inputSchema=SCHEMA, prompt=PROMPT)
    slug = made["model"]["slug"]
    await market.on_plan(market.buyer.workspace_id, "pro")
    browser = Browser(market)
    for wrong in ({"in.topic": ""}, {"in.topic": "x", "in.lines": "many"}, {"in.topic": "x", "in.lines": "1e999"},
                  {"in.topic": "x", "in.lines": "10"}, {"in.topic": "y" * 61}, {"in.topic": "x", "in.tone": "loud"}):  # fmt: skip
        shown = await browser.ask(slug, {"do": "try", "key": market.buyer.api_key, "in.long": '"kept"', **wrong})
        assert shown.status == 422, wrong
        assert "&quot;kept&quot;" in shown.html
    assert market.provider.asked == []
    for strange in (b"\xff\xfe", b"&" * 100, b"in.topic=%ff%fe", b"x" * 300_000):
        assert (await browser.ask(slug, strange)).status in {401, 413, 422}
    wrong_key = await browser.ask(slug, {"do": "try", "in.topic": "x", "key": "tg_live_wrong"})
    assert wrong_key.status == 401


async def test_B15_a_signed_in_visitor_tries_it_from_a_workspace_of_theirs(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    slug = made["model"]["slug"]
    visitor = await market.house.person(Role.MEMBER, market.buyer.workspace_id)
    await with_password(market, visitor, "visitor@example.com")
    browser = Browser(market)
    refused = await browser.ask(slug, {"do": "sign-in", "email": "visitor@example.com", "password": "wrong"})
    assert refused.status == 422
    signed = await browser.sign_in(slug, "visitor@example.com")
    assert (signed.status, signed.headers["location"]) == (303, f"/m/{slug}")
    assert {"HttpOnly", "SameSite=Strict", "Path=/m/"} <= set(signed.headers["set-cookie"].split("; "))
    page = await browser.ask(slug)
    (workspace,) = [each["value"] for each in Reader(page.html).named("option")]
    form = {
        "do": "try", "once": hidden(page.html, "once"), "csrf": hidden(page.html, "csrf"), "workspace": workspace,
        "in.prompt": "hi",
    }  # fmt: skip
    shown = await browser.ask(slug, form, origin="http://localhost:8000", sec_fetch_site="same-origin")
    assert shown.status == 200, shown.html
    assert "made here" in shown.html
    assert await market.balance(market.buyer) == CREDITS_MICRO - COST
    row = await market.services.database.pool.fetchrow("SELECT user_id, api_key_id FROM calls")
    assert tuple(row) == (visitor.user_id, None)
    maker = await market.services.database.pool.fetchval(
        "SELECT slug FROM workspaces WHERE id = $1", market.maker.workspace_id
    )
    stranger = await browser.ask(slug, {**form, "once": hidden(shown.html, "once"), "workspace": maker})
    assert stranger.status == 422
    out = await browser.ask(slug, {"do": "sign-out", "csrf": form["csrf"]})
    assert out.status == 303
    assert "csrf" not in (await browser.ask(slug)).html
    await market.agrees()


@pytest.mark.parametrize("on", [False, True])
async def test_D12_a_try_is_stored_where_the_workspace_that_pays_has_turned_that_on(market: Market, on: bool) -> None:
    """With a typed key and signed in; whatever the publisher stores. No form number, so nothing is kept for repeats."""
    slug = (await market.publish())["model"]["slug"]
    pool = market.services.database.pool
    await pool.execute(
        "UPDATE workspaces SET store_outputs = (id = $1) = $2", market.buyer.workspace_id, on
    )  # the publisher's is the other way round
    market.services.workspaces.forget_all()
    await market.on_plan(market.buyer.workspace_id, "pro")
    visitor = await market.house.person(Role.MEMBER, market.buyer.workspace_id)
    await with_password(market, visitor, "visitor@example.com")
    browser = Browser(market)
    typed = await browser.ask(slug, {"do": "try", "in.prompt": "hi", "key": market.buyer.api_key})
    await browser.sign_in(slug, "visitor@example.com")
    page = await browser.ask(slug)
    (workspace,) = [each["value"] for each in Reader(page.html).named("option")]
    signed_in = await browser.ask(
        slug, {"do": "try", "in.prompt": "hi", "workspace": workspace, "csrf": hidden(page.html, "csrf")}
    )
    assert [shown.status for shown in (typed, signed_in)] == [200, 200]
    ids = [row["id"] for row in await pool.fetch("SELECT id FROM calls ORDER BY id")]
    after_an_hour = now() + timedelta(hours=1)
    kept = [await market.services.resolver_services.outputs.read(call_id, after_an_hour) for call_id in ids]
    assert len(kept) == 2
    assert [body is not None for body in kept] == [on, on]
    assert all("made here" in str(body) for body in kept if body is not None)
    assert await pool.fetchval("SELECT count(*) FROM call_outputs") == (2 if on else 0)


async def test_another_site_cannot_spend_a_visitors_credits(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    slug = made["model"]["slug"]
    visitor = await market.house.person(Role.MEMBER, market.buyer.workspace_id)
    await with_password(market, visitor, "visitor@example.com")
    browser = Browser(market)
    await browser.sign_in(slug, "visitor@example.com")
    page = await browser.ask(slug)
    (workspace,) = [each["value"] for each in Reader(page.html).named("option")]
    form = {"do": "try", "workspace": workspace, "in.prompt": "hi"}
    good = {**form, "csrf": hidden(page.html, "csrf")}
    assert (await browser.ask(slug, form)).status == 403
    assert (await browser.ask(slug, {**form, "csrf": "0" * 64})).status == 403
    assert (await browser.ask(slug, good, origin="https://evil.example")).status == 403
    assert (await browser.ask(slug, good, sec_fetch_site="cross-site")).status == 403
    assert (await browser.ask(slug, {"do": "sign-out"})).status == 403
    other = await market.publish(slug="other")
    assert (await browser.ask(other["model"]["slug"], good)).status == 403  # a token is of one page
    browser.cookie = "tollgate_page=forged"
    assert (await browser.ask(slug, good)).status == 401
    assert market.provider.asked == []


async def test_a_private_models_page_is_there_for_its_own_people_only(market: Market) -> None:
    made = await market.publish(visibility="PRIVATE")
    public = await market.publish(slug="public")
    slug = made["model"]["slug"]
    await with_password(market, market.owner, "owner@example.com")
    browser = Browser(market)
    assert (await browser.ask(slug)).status == 404
    await browser.sign_in(public["model"]["slug"], "owner@example.com")
    shown = await browser.ask(slug)
    assert shown.status == 200
    assert "noindex" in shown.html
    for nothing in ("no/such", "no", "a/b/c", "../etc", f"{slug}/"):
        assert (await browser.ask(nothing)).status == 404


async def test_an_address_that_asks_for_pages_without_end_is_told_to_wait(market: Market) -> None:
    browser = Browser(market)
    shown, asked = await browser.ask("no/such"), 1
    while shown.status == 404 and asked < 1_000:
        shown, asked = await browser.ask("no/such"), asked + 1
    assert shown.status == 429
    assert asked > 300
    assert int(shown.headers["retry-after"]) >= 1
