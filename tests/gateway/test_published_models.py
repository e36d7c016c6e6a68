"""Published models: what their use costs and pays, who may call them, and where their providers may be."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from accounts.secret_rotation import rotate_secrets
from accounts.views import ANONYMOUS
from billing.published import ROUTE_PREFIX
from gateway.callers import WorkspaceFacts
from gateway.errors import ApiNotInPlan, ModelDisabled, ModelNotForTestKeys, ModelNotFound, PublisherPlanTooSmall
from gateway.publishers import Publishers
from gateway.rules import storage
from gateway.views import CallRequest
from kit.errors import InvalidInput
from kit.ids import decode_id, encode_id
from kit.sealing import Sealer, row_context
from metering.operations import Clawback
from models.enums import Visibility
from providers.base import Operation
from tests.gateway.market import CREDITS_MICRO, MILLION, SECRET_KEY, Market, key_of
from tests.metering.money import waiting_for_lock
from tests.providers.upstreams import scripted

PRICES = [
    {"meter": "INPUT_TOKENS", "credits": "1", "per": "1000"},
    {"meter": "OUTPUT_TOKENS", "credits": "3", "per": "1000"},
]
COST = 10 * 1_000 + 20 * 3_000
"""Of 10 tokens in and 20 out, in micro-credits."""


async def slug_of(market: Market, name: str = "writer") -> str:
    sql = "SELECT slug FROM workspaces WHERE id = $1"
    return f"{await market.services.database.pool.fetchval(sql, market.maker.workspace_id)}/{name}"


async def test_B12_a_buyer_pays_the_price_the_publisher_earns_its_share_and_the_platform_keeps_the_rest(
    market: Market,
) -> None:
    made = await market.publish(prices=PRICES)
    slug = made["model"]["slug"]
    assert slug == await slug_of(market)
    result = await market.call(slug)
    assert result.charged_micro == COST
    assert await market.balance(market.buyer) == CREDITS_MICRO - COST
    assert await market.balance(market.maker) == CREDITS_MICRO + COST * 80 // 100
    heard = market.provider.upstream.requests[0]
    assert "Authorization: Bearer sk-of-the-maker" in heard.head
    assert heard.json["model"] == "up"
    grant = await market.services.database.pool.fetchrow(
        "SELECT transferable, remaining_micro FROM credit_grants WHERE wallet_id = $1 AND kind = 'EARNINGS'",
        market.maker.wallet_id,
    )
    assert tuple(grant) == (True, COST * 80 // 100)
    await market.agrees()


@pytest.mark.parametrize(("made_kb", "kept_kb"), [([5_000, 4_000], [5_000]), ([8_100], [])])
async def test_of_a_publishers_pictures_no_more_is_kept_than_was_asked_for_and_set_aside(
    market: Market, tmp_path: Path, made_kb: list[int], kept_kb: list[int]
) -> None:
    """8 MB for the one picture that is asked for, whatever the publisher's provider makes."""
    body = orjson.dumps({"created": 1, "data": [{"b64_json": b64encode(bytes(kb * 1_000)).decode()} for kb in made_kb]})
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with scripted(head + body) as upstream:
        provider = {"baseUrl": upstream.url, "model": "up", "apiKey": None}
        made = await market.publish(modality="IMAGE", maxOutputTokens=None, provider=provider)
        request = CallRequest(made["model"]["slug"], Operation.IMAGE, {"prompt": "a cat"}, keeps_assets=True)
        caller = await market.caller(market.buyer, user_id=None)
        result = await market.services.calls.call(caller, request)
    assert len(result.body["data"]) == len(kept_kb or made_kb)
    pool = market.services.database.pool
    sizes = [row[0] for row in await pool.fetch("SELECT size_bytes FROM assets ORDER BY id")]
    assert sizes == [kb * 1_000 for kb in kept_kb]
    assert await pool.fetchval("SELECT sum(used_bytes) - sum(reserved_bytes) FROM workspace_storage") == sum(sizes)
    assert sum(path.is_file() for path in (tmp_path / "assets").rglob("*")) == len(kept_kb)


@pytest.mark.parametrize(("most_bytes", "most_s"), [(0, 15), (8_000_000, 31), (10**12, 300)])
def test_a_publishers_files_have_time_by_their_size_and_an_end(most_bytes: int, most_s: int) -> None:
    assert storage.fetch_time_s(most_bytes) == most_s


@pytest.mark.parametrize("pause_s", [0.05, 60.0], ids=["drop by drop", "not at all"])
async def test_a_publishers_file_that_does_not_come_in_time_is_not_kept_and_the_answer_is_paid_for(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    """The buyer's hold is open meanwhile."""
    monkeypatch.setattr(storage, "FETCH_START_S", 0.5)
    monkeypatch.setattr(storage, "FETCH_BYTES_PER_S", 100_000_000)

    async def slow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b"\x89")
            await writer.drain()
            await asyncio.sleep(pause_s)

    async with AsyncExitStack() as stack:
        slow_server = await asyncio.start_server(slow, "127.0.0.1", 0)
        stack.callback(slow_server.close)
        url = f"http://127.0.0.1:{slow_server.sockets[0].getsockname()[1]}/picture.png"
        body = orjson.dumps({"created": 1, "data": [{"url": url}]})
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        upstream = await stack.enter_async_context(scripted(head + body))
        provider = {"baseUrl": upstream.url, "model": "up", "apiKey": None}
        price = {"meter": "IMAGES", "credits": "2", "per": "1"}
        made = await market.publish(modality="IMAGE", maxOutputTokens=None, provider=provider, prices=[price])
        request = CallRequest(made["model"]["slug"], Operation.IMAGE, {"prompt": "a cat"}, keeps_assets=True)
        caller = await market.caller(market.buyer, user_id=None)
        async with asyncio.timeout(30):  # 900 s before
            result = await market.services.calls.call(caller, request)
    assert (result.body["data"], result.charged_micro) == ([{"url": url}], 2 * MILLION)
    assert await market.services.database.pool.fetchval("SELECT count(*) FROM assets") == 0
    assert await market.services.database.pool.fetchval("SELECT sum(reserved_bytes) FROM workspace_storage") == 0
    assert list((tmp_path / "assets-in-transit").iterdir()) == []
    await market.agrees()


