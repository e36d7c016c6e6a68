"""Random operations against the real schema and services: no client, whoever it is, is ever answered INTERNAL."""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from graphql import build_schema as from_sdl

from accounts.rules.roles import Role
from accounts.views import ANONYMOUS, Principal
from app.graphql.edge import GraphQLEdge
from kit.ids import encode_id
from resolvers.context import RequestContext
from schema.sdl import sdl
from tests.graphql.conftest import PLENTY, Tokens
from tests.graphql.fuzz import fuzz
from tests.schema.conftest import House, house, schema  # noqa: F401  fixtures
from tests.schema.test_access import _api_key, _call, _entry, _grant, _invitation, _member

EXAMPLES_EACH = int(os.environ.get("TOLLGATE_FUZZ_EXAMPLES", "90"))
START = int(os.environ.get("TOLLGATE_FUZZ_START", "1"))
"""Another start makes other operations; the same one the same."""
NOT_ASKED = frozenset({"deleteWorkspace"})
"""It would leave nothing to ask about."""


@dataclass
class Client:
    """Sends operations through the edge, without a network."""

    edge: GraphQLEdge
    token: str | None

    async def ask(self, query: str, variables: dict) -> tuple[int, dict]:
        body = orjson.dumps({"query": query, "variables": variables})
        headers = [
            (b"host", b"tollgate.test"),
            (b"content-type", b"application/json"),
            (b"accept", b"application/graphql-response+json"),
            *([(b"authorization", f"Bearer {self.token}".encode())] if self.token else []),
        ]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/graphql",
            "query_string": b"",
            "headers": headers,
            "scheme": "http",
            "client": ("203.0.113.7", 1),
            "state": {},
        }
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        sent = []

        async def receive() -> dict:
            return unread.pop() if unread else {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            sent.append(message)

        await self.edge.http(scope, receive, send)
        return sent[0]["status"], orjson.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.mark.parametrize("who", ["nobody", "key", "owner", "member"])
async def test_nobody_is_ever_answered_internal(house: House, who: str, tmp_path: Path) -> None:  # noqa: F811
    principals: dict[str, Principal] = {
        "nobody": ANONYMOUS,
        "key": house.key(),
        "owner": await house.person(Role.OWNER),
        "member": await house.person(Role.MEMBER),
    }
    tokens = Tokens({f"Bearer {name}": principal for name, principal in principals.items()})
    edge = GraphQLEdge(
        house.schema,
        tokens,
        house.services.limiter,
        lambda principal, request_id, address: RequestContext(principal, house.resolver_services, request_id, address),
        PLENTY,
        house.services.redis,
    )
    client = Client(edge, None if who == "nobody" else who)
    pool = await _known(house, principals["owner"])
    statuses = await fuzz(
        client.ask, from_sdl(sdl()), examples=EXAMPLES_EACH, pool=pool, without=NOT_ASKED, start=START
    )
    await edge.close()
    assert statuses[200] > 0
    assert sum(statuses.values()) >= EXAMPLES_EACH


async def _known(house: House, owner: Principal) -> list[str]:  # noqa: F811
    """Ids that exist, of every kind, and other texts that mean something."""
    catalog = house.services.catalog.current
    made = [await make(house) for make in (_api_key, _call, _entry, _grant, _invitation, _member)]
    return [
        *made,
        house.workspace_id,
        house.wallet_id,
        encode_id("user", owner.user_id),
        encode_id("plan", catalog.default_plan.id),
        encode_id("model", catalog.models[0].id),
        *[model.slug for model in catalog.models[:3]],
        "user",
    ]
