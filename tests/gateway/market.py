"""A publisher, a buyer and a scripted provider of the publisher's, on real services in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import orjson
import strawberry

from accounts.invalidation import Change, ChangeKind
from accounts.rules.roles import ApiScope, Role
from accounts.views import Principal, PrincipalKind
from app.lifespan import Services, open_services
from app.settings import Settings
from billing.catalog_apply import PromoCodes, apply
from billing.catalog_file import read_catalog
from gateway.views import Caller, CallRequest, CallResult
from kit.clock import now
from kit.ids import encode_id, uuid7
from metering.reconcile import reconcile
from models.database import Database
from providers.base import Operation
from schema.root import build_schema
from tests.metering.invariants import assert_invariants
from tests.providers.upstreams import Upstream, scripted
from tests.schema.conftest import House
from tests.seeding import ROOT, Seeded, seed_workspace

SECRET_KEY = "a secret key for the tests of publishing"
MILLION = 1_000_000
CREDITS_MICRO = 100 * MILLION


@dataclass
class Provider:
    """What a publisher's provider says next, and what it was asked."""

    upstream: Upstream = field(default_factory=Upstream)
    tokens: tuple[int, int] = (10, 20)
    text: str = "made here"
    status: int = 200
    usage: dict | None = None
    texts: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """By what a model is called here: what it says, whether it fails, what it waits for."""

    async def script(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = self.upstream.requests[-1].json if self.upstream.requests else {}
        name = str(asked.get("model"))
        if name in self.gates:
            await self.gates[name].wait()
        text, status = self.texts.get(name, self.text), self.statuses.get(name, self.status)
        used = self.usage or {"prompt_tokens": self.tokens[0], "completion_tokens": self.tokens[1]}
        if status != 200:
            body, kind = orjson.dumps({"error": {"message": "no"}}), b"application/json"
        elif asked.get("stream"):
            chunks = [
                {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
                {"choices": [], "usage": used},
            ]
            body = b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
            kind = b"text/event-stream"
        else:
            message = {"role": "assistant", "content": text}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            body, kind = orjson.dumps({"id": "x", "choices": choices, "usage": used}), b"application/json"
        head = b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (status, kind, len(body))
        writer.write(head + body)
        await writer.drain()

    def heard(self, name: str) -> list[dict]:
        """What the model of this name was asked."""
        return [asked for asked in self.asked if asked["model"] == name]

    @property
    def asked(self) -> list[dict]:
        return [heard.json for heard in self.upstream.requests]


@dataclass
class Market:
    """`maker` publishes, on the plan pro; `buyer` calls, on the plan personal."""

    house: House
    maker: Seeded
    buyer: Seeded
    owner: Principal
    provider: Provider

    @property
    def services(self) -> Services:
        return self.house.services

    async def on_plan(self, workspace_id: UUID, code: str | None) -> None:
        plan = None if code is None else self.services.catalog.current.plans_by_code[code].id
        pool = self.services.database.pool
        await pool.execute("UPDATE workspaces SET default_plan_id = $2 WHERE id = $1", workspace_id, plan)
        await self.services.accounts.invalidations.publish(Change(ChangeKind.WORKSPACE, workspace_id))
        self.services.workspaces.forget(workspace_id)

    async def do(self, mutation: str, shown: str, principal: Principal | None = None, **given: object) -> dict:
        kind = mutation[0].upper() + mutation[1:] + "Input"
        document = f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {shown} userErrors {{ code message field }} }} }}"
        return (await self.house.read(document, principal or self.owner, input=given))[mutation]

    def model(self, **more: object) -> dict:
        provider = {"baseUrl": self.provider.upstream.url, "model": "up", "apiKey": "sk-of-the-maker"}
        return {
            "workspaceId": encode_id("ws", self.maker.workspace_id),
            "slug": "writer",
            "name": "Writer",
            "visibility": "PUBLIC",
            "maxOutputTokens": 100,
            "provider": provider,
            **more,
        }

    async def publish(self, **more: object) -> dict:
        made = await self.do("publishModel", "publishedModel { id model { slug } }", **self.model(**more))
        assert made["userErrors"] == [], made
        return made["publishedModel"]

    async def chain(self, slug: str, *steps: dict, **more: object) -> str:
        """Publish a chain of these steps; its slug."""
        chain = {"steps": list(steps), **more.pop("chain", {})}
        made = await self.publish(slug=slug, provider=None, maxOutputTokens=None, chain=chain, **more)
        return made["model"]["slug"]

    async def part(self, name: str, **more: object) -> str:
        """Publish a model that the provider calls `name`; its slug."""
        provider = {"baseUrl": self.provider.upstream.url, "model": name, "apiKey": None}
        return (await self.publish(slug=name, provider=provider, **more))["model"]["slug"]

    async def caller(self, seeded: Seeded, **more: object) -> Caller:
        facts = await self.services.workspaces.facts(seeded.workspace_id)
        user_id = uuid7()
        return Caller(
            **{
                "request_id": "req-test",
                "workspace_id": seeded.workspace_id,
                "wallet_id": seeded.wallet_id,
                "plan": facts.plan,
                "user_id": user_id,
                **more,
            }
        )

    async def call(self, model: str, text: str = "hi", seeded: Seeded | None = None, **body: object) -> CallResult:
        given = {"messages": [{"role": "user", "content": text}], "max_tokens": 50, **body}
        caller = await self.caller(seeded or self.buyer)
        return await self.services.calls.call(caller, CallRequest(model, Operation.CHAT, given))

    async def balance(self, seeded: Seeded) -> int:
        sql = "SELECT balance_micro FROM wallets WHERE id = $1"
        return await self.services.database.pool.fetchval(sql, seeded.wallet_id)

    async def details(self) -> dict:
        """Of the last usage event."""
        sql = "SELECT details FROM usage_events ORDER BY created_at DESC, call_id DESC LIMIT 1"
        return await self.services.database.pool.fetchval(sql)

    async def agrees(self) -> None:
        """The money's invariants hold, `tollgate reconcile` finds nothing, and nothing is held."""
        async with self.services.database.pool.acquire() as conn:
            await assert_invariants(conn)
        report = await reconcile(self.services.database)
        assert report.counts == {}, report.shown
        assert await self.services.database.pool.fetchval("SELECT count(*) FROM holds") == 0


