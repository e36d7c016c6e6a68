"""The verbs of `tollgate admin`: what the operator does to people, workspaces, credits and keys."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import click
import orjson

from accounts import operator
from accounts.audit import noting_for_system
from accounts.erasure import erase_person
from accounts.invalidation import Invalidations
from accounts.mail.kinds import MailKind
from accounts.operator import OPERATOR, WorkspaceReport
from accounts.passwords import PasswordHasher
from accounts.plans import CatalogPlans
from accounts.secret_rotation import rotate_secrets
from accounts.services import Accounts
from accounts.workspaces import workspaces_of_user
from app.ports import Attempts, PromoAttempts, stripe_link
from app.settings import Settings
from billing.catalog import CatalogHolder, Snapshot
from billing.free_credits import refused_workspaces
from billing.payment_port import NoPayments
from billing.payment_rows import unapplied_payments
from billing.refunds import refund_payment
from billing.services import Billing
from billing.stripe_payments import StripePayments
from billing.transfers import review_transfer
from kit.errors import NotFound, Refusal, RequestFailure
from kit.ids import UnknownIdError, decode_id, encode_id
from kit.money import format_micro, usd_micro_text, usd_text
from kit.pages import PageRequest
from kit.sealing import Sealer, parse_keys
from metering.ledger import Ledger
from metering.limiter import Limiter
from metering.redis_link import connect, connect_node, script_link
from metering.rollups import rebuild
from metering.usage import calls_by_id, details_of_call
from metering.views import CallView
from models.database import Database
from models.enums import GrantKind, PaymentStatus


@dataclass(frozen=True, slots=True)
class Desk:
    """What the operator works with."""

    accounts: Accounts
    billing: Billing
    snapshot: Snapshot

    @property
    def ledger(self) -> Ledger:
        """The only writer of credits."""
        return self.billing.ledger

    def amount(self, micro: int) -> str:
        """Credits with what they are worth."""
        return f"{format_micro(micro)} credits (${usd_text(micro, self.snapshot.credits_per_usd)})"


Work = Callable[[Desk], Awaitable[int | None]]


async def at_desk(settings: Settings, work: Work) -> int:
    """Do the work with services opened for it; its exit code. What is refused ends the command in a sentence."""
    try:
        async with _open(settings) as desk:
            code = await work(desk)
            if desk.accounts.invalidations.unsent:
                click.echo("warning: Redis is away; running gateways take this up within 30 s", err=True)
            return code or 0
    except (Refusal, RequestFailure) as error:
        raise click.ClickException(error.message) from error


@asynccontextmanager
async def _open(settings: Settings) -> AsyncGenerator[Desk]:
    assert settings.database_url is not None, "see Settings.check_complete"
    assert settings.redis_url is not None, "see Settings.check_complete"
    assert settings.secret_key is not None, "see Settings.check_complete"
    async with AsyncExitStack() as stack:
        database = await Database.open(settings.database_url.reveal())
        stack.push_async_callback(database.close)
        redis, listening = connect(settings.redis_url.reveal()), connect_node(settings.redis_url.reveal())
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(listening.aclose)
        link = script_link(redis)
        stack.push_async_callback(link.aclose)
        catalog = CatalogHolder(database)
        snapshot = await catalog.reload()
        ledger = await Ledger.open(database, earnings_rank=snapshot.burn_ranks[GrantKind.EARNINGS])
        stack.push_async_callback(ledger.close)
        accounts = Accounts(
            database=database,
            sealer=Sealer(*parse_keys(settings.secret_key.reveal())),
            hasher=PasswordHasher(),
            invalidations=Invalidations(listening),
            attempts=Attempts(Limiter(link)),
            plans=CatalogPlans(database, catalog),
            public_url=settings.public_url,
        )
        payments = stripe_link(settings, database, catalog)
        if payments is not None:
            stack.push_async_callback(payments.stripe.aclose)
        billing = Billing(
            database=database,
            ledger=ledger,
            catalog=catalog,
            payments=NoPayments() if payments is None else StripePayments(payments),
            attempts=PromoAttempts(Limiter(link)),
            secret_key=settings.secret_key.reveal().encode(),
            note_for=noting_for_system,
        )
        yield Desk(accounts, billing, snapshot)


def make_user(email: str, name: str | None, password: str | None) -> Work:
    """`admin make-user`."""

    async def work(desk: Desk) -> None:
        user = await operator.make_user(desk.accounts, email, name or email.partition("@")[0], password)
        click.echo(f"{encode_id('user', user.id)}  {user.email}")
        first = await workspaces_of_user(desk.accounts.database, user.id, PageRequest(first=1, after=None))
        for workspace in first.items:
            click.echo(f"{encode_id('ws', workspace.id)}  {workspace.slug}")

    return work


def adjust(workspace: str, amount_micro: int, reason: str, reference: str | None, expires_at: datetime | None) -> Work:
    """`admin grant` and `admin adjust`."""

    async def work(desk: Desk) -> None:
        found = await operator.find_workspace(desk.accounts, workspace)
        posted = await operator.adjust_credits(
            desk.accounts, desk.ledger, found.id, amount_micro, reason, reference=reference, expires_at=expires_at
        )
        if not posted.changed:
            click.echo("nothing changed: this reference was posted before")
            return
        verb = "gave" if amount_micro > 0 else "took"
        click.echo(
            f"{verb} {desk.amount(posted.amount_micro)}; the balance is {desk.amount(posted.wallet.balance_micro)}"
        )

    return work


def give_plan(workspace: str, plan: str | None, reason: str) -> Work:
    """`admin give-plan`."""

    async def work(desk: Desk) -> None:
        found = await operator.find_workspace(desk.accounts, workspace)
        given = await operator.give_workspace_plan(desk.accounts, desk.snapshot, found.id, plan, reason)
        click.echo(f"{found.slug} has the plan {given.code} ({given.name}) where no subscription gives another")

    return work


def list_refused(limit: int) -> Work:
    """`admin list-refused`."""

    async def work(desk: Desk) -> None:
        found = await refused_workspaces(desk.accounts.database, limit)
        for line in found:
            when = line.decided_at.isoformat(timespec="seconds")
            click.echo(f"{encode_id('ws', line.workspace_id)}  {line.slug}  {line.refusal.value}  {when}")
        if not found:
            click.echo("no workspace was refused free credits")

    return work


def allow_free_credits(workspace: str, reason: str) -> Work:
    """`admin allow-free-credits`."""

    async def work(desk: Desk) -> None:
        found = await operator.find_workspace(desk.accounts, workspace)
        await operator.allow_free_credits(desk.accounts, found.id, reason)
        click.echo(f"{found.slug} gets free credits from its next cycle on; `tollgate admin grant` gives some now")

    return work


_FATES: Final = {PaymentStatus.REFUNDED: "given back", PaymentStatus.DISPUTED: "disputed"}


def list_unapplied(limit: int) -> Work:
    """`admin list-unapplied`."""

    async def work(desk: Desk) -> None:
        payments = await unapplied_payments(desk.accounts.database, limit)
        for payment in payments:
            when = payment.created_at.isoformat(timespec="seconds")
            click.echo(
                f"{encode_id('pay', payment.id)}  {encode_id('ws', payment.workspace_id)}  {payment.purpose.value}"
                f"  ${usd_micro_text(payment.amount_usd_micro)}  {when}"
                f"  {_FATES.get(payment.status, 'kept')}"
            )
        if not payments:
            click.echo("every payment that came has had its effect")

    return work


def revoke_key(text: str) -> Work:
    """`admin revoke-key`."""

    async def work(desk: Desk) -> None:
        key = await operator.revoke_key(desk.accounts, await operator.find_key(desk.accounts, text))
        click.echo(f"{encode_id('key', key.id)} ({key.prefix}…, {key.name!r}) is revoked everywhere")

    return work


def show(workspace: str) -> Work:
    """`admin show`."""

    async def work(desk: Desk) -> None:
        found = await operator.find_workspace(desk.accounts, workspace)
        report = await operator.show_workspace(desk.accounts, desk.snapshot, found.id)
        for label, value in _lines(desk, report).items():
            click.echo(f"{label:<14}{value}")

    return work


def show_call(text: str) -> Work:
    """`admin show-call`."""

    async def work(desk: Desk) -> None:
        try:
            call_id = decode_id("call", text)
        except UnknownIdError:
            raise NotFound("no such call; its id begins with call_") from None
        call = (await calls_by_id(desk.accounts.database, [call_id])).get(call_id)
        if call is None:
            raise NotFound("no such call")
        details = await details_of_call(desk.accounts.database, call_id)
        for label, value in _call_lines(desk, call, details).items():
            click.echo(f"{label:<14}{value}")

    return work


def list_workspaces(search: str, limit: int) -> Work:
    """`admin list-workspaces`."""

    async def work(desk: Desk) -> None:
        lines = await operator.list_workspaces(desk.accounts, search, limit)
        for line in lines:
            owners = ", ".join(line.owners) or "no owner"
            click.echo(f"{encode_id('ws', line.id)}  {line.slug}  {format_micro(line.balance_micro)} credits  {owners}")
        if not lines:
            click.echo("no workspace matches")

    return work


def rebuild_usage(workspace: str | None) -> Work:
    """`admin rebuild-usage`."""

    async def work(desk: Desk) -> None:
        found = None if workspace is None else (await operator.find_workspace(desk.accounts, workspace)).id
        click.echo(f"{await rebuild(desk.accounts.database, found)} quarters of an hour were computed anew")

    return work


def reset_two_factor(person: str) -> Work:
    """`admin reset-two-factor`."""

    async def work(desk: Desk) -> None:
        user = await operator.find_user(desk.accounts, person)
        if not user.two_factor:
            click.echo(f"{user.email} does not use two-factor sign-in")
            return
        await operator.reset_two_factor(desk.accounts, user.id)
        click.echo(f"two-factor sign-in is off for {user.email}")

    return work


def unsubscribe(email: str, kind: MailKind) -> Work:
    """`admin unsubscribe`."""

    async def work(desk: Desk) -> None:
        await operator.turn_off_mail(desk.accounts, email, kind)
        click.echo(f"no more mails of the kind {kind} go to this address")

    return work


def erase(person: str) -> Work:
    """`admin erase-person`."""

    async def work(desk: Desk) -> None:
        user = await operator.find_user(desk.accounts, person)
        await erase_person(desk.accounts, OPERATOR, user.id)
        click.echo(f"{encode_id('user', user.id)} is erased; ledger, usage and audit log keep the id")

    return work


def rotate() -> Work:
    """`admin rotate-secrets`; exit code 1 where something could not be opened."""

    async def work(desk: Desk) -> int:
        rotated = await rotate_secrets(desk.accounts.database, desk.accounts.sealer)
        for column in rotated:
            click.echo(f"{column.column}: {column.renewed} sealed anew, {column.unreadable} cannot be opened")
        click.echo(f"the current key is version {desk.accounts.sealer.current_version}")
        return 1 if any(column.unreadable for column in rotated) else 0

    return work


def _call_lines(desk: Desk, call: CallView, details: list[dict[str, object]]) -> Mapping[str, object]:
    lines: dict[str, object] = {
        "call": encode_id("call", call.id),
        "workspace": encode_id("ws", call.workspace_id),
        "model": call.model_slug,
        "request": call.request_id,
        "status": call.status,
        "begun": call.created_at.isoformat(),
        "ended": "-" if call.completed_at is None else call.completed_at.isoformat(),
    }
    if call.error_message is not None:
        lines["error"] = f"{call.error_code or ''} {call.error_message}".strip()
    usage = call.usage
    if usage is not None:
        lines["provider"] = usage.provider
        lines["tokens"] = f"{usage.input_tokens} in ({usage.cached_input_tokens} cached), {usage.output_tokens} out"
        lines["charged"] = desk.amount(usage.charged_micro) + (", estimated" if usage.estimated else "")
    for each in details:
        lines |= {name: orjson.dumps(value).decode() for name, value in each.items()}
    return lines


def _lines(desk: Desk, report: WorkspaceReport) -> Mapping[str, str]:
    workspace = report.workspace
    return {
        "workspace": f"{encode_id('ws', workspace.id)}  {workspace.slug}  {workspace.name!r}",
        "plan": f"{report.plan.code} ({report.plan.name})",
        "balance": desk.amount(report.balance_micro),
        "held": desk.amount(report.held_micro),
        "members": str(report.members),
        "owners": ", ".join(report.owners) or "none",
        "live keys": str(report.live_keys),
        "wallet": encode_id("wal", workspace.wallet_id),
        "created": workspace.created_at.isoformat(timespec="seconds"),
    }


def refund(payment: str, total_usd_micro: int, reason: str) -> Work:
    """`admin refund`: the money at Stripe first, then the credits."""

    async def work(desk: Desk) -> None:
        payment_id = _key("pay", payment)
        given = await desk.billing.payments.refund(payment_id, total_usd_micro, reason)
        view = await refund_payment(desk.billing, payment_id, given)
        await operator.note(desk.accounts, view.workspace_id, "payment.refund", "payment", payment_id, reason)
        click.echo(f"${usd_micro_text(given)} of ${usd_micro_text(view.amount_usd_micro)} given back, {view.status}")

    return work


def review(transfer: str, *, approve: bool, reason: str) -> Work:
    """`admin transfer`."""

    async def work(desk: Desk) -> None:
        transfer_id = _key("xfer", transfer)
        view = await review_transfer(desk.billing, transfer_id, approve=approve)
        action = "transfer.approve" if approve else "transfer.reject"
        await operator.note(desk.accounts, view.workspace_id, action, "transfer", transfer_id, reason)
        click.echo(f"{transfer}  {view.status}  {desk.amount(view.amount_micro)}")

    return work


def _key(prefix: str, text: str) -> UUID:
    try:
        return decode_id(prefix, text)
    except UnknownIdError as error:
        raise click.ClickException(f"an id such as {prefix}_01h… is expected, not {text!r}") from error
