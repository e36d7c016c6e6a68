"""A gateway's services in this process, asked in OpenAI's form without a socket between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import asyncpg
import orjson
import pytest

from accounts.api_keys import create_key
from accounts.rules.key_terms import KeyTerms
from accounts.rules.roles import ApiScope
from accounts.views import Actor, ActorKind, Environment
from app.lifespan import Services, open_services
from app.settings import Settings
from gateway.places import Places
from gateway.views import Caller
from models.database import Database
from tests.gateway.job_shop import Shop, open_shop, set_environment
from tests.gateway.market import Market, open_market
from tests.processes import Running, start_sandbox
from tests.seeding import CATALOG, Seeded, apply_catalog, seed_workspace

CREDITS_MICRO = 1_000_000_000_000
SECRET_KEY = "a secret key for the tests of the gateway"
PROXY = "10.0.0.1"
SYSTEM = Actor(ActorKind.SYSTEM)
EXTRA = """
[models.limited]
name = "Limited"
modality = "EMBEDDING"
requests_per_hour = 2
routes = [{ provider = "sandbox", upstream_model = "sandbox-embedding" }]
prices = [{ meter = "INPUT_TOKENS", credits = "1" }]

[models.two-routes]
name = "Two routes"
modality = "TEXT"
context_tokens = 1_000
max_output_tokens = 100
routes = [
    { provider = "nowhere", upstream_model = "x", order = 0 },
    { provider = "sandbox", upstream_model = "sandbox-chat", order = 1 },
]
prices = [{ meter = "OUTPUT_TOKENS", credits = "1" }]

[models.both-vendors]
name = "Both vendors"
modality = "TEXT"
context_tokens = 10_000
max_output_tokens = 100
routes = [
    { provider = "sandbox", upstream_model = "sandbox-chat", order = 1 },
    { provider = "claude", upstream_model = "c", order = 0 },
]
prices = [{ meter = "OUTPUT_TOKENS", credits = "1" }]

[providers.claude]
kind = "anthropic"
base_url = "http://127.0.0.1:9"

[providers.nowhere]
kind = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "NOWHERE_API_KEY"
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict:
        return orjson.loads(self.raw)

    @property
    def code(self) -> str:
        return self.body["error"]["code"]


@dataclass
class Gate:
    services: Services
    seeded: Seeded

    async def ask(
        self, body: object = None, *, key: str | None = None, path: str = "/v1/chat/completions", client: str = PROXY,
        leave: asyncio.Event | None = None, method: str | None = None, hear: Callable[[dict], object] | None = None,
        **headers: str,
    ) -> Answer:  # fmt: skip
        """One request; `headers` with underlines for dashes; the client goes away when `leave` is set, and hears each message."""
        sent: list[dict] = []
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        given = {"authorization": f"Bearer {key or self.seeded.api_key}", **headers}
        scope = {
            "type": "http",
            "method": method or ("GET" if body is None else "POST"),
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": b"",
            "client": (client, 1234),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        }

        told = iter([{"type": "http.request", "body": raw, "more_body": False}])

        async def receive() -> dict:
            for message in told:
                return message
            await (leave or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            sent.append(message)
            if hear is not None:
                hear(message)

        others = (self.services.partner_rest, self.services.batch_rest)
        await next((app for app in others if app.serves(path)), self.services.rest)(scope, receive, send)
        if not sent:
            return Answer(0, {}, b"")  # nobody is there to be answered
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))

    async def key(
        self, environment: Environment = Environment.LIVE, *, workspace_id: UUID | None = None, **terms: object
    ) -> str:
        made = await create_key(
            self.services.accounts,
            SYSTEM,
            workspace_id or self.seeded.workspace_id,
            KeyTerms(**{"name": "k", "scopes": tuple(ApiScope), **terms}),
            environment,
        )
        return made.secret


def chat(model: str = "sandbox-chat", **more: object) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, **more}


@pytest.fixture
async def gate(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Gate]:
    async with open_gate(database_url, redis_url, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_gate(database_url: str, redis_url: str, tmp_path: Path, more: str = "") -> AsyncIterator[Gate]:
    """`more` of the catalog."""
    async with AsyncExitStack() as stack:
        database = await Database.open(database_url, max_size=2)
        catalog = tmp_path / "catalog.toml"
        catalog.write_text(CATALOG.read_text(encoding="utf-8") + EXTRA + more, encoding="utf-8")
        await apply_catalog(database, catalog)
        seeded = await seed_workspace(database, CREDITS_MICRO)
        await database.close()
        settings = Settings.from_environment(
            {
                "TOLLGATE_DATABASE_URL": database_url,
                "TOLLGATE_REDIS_URL": redis_url,
                "TOLLGATE_SECRET_KEY": SECRET_KEY,
                "TOLLGATE_DATA_DIR": str(tmp_path),
                "TOLLGATE_TRUSTED_PROXIES": PROXY,
            }
        )
        yield Gate(await stack.enter_async_context(open_services(settings)), seeded)


@pytest.fixture(scope="module")
async def prints(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Running, Path]]:
    """A sandbox server with a log."""
    log = tmp_path_factory.mktemp("prints") / "log"
    sandbox = await start_sandbox("--log", str(log), "--webhook-secret", "secret of the sandbox")
    yield sandbox, log
    await sandbox.stop()


OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]


@pytest.fixture
def open_shop_with(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    pg: asyncpg.Connection,
    prints: tuple[Running, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> OpenShop:
    """Opens a shop; what it is given stands in its catalog too."""
    sandbox, log = prints
    log.write_text("")
    set_environment(monkeypatch, sandbox)
    return partial(open_shop, database_url, redis_url, tmp_path, pg, sandbox, log)


@pytest.fixture
async def shop(open_shop_with: OpenShop) -> AsyncIterator[Shop]:
    async with open_shop_with() as opened:
        yield opened


@asynccontextmanager
async def taken(places: Places, caller: Caller) -> AsyncIterator[None]:
    """A place for the time of the block."""
    place = await places.take(caller)
    try:
        yield
    finally:
        if place is not None:
            places.give_back(place)


@pytest.fixture
async def market(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Market]:
    async with open_market(database_url, redis_url, tmp_path) as opened:
        yield opened
