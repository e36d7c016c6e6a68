"""Reads people as views, for every verb of this room."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts.views import UserView
from models.database import Database, connection

COLUMNS: Final = (
    "u.id AS user_id, u.email AS user_email, u.name AS user_name, u.created_at AS user_created_at,"
    " u.email_verified_at IS NOT NULL AS user_verified, u.totp_confirmed_at IS NOT NULL AS user_two_factor"
)
"""What `user_view` needs, from `users u`."""
_BY_IDS: Final = f"SELECT {COLUMNS} FROM users u WHERE u.id = ANY($1::uuid[])"  # noqa: S608 - constants only


def user_view(row: Record) -> UserView:
    """The person in a row that has COLUMNS."""
    return UserView(
        id=row["user_id"],
        email=row["user_email"],
        name=row["user_name"],
        created_at=row["user_created_at"],
        email_verified=row["user_verified"],
        two_factor=row["user_two_factor"],
    )


async def users_by_ids(database: Database, user_ids: Sequence[UUID]) -> dict[UUID, UserView]:
    """These people, erased ones included; says nothing about who may see them."""
    async with connection(database) as conn:
        rows = await conn.fetch(_BY_IDS, list(user_ids))
    return {row["user_id"]: user_view(row) for row in rows}


_SHARED: Final = """
SELECT m.user_id, m.workspace_id FROM members m JOIN workspaces w ON w.id = m.workspace_id
WHERE m.user_id = ANY($1::uuid[]) AND m.removed_at IS NULL AND w.deleted_at IS NULL AND (m.workspace_id = $3 OR EXISTS (
    SELECT FROM members v WHERE v.workspace_id = m.workspace_id AND v.user_id = $2 AND v.removed_at IS NULL))
"""


async def workspaces_shared(
    database: Database, user_ids: Sequence[UUID], *, viewer_id: UUID | None, workspace_id: UUID | None
) -> dict[UUID, frozenset[UUID]]:
    """The live workspaces that each of these people is in together with the viewer, or that are this workspace."""
    async with connection(database) as conn:
        rows = await conn.fetch(_SHARED, list(user_ids), viewer_id, workspace_id)
    shared: dict[UUID, set[UUID]] = {}
    for user_id, shared_id in rows:
        shared.setdefault(user_id, set()).add(shared_id)
    return {user_id: frozenset(found) for user_id, found in shared.items()}
