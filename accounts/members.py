"""Members: changing roles, removing, leaving, listing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts import audit
from accounts.errors import NotFoundHere
from accounts.invalidation import Change, ChangeKind
from accounts.mail import messages
from accounts.mail.outbox import enqueue
from accounts.people import COLUMNS, user_view
from accounts.rules.membership import check_may_change, check_may_remove
from accounts.rules.roles import Role
from accounts.services import Accounts
from accounts.views import Actor, ActorKind, MemberView
from kit.clock import now
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from models.database import Database, connection, transaction
from models.pool import PoolConnection

_SELECT: Final = (
    f"SELECT m.id, m.workspace_id, m.role, m.joined_at, {COLUMNS}"  # noqa: S608 - constants only
    " FROM members m JOIN users u ON u.id = m.user_id"
)
_OF_WORKSPACES: Final = (
    f"SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL ({_SELECT}"  # noqa: S608 - likewise
    " WHERE m.workspace_id = parent.id AND m.removed_at IS NULL"
    " AND ($2::timestamptz IS NULL OR (m.joined_at, m.id) > ($2, $3)) ORDER BY m.joined_at, m.id LIMIT $4) AS found"
    " ORDER BY found.joined_at, found.id"
)


async def change_role(accounts: Accounts, actor: Actor, workspace_id: UUID, member_id: UUID, role: Role) -> MemberView:
    """Give a member another role. Only owners make and unmake owners (RoleRefused); one always stays (LastOwner)."""
    async with transaction(accounts.database) as conn:
        await lock_workspace(conn, workspace_id)
        member = await _member(conn, workspace_id, member_id)
        acting = await acting_role(conn, actor, workspace_id)
        check_may_change(acting, member.role, role, await _owners(conn, workspace_id))
        await conn.execute("UPDATE members SET role = $2 WHERE id = $1", member_id, role)
        await audit.record(
            conn,
            actor,
            "member.change_role",
            "member",
            member_id,
            workspace_id=workspace_id,
            facts={"user_id": str(member.user.id), "before": member.role, "after": role},
        )
        changed = await _member(conn, workspace_id, member_id)
    await accounts.invalidations.publish(Change(ChangeKind.ROLE, member.user.id, workspace_id))
    return changed


async def remove_member(accounts: Accounts, actor: Actor, workspace_id: UUID, member_id: UUID) -> None:
    """End a membership: access is lost everywhere within a second, the account and the person's own workspaces stay.

    Removing oneself is leaving, which everyone may but the last owner. NotFoundHere, RoleRefused, LastOwner.
    """
    async with transaction(accounts.database) as conn:
        workspace_name = await lock_workspace(conn, workspace_id)
        member = await _member(conn, workspace_id, member_id)
        is_self = actor.kind is ActorKind.USER and actor.id == member.user.id
        acting = await acting_role(conn, actor, workspace_id)
        check_may_remove(acting, member.role, await _owners(conn, workspace_id), is_self=is_self)
        await end_membership(conn, member_id, now())
        await audit.record(
            conn,
            actor,
            "member.leave" if is_self else "member.remove",
            "member",
            member_id,
            workspace_id=workspace_id,
            facts={"user_id": str(member.user.id), "role": member.role},
        )
        if not is_self:
            mail = messages.member_removed(member.user.email, accounts.product_name, workspace_name)
            await enqueue(conn, accounts.sealer, mail, workspace_id=workspace_id)
    await accounts.invalidations.publish(Change(ChangeKind.ROLE, member.user.id, workspace_id))


async def leave(accounts: Accounts, actor: Actor, workspace_id: UUID, user_id: UUID) -> None:
    """End one's own membership. NotFoundHere, LastOwner."""
    async with connection(accounts.database) as conn:
        member_id = await conn.fetchval(
            "SELECT id FROM members WHERE workspace_id = $1 AND user_id = $2 AND removed_at IS NULL",
            workspace_id,
            user_id,
        )
    if member_id is None:
        raise NotFoundHere("workspace")
    await remove_member(accounts, actor, workspace_id, member_id)


async def members_by_ids(database: Database, member_ids: Sequence[UUID]) -> dict[UUID, MemberView]:
    """The live ones of these; says nothing about who may see them."""
    async with connection(database) as conn:
        rows = await conn.fetch(f"{_SELECT} WHERE m.id = ANY($1::uuid[]) AND m.removed_at IS NULL", list(member_ids))
    return {row["id"]: _view(row) for row in rows}


async def members_of_workspace(database: Database, workspace_id: UUID, request: PageRequest) -> Page[MemberView]:
    """The members of a workspace in order of joining."""
    return (await members_of_workspaces(database, [workspace_id], request))[workspace_id]


async def members_of_workspaces(
    database: Database, workspace_ids: Sequence[UUID], request: PageRequest
) -> dict[UUID, Page[MemberView]]:
    """The same page of each of these workspaces."""
    after = decode_cursor(request.after) if request.after else (None, None)
    async with connection(database) as conn:
        rows = await conn.fetch(_OF_WORKSPACES, list(workspace_ids), after[0], after[1], request.first + 1)
    found = [(row["workspace_id"], _view(row)) for row in rows]
    return pages_of(workspace_ids, found, request, lambda view: encode_cursor(view.joined_at, view.id))


async def lock_workspace(conn: PoolConnection, workspace_id: UUID) -> str:
    """Put those who change its members in a row; the workspace's name. NotFoundHere for one deleted."""
    name = await conn.fetchval(
        "SELECT name FROM workspaces WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", workspace_id
    )
    if name is None:
        raise NotFoundHere("workspace")
    return name


async def acting_role(conn: PoolConnection, actor: Actor, workspace_id: UUID) -> Role | None:
    """As what the actor acts here, read under the lock, as it may have changed since the request was admitted.

    None for an API key; the operator and the system act as owners. NotFoundHere for a person who is no member.
    """
    if actor.kind in {ActorKind.OPERATOR, ActorKind.SYSTEM}:
        return Role.OWNER
    if actor.kind is ActorKind.API_KEY:
        return None
    role = await conn.fetchval(
        "SELECT role FROM members WHERE workspace_id = $1 AND user_id = $2 AND removed_at IS NULL",
        workspace_id,
        actor.id,
    )
    if role is None:
        raise NotFoundHere("workspace")
    return Role(role)


async def end_membership(conn: PoolConnection, member_id: UUID, at: datetime) -> None:
    """Mark it ended, in the caller's transaction, who publishes Change(ROLE) after it."""
    await conn.execute("UPDATE members SET removed_at = $2 WHERE id = $1", member_id, at)


async def _owners(conn: PoolConnection, workspace_id: UUID) -> int:
    return await conn.fetchval(
        "SELECT count(*) FROM members WHERE workspace_id = $1 AND role = 'OWNER' AND removed_at IS NULL", workspace_id
    )


async def _member(conn: PoolConnection, workspace_id: UUID, member_id: UUID) -> MemberView:
    row = await conn.fetchrow(
        f"{_SELECT} WHERE m.id = $1 AND m.workspace_id = $2 AND m.removed_at IS NULL", member_id, workspace_id
    )
    if row is None:
        raise NotFoundHere("member")
    return _view(row)


def _view(row: Record) -> MemberView:
    return MemberView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        user=user_view(row),
        role=Role(row["role"]),
        joined_at=row["joined_at"],
    )