def fee(field: str | None = None, *values: str) -> dict:
    """A price of a request, where a field of it has one of these values."""
    when = [] if field is None else [{"field": field, "values": list(values)}]
    return {"meter": "REQUESTS", "credits": "1" if field is None else "3", "when": when}


async def test_B12_a_published_models_price_can_depend_on_what_is_asked(market: Market) -> None:
    made = await market.publish(prices=[fee(), fee("reasoning_effort", "high"), fee("metadata.level", "deep")])
    slug = made["model"]["slug"]
    for asked, credits_asked in (({}, 1), ({"reasoning_effort": "HIGH"}, 3), ({"metadata": {"level": "auto"}}, 3)):
        before = await market.balance(market.maker)
        assert (await market.call(slug, **asked)).charged_micro == credits_asked * MILLION
        assert await market.balance(market.maker) == before + credits_asked * MILLION * 80 // 100
    shown = "query($slug: String!) { model(slug: $slug) { prices { credits when { field values } } } }"
    prices = (await market.house.read(shown, market.owner, slug=slug))["model"]["prices"]
    assert [price["when"] for price in prices] == [
        [],
        [{"field": "reasoning_effort", "values": ["high"]}],
        [{"field": "metadata.level", "values": ["deep"]}],
    ]
    changed = await market.do(
        "updatePublishedModel", "publishedModel { id }", publishedModelId=made["id"], name="Same prices"
    )
    assert changed["userErrors"] == []
    assert (await market.call(slug, reasoning_effort="high")).charged_micro == 3 * MILLION
    changed = await market.do(
        "updatePublishedModel", "publishedModel { id }", publishedModelId=made["id"], prices=[fee()]
    )
    assert changed["userErrors"] == []
    assert (await market.call(slug, reasoning_effort="high")).charged_micro == MILLION
    await market.agrees()


async def test_B12_a_streamed_call_splits_alike_and_discounts_of_plans_do_not_touch_the_price(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    await market.on_plan(market.buyer.workspace_id, "business")  # 20 % off texts of the catalog
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, "stream": True}
    request = CallRequest(made["model"]["slug"], Operation.CHAT, body)
    stream = await market.services.streams.open(await market.caller(market.buyer), request)
    last = [event async for event in stream][-1]
    assert last.result.charged_micro == COST
    assert await market.balance(market.maker) == CREDITS_MICRO + COST * 80 // 100
    await market.agrees()


async def test_B12_publishing_free_is_for_every_plan_and_unlimited_and_charging_needs_pro(market: Market) -> None:
    await market.on_plan(market.maker.workspace_id, "personal")
    for number in range(30):
        await market.publish(slug=f"free-{number}")
    refused = await market.do("publishModel", "publishedModel { id }", **market.model(prices=PRICES))
    (error,) = refused["userErrors"]
    assert error["code"] == "NOT_IN_PLAN"
    assert "Pro" in error["message"]
    assert "Business" in error["message"]
    free = await market.call(await slug_of(market, "free-3"))
    assert free.charged_micro == 0
    assert await market.balance(market.buyer) == CREDITS_MICRO
    await market.agrees()


async def test_B12_its_own_workspace_pays_and_earns_nothing(market: Market) -> None:
    """Else promo credits would come out as earnings that can be paid out."""
    made = await market.publish(prices=PRICES)
    result = await market.call(made["model"]["slug"], seeded=market.maker)
    assert result.charged_micro == 0
    assert await market.balance(market.maker) == CREDITS_MICRO
    kinds = await market.services.database.pool.fetch("SELECT kind FROM credit_grants WHERE kind = 'EARNINGS'")
    assert kinds == []
    await market.agrees()


