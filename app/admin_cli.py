"""The commands of `tollgate admin`: their words and options; app.admin_commands does the work."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from app.logs import configure_logging
from app.settings import Settings
from kit.money import AmountError, parse_micro

if TYPE_CHECKING:  # the work is loaded by the command that is asked for, as everywhere in the command line
    from app.admin_commands import Work

MAIL_KINDS: Final = ("BALANCE_ALERTS", "BILLING_NOTICES", "PRODUCT_NEWS")


class Credits(click.ParamType[int]):
    """An exact amount of credits, in micro-credits."""

    name = "CREDITS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails with what to write instead."""
        if isinstance(value, int):
            return value
        try:
            return parse_micro(str(value))
        except AmountError as error:
            self.fail(f"{value!r} is no amount of credits: {error}", param, ctx)


class Dollars(Credits):
    """An exact amount of dollars above zero, in micro-dollars."""

    name = "DOLLARS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails with what to write instead."""
        found = super().convert(value, param, ctx)
        if found <= 0 or found % 10_000:
            self.fail(f"{value!r} is no amount of dollars above zero, in whole cents", param, ctx)
        return found


class Instant(click.ParamType[datetime]):
    """A moment; UTC where no offset is written."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Fails with what to write instead."""
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-12-31 or 2026-12-31T18:00+01:00", param, ctx)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


_reason = click.option("--reason", required=True, help="Why; kept in the audit log, which the workspace's admins read.")
_reference = click.option("--reference", help="A name for this change; the same one again changes nothing.")
_expires = click.option("--expires", type=Instant(), help="When the credits end; never without it.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def admin() -> None:
    """The operator's hand: people, workspaces, credits, plans and keys. Every change is in the audit log.

    WORKSPACE is a global id (ws_…) or a slug; PERSON a global id (user_…) or an e-mail address. Needs
    TOLLGATE_DATABASE_URL, TOLLGATE_REDIS_URL and TOLLGATE_SECRET_KEY.
    """


@admin.command()
@click.argument("email")
@click.option("--name", help="What to call the person; the address up to the @ without it.")
@click.option("--password-stdin", is_flag=True, help="Read a password from standard input.")
def make_user(email: str, name: str | None, password_stdin: bool) -> None:
    """Make a person with a confirmed address and a first workspace; one who exists is left as they are.

    Without a password the person sets one by "forgotten password".
    """
    from app import admin_commands  # noqa: PLC0415 -- commands load what they need only

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    _do(admin_commands.make_user(email, name, password))


@admin.command()
@click.argument("workspace")
@click.argument("amount", type=Credits())
@_reason
@_reference
@_expires
def grant(workspace: str, amount: int, reason: str, reference: str | None, expires: datetime | None) -> None:
    """Give AMOUNT credits to a workspace."""
    from app import admin_commands  # noqa: PLC0415

    if amount <= 0:
        raise click.BadParameter("give an amount above zero; `tollgate admin adjust` also takes credits")
    _do(admin_commands.adjust(workspace, amount, reason, reference, expires))


@admin.command(context_settings={"ignore_unknown_options": True})
@click.argument("workspace")
@click.argument("amount", type=Credits())
@_reason
@_reference
@_expires
@_yes
def adjust(
    workspace: str, amount: int, reason: str, reference: str | None, expires: datetime | None, yes: bool
) -> None:
    """Give AMOUNT credits, or take them where it is below zero, as in -12.5.

    Taking takes at most what is free, and says how much that was.
    """
    from app import admin_commands  # noqa: PLC0415

    if amount < 0:
        _confirm(yes, f"Take credits from {workspace}?")
    _do(admin_commands.adjust(workspace, amount, reason, reference, expires))


@admin.command()
@click.argument("workspace")
@click.argument("plan", required=False)
@click.option("--default", "to_default", is_flag=True, help="Go back to the catalog's default plan.")
@_reason
def give_plan(workspace: str, plan: str | None, to_default: bool, reason: str) -> None:
    """Give a workspace the plan of code PLAN without a subscription, a custom one too."""
    from app import admin_commands  # noqa: PLC0415

    if (plan is None) is not to_default:
        raise click.UsageError("name a PLAN, or give --default")
    _do(admin_commands.give_plan(workspace, plan, reason))


_limit = click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="How many at most.")


@admin.command()
@_limit
def list_refused(limit: int) -> None:
    """List workspaces that get no free credits, the latest first: from where too many came, or whose card had some."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.list_refused(limit))


@admin.command()
@click.argument("workspace")
@_reason
def allow_free_credits(workspace: str, reason: str) -> None:
    """Let a refused workspace have free credits from its next cycle on."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.allow_free_credits(workspace, reason))


