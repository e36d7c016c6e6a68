"""GraphiQL in a real browser against a real gateway process: a query, a mutation and a subscription, run by hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from models.database import Database
from tests.browser.cdp import Page, browser_page
from tests.processes import Running, gateway_env, start_gateway
from tests.seeding import Seeded, apply_catalog, seed_workspace

CREDITS_MICRO = 1_000_000_000
RESULT = "[...document.querySelectorAll('.result-window .view-line')].map(line => line.innerText).join('\\n').replace(/\\u00a0/g, ' ')"


@pytest.fixture(scope="module")
async def gateway(
    chromium: str, database_clones, valkey_server, tmp_path_factory
) -> AsyncIterator[tuple[Running, Seeded]]:
    database_url = database_clones.url_of(await database_clones.take())
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, CREDITS_MICRO)
    await database.close()
    env = gateway_env(
        database_url, valkey_server.redis_url, tmp_path_factory.mktemp("gateway"), TOLLGATE_GRAPHIQL="true"
    )
    running = await start_gateway(env)
    yield running, seeded
    assert await running.stop() == 0


@pytest.fixture
async def page(chromium: str, gateway: tuple[Running, Seeded], tmp_path: Path) -> AsyncIterator[Page]:
    async with browser_page(chromium, tmp_path / "profile") as page:
        await page.open(f"{gateway[0].url}/graphql")
        await page.type_into("#tollgate-api-key", gateway[1].api_key)
        yield page


async def run(page: Page, example: str, operation: str, *wanted: str) -> str:
    """Open the example, press the button and wait until the answer holds these texts."""
    await page.choose("#tollgate-example", example)
    # GraphiQL reads an operation's name a moment after it was put into the editor, and then names the tab by it.
    await page.until("document.querySelector('.graphiql-tab-active')?.innerText", lambda text: operation in str(text))
    await page.click(".graphiql-execute-button")
    return await page.until(RESULT, lambda text: all(each in str(text) for each in wanted))


async def call_model(gateway: tuple[Running, Seeded]) -> None:
    """From elsewhere."""
    running, seeded = gateway
    body = {"model": "sandbox-chat", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello"}]}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {seeded.api_key}"}) as session,
        session.post(f"{running.url}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def test_a_query_a_mutation_and_a_subscription_run_in_graphiql(
    page: Page, gateway: tuple[Running, Seeded]
) -> None:
    asked = await run(page, "Who am I", "WhoAmI", '"viewerRole"', '"balance": "1000"')
    assert '"errors"' not in asked

    await run(page, "Call a model", "CallModel", '"status": "SUCCEEDED"', '"userErrors": []')

    before = await run(page, "Watch a wallet", "WalletChanged", '"walletChanged"', '"held": "0"')
    await call_model(gateway)
    after = await page.until(RESULT, lambda text: str(text) != before and '"held": "0"' in str(text))
    assert '"walletChanged"' in after
    await page.click(".graphiql-execute-button")

    assert page.complaints == []
    assert await page.violations() == []
    host = gateway[0].url.removeprefix("http://")
    foreign = [url for url in page.requested if host not in url and not url.startswith("data:")]
    assert foreign == [], "the page asks nobody but its own server"


async def test_the_schema_is_read_and_every_example_is_on_offer(page: Page) -> None:
    offered = await page.until("[...document.querySelectorAll('#tollgate-example option')].map(option => option.text)")
    titles = sorted(
        path.read_text().splitlines()[0].removeprefix("# ").split(":")[0]
        for path in Path(__file__).parents[2].joinpath("examples").glob("*.graphql")
    )
    assert sorted(text.split(". ", 1)[1] for text in offered[1:]) == titles
    await page.click('[aria-label="Show Documentation Explorer"]')
    shown = await page.until(
        "document.querySelector('.graphiql-doc-explorer')?.innerText", lambda text: text and "Query" in text
    )
    assert "Subscription" in shown
    assert page.complaints == []
    assert await page.violations() == []
