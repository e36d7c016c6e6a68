"""A gateway in this process before scripted providers over real sockets: `alpha` with `beta` behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from app.lifespan import open_services
from app.settings import Settings
from models.database import Database
from tests.gateway.conftest import CREDITS_MICRO, SECRET_KEY, Gate
from tests.providers.upstreams import STREAM_HEAD, Upstream, answer, chunk, scripted
from tests.seeding import apply_catalog, seed_workspace

PROMPT = "x" * 400
INPUT_BYTES = len("role") + 2 + len("user") + len("content") + 2 + len(PROMPT)
PRICES = {"INPUT_TOKENS": 4, "CACHED_INPUT_TOKENS": 1, "OUTPUT_TOKENS": 10, "REASONING_TOKENS": 20}
"""Credits a token."""
WRITE_PRICES = {"CACHE_WRITE_INPUT_TOKENS": 5, "LONG_CACHE_WRITE_INPUT_TOKENS": 8}
"""The same, of the model `writer`, which has those of the others too."""
PATIENCE_S = 30
"""How long a provider that says nothing is waited for: so long that a slow machine does not make it one."""
SILENCE_S = 1
"""The same, where a test waits for its end."""
ENDED_WITHIN_S = 20
"""Within this a provider that is told to stop has heard of it: before its patience is over."""
CATALOG = """
name = "Scripted"
credits_per_usd = "1000"
default_plan = "all"

[plans.all]
name = "All"
rank = 0
models = ["*"]
[plans.all.entitlements]
requests_per_hour = 1_000_000
api_access = true
support_level = "STANDARD"

[top_up]
min = "5"
max = "10000"

[providers.alpha]
kind = "openai_compatible"
base_url = "{alpha}"
first_byte_timeout_s = {patience_s}
idle_timeout_s = {patience_s}
{more}
{alpha_more}

[providers.beta]
kind = "openai_compatible"
base_url = "{beta}"
first_byte_timeout_s = {patience_s}
idle_timeout_s = {patience_s}
{more}
"""
AUDIO = """
[models.{name}]
name = "{name}"
modality = "AUDIO"
max_output_tokens = 100
max_characters = 1_000
max_seconds = 600
routes = [{routes}]
prices = [{prices}]
"""
AUDIO_PRICES = {
    "voice": {"CHARACTERS": 3, "REQUESTS": 7},
    "ear": {"SECONDS": 5},
    "token-ear": {"INPUT_TOKENS": 4, "OUTPUT_TOKENS": 10},
}
"""Credits a unit, of models for speech and transcription."""
MODEL = """
[models.{name}]
name = "{name}"
modality = "TEXT"
context_tokens = 8_000
max_output_tokens = 100
routes = [{routes}]
prices = [{prices}]
"""

Writes = tuple[int, int]
"""Tokens written to a cache, and of them those for the longer life."""
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Stage:
    """What each provider does next: one play for each request, the last one again and again."""

    plays: list[Play] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        await play(reader, writer)


@dataclass
class Theatre:
    gate: Gate
    database: Database
    catalog: Path
    alpha: Upstream
    beta: Upstream
    plays: Stage
    beta_plays: Stage

    async def settled(self) -> dict:
        """The only call's usage event with how it ended, once it has ended and nothing is held."""
        async with asyncio.timeout(30):
            while True:
                row = await self.database.pool.fetchrow(_ENDED)
                if row is not None:
                    break
                await asyncio.sleep(0.01)
        assert await self.database.pool.fetchval("SELECT sum(held_micro)::bigint FROM wallets") == 0
        assert await self.database.pool.fetchval("SELECT count(*) FROM holds") == 0
        return dict(row)

    async def spent_micro(self) -> int:
        return CREDITS_MICRO - await self.database.pool.fetchval("SELECT sum(balance_micro)::bigint FROM wallets")


_ENDED = """
SELECT c.status, c.error_code, u.call_id, u.input_tokens, u.cached_input_tokens, u.output_tokens, u.reasoning_tokens,
    u.seconds, u.characters, u.estimated, u.provider, u.details::text AS details, u.charged_micro
FROM calls c LEFT JOIN usage_events u ON u.call_id = c.id ORDER BY c.id DESC LIMIT 1
"""


def patience_s(request: pytest.FixtureRequest) -> int:
    """Of the catalog for this test: short where a provider plays silence to its end, as the test's name says."""
    is_waited_for = any(each in request.node.name for each in ("timed_out", "silent"))
    return SILENCE_S if is_waited_for else PATIENCE_S


