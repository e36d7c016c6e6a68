"""Invitations: made, sent again, revoked and listed; accounts.acceptance takes them up."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote
from uuid import UUID

from asyncpg import Record

from accounts import audit
from accounts.errors import (
    AlreadyInvited,
    AlreadyMember,
    NotFoundHere,
    NotInPlan,
    TooMany,
)
from accounts.mail import messages
from accounts.mail.outbox import enqueue
from accounts.members import acting_role, lock_workspace
from accounts.people import COLUMNS, user_view
from accounts.rules.emails import EmailAddress, parse_email
from accounts.rules.key_form import digest_of
from accounts.rules.membership import check_may_assign
from accounts.rules.roles import Role
from accounts.services import Accounts, AttemptKind
from accounts.views import Actor, ActorKind, InvitationView
from billing.rules.entitlements import Entitlements
from kit.clock import now
from kit.ids import uuid7
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from models.database import Database, connection, transaction
from models.pool import PoolConnection

MAX_OPEN: Final = 500
MAX_MEMBERS: Final = 5_000
"""Members and open invitations of a workspace where its plan names no lower number."""
MAX_TOKEN_LENGTH: Final = 200
_SELECT: Final = f"SELECT i.*, {COLUMNS} FROM invitations i LEFT JOIN users u ON u.id = i.invited_by"  # noqa: S608 - constants only
_OPEN: Final = "i.accepted_at IS NULL AND i.revoked_at IS NULL"


async def invite(accounts: Accounts, actor: Actor, workspace_id: UUID, email: str, role: Role) -> InvitationView:
    """Invite an address, known here or not: the answer does not tell. NotInPlan without team management, RoleRefused,
    AlreadyMember, AlreadyInvited, TooMany, InvalidInput, RateLimited.
    """
    address = parse_email(email)
    await accounts.attempts.take(AttemptKind.INVITE_WORKSPACE, workspace_id.hex)
    await accounts.attempts.take(AttemptKind.MAIL_ACCOUNT, address.key)
    entitlements = await _team_entitlements(accounts, workspace_id)
    at = now()
    async with transaction(accounts.database) as conn:
        workspace_name = await lock_workspace(conn, workspace_id)
        check_may_assign(await acting_role(conn, actor, workspace_id), role)
        await _check_new(conn, workspace_id, address, at)
        await _check_room(conn, workspace_id, member_limit(entitlements), at)
        invitation_id, token = uuid7(), secrets.token_urlsafe(32)
        await conn.execute(
            "INSERT INTO invitations (id, workspace_id, email, email_key, role, digest, invited_by, created_at, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            invitation_id,
            workspace_id,
            address.text,
            address.key,
            role,
            digest_of(token),
            _inviter_id(actor),
            at,
            at + accounts.invitation_lifetime,
        )
        await audit.record(
            conn,
            actor,
            "invitation.create",
            "invitation",
            invitation_id,
            workspace_id=workspace_id,
            facts={"role": role},
        )
        view = _required(await _row(conn, invitation_id, workspace_id))
        await _mail(accounts, conn, view, workspace_name, token)
    return view


async def resend(accounts: Accounts, actor: Actor, workspace_id: UUID, invitation_id: UUID) -> InvitationView:
    """Send an open invitation again, with a new token and a new time; the old token ends. NotFoundHere, NotInPlan.

    Who sends it again is the inviter from then on: accounts.acceptance asks whether that one may still invite.
    """
    await accounts.attempts.take(AttemptKind.INVITE_WORKSPACE, workspace_id.hex)
    await _team_entitlements(accounts, workspace_id)
    async with connection(accounts.database) as conn:
        address = parse_email(_required(await _row(conn, invitation_id, workspace_id)).email)
    await accounts.attempts.take(AttemptKind.MAIL_ACCOUNT, address.key)
    at, token = now(), secrets.token_urlsafe(32)
    async with transaction(accounts.database) as conn:
        workspace_name = await lock_workspace(conn, workspace_id)
        view = _required(await _row(conn, invitation_id, workspace_id))
        check_may_assign(await acting_role(conn, actor, workspace_id), view.role)
        await conn.execute(
            "UPDATE invitations SET digest = $2, expires_at = $3, invited_by = $4 WHERE id = $1",
            invitation_id,
            digest_of(token),
            at + accounts.invitation_lifetime,
            _inviter_id(actor),
        )
        await audit.record(conn, actor, "invitation.resend", "invitation", invitation_id, workspace_id=workspace_id)
        view = _required(await _row(conn, invitation_id, workspace_id))
        await _mail(accounts, conn, view, workspace_name, token)
    return view


async def revoke(accounts: Accounts, actor: Actor, workspace_id: UUID, invitation_id: UUID) -> None:
    """End an open invitation. NotFoundHere, RoleRefused."""
    async with transaction(accounts.database) as conn:
        await lock_workspace(conn, workspace_id)
        view = _required(await _row(conn, invitation_id, workspace_id))
        check_may_assign(await acting_role(conn, actor, workspace_id), view.role)
        await conn.execute("UPDATE invitations SET revoked_at = $2 WHERE id = $1", invitation_id, now())
        await audit.record(conn, actor, "invitation.revoke", "invitation", invitation_id, workspace_id=workspace_id)


async def invitations_by_ids(database: Database, invitation_ids: Sequence[UUID]) -> dict[UUID, InvitationView]:
    """The open ones of these; says nothing about who may see them."""
    async with connection(database) as conn:
        rows = await conn.fetch(
            f"{_SELECT} WHERE i.id = ANY($1::uuid[]) AND {_OPEN} AND i.expires_at > $2", list(invitation_ids), now()
        )
    return {row["id"]: _view(row) for row in rows}


async def invitations_of_workspace(
    database: Database, workspace_id: UUID, request: PageRequest
) -> Page[InvitationView]:
    """The open invitations of a workspace, the newest first."""
    return (await invitations_of_workspaces(database, [workspace_id], request))[workspace_id]


async def invitations_of_workspaces(
    database: Database, workspace_ids: Sequence[UUID], request: PageRequest
) -> dict[UUID, Page[InvitationView]]:
    """The same page of each of these workspaces."""
    after = decode_cursor(request.after) if request.after else (None, None)
    async with connection(database) as conn:
        rows = await conn.fetch(
            f"SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL ({_SELECT}"  # noqa: S608 - constants
            f" WHERE i.workspace_id = parent.id AND {_OPEN} AND i.expires_at > $2"
            " AND ($3::timestamptz IS NULL OR (i.created_at, i.id) < ($3, $4))"
            " ORDER BY i.created_at DESC, i.id DESC LIMIT $5) AS found ORDER BY found.created_at DESC, found.id DESC",
            list(workspace_ids),
            now(),
            after[0],
            after[1],
            request.first + 1,
        )
    found = [(row["workspace_id"], _view(row)) for row in rows]
    return pages_of(workspace_ids, found, request, lambda view: encode_cursor(view.created_at, view.id))


def member_limit(entitlements: Entitlements) -> int:
    """How many members the plan admits."""
    return min(MAX_MEMBERS, entitlements.members_limit or MAX_MEMBERS)


async def count_members(conn: PoolConnection, workspace_id: UUID) -> int:
    """The live members of a workspace, right under its lock."""
    return await conn.fetchval(
        "SELECT count(*) FROM members WHERE workspace_id = $1 AND removed_at IS NULL", workspace_id
    )


async def _team_entitlements(accounts: Accounts, workspace_id: UUID) -> Entitlements:
    entitlements = await accounts.plans.entitlements_of(workspace_id)
    if not entitlements.team_management:
        raise NotInPlan("Team management")
    return entitlements


async def _check_new(conn: PoolConnection, workspace_id: UUID, address: EmailAddress, at: datetime) -> None:
    member = await conn.fetchval(
        "SELECT 1 FROM members m JOIN users u ON u.id = m.user_id WHERE m.workspace_id = $1 AND u.email_key = $2"
        " AND m.removed_at IS NULL",
        workspace_id,
        address.key,
    )
    if member is not None:
        raise AlreadyMember
    expires_at = await conn.fetchval(
        "SELECT expires_at FROM invitations i WHERE workspace_id = $1 AND email_key = $2"
        " AND accepted_at IS NULL AND revoked_at IS NULL",
        workspace_id,
        address.key,
    )
    if expires_at is not None and expires_at > at:
        raise AlreadyInvited
    await conn.execute(
        "UPDATE invitations SET revoked_at = $3 WHERE workspace_id = $1 AND email_key = $2"
        " AND accepted_at IS NULL AND revoked_at IS NULL",
        workspace_id,
        address.key,
        at,
    )


async def _check_room(conn: PoolConnection, workspace_id: UUID, limit: int, at: datetime) -> None:
    members = await count_members(conn, workspace_id)
    invited = await conn.fetchval(
        "SELECT count(*) FROM invitations WHERE workspace_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL"
        " AND expires_at > $2",
        workspace_id,
        at,
    )
    if members + invited >= limit:
        raise TooMany("members and invitations", limit)
    if invited >= MAX_OPEN:
        raise TooMany("open invitations", MAX_OPEN)


async def _mail(
    accounts: Accounts, conn: PoolConnection, view: InvitationView, workspace_name: str, token: str
) -> None:
    inviter = view.invited_by.name if view.invited_by else accounts.product_name
    link = f"{accounts.public_url}/invite?token={quote(token)}"
    mail = messages.invitation(view.email, accounts.product_name, workspace_name, inviter, link)
    await enqueue(conn, accounts.sealer, mail, workspace_id=view.workspace_id)


def _inviter_id(actor: Actor) -> UUID | None:
    return actor.id if actor.kind is ActorKind.USER else None


async def _row(conn: PoolConnection, invitation_id: UUID, workspace_id: UUID) -> Record | None:
    return await conn.fetchrow(
        f"{_SELECT} WHERE i.id = $1 AND i.workspace_id = $2 AND {_OPEN}", invitation_id, workspace_id
    )


def _required(row: Record | None) -> InvitationView:
    if row is None:
        raise NotFoundHere("invitation")
    return _view(row)


def _view(row: Record) -> InvitationView:
    return InvitationView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        email=row["email"],
        role=Role(row["role"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        invited_by=None if row["user_id"] is None else user_view(row),
    )
