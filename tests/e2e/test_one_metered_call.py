"""The whole line with real processes: gateway, sandbox provider, PostgreSQL, Valkey, and the official SDK as client."""

import asyncio
import io
import math
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from fractions import Fraction

import aiohttp
import asyncpg
import openai
import orjson
import pytest

from models.database import Database
from tests.metering.invariants import assert_invariants
from tests.processes import Running, gateway_env, start_gateway, start_sandbox, start_worker
from tests.seeding import CATALOG, Seeded, apply_catalog, seed_workspace

GRANTED_MICRO = 20_000_000_000_000
MODELS = tomllib.loads(CATALOG.read_text())["models"]


@dataclass
class Line:
    """The processes of this file's tests, and one test's own workspace."""

    gateway: Running
    sandbox: Running
    env: dict[str, str]
    pg: asyncpg.Connection
    database: Database
    seeded: Seeded

    def client(self, seeded: Seeded | None = None) -> openai.AsyncOpenAI:
        key = (seeded or self.seeded).api_key
        return openai.AsyncOpenAI(base_url=f"{self.gateway.url}/v1", api_key=key, max_retries=0)

    async def balance(self) -> int:
        return await self.pg.fetchval("SELECT balance_micro FROM wallets WHERE id = $1", self.seeded.wallet_id)

    async def held(self) -> int:
        return await self.pg.fetchval("SELECT held_micro FROM wallets WHERE id = $1", self.seeded.wallet_id)

    async def post(
        self, body: object = None, *, path: str = "/v1/chat/completions", raw: bytes | None = None, **headers
    ):
        given = {
            "Authorization": f"Bearer {self.seeded.api_key}",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        content = raw if raw is not None else orjson.dumps(body)
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.gateway.url + path, data=io.BytesIO(content), headers=given) as answer,
        ):
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()


@pytest.fixture(scope="module")
async def processes(database_clones, valkey_server, tmp_path_factory) -> AsyncIterator[Line]:
    database_url = database_clones.url_of(await database_clones.take())
    database = await Database.open(database_url)
    await apply_catalog(database)
    sandbox = await start_sandbox()
    env = gateway_env(
        database_url,
        valkey_server.redis_url,
        tmp_path_factory.mktemp("gateway"),
        TOLLGATE_SANDBOX_URL=sandbox.url,
        TOLLGATE_HOLD_TTL_S="5",
    )
    pg = await asyncpg.connect(database_url)
    line = Line(await start_gateway(env), sandbox, env, pg, database, await seed_workspace(database, 0))
    yield line
    assert await line.gateway.stop() == 0
    assert not [text for text in line.gateway.lines if "Traceback" in text or "ERROR" in text], line.gateway.lines
    await sandbox.stop()
    await pg.close()
    await database.close()


@pytest.fixture
async def line(processes: Line) -> Line:
    processes.seeded = await seed_workspace(processes.database, GRANTED_MICRO)
    return processes


def price_micro(slug: str, **quantities: int) -> int:
    """The price by the catalog file alone, independently of the product's code: exact, rounded up once."""
    total = Fraction(0)
    for price in MODELS[slug]["prices"]:
        total += Fraction(price["credits"]) * 1_000_000 * quantities.get(price["meter"], 0) / price.get("per", 1)
    return math.ceil(total)


def chat_price_micro(usage) -> int:
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return price_micro(
        "sandbox-chat",
        INPUT_TOKENS=usage.prompt_tokens - cached,
        CACHED_INPUT_TOKENS=cached,
        OUTPUT_TOKENS=usage.completion_tokens,
    )


def micro(text: str) -> int:
    return int(Fraction(text) * 1_000_000)


async def test_the_official_sdk_calls_and_the_ledger_is_exact_to_the_micro_credit(line: Line) -> None:
    async with line.client() as client:
        spent = await calls_of_every_kind(client)
    assert await line.balance() == GRANTED_MICRO - spent
    assert await line.held() == 0
    used = "SELECT -sum(amount_micro)::bigint FROM ledger_entries WHERE kind = 'USAGE' AND wallet_id = $1"
    assert await line.pg.fetchval(used, line.seeded.wallet_id) == spent
    await assert_invariants(line.pg)


