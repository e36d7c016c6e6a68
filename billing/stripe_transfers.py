"""Sends transfers through Stripe Connect: onboarding, the transfer, the payout, and what becomes of them (B6)."""

import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.rules.stripe_values import cents_of, flag, our_id, required_id, text, usd_micro
from billing.services import Billing
from billing.stripe_client import StripeAway, StripeJson, StripeRefused
from billing.stripe_link import StripeLink
from billing.transfers import end_transfer, give_back_part, review_transfer, save
from kit import clock
from models.database import connection, transaction
from models.enums import TransferStatus

AWAY_AGAIN: Final = timedelta(minutes=1)
REFUSED_AGAIN: Final = timedelta(hours=1)
LOOK_AGAIN: Final = timedelta(hours=6)
LEASE: Final = timedelta(minutes=3)
"""Longer than Stripe may take for all the requests of one step; then another worker may take the step."""

CLOCKS_DIFFER_S: Final = 600
NOT_REVIEWED: Final = "not_reviewed"
"""The failure code of a transfer on which the operator said nothing within the catalog's hours."""

_ACCOUNT: Final = "SELECT stripe_account_id FROM payout_accounts WHERE workspace_id = $1"
_READY: Final = "SELECT stripe_account_id, payouts_enabled FROM payout_accounts WHERE workspace_id = $1"
_MADE: Final = """INSERT INTO payout_accounts (workspace_id, stripe_account_id, created_at, updated_at)
    VALUES ($1, $2, $3, $3) ON CONFLICT (workspace_id) DO UPDATE SET updated_at = excluded.updated_at
    RETURNING stripe_account_id"""
_STATE: Final = "UPDATE payout_accounts SET payouts_enabled = $2, updated_at = $3 WHERE stripe_account_id = $1"
_CLAIM: Final = """UPDATE transfers t SET due_at = $2 FROM (SELECT id FROM transfers WHERE due_at <= $1 ORDER BY due_at
    LIMIT $3 FOR UPDATE SKIP LOCKED) AS due WHERE t.id = due.id RETURNING t.id"""
_READ: Final = """SELECT t.*, a.stripe_account_id FROM transfers t JOIN payout_accounts a USING (workspace_id)
    WHERE t.id = $1"""
_LATER: Final = "UPDATE transfers SET due_at = $2 WHERE id = $1 AND completed_at IS NULL"
_SENT: Final = "UPDATE transfers SET stripe_transfer_id = $2, status = 'SENT', updated_at = $3 WHERE id = $1"
_PAYOUT: Final = "UPDATE transfers SET stripe_payout_id = $2, due_at = $3, updated_at = $4 WHERE id = $1"
_REFUSED: Final = """UPDATE transfers SET refusals = refusals + 1, failure_code = $2, due_at = $3, updated_at = $4
    WHERE id = $1"""
_NEXT_KEY: Final = "UPDATE transfers SET refusals = refusals + 1 WHERE id = $1"
_OF_PAYOUT: Final = "UPDATE transfers SET due_at = $2 WHERE stripe_payout_id = $1 AND completed_at IS NULL"
_PAID_BY: Final = """SELECT t.*, a.stripe_account_id FROM transfers t JOIN payout_accounts a USING (workspace_id)
    WHERE t.stripe_payout_id = $1 AND t.status = 'PAID'"""
_OF_TRANSFER: Final = "SELECT id FROM transfers WHERE stripe_transfer_id = $1"
logger = logging.getLogger(__name__)


async def open_onboarding(link: StripeLink, workspace_id: UUID, return_url: str) -> str:
    """The page on which a bank account and what the law asks for are given. Raises StripeAway, StripeRefused."""
    async with connection(link.database) as conn:
        account: str | None = await conn.fetchval(_ACCOUNT, workspace_id)
    if account is None:
        made = await link.stripe.call(
            lambda v1: v1.accounts.create_async(
                {
                    "type": "express",
                    "capabilities": {"transfers": {"requested": True}},
                    "metadata": {"workspace_id": str(workspace_id)},
                },
                {"idempotency_key": f"ws:{workspace_id}:account"},
            )
        )
        async with connection(link.database) as conn:
            account = await conn.fetchval(_MADE, workspace_id, required_id(made), clock.now())
    assert account is not None, "it was made"
    page = await link.stripe.call(
        lambda v1: v1.account_links.create_async(
            {"account": account, "type": "account_onboarding", "return_url": return_url, "refresh_url": return_url}
        )
    )
    url = text(page, "url")
    if url is None:
        raise StripeAway("an account link without an address")
    return url


