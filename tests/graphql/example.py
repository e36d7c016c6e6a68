"""A small schema with one of everything the edge must carry: connections, failures of each kind, streams, slow fields."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

import strawberry
from strawberry.scalars import JSON
from strawberry.types import Info

from accounts.views import Principal
from kit.errors import Forbidden, InvalidInput, NotFound, RateLimited
from schema.cost import PAGED, Cost, sized


@dataclass
class Happenings:
    """What tests look at and steer."""

    mutations: list[str] = field(default_factory=list)
    started: int = 0
    produced: int = 0
    closed: int = 0
    contexts: int = 0
    resolved: int = 0


@dataclass
class Context:
    principal: Principal
    request_id: str
    address: str
    happenings: Happenings


@strawberry.enum
class Role(Enum):
    OWNER = "OWNER"
    MEMBER = "MEMBER"


@strawberry.interface
class Node:
    id: strawberry.ID


@strawberry.type
class Member(Node):
    name: str
    role: Role
    email: str | None = None

    @strawberry.field
    def workspace(self) -> "Workspace":
        return Workspace(id=strawberry.ID("ws"), name="Home")


@strawberry.type
class MemberEdge:
    node: Member
    cursor: str


@strawberry.type
class MemberConnection:
    edges: list[MemberEdge]
    nodes: list[Member]


@strawberry.type
class Workspace(Node):
    name: str

    @strawberry.field(directives=[PAGED])
    async def members(self, info: Info, first: int = 20, after: str | None = None) -> MemberConnection:
        info.context.happenings.resolved += 1
        members = [
            Member(id=strawberry.ID(str(number)), name=f"Member {number}", role=Role.MEMBER)
            for number in range(min(first, 3))
        ]
        return MemberConnection(edges=[MemberEdge(node=m, cursor=m.id) for m in members], nodes=members)

    @strawberry.field(directives=[sized(5)])
    def tags(self) -> list[Member]:
        return []

    @strawberry.field(directives=[Cost(weight="7")])
    def dear(self) -> str:
        return "dear"


@strawberry.input
class NoteInput:
    text: str
    tags: list[str] = strawberry.field(default_factory=list)
    inner: "NoteInput | None" = None
    anything: JSON | None = None


@strawberry.type
class Note(Node):
    text: str


SearchResult = Annotated[Member | Note, strawberry.union("SearchResult")]


@strawberry.type
class Query:
    @strawberry.field
    async def workspace(self, id: strawberry.ID | None = None) -> Workspace | None:  # noqa: A002
        return Workspace(id=id or strawberry.ID("ws"), name="Home")

    @strawberry.field
    def whoami(self, info: Info) -> str | None:
        principal = info.context.principal
        return f"{principal.kind} {info.context.address}"

    @strawberry.field
    def echo(self, text: str = "", number: int | None = None, note: NoteInput | None = None) -> str | None:
        return f"{text}{number if number is not None else ''}{note.text if note else ''}"

    @strawberry.field
    def anything(self, value: JSON | None = None) -> JSON | None:
        return value

    @strawberry.field
    def grid(self, rows: list[list[int]] | None = None) -> int | None:
        return len(rows or [])

    @strawberry.field
    def hidden(self) -> str | None:
        raise NotFound("there is no such thing")

    @strawberry.field
    def unpaged(self) -> str | None:
        raise InvalidInput("this is not a cursor of this list", field=["after"])

    @strawberry.field
    def forbidden(self) -> str | None:
        raise Forbidden("not yours")

    @strawberry.field
    async def throttled(self) -> str | None:
        raise RateLimited("too many calls", 7)

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError("the secret is 42")

    @strawberry.field
    def unsayable(self) -> JSON | None:
        return object()

    @strawberry.field
    def null_in_non_null(self) -> Workspace | None:
        return Workspace(id=strawberry.ID("x"), name=None)  # type: ignore[arg-type]

    @strawberry.field
    async def slow(self) -> str | None:
        await asyncio.sleep(30)
        return "slow"

    @strawberry.field
    def search(self) -> list[SearchResult] | None:
        return [
            Member(id=strawberry.ID("1"), name="One", role=Role.OWNER),
            Note(id=strawberry.ID("2"), text="Two"),
        ]

    @strawberry.field
    def node(self, id: strawberry.ID) -> Node | None:  # noqa: A002
        return Note(id=id, text="Two")


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def write(self, info: Info, text: str, wait_s: float = 0.0) -> Note | None:
        info.context.happenings.started += 1
        await asyncio.sleep(min(max(wait_s, 0.0), 0.1))
        info.context.happenings.mutations.append(text)
        return Note(id=strawberry.ID("n"), text=text)

    @strawberry.mutation
    def break_it(self) -> Note | None:
        raise RuntimeError("the secret is 42")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, info: Info, to: int = 3, pause_s: float = 0.0) -> AsyncGenerator[int]:
        happenings = info.context.happenings
        try:
            for number in range(to):
                happenings.produced += 1
                yield number
                await asyncio.sleep(pause_s)
        finally:
            happenings.closed += 1

    @strawberry.subscription
    async def failing(self) -> AsyncGenerator[int]:
        yield 1
        raise RuntimeError("the secret is 42")

    @strawberry.subscription
    async def refused(self) -> AsyncGenerator[int]:
        raise Forbidden("not yours")
        yield 1

    @strawberry.subscription
    async def large(self, info: Info) -> AsyncGenerator[str]:
        try:
            while True:
                info.context.happenings.produced += 1
                yield "x" * 100_000
        finally:
            info.context.happenings.closed += 1


def build_example() -> strawberry.Schema:
    return strawberry.Schema(Query, Mutation, Subscription, types=[Member, Note])