async def calls_of_every_kind(client: openai.AsyncOpenAI) -> int:
    """Calls with the SDK; what they cost by the catalog file, in micro-credits."""
    spent = 0

    answer = await client.chat.completions.create(
        model="sandbox-chat", messages=[{"role": "user", "content": "Hello there"}]
    )
    assert answer.choices[0].message.content
    expected = chat_price_micro(answer.usage)
    assert micro(answer.usage.credits) == expected
    assert Fraction(answer.usage.usd) == Fraction(expected, 1_000_000) / 2_000_000
    spent += expected

    stream = await client.chat.completions.create(
        model="sandbox-chat", messages=[{"role": "user", "content": "Stream to me"}], stream=True
    )
    text, usage = "", None
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text
    expected = chat_price_micro(usage)
    assert micro(usage.credits) == expected
    spent += expected

    vectors = await client.embeddings.create(model="sandbox-embedding", input=["one", "two words"])
    assert len(vectors.data) == 2
    expected = price_micro("sandbox-embedding", INPUT_TOKENS=vectors.usage.prompt_tokens)
    assert micro(vectors.usage.credits) == expected
    spent += expected

    image = await client.images.generate(model="sandbox-image", prompt="a gate", n=2)
    assert len(image.data) == 2
    spent += price_micro("sandbox-image", IMAGES=2)

    assert {model.id async for model in client.models.list()} >= {"sandbox-chat", "sandbox-embedding"}
    return spent


@pytest.mark.slow
async def test_kill_between_hold_and_settlement_charges_nothing_and_the_hold_lapses(line: Line) -> None:
    call = asyncio.create_task(
        line.post({"model": "sandbox-chat", "messages": [{"role": "user", "content": "slow"}], "metadata": {"sandbox_delay_ms": "20000"}})
    )  # fmt: skip
    async with asyncio.timeout(30):
        while await line.held() == 0:
            await asyncio.sleep(0.02)
    await line.gateway.kill()
    with pytest.raises(aiohttp.ClientError):
        await call
    assert await line.held() > 0

    line.gateway = await start_gateway(line.env)
    worker = await start_worker(line.env)
    async with asyncio.timeout(60):
        while await line.held() > 0:
            await asyncio.sleep(0.1)
    await worker.stop()
    assert await line.balance() == GRANTED_MICRO
    charged = "SELECT count(*) FROM usage_events WHERE workspace_id = $1"
    assert await line.pg.fetchval(charged, line.seeded.workspace_id) == 0
    await assert_invariants(line.pg)


async def test_kill_after_settlement_charges_once_and_a_repeat_gives_the_first_answer(line: Line) -> None:
    body = {"model": "sandbox-chat", "messages": [{"role": "user", "content": "once"}]}
    status, _, first = await line.post(body, Idempotency_Key="one")
    assert status == 200
    charged = GRANTED_MICRO - await line.balance()
    await line.gateway.kill()

    line.gateway = await start_gateway(line.env)
    status, headers, second = await line.post(body, Idempotency_Key="one")
    assert status == 200
    assert headers["idempotent-replayed"] == "true"
    assert orjson.loads(second)["choices"] == orjson.loads(first)["choices"]
    assert orjson.loads(second)["usage"]["credits"] == orjson.loads(first)["usage"]["credits"]
    assert GRANTED_MICRO - await line.balance() == charged
    await assert_invariants(line.pg)


