"""The audit log: appended in the transaction of what it tells, read by admins."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts.views import Actor, ActorKind, AuditEventView
from kit.clock import now
from kit.ids import uuid7
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from models.database import Database, connection, transaction
from models.pool import PoolConnection

Facts = Mapping[str, str | int | bool | list[str] | None]
_NONE: Final[Facts] = {}


async def record(
    conn: PoolConnection,
    actor: Actor,
    action: str,
    subject_kind: str,
    subject_id: UUID | None,
    *,
    workspace_id: UUID | None = None,
    facts: Facts = _NONE,
) -> None:
    """Append one event to the caller's transaction. `action` is "noun.verb"; facts hold ids, never addresses or names."""
    await conn.execute(
        "INSERT INTO audit_events (id, workspace_id, actor_kind, actor_id, action, subject_kind, subject_id, facts, address,"
        " request_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        uuid7(),
        workspace_id,
        actor.kind,
        actor.id,
        action,
        subject_kind,
        subject_id,
        dict(facts),
        actor.address,
        actor.request_id,
        now(),
    )


async def record_alone(
    database: Database, actor: Actor, action: str, subject_kind: str, subject_id: UUID, *, workspace_id: UUID
) -> None:
    """Append one event about what was done elsewhere, in a transaction of its own."""
    async with transaction(database) as conn:
        await record(conn, actor, action, subject_kind, subject_id, workspace_id=workspace_id)


class Noting:
    """Appends what the billing room does for somebody; fits its port `Note`."""

    def __init__(self, actor: Actor, workspace_id: UUID) -> None:
        """Who does it, in which workspace."""
        self._actor = actor
        self._workspace_id = workspace_id

    async def __call__(
        self, conn: PoolConnection, action: str, subject_kind: str, subject_id: UUID | None, facts: Mapping[str, str]
    ) -> None:
        """One event, in the transaction of what it tells."""
        await record(conn, self._actor, action, subject_kind, subject_id, workspace_id=self._workspace_id, facts=facts)


def noting_for_system(workspace_id: UUID) -> Noting:
    """Notes what the gateway does by itself in a workspace."""
    return Noting(Actor(ActorKind.SYSTEM), workspace_id)


async def page_of_workspace(database: Database, workspace_id: UUID, request: PageRequest) -> Page[AuditEventView]:
    """The events of a workspace, the newest first."""
    return (await pages_of_workspaces(database, [workspace_id], request))[workspace_id]


async def pages_of_workspaces(
    database: Database, workspace_ids: Sequence[UUID], request: PageRequest
) -> dict[UUID, Page[AuditEventView]]:
    """The same page of each of these workspaces."""
    after = decode_cursor(request.after)[1] if request.after else None
    async with connection(database) as conn:
        rows = await conn.fetch(
            "SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL (SELECT * FROM audit_events"
            " WHERE workspace_id = parent.id AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3) AS found"
            " ORDER BY found.id DESC",
            list(workspace_ids),
            after,
            request.first + 1,
        )
    found = [(row["workspace_id"], _view(row)) for row in rows]
    return pages_of(workspace_ids, found, request, lambda event: encode_cursor(event.created_at, event.id))


def _view(row: Record) -> AuditEventView:
    return AuditEventView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        actor_kind=ActorKind(row["actor_kind"]),
        actor_id=row["actor_id"],
        action=row["action"],
        subject_kind=row["subject_kind"],
        subject_id=row["subject_id"],
        facts=row["facts"],
        address=row["address"],
        request_id=row["request_id"],
        created_at=row["created_at"],
    )
