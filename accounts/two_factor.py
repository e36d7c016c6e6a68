"""Two-factor sign-in by authenticator app, with recovery codes."""

import os
import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts import audit
from accounts.errors import NotFoundHere, TwoFactorRefused, TwoFactorRequired, TwoFactorState
from accounts.rules.key_form import base62, digest_of
from accounts.rules.totp import SECRET_BYTES, enrolment_uri, matching_step
from accounts.services import Accounts, AttemptKind
from accounts.views import Actor
from kit.clock import now
from kit.ids import uuid7
from kit.sealing import row_context
from models.database import transaction
from models.pool import PoolConnection

RECOVERY_CODES: Final = 10
RECOVERY_LENGTH: Final = 16
RECOVERY_YEARS: Final = 100
MAX_CODE_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the authenticator app needs: shown once, until `confirm` it changes nothing."""

    uri: str


async def enrol(accounts: Accounts, actor: Actor, user_id: UUID) -> Enrolment:
    """A new secret, which replaces one not confirmed yet. TwoFactorState where two-factor sign-in is on."""
    secret = os.urandom(SECRET_BYTES)
    async with transaction(accounts.database) as conn:
        row = await _locked(conn, user_id)
        if row["totp_confirmed_at"] is not None:
            raise TwoFactorState("Two-factor sign-in is on already. Turn it off first.")
        await conn.execute(
            "UPDATE users SET totp_secret_encrypted = $2, totp_last_step = NULL, updated_at = $3 WHERE id = $1",
            user_id,
            accounts.sealer.seal(secret, _context(user_id)),
            now(),
        )
        await audit.record(conn, actor, "two_factor.enrol", "user", user_id)
    return Enrolment(uri=enrolment_uri(secret, row["email"], accounts.product_name))


async def confirm(accounts: Accounts, actor: Actor, user_id: UUID, code: str) -> tuple[str, ...]:
    """Turn it on with the app's first code; the answer is the recovery codes, shown once. TwoFactorRefused."""
    await accounts.attempts.take(AttemptKind.TWO_FACTOR_ACCOUNT, user_id.hex)
    async with transaction(accounts.database) as conn:
        row = await _locked(conn, user_id)
        if row["totp_confirmed_at"] is not None or row["totp_secret_encrypted"] is None:
            raise TwoFactorState("There is no enrolment to confirm.")
        if not await _takes_step(accounts, conn, row, code):
            raise TwoFactorRefused
        await conn.execute("UPDATE users SET totp_confirmed_at = $2 WHERE id = $1", user_id, now())
        await audit.record(conn, actor, "two_factor.confirm", "user", user_id)
        return await _new_recovery_codes(conn, user_id)


async def turn_off(accounts: Accounts, actor: Actor, user_id: UUID, code: str) -> None:
    """Turn it off with a code or recovery code. TwoFactorRefused, TwoFactorState."""
    await accounts.attempts.take(AttemptKind.TWO_FACTOR_ACCOUNT, user_id.hex)
    async with transaction(accounts.database) as conn:
        row = await _locked(conn, user_id)
        if row["totp_confirmed_at"] is None:
            raise TwoFactorState("Two-factor sign-in is not on.")
        await _check(accounts, conn, row, code)
        await clear(conn, user_id)
        await audit.record(conn, actor, "two_factor.turn_off", "user", user_id)


async def clear(conn: PoolConnection, user_id: UUID) -> None:
    """Remove the secret and the recovery codes, as when an operator helps someone who lost both."""
    await conn.execute(
        "UPDATE users SET totp_secret_encrypted = NULL, totp_confirmed_at = NULL, totp_last_step = NULL WHERE id = $1",
        user_id,
    )
    await conn.execute("DELETE FROM user_tokens WHERE user_id = $1 AND purpose = 'TOTP_RECOVERY'", user_id)


async def check_second_factor(accounts: Accounts, conn: PoolConnection, user_id: UUID, code: str | None) -> None:
    """At sign-in, in its transaction: nothing where it is off; else TwoFactorRequired or TwoFactorRefused."""
    row = await _locked(conn, user_id)
    if row["totp_confirmed_at"] is None:
        return
    if code is None or not code.strip():
        raise TwoFactorRequired
    await _check(accounts, conn, row, code)


async def _check(accounts: Accounts, conn: PoolConnection, row: Record, code: str) -> None:
    if len(code) > MAX_CODE_LENGTH or not code.isascii():
        raise TwoFactorRefused
    if await _takes_step(accounts, conn, row, code) or await _takes_recovery_code(conn, row["id"], code):
        return
    raise TwoFactorRefused


async def _takes_step(accounts: Accounts, conn: PoolConnection, row: Record, code: str) -> bool:
    if len(code) > MAX_CODE_LENGTH:
        return False
    secret = accounts.sealer.open(row["totp_secret_encrypted"], _context(row["id"]))
    step = matching_step(secret, code, now(), row["totp_last_step"])
    if step is None:
        return False
    await conn.execute("UPDATE users SET totp_last_step = $2 WHERE id = $1", row["id"], step)
    return True


async def _takes_recovery_code(conn: PoolConnection, user_id: UUID, code: str) -> bool:
    plain = "".join(code.split()).replace("-", "")
    used = await conn.fetchval(
        "UPDATE user_tokens SET used_at = $3 WHERE user_id = $1 AND digest = $2 AND purpose = 'TOTP_RECOVERY'"
        " AND used_at IS NULL AND expires_at > $3 RETURNING id",
        user_id,
        _recovery_digest(user_id, plain),
        now(),
    )
    return used is not None


async def _new_recovery_codes(conn: PoolConnection, user_id: UUID) -> tuple[str, ...]:
    await conn.execute("DELETE FROM user_tokens WHERE user_id = $1 AND purpose = 'TOTP_RECOVERY'", user_id)
    at = now()
    codes = tuple(base62(secrets.randbits(128), RECOVERY_LENGTH) for _ in range(RECOVERY_CODES))
    for code in codes:
        await conn.execute(
            "INSERT INTO user_tokens (id, user_id, purpose, digest, created_at, expires_at)"
            " VALUES ($1, $2, 'TOTP_RECOVERY', $3, $4, $5)",
            uuid7(),
            user_id,
            _recovery_digest(user_id, code),
            at,
            at.replace(year=at.year + RECOVERY_YEARS, day=min(at.day, 28)),
        )
    return tuple("-".join(code[start : start + 4] for start in range(0, RECOVERY_LENGTH, 4)) for code in codes)


async def _locked(conn: PoolConnection, user_id: UUID) -> Record:
    row = await conn.fetchrow(
        "SELECT id, email, totp_secret_encrypted, totp_confirmed_at, totp_last_step FROM users"
        " WHERE id = $1 AND erased_at IS NULL FOR NO KEY UPDATE",
        user_id,
    )
    if row is None:
        raise NotFoundHere("user")
    return row


def _recovery_digest(user_id: UUID, code: str) -> bytes:
    return digest_of(f"{user_id.hex}:{code}")


def _context(user_id: UUID) -> bytes:
    return row_context("users", "totp_secret_encrypted", user_id)
