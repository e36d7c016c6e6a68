"""Accepting an invitation, as a signed-in person or as one who has no account yet."""

from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts import audit
from accounts.errors import (
    AccountExists,
    AlreadyMember,
    InvitationExpired,
    NotFoundHere,
    NotInPlan,
    RoleRefused,
    TooMany,
)
from accounts.invalidation import Change, ChangeKind
from accounts.invitations import count_members, member_limit
from accounts.members import acting_role, lock_workspace, members_by_ids
from accounts.rules.emails import parse_email
from accounts.rules.key_form import digest_of
from accounts.rules.membership import check_may_assign
from accounts.rules.names import clean_name
from accounts.rules.passwords import check_new_password
from accounts.rules.roles import Role
from accounts.services import Accounts, AttemptKind
from accounts.sessions import start_session
from accounts.users import UNKNOWN_ADDRESS, insert_user, open_account
from accounts.views import Actor, ActorKind, MemberView, SessionTokens
from billing.rules.entitlements import Entitlements
from kit.clock import now
from kit.ids import uuid7
from models.database import connection, transaction
from models.pool import PoolConnection

MAX_TOKEN_LENGTH: Final = 200


async def accept(accounts: Accounts, actor: Actor, user_id: UUID, token: str) -> MemberView:
    """Become a member at once. The signed-in person's confirmed address must be the invited one; for anyone else the
    token does not exist (NotFoundHere). InvitationExpired once used, revoked or late, or when the inviter may no longer
    invite; NotInPlan where the plan lost team management meanwhile; AlreadyMember.
    """
    await accounts.attempts.take(AttemptKind.TOKEN_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    entitlements = await _entitlements_at(accounts, token)
    async with transaction(accounts.database) as conn:
        email_key = await conn.fetchval(
            "SELECT email_key FROM users WHERE id = $1 AND email_verified_at IS NOT NULL AND erased_at IS NULL", user_id
        )
        row = await _by_token(conn, token)
        if row["email_key"] != email_key:
            raise NotFoundHere("invitation", field=["token"])
        member_id = await _join(conn, actor, row, user_id, entitlements)
    return await _joined(accounts, member_id, user_id, row["workspace_id"])


async def accept_as_new(
    accounts: Accounts, actor: Actor, token: str, password: str, name: str
) -> tuple[SessionTokens, MemberView]:
    """The same for a person without an account: the token proves the mailbox, so the account opens at once, with the
    person's own first workspace. AccountExists for an address that has one: it signs in and uses `accept`.
    """
    await accounts.attempts.take(AttemptKind.TOKEN_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    cleaned = clean_name(name)
    async with transaction(accounts.database) as conn:
        invited = await _by_token(conn, token)
    address = parse_email(invited["email"])
    digest = await accounts.hasher.digest(check_new_password(password, address))
    entitlements = await _entitlements_at(accounts, token)
    async with transaction(accounts.database) as conn:
        user = await insert_user(conn, address, cleaned)
        await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", user.id)
        fresh = await conn.fetchval(
            "UPDATE users SET password_digest = $2, name = $3 WHERE id = $1 AND email_verified_at IS NULL RETURNING id",
            user.id,
            digest,
            cleaned,
        )
        if fresh is None:
            raise AccountExists
        opened = await open_account(conn, actor, user.id, judge=accounts.free_credits)
        person = Actor(ActorKind.USER, user.id, actor.address, actor.request_id, actor.user_agent)
        member_id = await _join(conn, person, await _by_token(conn, token), user.id, entitlements)
        tokens = await start_session(accounts, conn, actor, opened)
    return tokens, await _joined(accounts, member_id, user.id, invited["workspace_id"])


async def _entitlements_at(accounts: Accounts, token: str) -> Entitlements:
    """Read before the transaction, so that the plan's reader needs no second connection while one is held."""
    async with connection(accounts.database) as conn:
        workspace_id = await conn.fetchval(
            "SELECT workspace_id FROM invitations WHERE digest = $1", digest_of(token[: MAX_TOKEN_LENGTH + 1])
        )
    if workspace_id is None:
        raise NotFoundHere("invitation", field=["token"])
    return await accounts.plans.entitlements_of(workspace_id)


async def _by_token(conn: PoolConnection, token: str) -> Record:
    refused = NotFoundHere("invitation", field=["token"])
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise refused
    # The workspace before the invitation, as everywhere; then the row as it is under that lock.
    workspace_id = await conn.fetchval("SELECT workspace_id FROM invitations WHERE digest = $1", digest_of(token))
    if workspace_id is None:
        raise refused
    await lock_workspace(conn, workspace_id)
    row = await conn.fetchrow("SELECT * FROM invitations WHERE digest = $1 FOR NO KEY UPDATE", digest_of(token))
    if row is None:
        raise refused
    return row


async def _join(conn: PoolConnection, actor: Actor, row: Record, user_id: UUID, entitlements: Entitlements) -> UUID:
    at = now()
    if row["accepted_at"] is not None or row["revoked_at"] is not None or row["expires_at"] <= at:
        raise InvitationExpired
    await _check_inviter(conn, row)
    if not entitlements.team_management:
        raise NotInPlan("Team management")
    limit = member_limit(entitlements)
    if await count_members(conn, row["workspace_id"]) >= limit:
        raise TooMany("members", limit)
    member_id = await conn.fetchval(
        "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (workspace_id, user_id) WHERE removed_at IS NULL DO NOTHING RETURNING id",
        uuid7(),
        row["workspace_id"],
        user_id,
        row["role"],
        at,
    )
    if member_id is None:
        raise AlreadyMember
    await conn.execute(
        "UPDATE invitations SET accepted_at = $2, accepted_by = $3 WHERE id = $1", row["id"], at, user_id
    )
    await audit.record(
        conn,
        actor,
        "invitation.accept",
        "member",
        member_id,
        workspace_id=row["workspace_id"],
        facts={"role": row["role"], "user_id": str(user_id)},
    )
    return member_id


async def _check_inviter(conn: PoolConnection, row: Record) -> None:
    """InvitationExpired where the person who invited may no longer hand out this role, as one who was removed. The operator
    and API keys stand in no invitation.
    """
    if row["invited_by"] is None:
        return
    inviter = Actor(ActorKind.USER, row["invited_by"])
    try:
        check_may_assign(await acting_role(conn, inviter, row["workspace_id"]), Role(row["role"]))
    except (NotFoundHere, RoleRefused) as error:
        raise InvitationExpired from error


async def _joined(accounts: Accounts, member_id: UUID, user_id: UUID, workspace_id: UUID) -> MemberView:
    await accounts.invalidations.publish(Change(ChangeKind.ROLE, user_id, workspace_id))
    members = await members_by_ids(accounts.database, [member_id])
    if member_id not in members:
        raise NotFoundHere("member")
    return members[member_id]
