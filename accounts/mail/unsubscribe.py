"""One-click unsubscribing (RFC 8058) by a signed token that needs no sign-in and no database row."""

import base64
import binascii
import hmac
from typing import Final

import orjson

from accounts.mail.kinds import OPTIONAL, MailKind
from accounts.rules.emails import parse_email
from kit.clock import now
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.sealing import Sealer
from models.database import Database, connection
from models.enums import UnsubscribeSource
from models.pool import PoolConnection

PATH: Final = "/unsubscribe"
MAX_TOKEN_LENGTH: Final = 1_000
_PURPOSE: Final = "unsubscribe"


def token_for(sealer: Sealer, email: str, kind: MailKind) -> str:
    """The token in the link: kind and address, signed; it never expires, as the mail may be read late."""
    body = orjson.dumps([parse_email(email).key, kind])
    version = sealer.current_version
    signature = hmac.digest(sealer.derive(_PURPOSE, version=version), body, "sha256")
    return base64.urlsafe_b64encode(bytes([version]) + signature + body).decode().rstrip("=")


def read_token(sealer: Sealer, token: str) -> tuple[str, MailKind]:
    """The address key and kind in a token; InvalidInput for one that we did not sign."""
    refused = InvalidInput("This unsubscribe link is not valid.", field=["token"])
    if len(token) > MAX_TOKEN_LENGTH:
        raise refused
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        signed = hmac.digest(sealer.derive(_PURPOSE, version=raw[0]), raw[33:], "sha256")
        if not hmac.compare_digest(signed, raw[1:33]):
            raise refused
        key, kind = orjson.loads(raw[33:])
        return key, MailKind(kind)
    except (ValueError, IndexError, binascii.Error) as error:
        raise refused from error


async def unsubscribe(database: Database, sealer: Sealer, token: str) -> MailKind:
    """Turn the kind off for the address, as the POST of a mail program or a person's click asks; repeating is fine."""
    email_key, kind = read_token(sealer, token)
    async with connection(database) as conn:
        await turn_off(conn, email_key, kind, UnsubscribeSource.ONE_CLICK)
    return kind


async def turn_off(conn: PoolConnection, email_key: str, kind: MailKind, source: UnsubscribeSource) -> None:
    """Send no more of this kind to the address; support does it for a customer, too. InvalidInput for TRANSACTIONAL."""
    if kind not in OPTIONAL:
        raise InvalidInput("These mails cannot be turned off.", field=["kind"])
    await conn.execute(
        "INSERT INTO mail_preferences (id, email_key, kind, unsubscribed_at, source) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (email_key, kind) DO NOTHING",
        uuid7(),
        email_key,
        kind,
        now(),
        source,
    )


async def turn_on(conn: PoolConnection, email_key: str, kind: MailKind) -> None:
    """Undo it, at the person's wish."""
    await conn.execute("DELETE FROM mail_preferences WHERE email_key = $1 AND kind = $2", email_key, kind)


async def is_off(conn: PoolConnection, email_key: str, kind: MailKind) -> bool:
    """Whether mails of this kind are not to be sent to the address."""
    found = await conn.fetchval("SELECT 1 FROM mail_preferences WHERE email_key = $1 AND kind = $2", email_key, kind)
    return found is not None
