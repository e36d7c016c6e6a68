"""Disputes: what the customer's bank takes back for now, and gives back where they are won (D5)."""

from typing import Final
from uuid import UUID

from billing.grants import post_all
from billing.money_back import follow_money
from billing.money_gone import dispute_reference
from billing.payment_rows import locked_payment, payment_view, read_payment
from billing.rules.money_gone import Dispute
from billing.services import Billing
from billing.views import PaymentView
from kit import clock
from kit.ids import uuid7
from metering.operations import Reinstate
from models.database import transaction
from models.enums import DisputeStatus

_NOTE: Final = """INSERT INTO payment_disputes AS d (id, payment_id, stripe_dispute_id, amount_usd_micro, status, created_at,
    updated_at, fetch_number) VALUES ($1, $2, $3, $4, $5, $6, $6, $7) ON CONFLICT (payment_id, stripe_dispute_id) DO UPDATE
    SET amount_usd_micro = excluded.amount_usd_micro, status = excluded.status, updated_at = excluded.updated_at,
    fetch_number = excluded.fetch_number WHERE d.fetch_number <= excluded.fetch_number RETURNING true"""


async def dispute_payment(
    billing: Billing, payment_id: UUID, dispute_id: str, disputed_usd_micro: int, *, fetch_number: int = 0
) -> PaymentView:
    """The customer's bank takes so much back for now: the same fraction of each grant goes, from what is unspent.

    A payment may have several disputes, each of a part: `dispute_id` is the provider's. What is left of the payment's
    credits is frozen until the last one is closed, and so is what it brings meanwhile. What was fetched before what is
    written already (`fetch_number`) changes nothing.
    """
    found = Dispute(dispute_id, disputed_usd_micro, DisputeStatus.OPEN)
    return await _write(billing, payment_id, found, fetch_number)


async def close_dispute(
    billing: Billing, payment_id: UUID, dispute_id: str, *, disputed_usd_micro: int, won: bool, fetch_number: int = 0
) -> PaymentView:
    """Won: what this dispute took comes back. Lost: it stays taken, whether it was heard of before or not.

    A plan ends whose period's money is gone whole (A6, A7). Repeatable; one that is closed may be opened again.
    """
    found = Dispute(dispute_id, disputed_usd_micro, DisputeStatus.WON if won else DisputeStatus.LOST)
    return await _write(billing, payment_id, found, fetch_number)


async def _write(billing: Billing, payment_id: UUID, found: Dispute, fetch_number: int) -> PaymentView:
    async with transaction(billing.database) as conn:
        payment, wallet_id = await locked_payment(conn, payment_id)
        now = clock.now()
        values = (uuid7(), payment_id, found.id, found.usd_micro, found.status, now, fetch_number)
        if await conn.fetchval(_NOTE, *values) is None:
            return payment_view(payment)
        if found.status is DisputeStatus.WON:
            reference = dispute_reference(payment_id, found.id)
            await post_all(conn, billing, [Reinstate(reference, wallet_id, "Dispute won")], now)
        await follow_money(conn, billing, payment)
        return payment_view(await read_payment(conn, payment_id))