def catalog(
    alpha: str, beta: str, factor: int = 1, more: str = "", alpha_more: str = "", patience_s: int = PATIENCE_S
) -> str:
    def prices_of(prices: dict[str, int]) -> str:
        return ", ".join(f'{{ meter = "{meter}", credits = "{each * factor}" }}' for meter, each in prices.items())

    prices = prices_of(PRICES)
    route = '{{ provider = "{}", upstream_model = "up", order = {} }}'.format
    only = '{ provider = "alpha", upstream_model = "up", responses_only = true }'
    of_responses = ""
    if "responses = true" in alpha_more:
        of_responses = MODEL.format(name="thinker", routes=only, prices=prices) + MODEL.format(
            name="thinker-duo", routes=f"{only}, {route('beta', 1)}", prices=prices
        )
    return (
        CATALOG.format(alpha=alpha, beta=beta, patience_s=patience_s, more=more, alpha_more=alpha_more)
        + MODEL.format(name="solo", routes=route("alpha", 0), prices=prices)
        + MODEL.format(name="writer", routes=route("alpha", 0), prices=f"{prices}, {prices_of(WRITE_PRICES)}")
        + MODEL.format(name="duo", routes=f"{route('alpha', 0)}, {route('beta', 1)}", prices=prices)
        + "".join(
            AUDIO.format(name=name, routes=f"{route('alpha', 0)}, {route('beta', 1)}", prices=prices_of(each))
            for name, each in AUDIO_PRICES.items()
        )
        + of_responses
    )


@asynccontextmanager
async def theatre(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    more: str = "",
    credits_micro: int = CREDITS_MICRO,
    alpha_more: str = "",
    patience_s: int = PATIENCE_S,
) -> AsyncIterator[Theatre]:
    async with AsyncExitStack() as stack:
        plays, beta_plays = Stage(), Stage()
        alpha = await stack.enter_async_context(scripted(plays))
        beta = await stack.enter_async_context(scripted(beta_plays))
        database = await Database.open(database_url, max_size=2)
        stack.push_async_callback(database.close)
        path = tmp_path / "catalog.toml"
        path.write_text(catalog(alpha.url, beta.url, more=more, alpha_more=alpha_more, patience_s=patience_s))
        await apply_catalog(database, path)
        seeded = await seed_workspace(database, credits_micro)
        settings = Settings.from_environment(
            {
                "TOLLGATE_DATABASE_URL": database_url,
                "TOLLGATE_REDIS_URL": redis_url,
                "TOLLGATE_SECRET_KEY": SECRET_KEY,
                "TOLLGATE_DATA_DIR": str(tmp_path),
            }
        )
        gate = Gate(await stack.enter_async_context(open_services(settings)), seeded)
        yield Theatre(gate, database, path, alpha, beta, plays, beta_plays)


def asked(model: str = "solo", **more: object) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 50, **more}


def whole(content: str | None = "word " * 10, usage: object = None, finish: str = "stop", **message: object) -> Play:
    body: dict = {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}],
    }  # fmt: skip
    return saying(answer(orjson.dumps(body | ({} if usage is None else {"usage": usage}))))


def saying(text: bytes) -> Play:
    async def play(reader, writer):
        writer.write(text)
        await writer.drain()

    return play


def failing(status: str = "500 Oops", headers: str = "", body: bytes = b'{"error": {"message": "no"}}') -> Play:
    return saying(answer(body, status, f"Content-Type: application/json\r\n{headers}"))


async def read_by_now() -> None:
    """Wait until this process has read what stands in its sockets: some turns of the loop, not a time."""
    for _ in range(20):
        await asyncio.sleep(0.005)


async def closing(reader, writer):
    writer.close()


async def silent(reader, writer):
    await reader.read()


def event(content: str | None = None, finish: str | None = None, usage: object = None) -> bytes:
    body = {"id": "x", "choices": [{"index": 0, "delta": {} if content is None else {"content": content}, "finish_reason": finish}]}  # fmt: skip
    return _event(body | ({} if usage is None else {"usage": usage}))


def usage_event(usage: object) -> bytes:
    return _event({"id": "x", "choices": [], "usage": usage})


def _event(body: dict) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def streaming(*events: bytes, then: Play | None = None) -> Play:
    """A stream of these events; `then` is what comes instead of its end."""

    async def play(reader, writer):
        writer.write(STREAM_HEAD + b"".join(chunk(each) for each in events))
        await writer.drain()
        if then is not None:
            await then(reader, writer)
        else:
            writer.write(chunk(DONE) + b"0\r\n\r\n")

    return play


def used(prompt: object, completion: object, cached: int = 0, reasoning: int = 0, writes: Writes = (0, 0)) -> dict:
    written, long = writes
    lives = {"ttl_30m_tokens": written - long, "ttl_12h_tokens": long}
    of_writes = {"cache_write_tokens": written, "cache_write_tokens_details": lives} if written else {}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached, **of_writes},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def price_micro(usage: tuple[int, int, int, int], factor: int = 1, writes: Writes = (0, 0)) -> int:
    """Of (input, cached, output, reasoning) tokens, by this file's prices alone."""
    of_input, cached, output, reasoning = usage
    written, long = writes
    credits_ = (
        (of_input - cached - written) * PRICES["INPUT_TOKENS"]
        + (written - long) * WRITE_PRICES["CACHE_WRITE_INPUT_TOKENS"]
        + long * WRITE_PRICES["LONG_CACHE_WRITE_INPUT_TOKENS"]
        + cached * PRICES["CACHED_INPUT_TOKENS"]
        + (output - reasoning) * PRICES["OUTPUT_TOKENS"]
        + reasoning * PRICES["REASONING_TOKENS"]
    )
    return credits_ * factor * 1_000_000
