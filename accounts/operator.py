"""What the operator does to accounts from the command line; every change is in the audit log with its reason."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from accounts import api_keys, audit, two_factor
from accounts.errors import NotFoundHere
from accounts.invalidation import Change, ChangeKind
from accounts.mail.kinds import MailKind
from accounts.mail.unsubscribe import turn_off
from accounts.people import COLUMNS, user_view
from accounts.rules.emails import parse_email
from accounts.rules.key_form import digest_of, is_key
from accounts.rules.names import clean_name, printable
from accounts.rules.passwords import check_new_password
from accounts.services import Accounts
from accounts.users import insert_user, open_account
from accounts.views import Actor, ActorKind, ApiKeyView, UserView, WorkspaceView
from accounts.workspace_deletion import wallet_id_of
from accounts.workspaces import workspace_by_slug, workspaces_by_ids
from billing import free_credits
from billing.catalog import Snapshot
from billing.plans import give_plan, plan_of
from billing.views import PlanView
from kit.clock import now
from kit.errors import InvalidInput
from kit.ids import UnknownIdError, decode_id, uuid7
from metering.ledger import Ledger
from metering.operations import Adjust
from metering.views import Posted, Rejected
from models.database import connection, transaction
from models.enums import UnsubscribeSource

OPERATOR = Actor(ActorKind.OPERATOR)
MAX_REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class WorkspaceReport:
    """A workspace at a glance."""

    workspace: WorkspaceView
    plan: PlanView
    owners: tuple[str, ...]
    members: int
    live_keys: int
    balance_micro: int
    held_micro: int


@dataclass(frozen=True, slots=True)
class WorkspaceLine:
    """A workspace in a list."""

    id: UUID
    slug: str
    name: str
    owners: tuple[str, ...]
    balance_micro: int
    created_at: datetime


_OWNERS: Final = (
    "ARRAY(SELECT u.email FROM members m JOIN users u ON u.id = m.user_id WHERE m.workspace_id = w.id"
    " AND m.role = 'OWNER' AND m.removed_at IS NULL ORDER BY m.joined_at)"
)
_LIST: Final = (
    f"SELECT * FROM (SELECT w.id, w.slug, w.name, w.created_at, l.balance_micro, {_OWNERS} AS owners"  # noqa: S608 - constants only
    " FROM workspaces w JOIN wallets l ON l.workspace_id = w.id WHERE w.deleted_at IS NULL) listed"
    " WHERE position($1 in lower(name)) > 0 OR position($1 in slug) > 0"
    " OR position($1 in lower(array_to_string(owners, ' '))) > 0 ORDER BY created_at DESC, id DESC LIMIT $2"
)
_USER: Final = f"SELECT {COLUMNS} FROM users u WHERE (u.id = $1 OR u.email_key = $2) AND u.erased_at IS NULL"  # noqa: S608 - constants only


async def make_user(accounts: Accounts, email: str, name: str, password: str | None) -> UserView:
    """A person with a confirmed address and a first workspace; one who exists is left as they are, the password too.

    Without a password the person sets one by "forgotten password". InvalidInput.
    """
    address, cleaned = parse_email(email), clean_name(name)
    digest = None if password is None else await accounts.hasher.digest(check_new_password(password, address))
    async with transaction(accounts.database) as conn:
        user = await insert_user(conn, address, cleaned)
        if user.email_verified:
            return user
        await conn.execute(
            "UPDATE users SET name = $2, password_digest = $3 WHERE id = $1 AND email_verified_at IS NULL",
            user.id,
            cleaned,
            digest,
        )
        opened = await open_account(conn, OPERATOR, user.id)
        await audit.record(conn, OPERATOR, "user.make", "user", user.id)
    return opened


async def adjust_credits(
    accounts: Accounts,
    ledger: Ledger,
    workspace_id: UUID,
    amount_micro: int,
    reason: str,
    *,
    reference: str | None = None,
    expires_at: datetime | None = None,
) -> Posted:
    """Give (above zero) or take (below zero) credits; taking takes at most what is free, and the answer says how much.
    A repeated `reference` changes nothing. InvalidInput without a reason or amount; NotFoundHere; raises what the
    ledger rejects.
    """
    told = printable(reason, MAX_REASON_LENGTH, field="reason")
    if not told or amount_micro == 0:
        raise InvalidInput(
            "Give an amount other than zero, and a reason.", field=["reason" if amount_micro else "amount"]
        )
    async with transaction(accounts.database) as conn:
        wallet_id = await wallet_id_of(conn, workspace_id)
        operation = Adjust(
            reference=reference or f"operator:{uuid7().hex}",
            wallet_id=wallet_id,
            amount_micro=amount_micro,
            reason=told,
            expires_at=expires_at,
        )
        (outcome,) = await ledger.post(conn, [operation], now=now())
        if isinstance(outcome, Rejected):
            raise outcome.error
        assert isinstance(outcome, Posted), "an adjustment is posted or rejected"
        if outcome.changed:
            await audit.record(
                conn,
                OPERATOR,
                "credits.adjust",
                "wallet",
                wallet_id,
                workspace_id=workspace_id,
                facts={
                    "asked_micro": str(amount_micro),
                    "moved_micro": str(outcome.amount_micro if amount_micro > 0 else -outcome.amount_micro),
                    "reason": told,
                    "reference": operation.reference,
                },
            )
    return outcome


async def give_workspace_plan(
    accounts: Accounts, snapshot: Snapshot, workspace_id: UUID, plan_code: str | None, reason: str
) -> PlanView:
    """Make a plan the workspace's own, without a subscription (D10); None goes back to the catalog's default."""
    plan = await give_plan(accounts.database, snapshot, workspace_id, plan_code, now=now())
    async with transaction(accounts.database) as conn:
        await audit.record(
            conn,
            OPERATOR,
            "workspace.give_plan",
            "workspace",
            workspace_id,
            workspace_id=workspace_id,
            facts={"plan": plan.code, "reason": printable(reason, MAX_REASON_LENGTH, field="reason")},
        )
    await accounts.invalidations.publish(Change(ChangeKind.WORKSPACE, workspace_id))
    return plan


async def allow_free_credits(accounts: Accounts, workspace_id: UUID, reason: str) -> None:
    """Let a workspace that was refused have free credits from its next cycle on. NotFound where it was not refused."""
    async with transaction(accounts.database) as conn:
        await free_credits.allow_free_credits(conn, workspace_id, now())
        await audit.record(
            conn,
            OPERATOR,
            "free_credits.allow",
            "workspace",
            workspace_id,
            workspace_id=workspace_id,
            facts={"reason": printable(reason, MAX_REASON_LENGTH, field="reason")},
        )


async def revoke_key(accounts: Accounts, key_id: UUID) -> ApiKeyView:
    """End a key of any workspace, everywhere within a second. NotFoundHere."""
    return await api_keys.revoke_key(accounts, OPERATOR, None, key_id)


async def find_key(accounts: Accounts, text: str) -> UUID:
    """By global id, or by the secret itself where one was found in the open. NotFoundHere."""
    try:
        key_id = decode_id("key", text)
    except UnknownIdError:
        key_id = None
    async with connection(accounts.database) as conn:
        found: UUID | None = await conn.fetchval(
            "SELECT id FROM api_keys WHERE id = $1 OR digest = $2", key_id, digest_of(text) if is_key(text) else None
        )
    if found is None:
        raise NotFoundHere("API key")
    return found


async def find_user(accounts: Accounts, text: str) -> UserView:
    """By global id or e-mail address. NotFoundHere, InvalidInput."""
    try:
        user_id, email_key = decode_id("user", text), None
    except UnknownIdError:
        user_id, email_key = None, parse_email(text).key
    async with connection(accounts.database) as conn:
        row = await conn.fetchrow(_USER, user_id, email_key)
    if row is None:
        raise NotFoundHere("person")
    return user_view(row)


async def reset_two_factor(accounts: Accounts, user_id: UUID) -> None:
    """Turn two-factor sign-in off for someone who lost the device and the recovery codes."""
    async with transaction(accounts.database) as conn:
        await two_factor.clear(conn, user_id)
        await audit.record(conn, OPERATOR, "two_factor.reset", "user", user_id)


async def turn_off_mail(accounts: Accounts, email: str, kind: MailKind) -> None:
    """Send no more mails of a kind to a customer who asked support for it (D11)."""
    async with connection(accounts.database) as conn:
        await turn_off(conn, parse_email(email).key, kind, UnsubscribeSource.SUPPORT)


async def find_workspace(accounts: Accounts, text: str) -> WorkspaceView:
    """By global id or slug. NotFoundHere."""
    try:
        workspace_id = decode_id("ws", text)
    except UnknownIdError:
        found = await workspace_by_slug(accounts.database, text)
    else:
        found = (await workspaces_by_ids(accounts.database, [workspace_id])).get(workspace_id)
    if found is None:
        raise NotFoundHere("workspace")
    return found


async def list_workspaces(accounts: Accounts, search: str, limit: int) -> tuple[WorkspaceLine, ...]:
    """The newest live workspaces whose name, slug or owner's address holds the text; an empty one matches all."""
    async with connection(accounts.database) as conn:
        rows = await conn.fetch(_LIST, search.lower(), limit)
    return tuple(
        WorkspaceLine(
            id=row["id"],
            slug=row["slug"],
            name=row["name"],
            owners=tuple(row["owners"]),
            balance_micro=row["balance_micro"],
            created_at=row["created_at"],
        )
        for row in rows
    )


