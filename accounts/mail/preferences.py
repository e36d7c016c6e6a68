"""Which kinds of mail a person wants, as they see and set it themselves."""

from accounts.mail.kinds import OPTIONAL, MailKind
from accounts.mail.unsubscribe import turn_off, turn_on
from accounts.rules.emails import parse_email
from kit.errors import InvalidInput
from models.database import Database, connection
from models.enums import UnsubscribeSource


async def wanted_kinds(database: Database, email: str) -> dict[MailKind, bool]:
    """Each kind that can be turned off, and whether it is on for the address."""
    async with connection(database) as conn:
        rows = await conn.fetch("SELECT kind FROM mail_preferences WHERE email_key = $1", parse_email(email).key)
    off = {row["kind"] for row in rows}
    return {kind: kind not in off for kind in MailKind if kind in OPTIONAL}


async def set_wanted(database: Database, email: str, kind: MailKind, *, wanted: bool) -> None:
    """Turn a kind on or off; InvalidInput for TRANSACTIONAL."""
    if kind not in OPTIONAL:
        raise InvalidInput("These mails answer what you do, and cannot be turned off.", field=["kind"])
    key = parse_email(email).key
    async with connection(database) as conn:
        if wanted:
            await turn_on(conn, key, kind)
        else:
            await turn_off(conn, key, kind, UnsubscribeSource.VIEWER)
