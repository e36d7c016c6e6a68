"""The list of public models, over GraphQL and as a page: everybody's, page by page, and nothing that is not public."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from accounts.views import ANONYMOUS
from app import model_index
from gateway.errors import ModelDisabled, PublisherPlanTooSmall
from kit.ids import encode_id
from tests.app.test_pages import Reader, Shown
from tests.gateway.market import Market, key_of, open_market

LIST = """query($first: Int, $after: String, $modality: Modality) {
  publishedModels(first: $first, after: $after, modality: $modality) {
    nodes { slug name path publisher { slug name } prices { meter credits per usd } }
    pageInfo { hasNextPage hasPreviousPage endCursor } } }"""
PRICES = [{"meter": "OUTPUT_TOKENS", "credits": "1", "per": "1000"}]


@pytest.fixture
async def market(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Market]:
    async with open_market(database_url, redis_url, tmp_path) as opened:
        yield opened


async def listed(market: Market, principal=ANONYMOUS, **variables: object) -> dict:
    return (await market.house.read(LIST, principal, **variables))["publishedModels"]


async def slugs(market: Market, **variables: object) -> list[str]:
    return [node["slug"].rpartition("/")[2] for node in (await listed(market, **variables))["nodes"]]


async def shown(market: Market, target: str = "/m/", method: str = "GET") -> Shown:
    sent: list[dict] = []
    parts = urlsplit(target)

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": parts.path, "query_string": parts.query.encode(),
        "client": ("203.0.113.7", 1), "headers": [],
    }  # fmt: skip
    await market.services.model_index(scope, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Shown(sent[0]["status"], headers, sent[1]["body"].decode())


def links(page: Shown) -> list[str]:
    return [each["href"] for each in Reader(page.html).named("a")]


async def test_public_models_are_listed_for_everybody_the_newest_first(market: Market) -> None:
    await market.publish(prices=PRICES)
    await market.publish(slug="free", name="Free one")
    for principal in (ANONYMOUS, key_of(market.buyer), market.owner):
        newest, oldest = (await listed(market, principal))["nodes"]
        assert (newest["name"], newest["prices"]) == ("Free one", [])
        assert oldest["path"] == f"/m/{oldest['slug']}"
        assert oldest["publisher"]["name"] == "maker"
        assert oldest["slug"] == f"{oldest['publisher']['slug']}/writer"
        assert oldest["prices"] == [{"meter": "OUTPUT_TOKENS", "credits": "1", "per": "1000", "usd": "1.00"}]


async def test_what_is_private_disabled_taken_back_or_of_a_deleted_workspace_is_not_listed(market: Market) -> None:
    made = {slug: await market.publish(slug=slug) for slug in ("gone", "off", "later")}
    await market.publish(slug="own", visibility="PRIVATE")
    assert await slugs(market) == ["later", "off", "gone"]
    await market.do("unpublishModel", "deletedId", publishedModelId=made["gone"]["id"])
    await market.do("updatePublishedModel", "publishedModel { id }", publishedModelId=made["off"]["id"], enabled=False)
    assert await slugs(market) == ["later"]
    assert [node["slug"] for node in (await listed(market, market.owner))["nodes"]] == [made["later"]["model"]["slug"]]
    assert links(await shown(market)) == [f"/m/{made['later']['model']['slug']}"]
    await market.do(
        "updatePublishedModel", "publishedModel { id }", publishedModelId=made["later"]["id"], visibility="PRIVATE"
    )
    assert await slugs(market) == []
    await market.publish(slug="last")
    await market.services.database.pool.execute(
        "UPDATE workspaces SET deleted_at = now() WHERE id = $1", market.maker.workspace_id
    )
    assert await slugs(market) == []
    assert "There are none here" in (await shown(market)).html


async def test_what_its_publishers_plan_no_longer_allows_is_not_listed_until_the_plan_is_back(market: Market) -> None:
    part = await market.part("part")
    step = {"name": "one", "model": part, "prompt": "{{ input.text }}", "max_tokens": 9}
    await market.publish(slug="priced", prices=PRICES)
    await market.publish(slug="of-nothing", prices=[{"meter": "OUTPUT_TOKENS", "credits": "0", "per": "1000"}])
    await market.chain("chain", step)
    await market.chain("priced-chain", step, prices=PRICES)
    every = ["priced-chain", "chain", "of-nothing", "priced", "part"]
    assert await slugs(market) == every
    assert await slugs(market, first=2) == every[:2]
    for plan, told in (("personal", ["of-nothing", "part"]), ("pro", every)):
        await market.on_plan(market.maker.workspace_id, plan)
        await until_listed(market, told)
        assert [link.rpartition("/")[2] for link in links(await shown(market))] == told
        assert [each.rpartition("/")[2] for each in await served(market)] == told


async def served(market: Market) -> list[str]:
    """What a person's call would not be refused, the newest first."""
    found = await market.services.database.pool.fetch(
        "SELECT m.slug FROM published_models p JOIN models m ON m.id = p.model_id ORDER BY p.created_at DESC"
    )
    good = []
    for row in found:
        try:
            await market.call(row["slug"])
        except (PublisherPlanTooSmall, ModelDisabled):
            continue
        good.append(row["slug"])
    return good


