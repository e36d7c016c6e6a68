"""Takes a payment's credits as far as its money is gone, and freezes what is left while a dispute is open (D5)."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.grants import LEFTOVER_SOURCE, post_all
from billing.payment_rows import Payment, locked_payment, payment_by_id
from billing.released import claim_waiting, end_waiting
from billing.rules.bought_credits import refunded_micro
from billing.rules.money_gone import Dispute, MoneyGone
from billing.services import Billing
from kit import clock
from kit.ids import uuid7
from metering.operations import Clawback, Freeze, Operation, Thaw
from metering.views import Outcome, Posted
from models.database import transaction
from models.enums import DisputeStatus
from models.pool import PoolConnection

TAKE_GONE_DUE: Final = "payment.take_gone"
"""The outbox's kind of payments whose money went back while calls held their credits; no event that is told."""
_DISPUTES: Final = """SELECT stripe_dispute_id, amount_usd_micro, status FROM payment_disputes WHERE payment_id = $1
    ORDER BY created_at, id"""
_GRANTS: Final = """SELECT id, wallet_id, amount_micro, held_micro, refunded_micro, source_kind FROM credit_grants
    WHERE payment_id = $1 ORDER BY id"""
_LATER: Final = """INSERT INTO outbox_events AS o (id, workspace_id, kind, dedupe_key, payload, created_at, due_at)
    VALUES ($1, $2, $3, $4, '{}', $5, $5) ON CONFLICT (kind, dedupe_key) DO UPDATE SET completed_at = NULL,
    due_at = excluded.due_at WHERE o.completed_at IS NOT NULL"""


async def gone_of(conn: PoolConnection, payment: Payment) -> MoneyGone:
    """What refunds and disputes have of a payment, as it is written."""
    rows = await conn.fetch(_DISPUTES, payment.id)
    disputes = [
        Dispute(row["stripe_dispute_id"], row["amount_usd_micro"], DisputeStatus(row["status"])) for row in rows
    ]
    return MoneyGone(payment.amount_usd_micro, payment.refunded_usd_micro, tuple(disputes))


async def take_gone(conn: PoolConnection, billing: Billing, payment_id: UUID) -> bool:
    """After a payment brought credits, such as those of another month: they come without what is gone already.

    False where running calls hold some of it.
    """
    payment = await payment_by_id(conn, payment_id)
    assert payment is not None
    return await take_credits(conn, billing, payment, await gone_of(conn, payment))


async def take_credits(conn: PoolConnection, billing: Billing, payment: Payment, gone: MoneyGone) -> bool:
    """The fraction of each grant that goes with the money, from what is left of it; disputes freeze or thaw the rest.

    Absolute and repeatable. What one cycle left over to the next was reduced before it was granted anew: it is frozen
    with the others, and no part is taken twice. False where running calls hold some of it: that is taken once it is free.
    """
    if not gone.refunded_usd_micro and not gone.disputes:
        return True
    rows = await conn.fetch(_GRANTS, payment.id)
    if not rows:
        return True
    taken = [step for row in rows if row["source_kind"] != LEFTOVER_SOURCE for step in _taken(payment, gone, row)]
    steps: list[Operation] = [*taken]
    if gone.disputes:  # a refund alone thaws nothing: what an older version disputed has no row
        ids = tuple(row["id"] for row in rows)
        steps.append((Freeze if gone.is_disputed else Thaw)(rows[0]["wallet_id"], "DISPUTE", ids))
    outcomes = await post_all(conn, billing, steps, clock.now())
    held = {row["id"] for row in rows if row["held_micro"]}
    pairs = zip(taken, outcomes, strict=False)  # what freezes follows
    waits = any(step.grant_id in held and _falls_short(step, outcome) for step, outcome in pairs)
    if waits:
        await conn.execute(_LATER, uuid7(), payment.workspace_id, TAKE_GONE_DUE, str(payment.id), clock.now())
    return not waits


async def take_gone_released(billing: Billing, *, limit: int = 20) -> int:
    """Take what calls held when money went back and did not use, as far as it is still gone; how many payments are done."""
    rows = await claim_waiting(billing.database, TAKE_GONE_DUE, limit)
    return sum([await _take_released(billing, row) for row in rows])


async def _take_released(billing: Billing, due: Record) -> bool:
    async with transaction(billing.database) as conn:
        payment, _ = await locked_payment(conn, UUID(due["dedupe_key"]))
        done = await take_gone(conn, billing, payment.id)
        if done:
            await end_waiting(conn, due["id"])
    return done


def _falls_short(step: Clawback, outcome: Outcome) -> bool:
    return isinstance(outcome, Posted) and outcome.total_micro < step.amount_micro


def refund_reference(payment_id: UUID) -> str:
    """What the ledger knows the refunds of a payment by, together: one that fails makes the sum smaller."""
    return f"payment:{payment_id}"


def dispute_reference(payment_id: UUID, dispute_id: str) -> str:
    """What the ledger knows a dispute by."""
    return f"dispute:{payment_id}:{dispute_id}"


def _taken(payment: Payment, gone: MoneyGone, row: Record) -> Iterator[Clawback]:
    def part(usd_micro: int) -> int:
        return refunded_micro(row["amount_micro"], usd_micro, gone.amount_usd_micro)

    if gone.refunded_usd_micro:  # what was taken for good by an older version counts
        left = max(0, part(gone.refunded_usd_micro) - row["refunded_micro"])
        yield Clawback(refund_reference(payment.id), row["wallet_id"], row["id"], left, "Payment refunded")
    for dispute_id, usd_micro in gone.with_banks():
        reference = dispute_reference(payment.id, dispute_id)
        yield Clawback(reference, row["wallet_id"], row["id"], part(usd_micro), "Payment disputed")