BAD_INPUTS = [
    ("unknown model", {"model": "no-such", "messages": [{"role": "user", "content": "x"}]}, 404),
    ("no model", {"messages": [{"role": "user", "content": "x"}]}, 400),
    ("model of a wrong type", {"model": 7, "messages": []}, 400),
    ("no messages", {"model": "sandbox-chat"}, 400),
    ("messages of a wrong type", {"model": "sandbox-chat", "messages": "hello"}, 400),
    ("negative max_tokens", {"model": "sandbox-chat", "max_tokens": -1, "messages": [{"role": "user", "content": "x"}]}, 400),
    ("huge max_tokens", {"model": "sandbox-chat", "max_tokens": 10**12, "messages": [{"role": "user", "content": "x"}]}, 400),
    ("max_tokens above the model's", {"model": "sandbox-chat", "max_tokens": 10**6, "messages": [{"role": "user", "content": "x"}]}, 400),
    ("a fraction of a token", {"model": "sandbox-chat", "max_tokens": 1.5, "messages": [{"role": "user", "content": "x"}]}, 400),
    ("true as a number", {"model": "sandbox-chat", "n": True, "messages": [{"role": "user", "content": "x"}]}, 400),
    ("a message of 10 MB", {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x" * 10_000_000}]}, 413),
    ("an embedding model asked to chat", {"model": "sandbox-embedding", "messages": [{"role": "user", "content": "x"}]}, 400),
    ("upstream fails", {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x"}], "metadata": {"sandbox_status": "500"}}, 502),
    ("upstream sends garbage", {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x"}], "metadata": {"sandbox_fault": "garbage"}}, 502),
    ("upstream sends an empty answer", {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x"}], "metadata": {"sandbox_fault": "empty"}}, 502),
    ("upstream sends half an answer", {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x"}], "metadata": {"sandbox_fault": "half"}}, 502),
    ("upstream sends nothing", {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x"}], "metadata": {"sandbox_fault": "close"}}, 502),
]  # fmt: skip


async def test_bad_input_gets_a_clear_error_and_costs_nothing(line: Line) -> None:
    for name, body, expected in BAD_INPUTS:
        status, headers, answer = await line.post(body)
        assert status == expected, (name, status, answer)
        error = orjson.loads(answer)["error"]
        assert all(error[part] for part in ("message", "type", "code")), name
        assert headers["x-request-id"], name
    for raw in (b"", b"{", b"null", b'"x"', b"[]", b"\xff\xfe", b'{"model": NaN}', b"[" * 5000):
        status, _, answer = await line.post(raw=raw)
        assert status == 400, (raw[:20], answer)
    for headers in (
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic x"},
        {"Authorization": "Bearer tg_live_" + "0" * 38},
    ):
        status, _, answer = await line.post({"model": "sandbox-chat", "messages": []}, **headers)
        assert status == 401, answer
    status, headers, _ = await line.post({}, path="/v1/nothing")
    assert status == 404
    assert await line.balance() == GRANTED_MICRO
    assert await line.held() == 0
    await assert_invariants(line.pg)


async def test_unknown_fields_travel_on_and_do_not_hurt(line: Line) -> None:
    status, _, _ = await line.post(
        {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x", "name": "n"}], "surprise": {"a": [1]}}
    )
    assert status == 200


async def test_half_a_stream_is_charged_for_what_was_forwarded_and_says_so(line: Line) -> None:
    status, _, answer = await line.post(
        {"model": "sandbox-chat", "stream": True, "messages": [{"role": "user", "content": "x"}], "metadata": {"sandbox_fault": "half"}}
    )  # fmt: skip
    assert status == 200
    assert b'"error"' in answer
    assert b"[DONE]" not in answer
    event = await line.pg.fetchrow(
        "SELECT estimated, charged_micro FROM usage_events WHERE workspace_id = $1", line.seeded.workspace_id
    )
    assert event["estimated"] is True
    assert GRANTED_MICRO - await line.balance() == event["charged_micro"] > 0
    assert await line.held() == 0
    await assert_invariants(line.pg)


async def test_an_empty_wallet_is_refused_with_402_before_the_provider_is_called(line: Line) -> None:
    poor = await seed_workspace(line.database, 1, name="poor")
    async with line.client(poor) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model="sandbox-chat", messages=[{"role": "user", "content": "x"}])
    assert refused.value.status_code == 402
    assert refused.value.code == "insufficient_credits"


async def test_the_hourly_limit_refuses_with_429_and_says_when(line: Line) -> None:
    await line.pg.execute("UPDATE api_keys SET requests_per_hour = 2 WHERE id = $1", line.seeded.api_key_id)
    body = {"model": "sandbox-chat", "messages": [{"role": "user", "content": "x"}]}
    statuses = [await line.post(body) for _ in range(3)]
    assert [status for status, _, _ in statuses] == [200, 200, 429]
    headers = statuses[2][1]
    assert 1 <= int(headers["retry-after"]) <= 1800
    assert headers["ratelimit-policy"] == '"key";q=2;w=3600'
    assert headers["ratelimit"].startswith('"key";r=0;t=')
    assert statuses[0][1]["ratelimit"].startswith('"key";r=1')
