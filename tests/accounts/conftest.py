"""A room of accounts on a fresh database: real PostgreSQL and Valkey, cheap argon2, a clock that can be moved."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
import redis.asyncio

from accounts.access_tokens import AccessTokens
from accounts.invalidation import Invalidations
from accounts.key_uses import KeyUses
from accounts.mail.messages import Sender
from accounts.mail.outbox import deliver_mail
from accounts.passwords import PasswordHasher
from accounts.principals import Principals
from accounts.services import Accounts, AttemptKind
from accounts.users import sign_up, verify_email
from accounts.views import Actor, ActorKind, SessionTokens, WorkspaceView
from accounts.workspaces import workspaces_of_user
from billing.rules.entitlements import Entitlements
from kit import clock
from kit.errors import RateLimited
from kit.pages import PageRequest
from kit.sealing import Sealer
from metering.ledger import Ledger
from models.database import Database

SECRET = b"a secret key for tests, long enough"
PASSWORD = "correct horse battery"
VISITOR = Actor(ActorKind.ANONYMOUS, None, "203.0.113.7", "req-1", "Test/1.0")
SENDER = Sender("Tollgate <mail@tollgate.test>", "Tollgate", "https://tollgate.test")


class Plans:
    """The plan of every workspace, to be changed by a test."""

    def __init__(self) -> None:
        self.entitlements = Entitlements(
            requests_per_hour=1000, support_level="none", api_access=True, team_management=True
        )

    async def entitlements_of(self, workspace_id: UUID) -> Entitlements:
        return self.entitlements

    def downgrade(self, **changes: object) -> None:
        self.entitlements = replace(self.entitlements, **changes)


class Buckets:
    """Counts attempts, and refuses beyond a number where a test sets one."""

    def __init__(self) -> None:
        self.limits: dict[AttemptKind, int] = {}
        self.taken: dict[tuple[AttemptKind, str], int] = {}

    async def take(self, kind: AttemptKind, key: str) -> None:
        count = self.taken[kind, key] = self.taken.get((kind, key), 0) + 1
        if count > self.limits.get(kind, count):
            raise RateLimited("Too many attempts.", 60)


class Mailbox:
    """A mailer that keeps what it was given."""

    def __init__(self) -> None:
        self.messages: list = []

    async def send(self, message) -> None:
        self.messages.append(message)


@dataclass
class Room:
    accounts: Accounts
    principals: Principals
    key_uses: KeyUses
    plans: Plans
    buckets: Buckets
    pg: asyncpg.Connection
    mailbox: Mailbox = field(default_factory=Mailbox)

    async def mails(self) -> list:
        """What has been mailed since the last time."""
        self.mailbox.messages.clear()
        await deliver_mail(self.accounts.database, self.accounts.sealer, self.mailbox, SENDER, limit=100)
        return list(self.mailbox.messages)

    async def warm(self) -> None:
        """Connect the whole pool, so that what is asked at once is done at once."""
        pool = self.accounts.database.pool
        await asyncio.gather(*(pool.execute("SELECT pg_sleep(0.05)") for _ in range(6)))

    async def mailed_token(self) -> str:
        """The token in the last mail."""
        return token_in((await self.mails())[-1])

    async def person(self, email: str, name: str = "Some One") -> SessionTokens:
        """Someone who signed up and confirmed."""
        await sign_up(self.accounts, VISITOR, email, PASSWORD, name)
        return await verify_email(self.accounts, VISITOR, await self.mailed_token())

    async def workspace_of(self, user_id: UUID) -> WorkspaceView:
        page = await workspaces_of_user(self.accounts.database, user_id, PageRequest(first=10))
        return page.items[0]


def token_in(message) -> str:
    body = message.get_body(("plain",)).get_content()
    return re.search(r"token=([\w.~-]+)", body)[1]


def acting(tokens: SessionTokens) -> Actor:
    return Actor(ActorKind.USER, tokens.user.id, "203.0.113.7", "req-2")


def cheap_hasher(**changes: int) -> PasswordHasher:
    return PasswordHasher(**{"time_cost": 1, "memory_kib": 8, "parallelism": 1, "concurrency": 2, **changes})


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, min_size=1, max_size=6)
    yield opened
    await opened.close()


@pytest.fixture
async def room(database: Database, redis_url: str, pg: asyncpg.Connection) -> AsyncIterator[Room]:
    client = redis.asyncio.from_url(redis_url)
    plans, buckets, hasher = Plans(), Buckets(), cheap_hasher()
    invalidations = Invalidations(client)
    sealer = Sealer({1: SECRET}, 1)
    accounts = Accounts(
        database=database,
        sealer=sealer,
        hasher=hasher,
        invalidations=invalidations,
        attempts=buckets,
        plans=plans,
        public_url="https://tollgate.test",
    )
    key_uses = KeyUses(database)
    principals = Principals(database, AccessTokens(sealer), invalidations, key_uses)
    yield Room(accounts, principals, key_uses, plans, buckets, pg)
    hasher.close()
    await client.aclose()


@pytest.fixture
async def hearing(room: Room) -> AsyncIterator[Room]:
    """The same room, subscribed to invalidations."""
    task = asyncio.create_task(room.accounts.invalidations.run())
    await until(lambda: room.accounts.invalidations.is_healthy)
    yield room
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(database)
    yield opened
    await opened.close()


@pytest.fixture
def time():
    """A clock that stands still until moved."""
    moved = clock.VirtualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    with clock.installed(moved):
        yield moved


async def until(condition, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def later(time: clock.VirtualClock, **delta: float) -> None:
    time.at += timedelta(**delta)
