"""A gateway process between the vendors' SDKs and three providers: the sandbox, a scripted Claude, a scripted GPT; prices by the catalog file alone."""

import asyncio
import base64
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import aiohttp
import anthropic
import asyncpg
import openai

from models.database import Database
from tests.metering.invariants import assert_invariants
from tests.processes import Running
from tests.providers.claude import Claude
from tests.providers.upstreams import Heard, Upstream
from tests.seeding import CATALOG, Seeded

GRANTED_MICRO = 20_000_000_000_000
CATALOG_FILE = tomllib.loads(CATALOG.read_text())
RATE = Fraction(CATALOG_FILE["credits_per_usd"])
SANDBOX, CLAUDE = "sandbox-chat", "claude-sonnet-4"
HELLO = [{"role": "user", "content": "Hello there"}]
PICTURE = base64.b64encode(b"\x89PNG" + b"x" * 3_000).decode()
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLAUDE_TOOL = {"name": "weather", "description": "of a city", "input_schema": WEATHER}
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": WEATHER}}
RESPONSE_TOOL = {
    "type": "function",
    "name": "weather",
    "description": "of a city",
    "parameters": WEATHER,
    "strict": None,
}


@dataclass
class Line:
    """The processes of a file's tests, and one test's own workspace. `gpt` answers by the last of `gpt_answers`."""

    gateway: Running
    claude: Claude
    gpt: Upstream
    gpt_answers: list[Callable[[Heard], bytes]]
    pg: asyncpg.Connection
    database: Database
    seeded: Seeded

    def anthropic(self, **options) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(
            **{"base_url": self.gateway.url, "api_key": self.seeded.api_key, "max_retries": 0, **options}
        )

    def openai(self, **options) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            **{"base_url": f"{self.gateway.url}/v1", "api_key": self.seeded.api_key, "max_retries": 0, **options}
        )

    @property
    def heard(self) -> dict:
        """What Claude was sent last."""
        return self.claude.upstream.requests[-1].json

    async def spent(self) -> int:
        """Micro-credits spent so far, after every invariant of the ledger was checked."""
        await assert_invariants(self.pg)
        row = await self.pg.fetchrow(
            "SELECT balance_micro, held_micro FROM wallets WHERE id = $1", self.seeded.wallet_id
        )
        assert row["held_micro"] == 0
        return GRANTED_MICRO - row["balance_micro"]

    async def post(self, path: str, body: dict) -> bytes:
        """The raw answer, which must be one."""
        headers = {"Authorization": f"Bearer {self.seeded.api_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(self.gateway.url + path, json=body) as got,
        ):
            assert got.status == 200, await got.text()
            return await got.read()

    async def left_and_paid_for_what_came(self) -> None:
        """The end of the one call of the workspace, whose reader went in the middle."""
        async with asyncio.timeout(30):
            while (event := await self.event()) is None:
                await asyncio.sleep(0.05)
        assert event["estimated"] is True
        assert await self.spent() == event["charged_micro"] > 0
        status = await self.pg.fetchval("SELECT status FROM calls WHERE workspace_id = $1", self.seeded.workspace_id)
        assert status == "CANCELED"

    async def event(self) -> asyncpg.Record:
        """The last usage event."""
        return await self.pg.fetchrow(
            "SELECT * FROM usage_events WHERE workspace_id = $1 ORDER BY created_at DESC, call_id DESC LIMIT 1",
            self.seeded.workspace_id,
        )


def price_micro(slug: str, **quantities: int) -> int:
    """The price by the catalog file alone, independently of the product's code: exact, rounded up once."""
    total = Fraction(0)
    for price in CATALOG_FILE["models"][slug]["prices"]:
        each = Fraction(price["credits"]) if "credits" in price else Fraction(price["usd"]) * RATE
        total += each * 1_000_000 * quantities.get(price["meter"], 0) / price.get("per", 1)
    return math.ceil(total)


def _writes(written: int, long: int) -> dict[str, int]:
    return {"CACHE_WRITE_INPUT_TOKENS": written - long, "LONG_CACHE_WRITE_INPUT_TOKENS": long}


def message_price(slug: str, usage, *, asks_to_write: bool = False) -> int:
    """What a request does not ask to be written costs as input, whatever is reported."""
    lives, written = usage.cache_creation, usage.cache_creation_input_tokens or 0
    writes = _writes(written, 0 if lives is None else lives.ephemeral_1h_input_tokens)
    return price_micro(
        slug,
        INPUT_TOKENS=usage.input_tokens + (0 if asks_to_write else written),
        **(writes if asks_to_write else {}),
        CACHED_INPUT_TOKENS=usage.cache_read_input_tokens or 0,
        OUTPUT_TOKENS=usage.output_tokens,
    )


def chat_price(slug: str, usage) -> int:
    cached = usage.prompt_tokens_details.cached_tokens
    return price_micro(
        slug,
        INPUT_TOKENS=usage.prompt_tokens - cached,
        CACHED_INPUT_TOKENS=cached,
        OUTPUT_TOKENS=usage.completion_tokens,
    )


def response_price(slug: str, usage) -> int:
    cached = usage.input_tokens_details.cached_tokens
    return price_micro(
        slug,
        INPUT_TOKENS=usage.input_tokens - cached,
        CACHED_INPUT_TOKENS=cached,
        OUTPUT_TOKENS=usage.output_tokens,
    )


CLAUDE_PRICE = price_micro(CLAUDE, INPUT_TOKENS=5, CACHED_INPUT_TOKENS=10, OUTPUT_TOKENS=45)
"""Of requests that ask for nothing to be written, though 3 of the tokens are reported as such."""
WRITING_PRICE = price_micro(CLAUDE, INPUT_TOKENS=2, CACHED_INPUT_TOKENS=10, OUTPUT_TOKENS=45, **_writes(60, 40))
"""Of the answer to `writing`."""


def assert_charged(usage, expected_micro: int) -> None:
    """Rule D2: usage and charge in credits and in USD, exact to the micro-credit."""
    assert Fraction(usage.credits) * 1_000_000 == expected_micro
    assert Fraction(usage.usd) == Fraction(expected_micro, 1_000_000) / RATE
    assert usage.estimated is False
