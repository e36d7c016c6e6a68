"""Signing in: by password, or by the token of a configured identity provider."""

from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts import audit
from accounts.errors import IdentityRefused, SignInRefused, TwoFactorRefused
from accounts.oidc import Identity, OidcVerifier
from accounts.people import COLUMNS, user_view
from accounts.rules.emails import parse_email
from accounts.rules.names import clean_name
from accounts.rules.passwords import normal_form
from accounts.services import Accounts, AttemptKind
from accounts.sessions import start_session
from accounts.two_factor import check_second_factor
from accounts.users import UNKNOWN_ADDRESS, insert_user, open_account
from accounts.views import Actor, ActorKind, SessionTokens, UserView
from kit.clock import now
from kit.errors import InvalidInput, Refusal
from models.database import connection, transaction
from models.pool import PoolConnection

_BY_KEY: Final = (
    f"SELECT u.password_digest, {COLUMNS} FROM users u"  # noqa: S608 - constants only
    " WHERE u.email_key = $1 AND u.erased_at IS NULL"
)
_BY_SUBJECT: Final = (
    f"SELECT {COLUMNS} FROM users u"  # noqa: S608 - constants only
    " WHERE u.oidc_issuer = $1 AND u.oidc_subject = $2 AND u.erased_at IS NULL"
)


async def sign_in(
    accounts: Accounts, actor: Actor, email: str, password: str, code: str | None = None
) -> SessionTokens:
    """A session for the right password, and for the second factor where it is on.

    SignInRefused tells no unknown address, wrong password and unverified address apart, and takes the same work for
    each. TwoFactorRequired and TwoFactorRefused only after the right password. RateLimited per address and account.
    """
    await accounts.attempts.take(AttemptKind.SIGN_IN_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    try:
        key = parse_email(email).key
    except InvalidInput as error:
        raise SignInRefused from error
    await accounts.attempts.take(AttemptKind.SIGN_IN_ACCOUNT, key)
    tokens = await _attempt(accounts, actor, key, password, code)
    if tokens is None:
        # The digest was replaced while it was checked: by another sign-in that renewed it, or by a new password.
        tokens = await _attempt(accounts, actor, key, password, code)
    if tokens is None:
        raise SignInRefused
    return tokens


async def sign_in_with_token(
    accounts: Accounts, verifier: OidcVerifier, actor: Actor, token: str, code: str | None = None
) -> SessionTokens:
    """A session for an identity token of the configured issuer. The person is found by (issuer, subject); else linked or
    made by an address that the issuer says it verified. Unauthenticated for a token that is not good; IdentityRefused
    where it leads to no account here.
    """
    await accounts.attempts.take(AttemptKind.SIGN_IN_ADDRESS, actor.address or UNKNOWN_ADDRESS)
    identity = await verifier.verify(token)
    async with transaction(accounts.database) as conn:
        row = await conn.fetchrow(_BY_SUBJECT, identity.issuer, identity.subject)
        user = await _linked(accounts, conn, actor, identity) if row is None else user_view(row)
    tokens = await _finish(accounts, actor, user, code, None)
    assert tokens is not None, "no password was checked"
    return tokens


async def _attempt(accounts: Accounts, actor: Actor, key: str, password: str, code: str | None) -> SessionTokens | None:
    async with connection(accounts.database) as conn:
        row = await conn.fetchrow(_BY_KEY, key)
    digest = None if row is None else row["password_digest"]
    is_right = await accounts.hasher.verify(digest, password)
    if row is None or not is_right or not row["user_verified"]:
        await _note_failure(accounts, actor, None if row is None else row["user_id"], "password")
        raise SignInRefused
    tokens = await _finish(accounts, actor, user_view(row), code, digest)
    if tokens is not None:
        await _rehash(accounts, row, password)
    return tokens


async def _finish(
    accounts: Accounts, actor: Actor, user: UserView, code: str | None, digest: str | None
) -> SessionTokens | None:
    """None where the password was changed while it was checked: this session must not outlive the change."""
    if code is not None and user.two_factor:
        await accounts.attempts.take(AttemptKind.TWO_FACTOR_ACCOUNT, user.id.hex)
    try:
        async with transaction(accounts.database) as conn:
            await check_second_factor(accounts, conn, user.id, code)
            if digest is not None and await _has_changed(conn, user, digest):
                return None
            return await start_session(accounts, conn, actor, user)
    except TwoFactorRefused:
        await _note_failure(accounts, actor, user.id, "code")
        raise


async def _has_changed(conn: PoolConnection, user: UserView, digest: str) -> bool:
    stored = await conn.fetchval("SELECT password_digest FROM users WHERE id = $1", user.id)
    return stored != digest


async def _linked(accounts: Accounts, conn: PoolConnection, actor: Actor, identity: Identity) -> UserView:
    if identity.email is None or not identity.email_verified:
        raise IdentityRefused("The identity provider did not confirm an e-mail address of yours.")
    try:
        address = parse_email(identity.email)
        name = clean_name(identity.name or address.text.partition("@")[0])
    except Refusal as error:
        raise IdentityRefused("The identity provider gave an e-mail address that cannot be used here.") from error
    user = await insert_user(conn, address, name)
    linked = await conn.fetchval(
        "UPDATE users SET oidc_issuer = $2, oidc_subject = $3, updated_at = $4"
        " WHERE id = $1 AND oidc_issuer IS NULL RETURNING id",
        user.id,
        identity.issuer,
        identity.subject,
        now(),
    )
    if linked is None:
        raise IdentityRefused("This e-mail address belongs to another identity of the provider.")
    person = Actor(ActorKind.USER, user.id, actor.address, actor.request_id)
    await audit.record(conn, person, "user.link_identity", "user", user.id, facts={"issuer": identity.issuer})
    return await open_account(conn, actor, user.id, judge=accounts.free_credits)


async def _rehash(accounts: Accounts, row: Record, password: str) -> None:
    """Bring an old digest up to today's parameters, now that the password is at hand."""
    digest, normal = row["password_digest"], normal_form(password)
    if normal is None or not accounts.hasher.is_outdated(digest):
        return
    fresh = await accounts.hasher.digest(normal)
    async with connection(accounts.database) as conn:
        await conn.execute(
            "UPDATE users SET password_digest = $3 WHERE id = $1 AND password_digest = $2",
            row["user_id"],
            digest,
            fresh,
        )


async def _note_failure(accounts: Accounts, actor: Actor, user_id: UUID | None, factor: str) -> None:
    """Failed attempts are in the audit log, at unknown addresses too, so that both take the same work; the buckets bound
    how many there can be.
    """
    async with transaction(accounts.database) as conn:
        await audit.record(conn, actor, "session.refuse", "user", user_id, facts={"factor": factor})
