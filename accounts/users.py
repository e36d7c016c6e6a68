"""People: signing up, confirming the address, setting the password anew."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote
from uuid import UUID

import orjson
from asyncpg import Record

from accounts import audit
from accounts.errors import PasswordRefused, TokenRefused
from accounts.invalidation import Change, ChangeKind
from accounts.mail import messages
from accounts.mail.outbox import enqueue
from accounts.people import COLUMNS, user_view
from accounts.rules.emails import EmailAddress, parse_email
from accounts.rules.names import clean_name
from accounts.rules.passwords import check_new_password
from accounts.services import Accounts, AttemptKind, FreeCreditsJudge
from accounts.sessions import end_sessions, start_session
from accounts.user_tokens import drop_tokens, make_token, owner_of_token, use_token
from accounts.views import Actor, ActorKind, SessionTokens, UserView
from accounts.workspaces import open_workspace
from kit.clock import now
from kit.ids import uuid7
from kit.sealing import SealError
from models.database import transaction
from models.enums import TokenPurpose
from models.pool import PoolConnection

UNKNOWN_ADDRESS: Final = "unknown"
_BY_ADDRESS: Final = f"SELECT {COLUMNS} FROM users u WHERE u.email_key = $1 AND u.erased_at IS NULL"  # noqa: S608 - constants only
_LOCKED: Final = (
    f"SELECT u.password_digest, {COLUMNS} FROM users u WHERE u.id = $1 AND u.erased_at IS NULL"  # noqa: S608 - constants only
    " FOR NO KEY UPDATE"
)
_PENDING: Final = b"users.pending_sign_up"


@dataclass(frozen=True, slots=True)
class _Pending:
    """What a sign-up asked for. It rides sealed in its own mail and counts once that very mail is answered: until then
    a stranger who signed up with someone's address has set nothing, and of several sign-ups the confirmed one counts.
    """

    name: str
    password_digest: str


async def sign_up(accounts: Accounts, actor: Actor, email: str, password: str, name: str) -> None:
    """Send a mail to the address; the answer and the work are the same whether or not it is known.

    InvalidInput for what is no address, name or password; RateLimited. The account opens with `verify_email`.
    """
    address = parse_email(email)
    cleaned = clean_name(name)
    normal = check_new_password(password, address)
    await accounts.attempts.take(AttemptKind.SIGN_UP_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    await accounts.attempts.take(AttemptKind.MAIL_ACCOUNT, address.key)
    pending = _Pending(name=cleaned, password_digest=await accounts.hasher.digest(normal))
    async with transaction(accounts.database) as conn:
        user = await _user_of_address(conn, address)
        if user is None:
            user = await insert_user(conn, address, cleaned)
            await audit.record(conn, actor, "user.sign_up", "user", user.id)
        if user.email_verified:
            link = f"{accounts.public_url}/sign-in"
            mail = messages.address_is_known(user.email, accounts.product_name, link)
        else:
            token = await make_token(
                conn,
                user.id,
                TokenPurpose.VERIFY_EMAIL,
                accounts.verification_lifetime,
                tail=_sealed(accounts, pending, user.id),
            )
            link = f"{accounts.public_url}/verify-email?token={quote(token)}"
            mail = messages.verify_address(user.email, accounts.product_name, link)
        await enqueue(conn, accounts.sealer, mail)


async def verify_email(accounts: Accounts, actor: Actor, token: str) -> SessionTokens:
    """Open the account with the mailed token: its first workspace is made and a session started. TokenRefused."""
    await accounts.attempts.take(AttemptKind.TOKEN_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    async with transaction(accounts.database) as conn:
        user_id = await use_token(conn, token, TokenPurpose.VERIFY_EMAIL)
        pending = _opened(accounts, token, user_id)
        if user_view(await _locked(conn, user_id)).email_verified:
            raise TokenRefused  # opened meanwhile in another way: this sign-up's password counts no more
        await conn.execute(
            "UPDATE users SET name = $2, password_digest = $3 WHERE id = $1",
            user_id,
            pending.name,
            pending.password_digest,
        )
        user = await open_account(conn, actor, user_id, judge=accounts.free_credits)
        return await start_session(accounts, conn, actor, user)


async def request_password_reset(accounts: Accounts, actor: Actor, email: str) -> None:
    """Send a link to the address if it has an account; the answer is the same if not. InvalidInput, RateLimited."""
    address = parse_email(email)
    await accounts.attempts.take(AttemptKind.SIGN_UP_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    await accounts.attempts.take(AttemptKind.MAIL_ACCOUNT, address.key)
    async with transaction(accounts.database) as conn:
        user = await _user_of_address(conn, address)
        # Written for an unknown address too, so that the time an answer takes tells little.
        await audit.record(conn, actor, "user.request_password_reset", "user", user.id if user else None)
        if user is None:
            return
        token = await make_token(conn, user.id, TokenPurpose.RESET_PASSWORD, accounts.reset_lifetime)
        link = f"{accounts.public_url}/reset-password?token={quote(token)}"
        await enqueue(conn, accounts.sealer, messages.reset_password(user.email, accounts.product_name, link))


async def complete_password_reset(accounts: Accounts, actor: Actor, token: str, password: str) -> None:
    """Set the password with the mailed token and end all sessions. Proves the mailbox, so it opens an account that was
    waiting for that. Two-factor sign-in stays on. TokenRefused, InvalidInput.
    """
    await accounts.attempts.take(AttemptKind.TOKEN_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    async with transaction(accounts.database) as conn:
        user_id = await owner_of_token(conn, token, TokenPurpose.RESET_PASSWORD)
        row = await _locked(conn, user_id)
    # Hashed between two transactions, as it takes long; the token is used up in the second.
    digest = await accounts.hasher.digest(check_new_password(password, parse_email(row["user_email"])))
    async with transaction(accounts.database) as conn:
        await use_token(conn, token, TokenPurpose.RESET_PASSWORD)
        await _set_password(accounts, conn, actor, user_view(row), digest)
        await open_account(conn, actor, user_id, judge=accounts.free_credits)
        await end_sessions(conn, user_id, "PASSWORD_RESET")
    await accounts.invalidations.publish(Change(ChangeKind.USER, user_id))


async def change_password(
    accounts: Accounts, actor: Actor, user_id: UUID, current: str, new: str, *, session_id: UUID | None
) -> None:
    """Set a new password and end all other sessions. PasswordRefused, InvalidInput, RateLimited."""
    async with transaction(accounts.database) as conn:
        row = await _locked(conn, user_id)
    address = parse_email(row["user_email"])
    await accounts.attempts.take(AttemptKind.SIGN_IN_ACCOUNT, address.key)
    normal = check_new_password(new, address, field="newPassword")
    if not await accounts.hasher.verify(row["password_digest"], current):
        raise PasswordRefused
    digest = await accounts.hasher.digest(normal)
    async with transaction(accounts.database) as conn:
        locked = await _locked(conn, user_id)
        if locked["password_digest"] != row["password_digest"]:
            raise PasswordRefused
        await _set_password(accounts, conn, actor, user_view(locked), digest)
        await end_sessions(conn, user_id, "PASSWORD_CHANGED", keep=session_id)
    await accounts.invalidations.publish(Change(ChangeKind.USER, user_id))


async def rename_user(accounts: Accounts, actor: Actor, user_id: UUID, name: str) -> UserView:
    """Give the person another name. InvalidInput."""
    cleaned = clean_name(name)
    async with transaction(accounts.database) as conn:
        await conn.execute("UPDATE users SET name = $2, updated_at = $3 WHERE id = $1", user_id, cleaned, now())
        await audit.record(conn, actor, "user.rename", "user", user_id)
        return user_view(await _locked(conn, user_id))


async def insert_user(conn: PoolConnection, address: EmailAddress, name: str) -> UserView:
    """The person with this address, made now unless they exist: two sign-ups at once make one."""
    await conn.execute(
        "INSERT INTO users (id, email, email_key, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)"
        " ON CONFLICT (email_key) WHERE erased_at IS NULL DO NOTHING",
        uuid7(),
        address.text,
        address.key,
        name,
        now(),
    )
    user = await _user_of_address(conn, address)
    assert user is not None, "inserted above, or by the one this waited for"
    return user


async def open_account(
    conn: PoolConnection, actor: Actor, user_id: UUID, *, judge: FreeCreditsJudge | None = None
) -> UserView:
    """Mark the address as proven and, the first time, make the person's first workspace."""
    row = await _locked(conn, user_id)
    user = user_view(row)
    if user.email_verified:
        return user
    person = Actor(ActorKind.USER, user_id, actor.address, actor.request_id)
    await conn.execute("UPDATE users SET email_verified_at = $2, updated_at = $2 WHERE id = $1", user_id, now())
    await drop_tokens(conn, user_id, TokenPurpose.VERIFY_EMAIL)
    await audit.record(conn, person, "user.verify_email", "user", user_id)
    await open_workspace(conn, person, user_id, user.name, judge=judge, first=True)
    return user_view(await _locked(conn, user_id))