async def payouts_ready(link: StripeLink, workspace_id: UUID) -> bool:
    """As Stripe said last; where it said no it is asked again, as its news of other accounts may be late.

    Raises StripeAway, StripeRefused.
    """
    async with connection(link.database) as conn:
        row = await conn.fetchrow(_READY, workspace_id)
    if row is None or row["stripe_account_id"] is None:
        return False
    return row["payouts_enabled"] or await account_changed(link, row["stripe_account_id"])


async def account_changed(link: StripeLink, account: str) -> bool:
    """Whether payouts can be made to it now, written down. Raises StripeAway, StripeRefused."""
    found = await link.stripe.call(lambda v1: v1.accounts.retrieve_async(account))
    ready = flag(found, "payouts_enabled") and text(found, "capabilities", "transfers") == "active"
    async with connection(link.database) as conn:
        await conn.execute(_STATE, account, ready, clock.now())
    return ready


async def payout_changed(billing: Billing, link: StripeLink, payout_id: str, _account: str) -> None:
    """The worker looks at its transfer now. A bank may send back for days what it had taken: then the credits come back.

    Raises StripeAway, StripeRefused.
    """
    async with connection(link.database) as conn:
        await conn.execute(_OF_PAYOUT, payout_id, clock.now())
        paid = await conn.fetchrow(_PAID_BY, payout_id)
    if paid is not None:
        await _look(billing, link, paid)


async def transfer_changed(billing: Billing, link: StripeLink, stripe_transfer_id: str) -> None:
    """Reversed by the operator at Stripe, whole or in part: its credits come back. Raises StripeAway, StripeRefused."""
    found = await link.stripe.call(lambda v1: v1.transfers.retrieve_async(stripe_transfer_id))
    async with connection(link.database) as conn:
        transfer_id: UUID | None = await conn.fetchval(_OF_TRANSFER, stripe_transfer_id)
    if transfer_id is None:
        return
    if flag(found, "reversed"):
        await end_transfer(billing, transfer_id, TransferStatus.REVERSED)
    else:
        await give_back_part(billing, transfer_id, usd_micro(found, "amount_reversed") or 0)


async def move_transfers(billing: Billing, link: StripeLink, *, limit: int = 20) -> int:
    """Take the next step of each transfer that is due; how many were looked at.

    A step is leased before Stripe is asked, and each request has a key of its own, so that a step taken twice is done
    once. A definite refusal is tried again under a new key each hour, until the hours of the catalog are over: then the
    credits come back.
    """
    now = clock.now()
    async with connection(link.database) as conn:
        due = [row["id"] for row in await conn.fetch(_CLAIM, now, now + LEASE, limit)]
    for transfer_id in due:
        async with connection(link.database) as conn:
            row = await conn.fetchrow(_READ, transfer_id)
        if row is None:
            continue
        try:
            await _step_or_refused(billing, link, row)
        except (StripeAway, StripeRefused) as problem:  # the others must not wait for this one
            again = AWAY_AGAIN if isinstance(problem, StripeAway) else REFUSED_AGAIN
            async with connection(link.database) as conn:
                await conn.execute(_LATER, row["id"], clock.now() + again)
    return len(due)


async def _step_or_refused(billing: Billing, link: StripeLink, row: Record) -> None:
    try:
        await _step(billing, link, row)
    except StripeRefused as refused:
        await _refused(billing, link, row, refused.code)


async def _step(billing: Billing, link: StripeLink, row: Record) -> None:
    status = TransferStatus(row["status"])
    if status is TransferStatus.IN_REVIEW:
        await review_transfer(billing, row["id"], approve=False, failure_code=NOT_REVIEWED)
    elif status is TransferStatus.REQUESTED:
        await _send(link, row)
        async with connection(link.database) as conn:
            sent = await conn.fetchrow(_READ, row["id"])
        assert sent is not None, "transfers are never deleted"
        await _pay_out(link, sent)
    elif status is TransferStatus.SENT and row["stripe_payout_id"] is None:
        await _pay_out(link, row)
    elif status is TransferStatus.SENT:
        await _look(billing, link, row)