async def test_B12_a_provider_that_counts_too_much_is_not_believed_beyond_the_estimate(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    market.provider.usage = {"prompt_tokens": 10**9, "completion_tokens": 10**9}
    request = CallRequest(
        made["model"]["slug"], Operation.CHAT, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    )
    caller = await market.caller(market.buyer)
    most = (await market.services.calls.estimate(caller, request)).bound_micro
    assert (await market.services.calls.call(caller, request)).charged_micro == most < MILLION
    await market.agrees()


WRITES = [
    {"meter": "CACHE_WRITE_INPUT_TOKENS", "credits": "2", "per": "1000"},
    {"meter": "LONG_CACHE_WRITE_INPUT_TOKENS", "credits": "5", "per": "1000"},
]


def written(prompt: int, cached: int, short: int, long: int) -> dict:
    details = {
        "cached_tokens": cached,
        "cache_write_tokens": short + long,
        "cache_write_tokens_details": {"ttl_30m_tokens": short, "ttl_12h_tokens": long},
    }
    return {"prompt_tokens": prompt, "completion_tokens": 20, "prompt_tokens_details": details}


async def test_B12_what_a_publishers_provider_writes_to_its_cache_has_a_price_of_the_publishers(market: Market) -> None:
    made = await market.publish(prices=[*PRICES, *WRITES])
    market.provider.usage = written(10, 1, 3, 4)
    cost = 3 * 1_000 + 3 * 2_000 + 4 * 5_000 + 20 * 3_000  # what is cached has no price of its own
    assert (await market.call(made["model"]["slug"])).charged_micro == cost
    assert await market.balance(market.maker) == CREDITS_MICRO + cost * 80 // 100
    await market.agrees()


async def test_B12_cache_writes_that_nobody_can_believe_cost_no_more_than_the_estimate(market: Market) -> None:
    made = await market.publish(prices=[*PRICES, *WRITES])
    market.provider.usage = written(10**9, 10**9, 10**9, 10**9) | {"completion_tokens": 10**9}
    request = CallRequest(
        made["model"]["slug"], Operation.CHAT, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    )
    caller = await market.caller(market.buyer)
    most = (await market.services.calls.estimate(caller, request)).bound_micro
    assert (await market.services.calls.call(caller, request)).charged_micro < most
    market.provider.usage = written(10**9, 0, 0, 10**9) | {"completion_tokens": 10**9}
    assert (await market.services.calls.call(caller, request)).charged_micro == most < MILLION
    await market.agrees()


async def test_B12_a_dispute_takes_what_the_buyer_has_left_and_leaves_the_earnings(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    await market.call(made["model"]["slug"])
    pool = market.services.database.pool
    grant_id = await pool.fetchval("SELECT id FROM credit_grants WHERE wallet_id = $1", market.buyer.wallet_id)
    clawback = Clawback("dispute-1", market.buyer.wallet_id, grant_id, CREDITS_MICRO)
    await market.services.ledger.submit(clawback)
    assert await market.balance(market.buyer) == 0
    assert await market.balance(market.maker) == CREDITS_MICRO + COST * 80 // 100
    await market.agrees()


async def test_B12_a_failing_provider_costs_nothing_and_pays_nothing(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    market.provider.status = 500
    with pytest.raises(Exception, match="provider"):
        await market.call(made["model"]["slug"])
    assert await market.balance(market.buyer) == CREDITS_MICRO
    await market.agrees()


async def test_B12_a_publisher_that_leaves_pro_no_longer_charges_and_is_not_called_for_nothing(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    await market.on_plan(market.maker.workspace_id, "personal")
    with pytest.raises(PublisherPlanTooSmall):
        await market.call(made["model"]["slug"])
    await market.on_plan(market.maker.workspace_id, "pro")
    assert (await market.call(made["model"]["slug"])).charged_micro == COST


async def test_what_a_key_could_not_call_is_not_among_the_models_that_it_is_told_of(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    slug, offers, workspaces = made["model"]["slug"], market.services.calls.offers, market.services.workspaces
    for plan, told in (("pro", slug), ("personal", None), ("pro", slug)):
        await market.on_plan(market.maker.workspace_id, plan)
        found = await offers.by_key(market.buyer.workspace_id, slug)
        assert (found and found.slug) == told
        own = await offers.own(await workspaces.facts(market.maker.workspace_id))
        assert [model.slug for model in own] == ([told] if told else [])
    assert await offers.by_key(market.buyer.workspace_id, "no/such") is None


async def test_B13_the_api_of_a_published_model_needs_pro_of_its_publisher_and_its_caller(market: Market) -> None:
    made = await market.publish()
    slug = made["model"]["slug"]
    with pytest.raises(ApiNotInPlan):
        await by_key(market, slug)
    await market.on_plan(market.buyer.workspace_id, "pro")
    assert (await by_key(market, slug)).body is not None
    await market.on_plan(market.maker.workspace_id, "personal")
    with pytest.raises(PublisherPlanTooSmall):
        await by_key(market, slug)
    assert (await market.call(slug)).body is not None  # a person needs no API


async def by_key(market: Market, slug: str, **more: object):
    caller = await market.caller(market.buyer, user_id=None, api_key_id=market.buyer.api_key_id, **more)
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    return await market.services.calls.call(caller, CallRequest(slug, Operation.CHAT, body))


async def test_B13_a_test_key_reaches_no_publishers_provider(market: Market) -> None:
    made = await market.publish()
    await market.on_plan(market.buyer.workspace_id, "pro")
    with pytest.raises(ModelNotForTestKeys):
        await by_key(market, made["model"]["slug"], test=True)


async def test_B12_a_private_model_exists_for_its_own_workspace_only(market: Market) -> None:
    made = await market.publish(visibility="PRIVATE")
    slug = made["model"]["slug"]
    with pytest.raises(ModelNotFound):
        await market.call(slug)
    assert (await market.call(slug, seeded=market.maker)).body is not None
    document = "query($slug: String!) { model(slug: $slug) { publisher { slug name } } }"
    assert (await market.house.read(document, key_of(market.buyer), slug=slug))["model"] is None
    shown = (await market.house.read(document, market.owner, slug=slug))["model"]
    assert shown["publisher"] == {"slug": slug.partition("/")[0], "name": "maker"}
    by_id = "query($id: ID!) { node(id: $id) { id } }"
    model_id = encode_id("model", decode_id("pub", made["id"]))
    assert (await market.house.read(by_id, key_of(market.buyer), id=model_id))["node"] is None
    assert (await market.house.read(by_id, market.owner, id=model_id))["node"]["id"] == model_id


async def test_B12_a_model_is_changed_switched_off_and_taken_back(market: Market) -> None:
    made = await market.publish()
    slug, model_id = made["model"]["slug"], made["id"]
    changed = await market.do(
        "updatePublishedModel",
        "publishedModel { enabled provider { hasApiKey baseUrl } model { name prices { credits } } }",
        publishedModelId=model_id, name="Better", prices=PRICES, enabled=False,
    )  # fmt: skip
    assert changed["userErrors"] == []
    assert changed["publishedModel"]["provider"]["hasApiKey"] is True
    assert [Decimal(price["credits"]) for price in changed["publishedModel"]["model"]["prices"]] == [1, 3]
    with pytest.raises(ModelDisabled):
        await market.call(slug)
    await market.do("updatePublishedModel", "publishedModel { id }", publishedModelId=model_id, enabled=True)
    assert (await market.call(slug)).charged_micro == COST
    gone = await market.do("unpublishModel", "deletedId", publishedModelId=model_id)
    assert gone["deletedId"] == model_id
    with pytest.raises(ModelNotFound):
        await market.call(slug)
    pool = market.services.database.pool
    assert await pool.fetchval("SELECT api_key_encrypted FROM published_models") == b""
    await market.publish()  # the name is free again
    events = await pool.fetch("SELECT action FROM audit_events ORDER BY id")
    assert [row[0] for row in events if row[0].startswith("model.")] == [
        "model.publish", "model.update", "model.update", "model.unpublish", "model.publish",
    ]  # fmt: skip


async def test_a_publishers_key_is_sealed_and_does_not_follow_its_model_to_another_host(market: Market) -> None:
    made = await market.publish()
    sealed = await market.services.database.pool.fetchval("SELECT api_key_encrypted FROM published_models")
    assert b"sk-of-the-maker" not in sealed
    moved = await market.do(
        "updatePublishedModel", "publishedModel { id }",
        publishedModelId=made["id"], provider={"baseUrl": "http://127.0.0.2:1/v1", "model": "up"},
    )  # fmt: skip
    assert moved["userErrors"][0]["field"] == ["provider", "apiKey"]
    again = await market.do(
        "updatePublishedModel", "publishedModel { provider { hasApiKey } }",
        publishedModelId=made["id"], provider={"baseUrl": "http://127.0.0.2:1/v1", "model": "up", "apiKey": None},
    )  # fmt: skip
    assert again["publishedModel"]["provider"]["hasApiKey"] is False


@pytest.mark.parametrize(
    "url",
    ["https://169.254.169.254/v1", "https://10.0.0.1/v1", "https://[::1]/v1", "http://1.1.1.1/v1", "ftp://a/v1", "https://u:p@1.1.1.1/v1"],
)  # fmt: skip
async def test_a_provider_inside_our_network_is_refused(market: Market, url: str) -> None:
    given = market.model(provider={"baseUrl": url, "model": "up"})
    refused = await market.do("publishModel", "publishedModel { id }", **given)
    assert refused["publishedModel"] is None
    (error,) = refused["userErrors"]
    assert (error["code"], error["field"]) == ("INVALID_INPUT", ["provider", "baseUrl"])


async def test_what_is_no_address_of_a_provider_is_told_with_one_that_is(market: Market) -> None:
    given = market.model(provider={"baseUrl": "ftp://a/v1", "model": "up"})
    (error,) = (await market.do("publishModel", "publishedModel { id }", **given))["userErrors"]
    assert error["message"] == "baseUrl must be an address such as https://example.com/v1"


async def test_a_provider_whose_name_leads_into_our_network_later_is_not_reached(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    pool = market.services.database.pool
    for url in ("https://10.0.0.1/v1", "http://localhost.localdomain:1/v1", "http://[::1]:1/v1"):
        await pool.execute("UPDATE published_models SET base_url = $1, updated_at = now()", url)
        market.services.resolver_services.publishing.models.forget_all()
        with pytest.raises(Exception, match=r"provider|address"):
            await market.call(made["model"]["slug"])
    assert market.provider.asked == []
    assert await market.balance(market.buyer) == CREDITS_MICRO
    await market.agrees()


async def test_B11_usage_and_earnings_are_reported_over_time_and_by_model(market: Market) -> None:
    paid = await market.publish(prices=PRICES)
    free = await market.publish(slug="free")
    for _ in range(3):
        await market.call(paid["model"]["slug"])
    await market.call(free["model"]["slug"])
    document = """query($id: ID!, $only: ID) { workspace(id: $id) {
        earnings(from: "2020-01-01T00:00:00Z", to: "2190-01-01T00:00:00Z", interval: MONTH, publishedModelId: $only) {
            calls charged credits usd buckets(first: 1) { pageInfo { hasNextPage endCursor } nodes {
                model publishedModelId calls uses inputTokens outputTokens charged credits usd } } } } }"""
    workspace_id = encode_id("ws", market.maker.workspace_id)
    report = (await market.house.read(document, market.owner, id=workspace_id))["workspace"]["earnings"]
    assert report["calls"] == "4"
    assert Decimal(report["charged"]) == Decimal(3 * COST) / MILLION
    assert Decimal(report["credits"]) == Decimal(report["usd"]) == Decimal(3 * COST) * Decimal("0.8") / MILLION
    assert report["buckets"]["pageInfo"]["hasNextPage"] is True
    (bucket,) = report["buckets"]["nodes"]
    assert (bucket["model"], bucket["publishedModelId"]) == (paid["model"]["slug"], paid["id"])
    assert (bucket["calls"], bucket["inputTokens"], bucket["outputTokens"]) == ("3", "30", "60")
    only = (await market.house.read(document, market.owner, id=workspace_id, only=free["id"]))["workspace"]["earnings"]
    assert (only["calls"], Decimal(only["credits"])) == ("1", 0)
    earned = await market.services.database.pool.fetchval(
        "SELECT sum(amount_micro) FROM ledger_entries WHERE kind = 'EARNING' AND wallet_id = $1", market.maker.wallet_id
    )
    assert earned == 3 * COST * 80 // 100


async def test_an_input_becomes_a_message_by_the_models_prompt(market: Market) -> None:
    schema = {
        "type": "object",
        "properties": {"topic": {"type": "string", "maxLength": 10}, "lines": {"type": "integer", "default": 4}},
        "required": ["topic"],
    }
    made = await market.publish(inputSchema=schema, prompt="Write {{ input.lines }} lines about {{ input.topic }}.")
    slug = made["model"]["slug"]
    await market.call(slug, input={"topic": "the sea"}, messages=None)
    assert market.provider.asked[-1]["messages"] == [{"role": "user", "content": "Write 4 lines about the sea."}]
    assert "input" not in market.provider.asked[-1]
    for wrong in ({"topic": "far too long a topic"}, {}, {"topic": 3}, "text"):
        with pytest.raises(InvalidInput):
            await market.call(slug, input=wrong)
    await market.call(slug, "as it is")
    assert market.provider.asked[-1]["messages"] == [{"role": "user", "content": "as it is"}]


async def test_no_nul_character_reaches_the_database(market: Market) -> None:
    """It takes it in no text."""
    names = ["a/\0", "a\0/b", f"{await slug_of(market)}\0"]
    for name in names:
        for principal in (market.owner, ANONYMOUS):
            found = await market.house.read("query($slug: String!) { model(slug: $slug) { id } }", principal, slug=name)
            assert found["model"] is None
        with pytest.raises(ModelNotFound):
            await market.call(name)
    listed = "query($id: ID!, $model: String) { workspace(id: $id) { calls(model: $model) { nodes { id } pageInfo { hasNextPage } } } }"
    workspace_id = encode_id("ws", market.maker.workspace_id)
    for name in names:
        shown = await market.house.read(listed, market.owner, id=workspace_id, model=name)
        assert shown["workspace"]["calls"] == {"nodes": [], "pageInfo": {"hasNextPage": False}}
    url = market.provider.upstream.url
    step: dict = {"name": "a", "model": "sandbox-chat", "prompt": "x"}
    conditional = {"when": {"value": "x", "is": "\0"}}
    cases: list[tuple[dict, list[str]]] = [
        ({"prompt": "a\0"}, ["prompt"]),
        ({"inputSchema": {"type": "object", "properties": {"a": {"type": "string", "title": "\0"}}}}, ["inputSchema"]),
        ({"provider": {"baseUrl": f"{url}/\0", "model": "m"}}, ["provider", "baseUrl"]),
        ({"logoUrl": "https://e.example/\0"}, ["logoUrl"]),
        ({"logoUrl": "https://e.example/\x7f"}, ["logoUrl"]),
        *(
            ({"provider": None, "maxOutputTokens": None, "chain": {"steps": [{**step, **more}]}}, ["chain"])
            for more in ({"prompt": "\0"}, {"model": "x/\0"}, {"response_format": {"a": {"\0": 1}}}, conditional)
        ),
    ]
    made = await market.publish(slug="there")
    for given, field in cases:
        for mutation, input_ in (
            ("publishModel", market.model(**given)),
            ("updatePublishedModel", {"publishedModelId": made["id"], **given}),
        ):
            refused = await market.do(mutation, "publishedModel { id }", **input_)
            assert [(e["code"], e["field"][: len(field)]) for e in refused["userErrors"]] == [
                ("INVALID_INPUT", field)
            ], (
                mutation,
                given,
            )


@pytest.mark.parametrize("unseen", ["\r", "\x1b", "\x7f", "\x85", "\x9f", "\u2028", "\u202e", "\u2066"])
async def test_what_people_are_shown_of_a_model_has_nothing_unseen_in_it(market: Market, unseen: str) -> None:
    titled = {"type": "object", "properties": {"a": {"type": "string", "title": f"a{unseen}b"}}}
    text = f"a{unseen}b"
    cases: list[tuple[dict, str]] = [
        ({"name": text}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"description": text}, "description"),
        ({"provider": {"baseUrl": market.provider.upstream.url, "model": text}}, "provider"),
        ({"inputSchema": titled}, "inputSchema"),
        ({"logoUrl": f"https://e.example/{unseen}"}, "logoUrl"),
        ({"logoUrl": f"https://e{unseen}.example/"}, "logoUrl"),
        ({"logoUrl": "https://*.example/logo.png"}, "logoUrl"),
    ]
    for given, field in cases:
        refused = await market.do("publishModel", "publishedModel { id }", **market.model(**given))
        told = [(error["code"], error["field"][0]) for error in refused["userErrors"]]
        assert told == [("INVALID_INPUT", field)], given
    await market.publish(name="Ünïcode ✓ 日本", description="two\nlines\tand a tab")


async def test_what_cannot_stand_is_refused_at_its_field(market: Market) -> None:
    cases: list[tuple[dict, str, list[str]]] = [
        ({"slug": "No"}, "INVALID_INPUT", ["slug"]),
        ({"name": " "}, "INVALID_INPUT", ["name"]),
        ({"chain": {"steps": []}}, "INVALID_INPUT", ["chain"]),
        ({"provider": None}, "INVALID_INPUT", ["chain"]),
        ({"modality": "VIDEO"}, "INVALID_INPUT", ["modality"]),
        ({"prices": [{"meter": "SECONDS", "credits": "1"}]}, "INVALID_INPUT", ["prices", "0", "meter"]),
        ({"prices": [{"meter": "CACHE_WRITE_INPUT_TOKENS", "credits": "1"}]}, "INVALID_INPUT", ["prices"]),
        ({"prices": PRICES, "maxOutputTokens": None}, "INVALID_INPUT", ["maxOutputTokens"]),
        ({"prices": [fee(), fee()]}, "INVALID_INPUT", ["prices", "1", "meter"]),
        ({"prices": [fee(), fee("effort", "high"), fee("effort", "HIGH")]}, "INVALID_INPUT", ["prices", "2", "meter"]),
        ({"prices": [fee("effort", "high")]}, "INVALID_INPUT", ["prices", "0", "when"]),
        ({"prices": [fee(), fee("effort")]}, "INVALID_INPUT", ["prices", "1", "when", "0"]),
        ({"prices": [fee(), fee("effort", "a\0b")]}, "INVALID_INPUT", ["prices", "1", "when", "0"]),
        ({"prices": [fee(), fee("messages.role", "user")]}, "INVALID_INPUT", ["prices", "1", "when", "0"]),
        ({"prices": [fee(), fee("Input.style", "oil")]}, "INVALID_INPUT", ["prices", "1", "when", "0"]),
        ({"prices": [fee(), *(fee(f"f{number}", *map(str, range(32))) for number in range(9))]}, "INVALID_INPUT", ["prices"]),
        ({"prices": [fee(), *(fee("effort", str(number)) for number in range(64))]}, "INVALID_INPUT", ["prices"]),
        ({"prices": [fee(), {**fee(), "when": [{"field": f"f{number}", "values": ["x"]} for number in range(7)]}]}, "INVALID_INPUT", ["prices", "1", "when"]),
        ({"prices": [fee(), fee("effort", "high")], "provider": None, "chain": {"steps": [{"name": "a", "model": "sandbox-chat", "prompt": "x", "max_tokens": 5}]}}, "INVALID_INPUT", ["prices", "1", "when"]),
        ({"inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://x"}}}}, "INVALID_INPUT", ["inputSchema", "properties", "a", "type"]),
        ({"inputSchema": {"type": "object", "properties": {"a": {"type": ["string"]}}}}, "INVALID_INPUT", ["inputSchema", "properties", "a", "type"]),
        ({"inputSchema": {"type": "object", "properties": {"a": {"type": {}}}}}, "INVALID_INPUT", ["inputSchema", "properties", "a", "type"]),
        ({"inputSchema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}}, "INVALID_INPUT", ["inputSchema", "properties", "a", "pattern"]),
        ({"inputSchema": {"type": "object", "title": "\0", "properties": {"a": {"type": "string"}}}}, "INVALID_INPUT", ["inputSchema"]),
        ({"inputSchema": {"type": "object", "properties": {"a": {"type": "string", "title": "\0"}}}}, "INVALID_INPUT", ["inputSchema", "properties", "a"]),
        ({"inputSchema": {"type": "object", "properties": {"a": {"type": "string", "enum": ["b", "\0"]}}}}, "INVALID_INPUT", ["inputSchema", "properties", "a"]),
        ({"prompt": "\0{{ input.a }}"}, "INVALID_INPUT", ["prompt"]),
        ({"prompt": "{{ steps.a.content }}"}, "INVALID_INPUT", ["prompt"]),
        ({"prompt": "{{ __import__('os') }}"}, "INVALID_INPUT", ["prompt"]),
        ({"colour": "red"}, "INVALID_INPUT", ["colour"]),
        ({"logoUrl": "https://a.example/x.png' onload='x"}, "INVALID_INPUT", ["logoUrl"]),
    ]  # fmt: skip
    for given, code, field in cases:
        refused = await market.do("publishModel", "publishedModel { id }", **market.model(**given))
        assert refused["publishedModel"] is None
        assert [(error["code"], error["field"]) for error in refused["userErrors"]] == [(code, field)], given
    await market.publish()
    twice = await market.do("publishModel", "publishedModel { id }", **market.model())
    assert twice["userErrors"][0]["code"] == "ALREADY_EXISTS"


async def test_B15_branding_of_a_page_needs_pro(market: Market) -> None:
    branded = {"colour": "#aa0033", "logoUrl": "https://1.1.1.1/logo.png"}
    await market.publish(**branded)
    await market.on_plan(market.maker.workspace_id, "personal")
    refused = await market.do("publishModel", "publishedModel { id }", **market.model(slug="b", **branded))
    assert refused["userErrors"][0]["code"] == "NOT_IN_PLAN"
    assert "Pro" in refused["userErrors"][0]["message"]


async def test_a_workspace_that_publishes_keeps_its_slug_and_its_models_go_with_it(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    slug = made["model"]["slug"]
    workspace_id = encode_id("ws", market.maker.workspace_id)
    renamed = await market.do("updateWorkspace", "workspace { slug }", workspaceId=workspace_id, slug="another-name")
    assert [(error["code"], error["field"]) for error in renamed["userErrors"]] == [("CONFLICT", ["slug"])]
    same = await market.do(
        "updateWorkspace", "workspace { slug }", workspaceId=workspace_id, slug=slug.partition("/")[0]
    )
    assert same["userErrors"] == []
    await market.call(slug)
    deleted = await market.do("deleteWorkspace", "deletedId", workspaceId=workspace_id)
    assert deleted["userErrors"] == []
    with pytest.raises(ModelNotFound):
        await market.call(slug)
    pool = market.services.database.pool
    assert await pool.fetchval("SELECT count(*) FROM models WHERE slug = $1 AND retired_at IS NULL", slug) == 0
    assert await pool.fetchval("SELECT api_key_encrypted FROM published_models") == b""
    await market.agrees()


async def test_a_published_model_is_called_estimated_and_streamed_over_graphql(market: Market) -> None:
    schema = {"type": "object", "properties": {"topic": {"type": "string", "maxLength": 5}}, "required": ["topic"]}
    made = await market.publish(prices=PRICES, inputSchema=schema, prompt="On {{ input.topic }}")
    await market.on_plan(market.buyer.workspace_id, "pro")
    document = """mutation($input: ModelCallInput!) { callModel(input: $input) {
        call { model output { ... on ChatOutput { content } } usage { credits } } userErrors { code field } } }"""
    asked = {"model": made["model"]["slug"], "payload": {"custom": {"input": {"topic": "sea"}}}}
    answer = (await market.house.read(document, key_of(market.buyer), input=asked))["callModel"]
    assert answer["userErrors"] == []
    assert answer["call"]["output"]["content"] == "made here"
    assert Decimal(answer["call"]["usage"]["credits"]) == Decimal(COST) / MILLION
    assert market.provider.asked[0]["messages"][0]["content"] == "On sea"
    wrong = {**asked, "payload": {"custom": {"input": {"topic": "too long"}}}}
    refused = (await market.house.read(document, key_of(market.buyer), input=wrong))["callModel"]
    assert refused["userErrors"] == [{"code": "INVALID_INPUT", "field": ["payload", "custom", "input", "topic"]}]
    estimate = "query($input: ModelCallInput!) { estimateCall(input: $input) { maxCredits affordable } }"
    bound = (await market.house.read(estimate, key_of(market.buyer), input=asked))["estimateCall"]
    assert bound["affordable"] is True
    assert Decimal(bound["maxCredits"]) >= Decimal(COST) / MILLION


async def test_an_operators_rotation_of_secrets_seals_publishers_keys_anew(market: Market) -> None:
    made = await market.publish()
    accounts = market.services.accounts
    both = Sealer({1: SECRET_KEY.encode(), 2: b"another secret key of enough characters"}, 2)
    done = {each.column: each.renewed for each in await rotate_secrets(accounts.database, both)}
    assert done["published_models.api_key_encrypted"] == 1
    row = await accounts.database.pool.fetchrow("SELECT model_id, api_key_encrypted, key_version FROM published_models")
    assert row["key_version"] == 2
    context = row_context("published_models", "api_key_encrypted", row["model_id"])
    assert both.open(row["api_key_encrypted"], context) == b"sk-of-the-maker"
    assert made["id"] == encode_id("pub", row["model_id"])


async def test_B12_many_calls_at_once_with_failures_among_them_split_exactly(market: Market) -> None:
    good = await market.part("good", prices=PRICES)
    bad = await market.part("bad", prices=PRICES)
    market.provider.statuses["bad"] = 400
    steps = [{"name": "one", "model": good}, {"name": "two", "model": bad, "prompt": "{{ steps.one.content }}"}]
    chain = await market.chain("pipe", *steps, prices=[{"meter": "REQUESTS", "credits": "1"}])
    asked = [good, chain, bad, good] * 10
    results = await asyncio.gather(*(market.call(slug) for slug in asked), return_exceptions=True)
    failed = [slug for slug, result in zip(asked, results, strict=True) if isinstance(result, Exception)]
    assert sorted(failed) == sorted([chain, bad] * 10)
    used = asked.count(good) + asked.count(chain)  # the first step of each chain had ended
    assert await market.balance(market.buyer) == CREDITS_MICRO - used * COST
    assert await market.balance(market.maker) == CREDITS_MICRO + used * COST * 80 // 100
    totals = await market.services.database.pool.fetchrow(
        "SELECT sum(uses), sum(charged_micro), sum(earned_micro) FROM published_uses"
    )
    assert tuple(totals) == (used, used * COST, used * COST * 80 // 100)
    await market.agrees()


async def test_a_publisher_sees_what_it_earned_and_not_whose_call_it_was(market: Market) -> None:
    made = await market.publish(prices=PRICES)
    await market.call(made["model"]["slug"])
    document = """query($id: ID!) { workspace(id: $id) { wallet { entries { nodes { kind amount description call { id } } } }
        calls { nodes { id } } } }"""
    shown = await market.house.read(document, market.owner, id=encode_id("ws", market.maker.workspace_id))
    (entry,) = [each for each in shown["workspace"]["wallet"]["entries"]["nodes"] if each["kind"] == "EARNING"]
    assert entry["call"] is None
    assert entry["description"] == made["model"]["slug"]
    assert Decimal(entry["amount"]) * MILLION == COST * 80 // 100
    assert shown["workspace"]["calls"]["nodes"] == []


async def test_a_new_key_and_address_and_being_private_are_not_undone_by_a_rename_sent_at_once(
    market: Market, pg: asyncpg.Connection, database_url: str
) -> None:
    """All of them read the model before any has written: the lock is held until each of them waits for it."""
    made = await market.publish(prices=PRICES)
    model_id, elsewhere = made["id"], market.provider.upstream.url.replace("127.0.0.1", "127.0.0.9")
    changes = (
        {"provider": {"baseUrl": elsewhere, "model": "up", "apiKey": "sk-the-new-one"}},
        {"name": "Renamed"},
        {"visibility": "PRIVATE"},
        {"prices": []},
    )
    async with pg.transaction():
        await pg.execute("SELECT 1 FROM published_models FOR UPDATE")
        sent = asyncio.gather(
            *(
                market.do("updatePublishedModel", "publishedModel { id }", publishedModelId=model_id, **change)
                for change in changes
            )
        )
        await waiting_for_lock(database_url, len(changes))
    assert [answer["userErrors"] for answer in await sent] == [[]] * len(changes)
    found = await market.house.resolver_services.publishing.models.get(decode_id("pub", model_id))
    assert found is not None
    context = row_context("published_models", "api_key_encrypted", found.model.id)
    key = market.house.resolver_services.publishing.sealer.open(found.sealed_key, context)
    assert (key, found.base_url) == (b"sk-the-new-one", elsewhere)
    assert (found.model.name, found.visibility, found.model.prices) == ("Renamed", "PRIVATE", ())


async def test_a_key_given_meanwhile_goes_to_no_other_address_by_a_change_that_knew_of_none(
    market: Market, pg: asyncpg.Connection, database_url: str
) -> None:
    url = market.provider.upstream.url
    elsewhere = url.replace("127.0.0.1", "127.0.0.9")
    made = await market.publish(provider={"baseUrl": url, "model": "up"})
    moved = {"provider": {"baseUrl": elsewhere, "model": "up"}}
    given = {"provider": {"baseUrl": url, "model": "up", "apiKey": "sk-of-the-maker"}}
    async with pg.transaction():
        await pg.execute("SELECT 1 FROM published_models FOR UPDATE")
        sent = []
        for number, change in enumerate((given, moved), 1):
            update = market.do("updatePublishedModel", "publishedModel { id }", publishedModelId=made["id"], **change)
            sent.append(asyncio.create_task(update))
            await waiting_for_lock(database_url, number)
    first, second = await asyncio.gather(*sent)
    assert first["userErrors"] == []
    assert second["userErrors"][0]["field"] == ["provider", "apiKey"]


@pytest.mark.parametrize("way", ["deleted", "renamed"])
async def test_the_names_of_published_models_pass_to_no_other_workspace(market: Market, way: str) -> None:
    made = await market.publish()
    slug = made["model"]["slug"].partition("/")[0]
    pool, maker_id = market.services.database.pool, encode_id("ws", market.maker.workspace_id)
    if way == "deleted":
        gone = await market.do("deleteWorkspace", "deletedId", workspaceId=maker_id)
    else:
        await market.do("unpublishModel", "deletedId", publishedModelId=made["id"])
        gone = await market.do("updateWorkspace", "workspace { slug }", workspaceId=maker_id, slug="elsewhere")
    assert gone["userErrors"] == []
    stranger = await market.house.person(None)
    other = (await market.do("createWorkspace", "workspace { id slug }", stranger, name=slug))["workspace"]
    assert other["slug"] == f"{slug}-2"
    taken = await market.do("updateWorkspace", "workspace { id }", stranger, workspaceId=other["id"], slug=slug)
    assert [error["code"] for error in taken["userErrors"]] == ["ALREADY_EXISTS"]
    assert await pool.fetchval("SELECT slug FROM workspaces WHERE id = $1", decode_id("ws", other["id"])) == f"{slug}-2"
    longer = await market.do(
        "updateWorkspace", "workspace { slug }", stranger, workspaceId=other["id"], slug=f"{slug}-not"
    )
    assert longer["workspace"]["slug"] == f"{slug}-not"
    if way == "renamed":
        back = await market.do("updateWorkspace", "workspace { slug }", workspaceId=maker_id, slug=slug)
        assert back["workspace"]["slug"] == slug


@asynccontextmanager
async def locked(market: Market, table: str, readers: int) -> AsyncIterator[asyncio.Event]:
    """Whoever reads the table waits until the block ends; the event is set once so many do."""
    pool, waiting = market.services.database.pool, asyncio.Event()

    async def watch() -> None:
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass"
        while await pool.fetchval(blocked, table) < readers:
            await asyncio.sleep(0.005)
        waiting.set()

    async with pool.acquire() as conn, asyncio.TaskGroup() as tasks, conn.transaction():
        await conn.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        watching = tasks.create_task(watch())
        yield waiting
        watching.cancel()


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_what_was_being_read_when_it_was_forgotten_is_not_kept(market: Market, all_of_them: bool) -> None:
    models, workspace_id = market.services.resolver_services.publishing.models, market.maker.workspace_id
    slug = (await market.publish())["model"]["slug"]
    facts, pool = market.services.workspaces, market.services.database.pool
    models.forget_all()
    facts.forget_all()
    async with locked(market, "model_prices", 2) as waiting, asyncio.timeout(30):
        reading = asyncio.gather(models.find(slug), models.own(workspace_id))
        await waiting.wait()
        await pool.execute("UPDATE published_models SET visibility = 'PRIVATE'")
        models.forget_all() if all_of_them else models.forget(workspace_id)
    found, (own,) = await reading
    assert found is not None
    assert [found.visibility, own.visibility] == [Visibility.PUBLIC] * 2, "they had been read before the change"
    again = await models.find(slug)
    assert again is not None
    assert again.visibility is Visibility.PRIVATE
    assert [each.visibility for each in await models.own(workspace_id)] == [Visibility.PRIVATE]

    async with locked(market, "subscriptions", 1) as waiting, asyncio.timeout(30):
        reading_facts = asyncio.create_task(facts.facts(workspace_id))
        await waiting.wait()
        await pool.execute("UPDATE workspaces SET concurrent_calls_limit = 7")
        facts.forget_all() if all_of_them else facts.forget(workspace_id)
    assert (await reading_facts).concurrent_calls != 7, "it had been read before the change"
    assert (await facts.facts(workspace_id)).concurrent_calls == 7


def publishers_of(market: Market) -> Publishers:
    return market.services.jobs.kept._providers.others.__self__


def adapter_of(market: Market, made: dict) -> object:
    """Whom calls of a published model ask now."""
    return publishers_of(market).get(f"{ROUTE_PREFIX}{decode_id('pub', made['id']).hex}")


async def test_a_call_that_read_a_model_before_its_key_was_replaced_does_not_put_the_old_key_back(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await market.publish()
    slug = made["model"]["slug"]
    await market.call(slug)
    facts, read, go_on = market.services.workspaces.facts, asyncio.Event(), asyncio.Event()

    async def first_of_all_waits(workspace_id: UUID) -> WorkspaceFacts:
        if workspace_id == market.maker.workspace_id and not read.is_set():
            read.set()
            await go_on.wait()
        return await facts(workspace_id)

    monkeypatch.setattr(market.services.workspaces, "facts", first_of_all_waits)
    async with asyncio.timeout(10):
        early = asyncio.create_task(market.call(slug))
        await read.wait()
        provider = {"baseUrl": market.provider.upstream.url, "model": "up", "apiKey": "sk-the-new-one"}
        await market.do("updatePublishedModel", "publishedModel { id }", publishedModelId=made["id"], provider=provider)
        await market.call(slug)
        newer = adapter_of(market, made)
        go_on.set()
        await early
    assert adapter_of(market, made) is newer
    keys = [
        heard.head.partition("Authorization: Bearer ")[2].split("\r\n")[0]
        for heard in market.provider.upstream.requests
    ]
    assert keys == ["sk-of-the-maker", "sk-the-new-one", "sk-the-new-one"]


@pytest.mark.parametrize("told_late", [False, True])
async def test_what_was_being_read_of_a_model_when_it_changed_is_not_asked_after_that(
    market: Market, told_late: bool
) -> None:
    """`told_late`: this process hears of the change only after it was read."""
    made = await market.publish()
    slug, pool = made["model"]["slug"], market.services.database.pool
    models, publishers = market.services.resolver_services.publishing.models, publishers_of(market)
    models.forget_all()
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'model_prices'::regclass"
    async with asyncio.timeout(10), locked(market, "model_prices", 1) as waiting:
        before = asyncio.create_task(models.find(slug))
        await waiting.wait()
        await pool.execute(
            "UPDATE published_models SET updated_at = updated_at - interval '1 s', upstream_model = 'new'"
        )
        if not told_late:
            models.forget(market.maker.workspace_id)
        after = asyncio.create_task(models.find(slug))
        while await pool.fetchval(blocked) < 2:
            await asyncio.sleep(0.005)
    older, newer = await before, await after
    assert older is not None
    assert newer is not None
    assert (older.upstream_model, newer.upstream_model) == ("up", "new"), (
        "they had been read before the change and after"
    )
    publishers.prepare(newer)
    asked = adapter_of(market, made)
    if told_late:
        models.forget(market.maker.workspace_id)
        again = await models.find(slug)
        assert again is not None
        publishers.prepare(again)
    publishers.prepare(older)
    assert adapter_of(market, made) is asked
