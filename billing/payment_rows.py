"""Reads and writes the rows of payments; who changes one has locked the wallet before."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.errors import UnknownPayment
from billing.views import PaymentView
from kit.ids import uuid7
from models.database import Database, connection
from models.enums import PaymentPurpose, PaymentStatus
from models.pool import PoolConnection

OPEN: Final = (PaymentStatus.PENDING, PaymentStatus.ACTION_REQUIRED)

INVOICE_DUE: Final = "payment.invoice"
"""The outbox's kind of payments whose provider is to write an invoice; no event that is told."""

_INVOICE_DUE: Final = """INSERT INTO outbox_events (id, workspace_id, kind, dedupe_key, payload, created_at, due_at)
    VALUES ($1, $2, $3, $4, '{}', $5, $5) ON CONFLICT (kind, dedupe_key) DO NOTHING"""
_READ: Final = "SELECT * FROM payments WHERE id = $1"
_LOCKED: Final = "SELECT * FROM payments WHERE id = $1 FOR UPDATE"
_WALLET: Final = "SELECT id FROM wallets WHERE workspace_id = $1 FOR NO KEY UPDATE"
_INSERT: Final = """INSERT INTO payments (id, workspace_id, purpose, amount_usd_micro, status, pack_id, price_id,
    subscription_id, stripe_object_id, created_at, updated_at)
    VALUES ($1, $2, $3, $4, 'PENDING', $5, $6, $7, $8, $9, $9) ON CONFLICT (stripe_object_id)
    WHERE stripe_object_id IS NOT NULL DO NOTHING RETURNING id"""
_UNAPPLIED: Final = """SELECT * FROM payments p WHERE applied_at IS NULL AND amount_usd_micro > 0 AND (status IN ('SUCCEEDED', 'DISPUTED') OR (status = 'REFUNDED'
        AND EXISTS (SELECT FROM outbox_events o WHERE o.kind = 'payment.unapplied' AND o.dedupe_key = p.id::text)))
    ORDER BY created_at DESC, id DESC LIMIT $1"""
_NOTE: Final = """UPDATE payments SET status = coalesce($2, status), failure_code = coalesce($3, failure_code),
    action_url = coalesce($4, action_url), stripe_object_id = coalesce(stripe_object_id, $5), updated_at = $6
    WHERE id = $1 AND applied_at IS NULL"""
_LAST_PERIOD: Final = """SELECT id FROM payments WHERE subscription_id = $1 AND purpose = 'SUBSCRIPTION'
    AND applied_at IS NOT NULL ORDER BY applied_at DESC, id DESC LIMIT 1"""
_FORMER: Final = "UPDATE payments SET former_price_id = $2 WHERE id = $1"
_APPLIED: Final = """UPDATE payments SET status = 'SUCCEEDED', failure_code = NULL, action_url = NULL, applied_at = $2,
    updated_at = $2 WHERE id = $1"""


@dataclass(frozen=True, slots=True)
class Payment:
    """A row. `object_id`: the provider's charge or invoice, once known; `applied_at`: when its effect was written, once."""

    id: UUID
    workspace_id: UUID
    purpose: PaymentPurpose
    amount_usd_micro: int
    refunded_usd_micro: int
    status: PaymentStatus
    pack_id: UUID | None
    price_id: UUID | None
    subscription_id: UUID | None
    object_id: str | None
    action_url: str | None
    failure_code: str | None
    created_at: datetime
    applied_at: datetime | None
    former_price_id: UUID | None


async def open_payment(
    conn: PoolConnection,
    workspace_id: UUID,
    purpose: PaymentPurpose,
    amount_usd_micro: int,
    now: datetime,
    *,
    pack_id: UUID | None = None,
    price_id: UUID | None = None,
    subscription_id: UUID | None = None,
    object_id: str | None = None,
) -> UUID:
    """A pending payment; where the provider's object has one already, that one."""
    payment_id: UUID | None = await conn.fetchval(
        _INSERT, uuid7(), workspace_id, purpose, amount_usd_micro, pack_id, price_id, subscription_id, object_id, now
    )
    if payment_id is None:
        payment_id = await conn.fetchval("SELECT id FROM payments WHERE stripe_object_id = $1", object_id)
    assert payment_id is not None
    return payment_id