async def _set_password(accounts: Accounts, conn: PoolConnection, actor: Actor, user: UserView, digest: str) -> None:
    await conn.execute("UPDATE users SET password_digest = $2, updated_at = $3 WHERE id = $1", user.id, digest, now())
    await drop_tokens(conn, user.id, TokenPurpose.RESET_PASSWORD)
    await audit.record(conn, actor, "user.set_password", "user", user.id)
    await enqueue(conn, accounts.sealer, messages.password_changed(user.email, accounts.product_name))


async def _user_of_address(conn: PoolConnection, address: EmailAddress) -> UserView | None:
    row = await conn.fetchrow(_BY_ADDRESS, address.key)
    return None if row is None else user_view(row)


async def _locked(conn: PoolConnection, user_id: UUID) -> Record:
    row = await conn.fetchrow(_LOCKED, user_id)
    if row is None:
        raise TokenRefused
    return row


def _sealed(accounts: Accounts, pending: _Pending, user_id: UUID) -> str:
    body = orjson.dumps([pending.name, pending.password_digest])
    return base64.urlsafe_b64encode(accounts.sealer.seal(body, _PENDING + user_id.bytes)).decode().rstrip("=")


def _opened(accounts: Accounts, token: str, user_id: UUID) -> _Pending:
    tail = token.partition(".")[2]
    try:
        sealed = base64.b64decode(tail + "=" * (-len(tail) % 4), altchars=b"-_", validate=True)
        name, password_digest = orjson.loads(accounts.sealer.open(sealed, _PENDING + user_id.bytes))
    except (SealError, ValueError, binascii.Error) as error:
        raise TokenRefused from error
    return _Pending(name=name, password_digest=password_digest)