async def show_workspace(accounts: Accounts, snapshot: Snapshot, workspace_id: UUID) -> WorkspaceReport:
    """What support wants to see first. NotFoundHere."""
    workspace = (await workspaces_by_ids(accounts.database, [workspace_id])).get(workspace_id)
    if workspace is None:
        raise NotFoundHere("workspace")
    plan = await plan_of(accounts.database, snapshot, workspace_id, now())
    async with connection(accounts.database) as conn:
        row = await conn.fetchrow(
            "SELECT l.balance_micro, l.held_micro,"  # noqa: S608 - constants only
            " (SELECT count(*) FROM members m WHERE m.workspace_id = w.id AND m.removed_at IS NULL) AS members,"
            " (SELECT count(*) FROM api_keys k WHERE k.workspace_id = w.id AND k.revoked_at IS NULL) AS live_keys,"
            f" {_OWNERS} AS owners"
            " FROM workspaces w JOIN wallets l ON l.workspace_id = w.id WHERE w.id = $1",
            workspace_id,
        )
    if row is None:
        raise NotFoundHere("workspace")
    return WorkspaceReport(
        workspace=workspace,
        plan=plan,
        owners=tuple(row["owners"]),
        members=row["members"],
        live_keys=row["live_keys"],
        balance_micro=row["balance_micro"],
        held_micro=row["held_micro"],
    )


async def note(
    accounts: Accounts, workspace_id: UUID, action: str, subject_kind: str, subject_id: UUID, reason: str
) -> None:
    """Write into the audit log what the operator did in another room. Raises InvalidInput for a reason too long."""
    facts = {"reason": printable(reason, MAX_REASON_LENGTH, field="reason")}
    async with transaction(accounts.database) as conn:
        await audit.record(conn, OPERATOR, action, subject_kind, subject_id, workspace_id=workspace_id, facts=facts)