@admin.command()
@_limit
def list_unapplied(limit: int) -> None:
    """List payments for which there was no place any more: give the money back, or credits for it."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.list_unapplied(limit))


@admin.command()
@click.argument("key")
@_yes
def revoke_key(key: str, yes: bool) -> None:
    """End an API key everywhere within a second.

    KEY is a global id (key_…), a secret that was found in the open, or - to read either from standard input.
    """
    from app import admin_commands  # noqa: PLC0415

    text = sys.stdin.readline().strip() if key == "-" else key
    if key != "-":
        _confirm(yes, "Revoke this key? It cannot be undone.")
    elif not yes:
        raise click.UsageError("with - also give --yes, as standard input cannot answer")
    _do(admin_commands.revoke_key(text))


@admin.command()
@click.argument("workspace")
def show(workspace: str) -> None:
    """Show a workspace: plan, balance, members, keys."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.show(workspace))


@admin.command()
@click.argument("call")
def show_call(call: str) -> None:
    """Show a model call: how it ended, what it used and cost, and which providers were tried."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.show_call(call))


@admin.command()
@click.option("--search", default="", help="A part of a name, a slug or an owner's address.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="How many at most.")
def list_workspaces(search: str, limit: int) -> None:
    """List workspaces, the newest first."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.list_workspaces(search, limit))


@admin.command()
@click.argument("workspace", required=False)
def rebuild_usage(workspace: str | None) -> None:
    """Compute the usage roll-ups of a workspace, or of all, anew from the events. Reports stay right meanwhile."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.rebuild_usage(workspace))


@admin.command()
@click.argument("person")
@_yes
def reset_two_factor(person: str, yes: bool) -> None:
    """Turn two-factor sign-in off for someone who lost the device and the recovery codes."""
    from app import admin_commands  # noqa: PLC0415

    _confirm(yes, f"Turn two-factor sign-in off for {person}? Be sure who asks for it.")
    _do(admin_commands.reset_two_factor(person))


@admin.command()
@click.argument("email")
@click.argument("kind", type=click.Choice(MAIL_KINDS, case_sensitive=False))
def unsubscribe(email: str, kind: str) -> None:
    """Send no more mails of a kind to an address, for a customer who asked support for it."""
    from accounts.mail.kinds import MailKind  # noqa: PLC0415
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.unsubscribe(email, MailKind(kind)))


@admin.command()
@click.argument("person")
@_yes
def erase_person(person: str, yes: bool) -> None:
    """Erase what names a person: address, name, sessions, memberships. Ledger, usage and audit log keep their ids.

    Refused while the person is the only owner of a workspace.
    """
    from app import admin_commands  # noqa: PLC0415

    _confirm(yes, f"Erase {person}? It cannot be undone.")
    _do(admin_commands.erase(person))


@admin.command()
def rotate_secrets() -> None:
    """Seal anew under the current key what an older one protects.

    First give every process TOLLGATE_SECRET_KEY as 2:NEW,1:OLD and restart it; once this reports nothing that cannot be
    opened, and a day later for tokens signed with the old key, drop it. Exit code 1 where something cannot be opened.
    """
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.rotate())


@admin.command()
@click.argument("payment")
@click.argument("total", type=Dollars())
@_reason
@_yes
def refund(payment: str, total: int, reason: str, yes: bool) -> None:
    """Give TOTAL dollars of a PAYMENT (pay_…) back in all, and take the same part of its unspent credits.

    What was given back before counts: the same command again gives nothing more.
    """
    from app import admin_commands  # noqa: PLC0415

    _confirm(yes, f"Give back ${total / 1_000_000:.2f} in all of {payment}?")
    _do(admin_commands.refund(payment, total, reason))


@admin.command()
@click.argument("transfer")
@click.option("--approve/--reject", required=True, help="Send it, or give the credits back.")
@_reason
def transfer(transfer: str, approve: bool, reason: str) -> None:
    """Decide on a TRANSFER (xfer_…) that waits in review."""
    from app import admin_commands  # noqa: PLC0415

    _do(admin_commands.review(transfer, approve=approve, reason=reason))


def _do(work: "Work") -> None:
    from app.admin_commands import at_desk  # noqa: PLC0415

    settings = Settings.from_environment(os.environ)
    configure_logging(settings.log_level)
    settings.check_complete()
    sys.exit(asyncio.run(at_desk(settings, work)))


def _confirm(yes: bool, question: str) -> None:
    if not yes:
        click.confirm(question, abort=True)
