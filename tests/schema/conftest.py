"""The schema run directly, on real services: a workspace with credits, its people and its keys."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
import strawberry
from strawberry.types import ExecutionResult

from accounts.rules.roles import ApiScope, Role
from accounts.views import ANONYMOUS, Principal, PrincipalKind
from app.lifespan import Services, open_services
from app.settings import Settings
from billing.catalog_apply import PromoCodes, apply
from billing.catalog_file import read_catalog
from kit.clock import now
from kit.ids import encode_id, uuid7
from models.database import Database
from resolvers.context import RequestContext
from resolvers.services import ResolverServices
from schema.errors import request_failure_of
from schema.root import build_schema
from tests.seeding import CATALOG, Seeded, seed_workspace

SECRET_KEY = "a secret key for the tests of the schema"
CREDITS_MICRO = 1_000_000_000_000
PROMO_CODES = {"PROMO_WELCOME_CODE": "WELCOME-2026", "PROMO_TOP_UP_CODE": "MORE-FOR-ALL"}


@pytest.fixture(scope="session")
def schema() -> strawberry.Schema:
    return build_schema()


@dataclass
class House:
    """One workspace, `seeded`, and everybody who might ask about it."""

    schema: strawberry.Schema
    services: Services
    resolver_services: ResolverServices
    seeded: Seeded
    people: dict[Role, Principal] = field(default_factory=dict)

    @property
    def workspace_id(self) -> str:
        return encode_id("ws", self.seeded.workspace_id)

    @property
    def wallet_id(self) -> str:
        return encode_id("wal", self.seeded.wallet_id)

    def key(self, *scopes: ApiScope) -> Principal:
        """The workspace's key, with these scopes instead of all."""
        return Principal(
            kind=PrincipalKind.API_KEY,
            api_key_id=self.seeded.api_key_id,
            workspace_id=self.seeded.workspace_id,
            scopes=frozenset(scopes or ApiScope),
        )

    async def person(self, role: Role | None, workspace_id: UUID | None = None) -> Principal:
        """A signed-in person with this role in the workspace; None: in none."""
        user_id = uuid7()
        pool = self.services.database.pool
        await pool.execute(
            "INSERT INTO users (id, email, email_key, name, created_at, updated_at, email_verified_at)"
            " VALUES ($1, $2, $2, 'Somebody', now(), now(), now())",
            user_id,
            f"{user_id.hex}@example.com",
        )
        if role is not None:
            await pool.execute(
                "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4, now())",
                uuid7(),
                workspace_id or self.seeded.workspace_id,
                user_id,
                role,
            )
        return Principal(kind=PrincipalKind.USER, user_id=user_id)

    def context(self, principal: Principal) -> RequestContext:
        return RequestContext(
            principal=principal, services=self.resolver_services, request_id="test", address="203.0.113.7"
        )

    async def ask(self, document: str, principal: Principal = ANONYMOUS, **variables: object) -> ExecutionResult:
        return await self.schema.execute(document, variable_values=variables, context_value=self.context(principal))

    async def read(self, document: str, principal: Principal = ANONYMOUS, **variables: object) -> dict:
        """The data of an operation that must not fail."""
        result = await self.ask(document, principal, **variables)
        assert result.errors is None, result.errors
        assert result.data is not None
        return json.loads(json.dumps(result.data))

    async def code(self, document: str, principal: Principal = ANONYMOUS, **variables: object) -> str:
        """The code of the one top-level error that an operation must end with."""
        result = await self.ask(document, principal, **variables)
        assert result.errors is not None, result.data
        assert len(result.errors) == 1, result.errors
        failure = request_failure_of(result.errors[0].original_error)
        assert failure is not None, result.errors
        return failure.code


def settings_for(database_url: str, redis_url: str, directory: Path) -> Settings:
    return Settings.from_environment(
        {
            "TOLLGATE_DATABASE_URL": database_url,
            "TOLLGATE_REDIS_URL": redis_url,
            "TOLLGATE_SECRET_KEY": SECRET_KEY,
            "TOLLGATE_DATA_DIR": str(directory),
        }
    )


@asynccontextmanager
async def open_house(
    database_url: str, redis_url: str, directory: Path, schema: strawberry.Schema, catalog: Path = CATALOG
) -> AsyncIterator[House]:
    """A house on this catalog, with `PROMO_CODES` in the environment that its campaigns read."""
    settings = settings_for(database_url, redis_url, directory)
    database = await Database.open(database_url, max_size=2)
    await apply(database, read_catalog(catalog), now=now(), promo_codes=PromoCodes(SECRET_KEY.encode(), PROMO_CODES))
    seeded = await seed_workspace(database, CREDITS_MICRO)
    await database.close()
    async with open_services(settings) as services:
        while not services.accounts.invalidations.is_healthy:
            await asyncio.sleep(0.005)
        yield House(schema, services, services.resolver_services, seeded)


@pytest.fixture
async def house(database_url: str, redis_url: str, tmp_path: Path, schema: strawberry.Schema) -> AsyncIterator[House]:
    async with open_house(database_url, redis_url, tmp_path, schema) as opened:
        yield opened
