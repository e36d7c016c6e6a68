"""Mails written in the transaction of what they tell, and delivered after its commit, at least once.

The content is sealed while it waits, as it may hold a token that is otherwise kept only as a digest, and is removed
once the mail is handed over.
"""

import base64
import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import orjson
from asyncpg import Record

from accounts.mail.kinds import OPTIONAL, MailKind
from accounts.mail.mailer import Mailer, MailFailed, MailRefused
from accounts.mail.messages import Mail, Sender, as_message
from accounts.mail.unsubscribe import PATH, is_off, token_for
from accounts.rules.emails import parse_email
from kit.clock import now
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.sealing import Sealer, SealError, row_context
from models.database import Database, connection, transaction
from models.pool import PoolConnection

OUTBOX_KIND: Final = "mail.send"
MAX_ATTEMPTS: Final = 10
FIRST_PAUSE: Final = timedelta(seconds=30)
MAX_PAUSE: Final = timedelta(hours=2)
LEASE: Final = timedelta(minutes=2)
"""How long a mail taken by one worker is not taken by another; longer than all of SMTP's own timeouts."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one round did."""

    sent: int = 0
    dropped: int = 0
    postponed: int = 0


async def enqueue(
    conn: PoolConnection, sealer: Sealer, mail: Mail, *, workspace_id: UUID | None = None, dedupe_key: str | None = None
) -> None:
    """Have the mail sent once the caller's transaction is committed; the second of a `dedupe_key` is left out."""
    mail_id = uuid7()
    content = sealer.seal(orjson.dumps(asdict(mail)), row_context("outbox_events", "payload", mail_id))
    at = now()
    await conn.execute(
        "INSERT INTO outbox_events (id, workspace_id, kind, dedupe_key, payload, created_at, due_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (kind, dedupe_key) DO NOTHING",
        mail_id,
        workspace_id,
        OUTBOX_KIND,
        dedupe_key,
        {"mail_kind": mail.kind, "sealed": base64.b64encode(content).decode()},
        at,
    )


async def deliver_mail(
    database: Database, sealer: Sealer, mailer: Mailer, sender: Sender, limit: int = 20
) -> Delivered:
    """Send what is due, at most `limit`. Workers share the work: each mail is leased, sent outside of any transaction,
    then marked; so a crash between the two sends it again, under the same Message-ID.
    """
    at = now()
    async with transaction(database) as conn:
        rows = await conn.fetch(
            "UPDATE outbox_events o SET due_at = $1::timestamptz + $2::interval, attempts = attempts + 1 FROM"
            " (SELECT id FROM outbox_events WHERE kind = $3 AND completed_at IS NULL AND due_at <= $1"
            " ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) due WHERE o.id = due.id RETURNING o.id, o.payload, o.attempts",
            at,
            LEASE,
            OUTBOX_KIND,
            limit,
        )
    sent = dropped = postponed = 0
    for row in rows:
        error = await _deliver(database, sealer, mailer, sender, row)
        if error is None:
            sent += 1
        elif isinstance(error, MailFailed) and row["attempts"] < MAX_ATTEMPTS:
            postponed += 1
        else:
            dropped += 1
    return Delivered(sent=sent, dropped=dropped, postponed=postponed)


def pause_after(attempts: int) -> timedelta:
    """How long to wait after this many attempts: doubling, with an end."""
    return min(MAX_PAUSE, FIRST_PAUSE * 2 ** min(attempts - 1, 20))


async def _deliver(
    database: Database, sealer: Sealer, mailer: Mailer, sender: Sender, row: Record
) -> MailFailed | MailRefused | None:
    try:
        mail = _opened(sealer, row)
        await _check_wanted(database, mail)
        url = (
            f"{sender.public_url}{PATH}?token={token_for(sealer, mail.to, mail.kind)}"
            if mail.kind in OPTIONAL
            else None
        )
        await mailer.send(as_message(mail, row["id"], sender, url))
    except MailFailed as error:
        if row["attempts"] < MAX_ATTEMPTS:
            await _postpone(database, row, error)
        else:
            await _complete(database, row["id"], now(), str(error))
        return error
    except MailRefused as error:
        await _complete(database, row["id"], now(), str(error))
        return error
    await _complete(database, row["id"], now(), None)
    return None


async def _check_wanted(database: Database, mail: Mail) -> None:
    if mail.kind not in OPTIONAL:
        return
    async with connection(database) as conn:
        if await is_off(conn, parse_email(mail.to).key, mail.kind):
            raise MailRefused("unsubscribed")


def _opened(sealer: Sealer, row: Record) -> Mail:
    try:
        sealed = base64.b64decode(row["payload"]["sealed"])
        facts = orjson.loads(sealer.open(sealed, row_context("outbox_events", "payload", row["id"])))
        facts["kind"] = MailKind(facts["kind"])
        facts["paragraphs"] = tuple(facts["paragraphs"])
        mail = Mail(**facts)
        parse_email(mail.to)
    except (SealError, InvalidInput, KeyError, TypeError, ValueError) as error:
        raise MailRefused("the mail cannot be read any more") from error
    return mail


async def _postpone(database: Database, row: Record, error: MailFailed) -> None:
    _log.warning("A mail is tried again later: %s", error)
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE outbox_events SET due_at = $2, last_error = $3 WHERE id = $1",
            row["id"],
            now() + pause_after(row["attempts"]),
            str(error),
        )


async def _complete(database: Database, mail_id: UUID, at: datetime, last_error: str | None) -> None:
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE outbox_events SET completed_at = $2, last_error = $3, payload = payload - 'sealed' WHERE id = $1",
            mail_id,
            at,
            last_error,
        )