async def payment_by_id(conn: PoolConnection, payment_id: UUID, *, lock: bool = False) -> Payment | None:
    """A payment. `lock`: for who changes it."""
    row = await conn.fetchrow(_LOCKED if lock else _READ, payment_id)
    return None if row is None else _payment(row)


async def read_payment(conn: PoolConnection, payment_id: UUID) -> Payment:
    """A payment that is there. Raises UnknownPayment."""
    payment = await payment_by_id(conn, payment_id)
    if payment is None:
        raise UnknownPayment
    return payment


async def locked_payment(conn: PoolConnection, payment_id: UUID) -> tuple[Payment, UUID]:
    """For who changes it: its wallet is locked first, also one of a deleted workspace, then itself. Raises UnknownPayment."""
    payment = await read_payment(conn, payment_id)
    wallet_id: UUID = await conn.fetchval(_WALLET, payment.workspace_id)
    locked = await payment_by_id(conn, payment_id, lock=True)
    assert locked is not None
    return locked, wallet_id


async def last_period_paid(conn: PoolConnection, subscription_id: UUID) -> UUID | None:
    """The payment of the period that was paid last of a subscription; None where none was."""
    return await conn.fetchval(_LAST_PERIOD, subscription_id)


async def payments_by_ids(database: Database, ids: Sequence[UUID]) -> dict[UUID, PaymentView]:
    """Payments as they are handed upstairs."""
    async with connection(database) as conn:
        rows = await conn.fetch("SELECT * FROM payments WHERE id = ANY ($1)", ids)
    return {row["id"]: payment_view(_payment(row)) for row in rows}


async def unapplied_payments(database: Database, limit: int) -> tuple[PaymentView, ...]:
    """Money that came and had no place, the latest first, whether it is given back already or not."""
    async with connection(database) as conn:
        rows = await conn.fetch(_UNAPPLIED, limit)
    return tuple(payment_view(_payment(row)) for row in rows)


async def note_payment(
    conn: PoolConnection,
    payment_id: UUID,
    now: datetime,
    *,
    status: PaymentStatus | None = None,
    failure_code: str | None = None,
    action_url: str | None = None,
    object_id: str | None = None,
) -> None:
    """Write what the provider said of a payment whose effect is not written yet; later than that nothing changes."""
    await conn.execute(_NOTE, payment_id, status, failure_code, action_url, object_id, now)


async def mark_applied(conn: PoolConnection, payment_id: UUID, now: datetime) -> None:
    """Its effect is written in this transaction."""
    await conn.execute(_APPLIED, payment_id, now)


async def note_former_price(conn: PoolConnection, payment_id: UUID, price_id: UUID) -> None:
    """The price that an upgrade was made from, before it is."""
    await conn.execute(_FORMER, payment_id, price_id)


async def note_invoice_due(conn: PoolConnection, payment: Payment, now: datetime) -> None:
    """Once for each payment, in the transaction of its effect."""
    await conn.execute(_INVOICE_DUE, uuid7(), payment.workspace_id, INVOICE_DUE, str(payment.id), now)


def payment_view(payment: Payment) -> PaymentView:
    """What is handed upstairs."""
    return PaymentView(
        id=payment.id,
        workspace_id=payment.workspace_id,
        purpose=payment.purpose,
        amount_usd_micro=payment.amount_usd_micro,
        refunded_usd_micro=payment.refunded_usd_micro,
        status=payment.status,
        action_url=payment.action_url,
        failure_code=payment.failure_code,
        created_at=payment.created_at,
    )


def _payment(row: Record) -> Payment:
    return Payment(
        id=row["id"],
        workspace_id=row["workspace_id"],
        purpose=PaymentPurpose(row["purpose"]),
        amount_usd_micro=row["amount_usd_micro"],
        refunded_usd_micro=row["refunded_usd_micro"],
        status=PaymentStatus(row["status"]),
        pack_id=row["pack_id"],
        price_id=row["price_id"],
        subscription_id=row["subscription_id"],
        object_id=row["stripe_object_id"],
        action_url=row["action_url"],
        failure_code=row["failure_code"],
        created_at=row["created_at"],
        applied_at=row["applied_at"],
        former_price_id=row["former_price_id"],
    )
