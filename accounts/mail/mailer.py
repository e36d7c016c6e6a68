"""Ways for a mail to leave: an SMTP server, or the console."""

import sys
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

TIMEOUT_S: Final = 15.0


class MailRefused(Exception):
    """The server will never take this mail: its answer was 5xx. Another attempt would not help."""


class MailFailed(Exception):
    """The mail could not be handed over for now; it may be tried again."""


class Mailer(Protocol):
    """Hands one mail over."""

    async def send(self, message: EmailMessage) -> None:
        """Return once it is handed over; MailRefused or MailFailed otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class SmtpAddress:
    """Where and how: `use_tls` from the first byte (smtps), `start_tls` None: when the server offers it."""

    host: str
    port: int
    username: str | None
    password: str | None
    use_tls: bool
    start_tls: bool | None


def parse_smtp_url(url: str) -> SmtpAddress:
    """From smtp://user:password@host:587 or smtps://host. `?starttls=require` and `?starttls=never` are understood.

    With a password STARTTLS is required unless never is said. Raises ValueError.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ValueError("expected smtp://host:port or smtps://host:port")
    wish = parse_qs(parts.query).get("starttls", ["offered"])[0]
    wishes = {"offered": True if parts.password else None, "require": True, "never": False}
    if wish not in wishes:
        raise ValueError("starttls is require, never or left out")
    use_tls = parts.scheme == "smtps"
    return SmtpAddress(
        host=parts.hostname,
        port=parts.port or (465 if use_tls else 587),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        use_tls=use_tls,
        start_tls=False if use_tls else wishes[wish],
    )


class SmtpMailer:
    """One connection for each mail: they are few, and a kept connection would have to be watched."""

    def __init__(self, url: str) -> None:
        """ValueError for an address that is none."""
        self._address = parse_smtp_url(url)

    async def send(self, message: EmailMessage) -> None:
        """As promised by Mailer."""
        address = self._address
        try:
            await aiosmtplib.send(
                message,
                hostname=address.host,
                port=address.port,
                username=address.username,
                password=address.password,
                use_tls=address.use_tls,
                start_tls=address.start_tls,
                timeout=TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(500 <= refused.code < 600 for refused in error.recipients):
                raise MailRefused("the recipient was refused") from error
            raise MailFailed("the recipient was refused for now") from error
        except aiosmtplib.SMTPAuthenticationError as error:
            raise MailFailed("the SMTP server refused our credentials") from error
        except aiosmtplib.SMTPResponseException as error:
            if 500 <= error.code < 600:
                raise MailRefused(f"the SMTP server answered {error.code}") from error
            raise MailFailed(f"the SMTP server answered {error.code}") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailFailed(f"no SMTP server: {type(error).__name__}") from error


class ConsoleMailer:
    """Prints the text part, for development: a link in it can be opened."""

    async def send(self, message: EmailMessage) -> None:
        """As promised by Mailer; it always succeeds."""
        body = message.get_body(("plain",))
        text = "" if body is None else body.get_content()
        sys.stdout.write(f"\n--- mail to {message['To']}\n{text}---\n")
        sys.stdout.flush()
