"""What the GraphQL edge costs beside Strawberry's own ASGI view and a hand-written Starlette handler, in one run.

q1 is `{ __typename }`, q2 a workspace with 10 members of 5 fields from warm loaders. Each application is called as ASGI
in this process, in turns, so that noise falls on all of them alike; process CPU time is counted, sockets are not.
Run: python -m bench.graphql
"""

import asyncio
import dataclasses
import platform
import statistics
import time
from collections.abc import Awaitable, Callable

import orjson
import strawberry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from strawberry.types import Info

from accounts.views import Principal, PrincipalKind
from app.asgi import header, request_id_of
from app.graphql.asking import Asker, EdgeSettings
from app.graphql.edge import GraphQLEdge
from app.graphql.negotiation import accepted, is_json_body
from app.graphql.operations import Operations
from app.graphql.origins import Origins
from app.graphql.points import Points
from app.graphql.requests import of_body
from kit.ids import uuid7
from metering.limiter import Bucket, BucketState, Decision
from schema.cost import ListSize

ROUNDS = 30
REQUESTS = 300
TARGETS = {"q1": 8.0, "q2": 6.0}
LIMIT_AGAINST_STARLETTE = 3.0
Q1 = {"query": "{ __typename }"}
Q2 = {
    "query": "query Q($id: ID!) { workspace(id: $id) { id name members(first: 10) { id name email role seat } } }",
    "variables": {"id": "1"},
}


@dataclasses.dataclass
class Row:
    id: str
    name: str
    email: str
    role: str
    seat: int


ROWS = [Row(str(n), f"Member {n}", f"member{n}@example.com", "MEMBER", n) for n in range(10)]


@strawberry.type
class Member:
    id: strawberry.ID
    name: str
    email: str
    role: str
    seat: int

    @classmethod
    def of(cls, row: Row) -> "Member":
        return cls(id=strawberry.ID(row.id), name=row.name, email=row.email, role=row.role, seat=row.seat)


@strawberry.type
class Workspace:
    id: strawberry.ID
    name: str

    @strawberry.field(directives=[ListSize(slicing_arguments=["first"])])
    async def members(self, info: Info, first: int = 20) -> list[Member]:
        return [Member.of(row) for row in (await info.context["members"].load(self.id))[:first]]


@strawberry.type
class Query:
    @strawberry.field
    async def workspace(self, id: strawberry.ID) -> Workspace | None:  # noqa: A002
        return Workspace(id=id, name="Home")


class Context(dict):
    """Both servers hand it to resolvers."""


async def load_members(keys: list[str]) -> list[list[Row]]:
    return [ROWS for _ in keys]


def warm_context() -> Context:
    loader: DataLoader = DataLoader(load_members)
    loader.prime("1", ROWS)
    return Context(members=loader)


PRINCIPAL = Principal(PrincipalKind.API_KEY, api_key_id=uuid7(), workspace_id=uuid7())


class Credentials:
    """A warm cache of credentials: one look into a dictionary."""

    def __init__(self) -> None:
        self.known = {"Bearer tg_live_benchmark": PRINCIPAL}

    async def principal_of(self, scope) -> Principal:
        for name, value in scope["headers"]:
            if name == b"authorization":
                return await self.principal_of_text(value.decode("latin-1"), "")
        raise AssertionError

    async def principal_of_text(self, authorization: str, address: str) -> Principal:
        return self.known[authorization]

    def address_of(self, scope) -> str:
        return scope["client"][0]


class FreeBuckets:
    """Answers at once: what Redis costs is measured by bench/limiter.py."""

    async def take(self, buckets: list[Bucket], *, tag: str) -> Decision:
        return Decision(True, None, tuple([BucketState(b.capacity, b.capacity, 0, 0) for b in buckets]))

    async def refund(self, buckets: list[Bucket], tokens: int, *, tag: str) -> None:
        pass


class ShippedView(GraphQL):
    async def get_context(self, request, response=None) -> Context:
        return warm_context()


async def by_hand(request: Request) -> Response:
    body = orjson.loads(await request.body())
    if "variables" not in body:
        data: dict = {"__typename": "Query"}
    else:
        workspace_id = body["variables"]["id"]
        members = [{"id": r.id, "name": r.name, "email": r.email, "role": r.role, "seat": r.seat} for r in ROWS]
        data = {"workspace": {"id": workspace_id, "name": "Home", "members": members}}
    return Response(orjson.dumps({"data": data}), media_type="application/json")


def applications() -> dict[str, Callable[..., Awaitable[None]]]:
    schema = strawberry.Schema(Query)
    edge = GraphQLEdge(
        schema, Credentials(), FreeBuckets(), lambda *_: warm_context(), EdgeSettings(graphiql=False), None
    )
    return {
        "tollgate": edge.http,
        "strawberry": ShippedView(schema),
        "starlette": Starlette(routes=[Route("/graphql", by_hand, methods=["POST"])]),
    }