@asynccontextmanager
async def open_market(
    database_url: str, redis_url: str, directory: Path, catalog: Path | None = None
) -> AsyncIterator[Market]:
    settings = Settings.from_environment(
        {
            "TOLLGATE_DATABASE_URL": database_url,
            "TOLLGATE_REDIS_URL": redis_url,
            "TOLLGATE_SECRET_KEY": SECRET_KEY,
            "TOLLGATE_DATA_DIR": str(directory),
            "TOLLGATE_EGRESS_ALLOW": "127.0.0.0/8",
        }
    )
    database = await Database.open(database_url, max_size=2)
    codes = {"PROMO_WELCOME_CODE": "WELCOME-2026", "PROMO_TOP_UP_CODE": "MORE-FOR-ALL"}
    file = read_catalog(catalog or ROOT / "catalogs" / "usd-balance.toml")
    await apply(database, file, now=now(), promo_codes=PromoCodes(SECRET_KEY.encode(), codes))
    maker = await seed_workspace(database, CREDITS_MICRO, "maker")
    buyer = await seed_workspace(database, CREDITS_MICRO, "buyer")
    await database.close()
    provider = Provider()
    schema: strawberry.Schema = build_schema()
    async with scripted(provider.script) as upstream, open_services(settings) as services:
        provider.upstream = upstream
        while not services.accounts.invalidations.is_healthy:
            await asyncio.sleep(0.005)
        house = House(schema, services, services.resolver_services, maker)
        market = Market(house, maker, buyer, await house.person(Role.OWNER), provider)
        await market.on_plan(maker.workspace_id, "pro")
        yield market


def key_of(seeded: Seeded) -> Principal:
    return Principal(
        kind=PrincipalKind.API_KEY,
        api_key_id=seeded.api_key_id,
        workspace_id=seeded.workspace_id,
        scopes=frozenset(ApiScope),
    )
