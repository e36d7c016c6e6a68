"""Workspaces: making, renaming, listing and deleting them."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg import Record

from accounts import audit
from accounts.errors import NotFoundHere, SlugInUse, SlugTaken, TooMany
from accounts.rules.names import clean_name
from accounts.rules.roles import Role
from accounts.rules.slugs import candidates, parse_slug
from accounts.services import FreeCreditsJudge
from accounts.views import Actor, WorkspaceView
from kit.clock import now
from kit.errors import Refusal
from kit.ids import uuid7
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor
from models.database import Database, connection, transaction
from models.pool import PoolConnection

MAX_OWNED: Final = 100
"""Workspaces that one person may own."""

_VIEW: Final = (
    "SELECT w.id, w.name, w.slug, wal.id AS wallet_id, w.store_outputs, w.time_zone, w.concurrent_calls_limit,"
    " w.default_plan_id, w.created_at, m.role FROM workspaces w JOIN wallets wal ON wal.workspace_id = w.id"
    " LEFT JOIN members m ON m.workspace_id = w.id AND m.user_id = $1 AND m.removed_at IS NULL"
    " WHERE w.deleted_at IS NULL"
)
_WAS_PUBLISHED_UNDER: Final = (
    "EXISTS (SELECT FROM models WHERE starts_with(slug, {slug}::text || '/') AND workspace_id <> {workspace_id}::uuid)"
)
"""Of another workspace, renamed or deleted since: keys and chains name its models, and a stranger must not answer to them."""


async def create_workspace(
    database: Database, actor: Actor, owner_id: UUID, name: str, *, judge: FreeCreditsJudge | None = None
) -> WorkspaceView:
    """A workspace with its wallet, owned by the user; TooMany beyond MAX_OWNED."""
    async with transaction(database) as conn:
        await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id)
        owned = await conn.fetchval(
            "SELECT count(*) FROM members m JOIN workspaces w ON w.id = m.workspace_id WHERE m.user_id = $1"
            " AND m.role = 'OWNER' AND m.removed_at IS NULL AND w.deleted_at IS NULL",
            owner_id,
        )
        if owned >= MAX_OWNED:
            raise TooMany("workspaces of yours", MAX_OWNED)
        return await open_workspace(conn, actor, owner_id, name, judge=judge)


async def open_workspace(
    conn: PoolConnection,
    actor: Actor,
    owner_id: UUID,
    name: str,
    *,
    judge: FreeCreditsJudge | None = None,
    first: bool = False,
) -> WorkspaceView:
    """The same in the caller's transaction: workspace, wallet, membership as OWNER, and what is said of free credits.

    `first`: it is the person's first one.
    """
    cleaned = clean_name(name)
    at = now()
    workspace_id, wallet_id = uuid7(), uuid7()
    for slug in candidates(cleaned, _random_tails()):
        made = await conn.fetchval(
            "INSERT INTO workspaces (id, name, slug, created_by, created_at, updated_at)"
            f" SELECT $1, $2, $3, $4, $5, $5 WHERE NOT {_WAS_PUBLISHED_UNDER.format(slug='$3', workspace_id='$1')}"
            " ON CONFLICT (slug) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
            workspace_id,
            cleaned,
            slug,
            owner_id,
            at,
        )
        if made is not None:
            break
    await conn.execute(
        "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, $3)", wallet_id, workspace_id, at
    )
    await conn.execute(
        "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, 'OWNER', $4)",
        uuid7(),
        workspace_id,
        owner_id,
        at,
    )
    await audit.record(conn, actor, "workspace.create", "workspace", workspace_id, workspace_id=workspace_id)
    if judge is not None:
        key: str = await conn.fetchval("SELECT email_key FROM users WHERE id = $1", owner_id)
        address = actor.address
        await judge.judge(conn, workspace_id, wallet_id, owner_id, address=address, email_key=key, first=first)
    row = await conn.fetchrow(f"{_VIEW} AND w.id = $2", owner_id, workspace_id)
    return _required(row)


async def update_workspace(
    database: Database,
    actor: Actor,
    workspace_id: UUID,
    *,
    name: str | None = None,
    slug: str | None = None,
    store_outputs: bool | None = None,
) -> WorkspaceView:
    """Change what is given; SlugTaken, SlugInUse, NotFoundHere, InvalidInput."""
    new_name = None if name is None else clean_name(name)
    new_slug = None if slug is None else parse_slug(slug)
    async with transaction(database) as conn:
        if new_slug is not None:
            await _check_published(conn, workspace_id, new_slug)
        try:
            changed = await conn.fetchval(
                "UPDATE workspaces SET name = coalesce($2, name), slug = coalesce($3, slug),"
                " store_outputs = coalesce($4, store_outputs), updated_at = $5"
                " WHERE id = $1 AND deleted_at IS NULL RETURNING id",
                workspace_id,
                new_name,
                new_slug,
                store_outputs,
                now(),
            )
        except asyncpg.UniqueViolationError as error:
            raise SlugTaken(new_slug or "") from error
        if changed is None:
            raise NotFoundHere("workspace")
        if new_slug is not None:
            await _check_never_published_under(conn, workspace_id, new_slug)
        given = {"name": new_name, "slug": new_slug, "store_outputs": store_outputs}
        facts = [field for field, value in given.items() if value is not None]
        await audit.record(
            conn,
            actor,
            "workspace.update",
            "workspace",
            workspace_id,
            workspace_id=workspace_id,
            facts={"fields": facts},
        )
        row = await conn.fetchrow(f"{_VIEW} AND w.id = $2", actor.id, workspace_id)
    return _required(row)


async def _check_published(conn: PoolConnection, workspace_id: UUID, new_slug: str) -> None:
    """Whoever calls a published model by its name must not find another one there tomorrow."""
    slug = await conn.fetchval("SELECT slug FROM workspaces WHERE id = $1 FOR UPDATE", workspace_id)
    count = await conn.fetchval(
        "SELECT count(*) FROM published_models WHERE workspace_id = $1 AND unpublished_at IS NULL", workspace_id
    )
    if count and slug != new_slug:
        raise SlugInUse(count)


async def _check_never_published_under(conn: PoolConnection, workspace_id: UUID, slug: str) -> None:
    """SlugTaken for one under which another workspace ever published. Asked when the slug is this workspace's already, so
    that no other can publish under it meanwhile.
    """
    query = f"SELECT {_WAS_PUBLISHED_UNDER.format(slug='$1', workspace_id='$2')}"
    if await conn.fetchval(query, slug, workspace_id):
        raise SlugTaken(slug)


async def workspaces_by_ids(
    database: Database, workspace_ids: Sequence[UUID], *, viewer_id: UUID | None = None
) -> dict[UUID, WorkspaceView]:
    """The live ones of these, with the viewer's role; says nothing about who may see them."""
    async with connection(database) as conn:
        rows = await conn.fetch(f"{_VIEW} AND w.id = ANY($2::uuid[])", viewer_id, list(workspace_ids))
    return {row["id"]: _view(row) for row in rows}