def scope_of(body: bytes) -> dict:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"accept", b"application/json"),
            (b"authorization", b"Bearer tg_live_benchmark"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


async def ask(app, body: bytes) -> bytes:
    answer = bytearray()
    asked = False

    async def receive() -> dict:
        nonlocal asked
        if asked:
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        if message["type"] == "http.response.body":
            answer.extend(message["body"])
        else:
            assert message["status"] == 200, message

    await app(scope_of(body), receive, send)
    return bytes(answer)


async def measure() -> dict[str, dict[str, list[float]]]:
    apps = applications()
    taken: dict[str, dict[str, list[float]]] = {}
    for name, query in (("q1", Q1), ("q2", Q2)):
        body = orjson.dumps(query)
        answers = {app: orjson.loads(await ask(apps[app], body))["data"] for app in apps}
        assert answers["tollgate"] == answers["strawberry"] == answers["starlette"], answers
        taken[name] = {app: [] for app in apps}
        for _ in range(ROUNDS):
            for app_name, app in apps.items():
                count = REQUESTS // 6 if app_name == "strawberry" else REQUESTS
                start = time.process_time()
                for _ in range(count):
                    await ask(app, body)
                taken[name][app_name].append((time.process_time() - start) / count * 1e6)
    return taken


async def breakdown() -> dict[str, dict[str, float]]:
    """Each step of the edge by itself, best of five, µs. What is left is the steps' joining: frames, await, send."""
    schema = strawberry.Schema(Query)
    settings = EdgeSettings(graphiql=False)
    points = Points(FreeBuckets(), settings)
    operations = Operations(schema, settings.limits, introspection=True)
    credentials, origins = Credentials(), Origins(())
    parts: dict[str, dict[str, float]] = {}
    for name, query in (("q1", Q1), ("q2", Q2)):
        body = orjson.dumps(query)
        scope = scope_of(body)
        request = of_body(body)
        operation = operations.read(request.query, hide_suggestions=True).operation(None)
        asker = Asker(PRINCIPAL, "req_1", "127.0.0.1")
        variables = operation.prepared.coerce(request.variables, hide_suggestions=True)
        charge = await points.take(asker, 12, None, 0)
        data = (await operation.prepared.run(variables, warm_context())).data
        cost = {"requested": 12, "actual": 12, "limit": 2000}
        response = {"data": data, "extensions": {"cost": cost, "rateLimit": charge.told()}}

        def negotiate(scope=scope) -> None:
            accepted(header(scope, b"accept"))
            is_json_body(header(scope, b"content-type"))
            header(scope, b"content-encoding")
            origins.admits(scope)
            origins.headers(scope)

        async def authenticate(scope=scope) -> None:
            await credentials.principal_of(scope)

        async def execute(operation=operation, variables=variables) -> None:
            await operation.prepared.run(variables, warm_context())

        async def charging(asker=asker) -> None:
            await points.take(asker, 12, None, 0)

        def price(operation=operation, request=request, data=data) -> None:
            coerced = operation.prepared.coerce(request.variables, hide_suggestions=True)
            operation.formula.actual(data, operation.formula.requested(coerced.coerced))

        parts[name] = {
            "negotiation, origin, content type": await best_of(negotiate),
            "request id": await best_of(lambda scope=scope: request_id_of(scope)),
            "credential (warm)": await best_of(authenticate),
            "parse and check the request": await best_of(lambda body=body: of_body(body)),
            "find the operation": await best_of(lambda request=request: operations.kept(request.query)),
            "coerce variables, requested and actual cost": await best_of(price),
            "charge points (without Redis), headers": await best_of(charging),
            "execute, with context and loaders": await best_of(execute),
            "write JSON": await best_of(lambda response=response: orjson.dumps(response)),
        }
    return parts


async def best_of(step: Callable[[], object], count: int = 2_000) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        if asyncio.iscoroutinefunction(step):
            for _ in range(count):
                await step()
        else:
            for _ in range(count):
                step()
        best = min(best, (time.perf_counter() - start) / count * 1e6)
    return best


def report(taken: dict[str, dict[str, list[float]]]) -> bool:
    print(f"Python {platform.python_version()}, one process, CPU µs a request: best / median of {ROUNDS} rounds\n")
    good = True
    for name, by_app in taken.items():
        best = {app: min(values) for app, values in by_app.items()}
        median = {app: statistics.median(values) for app, values in by_app.items()}
        for app in by_app:
            print(f"{name}  {app:<11} {best[app]:8.1f} / {median[app]:8.1f}")
        faster = best["strawberry"] / best["tollgate"], median["strawberry"] / median["tollgate"]
        print(f"{name}  Strawberry's view / tollgate: {faster[0]:.1f} / {faster[1]:.1f} (aim: {TARGETS[name]:.0f})")
        slower = best["tollgate"] / best["starlette"], median["tollgate"] / median["starlette"]
        print(f"{name}  tollgate / Starlette by hand: {slower[0]:.2f} / {slower[1]:.2f}\n")
        good = good and faster[1] >= TARGETS[name] and (name != "q1" or slower[1] <= LIMIT_AGAINST_STARLETTE)
    print("all aims are met" if good else "an aim is missed")
    return good


def main() -> int:
    good = report(asyncio.run(measure()))
    parts = asyncio.run(breakdown())
    print("\nsteps of the edge, µs          q1       q2")
    for step in parts["q1"]:
        print(f"{step:<46}{parts['q1'][step]:6.1f}   {parts['q2'][step]:6.1f}")
    print(f"{'sum':<46}{sum(parts['q1'].values()):6.1f}   {sum(parts['q2'].values()):6.1f}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