async def until_listed(market: Market, told: list[str]) -> None:
    async with asyncio.timeout(30):
        while await slugs(market) != told:
            await asyncio.sleep(0.02)


async def test_a_model_of_a_plan_that_ends_by_itself_is_no_longer_listed_after_ten_seconds(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    await market.publish(prices=PRICES)
    await asyncio.sleep(0.3)  # its own news is heard by then: what is read below is kept
    assert await slugs(market) == ["writer"]
    await market.services.database.pool.execute("UPDATE workspaces SET default_plan_id = NULL")  # nobody is told of it
    monkeypatch.setattr("billing.published.FRESH_S", 0.0)
    assert await slugs(market) == []


async def test_pages_meet_without_gap_or_repeat_while_models_come(market: Market) -> None:
    for name in "abcde":
        await market.publish(slug=name)
    seen, after = [], None
    for _ in range(3):
        page = await listed(market, first=2, after=after)
        seen += [node["slug"][-1] for node in page["nodes"]]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        after = page["pageInfo"]["endCursor"]
        await market.publish(slug=f"new-{len(seen)}")
    assert seen == ["e", "d", "c", "b", "a"]
    assert page["pageInfo"]["hasNextPage"] is False
    assert await market.house.code(LIST, after="no cursor") == "BAD_REQUEST"


async def test_models_are_narrowed_to_what_they_make(market: Market) -> None:
    await market.publish(slug="text")
    await market.publish(slug="vectors", modality="EMBEDDING", maxOutputTokens=None)
    assert await slugs(market, modality="EMBEDDING") == ["vectors"]
    assert await slugs(market, modality="TEXT") == ["text"]
    assert await slugs(market, modality="IMAGE") == []


async def test_the_catalogs_own_models_have_no_page(market: Market) -> None:
    await market.publish()
    told = await market.house.read("{ models(first: 3) { nodes { slug path publisher { slug } } } }", ANONYMOUS)
    assert {(node["path"], node["publisher"]) for node in told["models"]["nodes"]} == {(None, None)}


async def test_B15_the_page_names_each_model_its_publisher_and_price_and_takes_no_script(market: Market) -> None:
    made = await market.publish(prices=PRICES, name="A <b>poet</b>", description='Says "so"\n<i>&</i> ' + "long " * 99)
    await market.publish(slug="free")
    page = await shown(market)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert links(page) == [f"/m/{made['model']['slug'].replace('writer', 'free')}", f"/m/{made['model']['slug']}"]
    assert "A &lt;b&gt;poet&lt;/b&gt;" in page.html
    assert "Says &quot;so&quot; &lt;i&gt;&amp;&lt;/i&gt; long" in page.html
    assert page.html.count("long ") < 45
    assert "by maker" in page.html
    assert "1 credits ($1.00) for 1,000 output tokens" in page.html
    assert "<p>Free</p>" in page.html
    assert "noindex" not in page.html
    assert not {"script", "iframe", "link", "img", "i", "b", "form"} & {tag for tag, _ in Reader(page.html).tags}
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")


async def test_B14_a_chain_says_that_its_steps_cost_their_own_prices(market: Market) -> None:
    part = await market.part("up")
    await market.chain("pipeline", {"name": "one", "model": part, "prompt": "{{ input.text }}", "max_tokens": 9})
    page = await shown(market)
    assert "the models it runs at their own prices" in page.html


async def test_the_page_leads_on_to_the_next(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_index, "MODELS_A_PAGE", 2)
    for name in "abc":
        await market.publish(slug=name)
    first = await shown(market, "/m")
    *models, on = links(first)
    second = await shown(market, on)
    assert [model[-1] for model in models] == ["c", "b"]
    assert links(second)[0][-1] == "a"
    assert links(second)[1:] == ["/m/"]


async def test_what_the_page_cannot_do_is_told_on_a_page(market: Market) -> None:
    posted = await shown(market, method="POST")
    assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD")
    assert (await shown(market, "/m/?after=%ff%00")).status == 404
    assert (await shown(market, "/m/?after=")).status == 200
    asked = 0
    while (page := await shown(market)).status == 200 and asked < 1_000:
        asked += 1
    assert (page.status, asked > 300) == (429, True)
    assert int(page.headers["retry-after"]) >= 1


async def test_a_publisher_is_shown_by_its_public_name_and_nothing_of_its_provider(market: Market) -> None:
    await market.publish()
    told = str(await listed(market)) + (await shown(market)).html
    assert market.provider.upstream.url not in told
    assert encode_id("ws", market.maker.workspace_id) not in told