async def workspace_by_slug(database: Database, slug: str, *, viewer_id: UUID | None = None) -> WorkspaceView | None:
    """The live workspace of this slug; None for what can be no slug, too."""
    try:
        wanted = parse_slug(slug)
    except Refusal:
        return None
    async with connection(database) as conn:
        row = await conn.fetchrow(f"{_VIEW} AND w.slug = $2", viewer_id, wanted)
    return None if row is None else _view(row)


async def workspaces_of_user(
    database: Database, user_id: UUID, request: PageRequest, *, roles: Sequence[Role] | None = None
) -> Page[WorkspaceView]:
    """The workspaces a user belongs to, in order of joining; `roles` narrows to those (B1)."""
    after = decode_cursor(request.after) if request.after else (None, None)
    async with connection(database) as conn:
        rows = await conn.fetch(
            "SELECT w.id, w.name, w.slug, wal.id AS wallet_id, w.store_outputs, w.time_zone, w.concurrent_calls_limit,"
            " w.default_plan_id, w.created_at, m.role, m.joined_at, m.id AS member_id FROM members m"
            " JOIN workspaces w ON w.id = m.workspace_id JOIN wallets wal ON wal.workspace_id = w.id"
            " WHERE m.user_id = $1 AND m.removed_at IS NULL AND w.deleted_at IS NULL"
            " AND ($2::text[] IS NULL OR m.role = ANY($2))"
            " AND ($3::timestamptz IS NULL OR (m.joined_at, m.id) > ($3, $4))"
            " ORDER BY m.joined_at, m.id LIMIT $5",
            user_id,
            None if roles is None else list(roles),
            after[0],
            after[1],
            request.first + 1,
        )
    shown = rows[: request.first]
    return Page(
        items=tuple(_view(row) for row in shown),
        cursors=tuple(encode_cursor(row["joined_at"], row["member_id"]) for row in shown),
        has_next=len(rows) > request.first,
        has_previous=after[0] is not None,
    )


def _random_tails() -> Iterator[str]:
    while True:
        yield secrets.token_hex(4)


def _required(row: Record | None) -> WorkspaceView:
    if row is None:
        raise NotFoundHere("workspace")
    return _view(row)


def _view(row: Record) -> WorkspaceView:
    return WorkspaceView(
        id=row["id"],
        name=row["name"],
        slug=row["slug"],
        wallet_id=row["wallet_id"],
        store_outputs=row["store_outputs"],
        time_zone=row["time_zone"],
        concurrent_calls_limit=row["concurrent_calls_limit"],
        default_plan_id=row["default_plan_id"],
        created_at=row["created_at"],
        viewer_role=None if row["role"] is None else Role(row["role"]),
    )
