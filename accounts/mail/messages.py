"""The words of every mail, and its parts as text and as HTML."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined

from accounts.mail.kinds import MailKind
from accounts.rules.emails import parse_email
from accounts.rules.names import printable
from kit.clock import now

MAX_SUBJECT_LENGTH: Final = 150
MAX_PARAGRAPHS: Final = 30
MAX_PARAGRAPH_LENGTH: Final = 2_000


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one person, before it has a form. `link` comes with its words in `link_text`."""

    to: str
    subject: str
    paragraphs: tuple[str, ...]
    link: str | None = None
    link_text: str | None = None
    kind: MailKind = MailKind.TRANSACTIONAL


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose mails these are. `mail_from` is an address, or a name with an address in angle brackets."""

    mail_from: str
    product_name: str
    public_url: str


def verify_address(to: str, product: str, link: str) -> Mail:
    """To someone who signed up."""
    return Mail(
        to=to,
        subject=f"Confirm your e-mail address for {product}",
        paragraphs=(
            f"Someone, probably you, signed up for {product} with this address.",
            "Confirm it within a day to finish. If it was not you, do nothing: without this step no account is opened.",
        ),
        link=link,
        link_text="Confirm my address",
    )


def address_is_known(to: str, product: str, link: str) -> Mail:
    """To someone who signed up again; whoever did so was told nothing."""
    return Mail(
        to=to,
        subject=f"You have an account at {product} already",
        paragraphs=(
            f"Someone, probably you, tried to sign up for {product} with this address, which has an account already.",
            "Sign in with your password, or set a new one if you do not remember it. If it was not you, do nothing.",
        ),
        link=link,
        link_text="Sign in",
    )


def reset_password(to: str, product: str, link: str) -> Mail:
    """To someone who asked for it and has an account."""
    return Mail(
        to=to,
        subject=f"Set a new password for {product}",
        paragraphs=(
            f"Someone, probably you, asked for a new password for {product}. The link is good for an hour, once.",
            "If it was not you, do nothing: your password stays as it is.",
        ),
        link=link,
        link_text="Set a new password",
    )


def password_changed(to: str, product: str) -> Mail:
    """To someone whose password was set or changed."""
    return Mail(
        to=to,
        subject=f"Your password for {product} was changed",
        paragraphs=(
            "Your password was changed, and other devices were signed out.",
            "If it was not you, reset it now.",
        ),
    )


def refresh_token_reused(to: str, product: str) -> Mail:
    """To someone one of whose sessions was ended because a used refresh token came again."""
    return Mail(
        to=to,
        subject=f"A session at {product} was ended",
        paragraphs=(
            "One of your sessions was ended because its key was used twice, which may mean that someone copied it.",
            "Sign in again. If you do not know why this happened, change your password.",
        ),
    )


def invitation(to: str, product: str, workspace: str, inviter: str, link: str) -> Mail:
    """To someone invited to a workspace."""
    return Mail(
        to=to,
        subject=f"{inviter} invites you to {workspace}",
        paragraphs=(
            f"{inviter} invites you to the workspace {workspace} at {product}.",
            "Accept within a week, signed in with this address, or sign up with it.",
        ),
        link=link,
        link_text="Accept the invitation",
    )


def member_removed(to: str, product: str, workspace: str) -> Mail:
    """To someone who is no member any more."""
    return Mail(
        to=to,
        subject=f"You are no member of {workspace} any more",
        paragraphs=(
            f"You were removed from the workspace {workspace} at {product}.",
            "Your account and what you made in your own workspaces stay yours.",
        ),
    )


def as_message(mail: Mail, mail_id: UUID, sender: Sender, unsubscribe_url: str | None) -> EmailMessage:
    """The mail as SMTP carries it. Texts that people chose are cleaned; the email library refuses a header with a line
    break, so nothing given can add one.
    """
    subject = printable(mail.subject, MAX_SUBJECT_LENGTH)
    facts: Mapping[str, object] = {
        "subject": subject,
        "paragraphs": [printable(text, MAX_PARAGRAPH_LENGTH) for text in mail.paragraphs[:MAX_PARAGRAPHS]],
        "link": mail.link,
        "link_text": mail.link_text,
        "footer": f"Sent by {sender.product_name}, {sender.public_url}",
        "unsubscribe": unsubscribe_url,
    }
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject
    message["From"] = sender.mail_from
    message["To"] = parse_email(mail.to).text
    message["Date"] = format_datetime(now())
    # The same for every attempt, so that a mail sent twice by a crash shows once where the mailbox looks at it.
    message["Message-ID"] = f"<{mail_id.hex}@{sender.mail_from.rpartition('@')[2].rstrip('>')}>"
    message["Auto-Submitted"] = "auto-generated"
    if unsubscribe_url is not None:
        message["List-Unsubscribe"] = f"<{unsubscribe_url}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(_PLAIN.get_template("base.txt.jinja").render(facts))
    message.add_alternative(_HTML.get_template("base.html.jinja").render(facts), subtype="html")
    return message


def _environment(*, autoescape: bool) -> Environment:
    return Environment(
        loader=PackageLoader("accounts.mail"),
        autoescape=autoescape,  # noqa: S701 - off for plain text only
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


_PLAIN: Final = _environment(autoescape=False)
_HTML: Final = _environment(autoescape=True)
