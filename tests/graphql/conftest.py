"""A GraphQL edge on a real server and a real Valkey, with the example schema behind it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from uuid import UUID

import aiohttp
import pytest
import redis.asyncio
import uvicorn

from accounts.views import ANONYMOUS, Principal, PrincipalKind
from app.asgi import Scope, header
from app.embedded import EmbeddedServers
from app.graphql.asking import EdgeSettings
from app.graphql.edge import GraphQLEdge
from kit.errors import Unauthenticated
from metering.limiter import Limiter
from metering.redis_link import script_link
from tests.graphql.example import Context, Happenings, build_example

KEY = Principal(PrincipalKind.API_KEY, api_key_id=UUID(int=1), workspace_id=UUID(int=2))
USER = Principal(PrincipalKind.USER, user_id=UUID(int=3))


@dataclass
class Tokens:
    """Who holds which token: stands for app.credentials, whose own tests need a database."""

    principals: dict[str, Principal] = field(default_factory=lambda: {"Bearer key": KEY, "Bearer user": USER})

    async def principal_of(self, scope: Scope) -> Principal:
        given = header(scope, b"authorization")
        return ANONYMOUS if given is None else await self.principal_of_text(given, "")

    async def principal_of_text(self, authorization: str, address: str) -> Principal:
        found = self.principals.get(authorization)
        if found is None:
            raise Unauthenticated("this credential is not valid")
        return found

    def address_of(self, scope: Scope) -> str:
        return scope["client"][0]


@dataclass
class Served:
    """A running edge and what tests need to look behind it."""

    url: str
    edge: GraphQLEdge
    tokens: Tokens
    happenings: Happenings
    client: aiohttp.ClientSession
    redis: redis.asyncio.Redis

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].removesuffix("/graphql"))

    @property
    def socket_url(self) -> str:
        return self.url.replace("http:", "ws:")

    def post(self, body: object = None, accept: str | None = "application/graphql-response+json", **more):
        headers = {"content-type": "application/json", **more.pop("headers", {})}
        if accept is not None:
            headers["accept"] = accept
        data = more.pop("data", None)
        if data is None:
            return self.client.post(self.url, json=body, headers=headers)
        return self.client.post(self.url, data=data, headers=headers)

    async def ask(self, query: str, variables: dict | None = None, token: str | None = "key", **more) -> "Answer":
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = {"query": query, "variables": variables, **more}
        async with self.post(body, headers=headers) as response:
            return Answer(response.status, await response.json(content_type=None), response.headers)


@dataclass
class Answer:
    status: int
    body: dict
    headers: object

    @property
    def data(self):
        return self.body.get("data")

    @property
    def errors(self):
        return self.body.get("errors")

    @property
    def code(self) -> str:
        return self.body["errors"][0]["extensions"]["code"]


PLENTY = EdgeSettings(
    stranger_points=1_000_000,
    stranger_points_per_hour=1_000_000,
    points=1_000_000,
    points_per_hour=1_000_000,
    documents=1_000_000,
    documents_per_hour=1_000_000,
    stranger_documents=1_000_000,
    stranger_documents_per_hour=1_000_000,
)
Serve = Callable[..., contextlib.AbstractAsyncContextManager[Served]]


@pytest.fixture
async def serve(redis_url: str) -> Serve:
    """Start an edge with other settings than PLENTY."""

    @contextlib.asynccontextmanager
    async def start(**changes) -> AsyncIterator[Served]:
        async with serving(redis_url, replace(PLENTY, **{"graphiql": False, **changes})) as served:
            yield served

    return start


@pytest.fixture(scope="session")
async def shared_edge(valkey_server: EmbeddedServers) -> AsyncIterator[Served]:
    async with serving(valkey_server.redis_url, PLENTY) as served:
        yield served


@pytest.fixture
async def edge(shared_edge: Served) -> Served:
    """The edge most tests share, with nothing remembered of what happened behind it, nor of what strangers took of its limits."""
    await shared_edge.redis.flushdb()
    shared_edge.happenings.__init__()
    shared_edge.tokens.__init__()
    return shared_edge


@contextlib.asynccontextmanager
async def serving(redis_url: str, settings: EdgeSettings) -> AsyncIterator[Served]:
    happenings, tokens = Happenings(), Tokens()
    client = redis.asyncio.Redis.from_url(redis_url)
    link = script_link(client, timeout_s=5.0)

    def make_context(principal: Principal, request_id: str, address: str) -> Context:
        happenings.contexts += 1
        return Context(principal, request_id, address, happenings)

    edge = GraphQLEdge(build_example(), tokens, Limiter(link), make_context, settings, client)

    async def app(scope, receive, send) -> None:
        await (edge.websocket if scope["type"] == "websocket" else edge.http)(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.002)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/graphql"
    async with aiohttp.ClientSession() as session:
        yield Served(url, edge, tokens, happenings, session, client)
    await edge.close()
    server.should_exit = True
    await task
    await link.aclose()
    await client.aclose()