async def _send(link: StripeLink, row: Record) -> None:
    """To the connected account; looked for first, as Stripe forgets the key of a lost answer after a day."""
    group = str(row["id"])
    sent = await link.stripe.pages(lambda v1: v1.transfers.list_async({"transfer_group": group}))
    made = next((one for one in sent if not flag(one, "reversed")), None) or await link.stripe.call(
        lambda v1: v1.transfers.create_async(
            {
                "amount": cents_of(row["amount_usd_micro"]),
                "currency": "usd",
                "destination": row["stripe_account_id"],
                "transfer_group": group,
                "metadata": {"transfer_id": group},
            },
            {"idempotency_key": _key("xfer", row)},
        )
    )
    async with transaction(link.database) as conn:
        await save(conn, row, TransferStatus.SENT, due_at=clock.now() + AWAY_AGAIN)
        await conn.execute(_SENT, row["id"], required_id(made), clock.now())


async def _pay_out(link: StripeLink, row: Record) -> None:
    """From the connected account to its bank, without what was reversed; looked for first, for the same reason."""
    account = row["stripe_account_id"]
    since = int(row["requested_at"].timestamp()) - CLOCKS_DIFFER_S
    paid = await link.stripe.pages(
        lambda v1: v1.payouts.list_async({"created": {"gte": since}, "limit": 100}, {"stripe_account": account})
    )
    made = next((one for one in paid if our_id(one, "transfer_id") == row["id"]), None) or await link.stripe.call(
        lambda v1: v1.payouts.create_async(
            {
                "amount": cents_of(row["amount_usd_micro"] - row["returned_usd_micro"]),
                "currency": "usd",
                "metadata": {"transfer_id": str(row["id"])},
            },
            {"idempotency_key": _key("payout", row), "stripe_account": account},
        )
    )
    now = clock.now()
    async with connection(link.database) as conn:
        await conn.execute(_PAYOUT, row["id"], required_id(made), now + LOOK_AGAIN, now)


async def _look(billing: Billing, link: StripeLink, row: Record) -> None:
    found: StripeJson = await link.stripe.call(
        lambda v1: v1.payouts.retrieve_async(
            row["stripe_payout_id"], None, {"stripe_account": row["stripe_account_id"]}
        )
    )
    match text(found, "status"):
        case "paid":
            await end_transfer(billing, row["id"], TransferStatus.PAID)
        case "failed" | "canceled":
            await _take_back(link, row)
            await end_transfer(billing, row["id"], TransferStatus.FAILED, text(found, "failure_code"))
        case _:
            async with connection(link.database) as conn:
                await conn.execute(_LATER, row["id"], clock.now() + LOOK_AGAIN)


async def _take_back(link: StripeLink, row: Record) -> None:
    """The money at Stripe first, then the credits: what is in between is paid to nobody."""
    if row["stripe_transfer_id"] is None:
        return
    try:
        await link.stripe.call(
            lambda v1: v1.transfers.reversals.create_async(
                row["stripe_transfer_id"], {}, {"idempotency_key": _key("xferrev", row)}
            )
        )
    except StripeRefused as refused:
        found = await link.stripe.call(lambda v1: v1.transfers.retrieve_async(row["stripe_transfer_id"]))
        if not flag(found, "reversed"):
            async with connection(link.database) as conn:
                await conn.execute(_NEXT_KEY, row["id"])
            raise refused from refused


async def _refused(billing: Billing, link: StripeLink, row: Record, code: str) -> None:
    logger.warning("transfer %s is refused at Stripe: %s", row["id"], code)
    terms = billing.catalog.current.settings.transfers
    hours = 72 if terms is None else terms.completes_within_hours
    now = clock.now()
    if now < row["requested_at"] + timedelta(hours=hours):
        async with connection(link.database) as conn:
            await conn.execute(_REFUSED, row["id"], code, now + REFUSED_AGAIN, now)
        return
    await _take_back(link, row)
    await end_transfer(billing, row["id"], TransferStatus.FAILED, code)


def _key(kind: str, row: Record) -> str:
    """The same for repeats of one try; Stripe keeps a refusal under its key, so the next try has another."""
    return f"{kind}:{row['id']}:{row['refusals']}"
