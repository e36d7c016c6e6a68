"""Transfers out (B6): part or all of a transferable balance is taken at once and paid to a bank account within days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.errors import (
    AmountOutOfBounds,
    NothingToTransfer,
    PaymentsNotConfigured,
    PayoutsNotSetUp,
    TransfersNotOffered,
    UnknownTransfer,
    UnknownWorkspace,
)
from billing.event_kinds import EventKind
from billing.events import emit
from billing.grants import post_all
from billing.money_gone import take_gone
from billing.rules.stripe_values import CENT_MICRO
from billing.services import Billing, Note, unnoted
from billing.subscription_rows import lock_wallet
from kit import clock
from kit.ids import encode_id, uuid7
from kit.money import credits_micro_for_usd, usd_micro_text
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from metering.idempotency import input_digest, run_once
from metering.operations import ReverseTransfer, TransferOut
from metering.views import Posted
from models.database import Database, connection, transaction
from models.enums import TransferStatus
from models.pool import PoolConnection

REQUEST_TRANSFER: Final = "request_transfer"
ENDED: Final = frozenset({TransferStatus.PAID, TransferStatus.FAILED, TransferStatus.REVERSED})

_TRANSFERABLE: Final = """SELECT coalesce(sum(remaining_micro - held_micro), 0)::bigint FROM credit_grants
    WHERE wallet_id = $1 AND transferable AND remaining_micro > 0 AND frozen_reason IS NULL AND effective_at <= $2
      AND (expires_at IS NULL OR expires_at > $2)"""
_INSERT: Final = """INSERT INTO transfers (id, workspace_id, amount_micro, amount_usd_micro, status, requested_by, grant_ids,
    grant_amounts_micro, requested_at, updated_at, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)"""
_BY_IDS: Final = "SELECT * FROM transfers WHERE id = ANY ($1)"
_PAGE: Final = """SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL (SELECT * FROM transfers
    WHERE workspace_id = parent.id AND ($2::timestamptz IS NULL OR (requested_at, id) < ($2, $3))
    ORDER BY requested_at DESC, id DESC LIMIT $4) AS found ORDER BY found.requested_at DESC, found.id DESC"""
_LOCKED: Final = "SELECT * FROM transfers WHERE id = $1 FOR UPDATE"
_PAYMENTS: Final = "SELECT DISTINCT payment_id AS id FROM credit_grants WHERE id = ANY ($1) AND payment_id IS NOT NULL"
_SAVE: Final = """UPDATE transfers SET status = $2, failure_code = coalesce($3, failure_code), due_at = $4, updated_at = $5,
    completed_at = CASE WHEN $6 THEN $5 ELSE completed_at END WHERE id = $1"""

_RETURNED: Final = "UPDATE transfers SET returned_micro = $2, returned_usd_micro = $3, updated_at = $4 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer out. `failure_code`: the provider's word, or the operator's; `returned_usd_micro`: so much came back."""

    id: UUID
    workspace_id: UUID
    amount_micro: int
    amount_usd_micro: int
    status: TransferStatus
    failure_code: str | None
    requested_at: datetime
    completed_at: datetime | None
    returned_usd_micro: int


async def request_transfer(
    billing: Billing,
    workspace_id: UUID,
    amount_micro: int | None,
    *,
    requested_by: UUID | None,
    idempotency_key: str,
    note: Note = unnoted,
) -> TransferView:
    """Take the credits now and send them on their way; None for all. Whole cents are paid, so only these are taken.

    Large amounts wait for the operator's word, for as long as a transfer may take. Raises PaymentsNotConfigured, TransfersNotOffered, PayoutsNotSetUp,
    AmountOutOfBounds, NothingToTransfer, UnknownWorkspace, IdempotencyKeyReused, Unavailable.
    """
    snapshot = billing.catalog.current
    terms = snapshot.settings.transfers
    if terms is None:
        raise TransfersNotOffered
    if not billing.payments.configured:
        raise PaymentsNotConfigured

    if not await billing.payments.payouts_ready(workspace_id):
        raise PayoutsNotSetUp

    async def effect(conn: PoolConnection) -> dict[str, object]:
        wallet_id = await lock_wallet(conn, workspace_id)
        if wallet_id is None:
            raise UnknownWorkspace
        now = clock.now()
        free: int = await conn.fetchval(_TRANSFERABLE, wallet_id, now)
        wanted = free if amount_micro is None else amount_micro
        if wanted > free:
            raise NothingToTransfer(wanted, free)
        usd_micro = _whole_cents(wanted, Fraction(snapshot.credits_per_usd))
        if not terms.min_usd_micro <= usd_micro <= terms.max_usd_micro:
            raise AmountOutOfBounds("amount", terms.min_usd_micro, terms.max_usd_micro)
        taken = credits_micro_for_usd(usd_micro, snapshot.credits_per_usd)
        transfer_id = uuid7()
        operation = TransferOut(reference_of(transfer_id), wallet_id, taken)
        [outcome] = await post_all(conn, billing, [operation], now)
        assert isinstance(outcome, Posted), "a refusal was raised"
        review = terms.review_from_usd_micro is not None and usd_micro >= terms.review_from_usd_micro
        await conn.execute(
            _INSERT,
            transfer_id,
            workspace_id,
            taken,
            usd_micro,
            TransferStatus.IN_REVIEW if review else TransferStatus.REQUESTED,
            requested_by,
            [grant_id for grant_id, _ in outcome.grants],
            [part for _, part in outcome.grants],
            now,
            now + timedelta(hours=terms.completes_within_hours) if review else now,
        )
        await note(conn, "transfer.request", "transfer", transfer_id, {"amount_usd": usd_micro_text(usd_micro)})
        return {"transfer_id": str(transfer_id)}

    digest = input_digest(amount_micro)
    answer = await run_once(billing.database, workspace_id, idempotency_key, REQUEST_TRANSFER, digest, effect)
    return await transfer_by_id(billing.database, UUID(str(answer["transfer_id"])))


async def review_transfer(
    billing: Billing, transfer_id: UUID, *, approve: bool, failure_code: str = "rejected"
) -> TransferView:
    """The operator's word on a transfer in review: it is sent, or its credits come back, for `failure_code`. Repeatable.

    Raises UnknownTransfer.
    """
    async with transaction(billing.database) as conn:
        row = await _locked(conn, transfer_id)
        if row["status"] == TransferStatus.IN_REVIEW:
            if approve:
                await save(conn, row, TransferStatus.REQUESTED, due_at=clock.now())
            else:
                await give_back(conn, billing, row, TransferStatus.FAILED, failure_code)
    return await transfer_by_id(billing.database, transfer_id)


async def end_transfer(
    billing: Billing, transfer_id: UUID, status: TransferStatus, failure_code: str | None = None
) -> None:
    """Paid, or failed or reversed: then its credits come back, once. What was paid may fail or be reversed later.

    Raises UnknownTransfer.
    """
    async with transaction(billing.database) as conn:
        row = await _locked(conn, transfer_id)
        ended = TransferStatus(row["status"]) in ENDED
        if status is TransferStatus.PAID and not ended:
            await save(conn, row, status, due_at=None)
        elif status is TransferStatus.REVERSED and row["status"] in {TransferStatus.SENT, TransferStatus.PAID}:
            await give_back(conn, billing, row, status, failure_code or "reversed")
        elif status is TransferStatus.FAILED and (not ended or row["status"] == TransferStatus.PAID):
            await give_back(conn, billing, row, status, failure_code or "failed")


async def give_back(
    conn: PoolConnection, billing: Billing, row: Record, status: TransferStatus, failure_code: str
) -> None:
    """What has not come back yet of the credits does, to the grants they came from; the wallet is locked, then the row.

    Of a payment whose money went back meanwhile they go with it.
    """
    await _return(conn, billing, row, row["amount_micro"], row["amount_usd_micro"])
    await save(conn, row, status, due_at=None, failure_code=failure_code, returned_usd_micro=row["amount_usd_micro"])


async def give_back_part(billing: Billing, transfer_id: UUID, returned_usd_micro: int) -> None:
    """So much of the money was taken back in all: the same fraction of the credits returns, and the rest stays paid.

    Absolute and repeatable; a smaller sum, which came late, changes nothing. Raises UnknownTransfer.
    """
    async with transaction(billing.database) as conn:
        row = await _locked(conn, transfer_id)
        amount_micro, amount_usd_micro = row["amount_micro"], row["amount_usd_micro"]
        if row["returned_usd_micro"] < returned_usd_micro < amount_usd_micro:
            returned_micro = amount_micro * returned_usd_micro // amount_usd_micro
            await _return(conn, billing, row, returned_micro, returned_usd_micro)
            await _tell(conn, row, row["status"], None, returned_usd_micro)


async def _return(
    conn: PoolConnection, billing: Billing, row: Record, returned_micro: int, returned_usd_micro: int
) -> None:
    wallet_id: UUID = await conn.fetchval("SELECT id FROM wallets WHERE workspace_id = $1", row["workspace_id"])
    await post_all(conn, billing, [ReverseTransfer(reference_of(row["id"]), wallet_id, returned_micro)], clock.now())
    for payment in await conn.fetch(_PAYMENTS, row["grant_ids"]):
        await take_gone(conn, billing, payment["id"])
    await conn.execute(_RETURNED, row["id"], returned_micro, returned_usd_micro, clock.now())


async def save(
    conn: PoolConnection,
    row: Record,
    status: TransferStatus,
    *,
    due_at: datetime | None,
    failure_code: str | None = None,
    returned_usd_micro: int | None = None,
) -> None:
    """Write a step, and have it told where the status is another one. `returned_usd_micro` None: as it was."""
    await conn.execute(_SAVE, row["id"], status, failure_code, due_at, clock.now(), status in ENDED)
    if status != row["status"]:
        returned = row["returned_usd_micro"] if returned_usd_micro is None else returned_usd_micro
        await _tell(conn, row, status, failure_code, returned)


async def _tell(
    conn: PoolConnection, row: Record, status: str, failure_code: str | None, returned_usd_micro: int
) -> None:
    """Once for each status and sum that came back."""
    facts = {
        "transferId": encode_id("xfer", row["id"]),
        "status": str(status),
        "amountUsd": usd_micro_text(row["amount_usd_micro"]),
        "returnedUsd": usd_micro_text(returned_usd_micro),
        "failureCode": failure_code,
    }
    key = f"{row['id']}:{status}" + (f":{returned_usd_micro}" if status == row["status"] else "")
    await emit(conn, EventKind.TRANSFER_UPDATED, row["workspace_id"], facts, dedupe_key=key)


async def transfer_by_id(database: Database, transfer_id: UUID) -> TransferView:
    """A transfer. Raises UnknownTransfer."""
    found = (await transfers_by_ids(database, [transfer_id])).get(transfer_id)
    if found is None:
        raise UnknownTransfer
    return found


async def transfers_by_ids(database: Database, ids: Sequence[UUID]) -> dict[UUID, TransferView]:
    """Transfers by id."""
    async with connection(database) as conn:
        rows = await conn.fetch(_BY_IDS, list(ids))
    return {row["id"]: transfer_view(row) for row in rows}


async def transfers_of_workspaces(
    database: Database, workspace_ids: Sequence[UUID], request: PageRequest
) -> dict[UUID, Page[TransferView]]:
    """A page of each workspace's transfers, the newest first."""
    at, key = decode_cursor(request.after) if request.after else (None, None)
    async with connection(database) as conn:
        rows = await conn.fetch(_PAGE, list(workspace_ids), at, key, request.first + 1)
    found = [(row["workspace_id"], transfer_view(row)) for row in rows]
    return pages_of(workspace_ids, found, request, lambda view: encode_cursor(view.requested_at, view.id))


def transfer_view(row: Record) -> TransferView:
    """What is handed upstairs."""
    return TransferView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        amount_micro=row["amount_micro"],
        amount_usd_micro=row["amount_usd_micro"],
        status=TransferStatus(row["status"]),
        failure_code=row["failure_code"],
        requested_at=row["requested_at"],
        completed_at=row["completed_at"],
        returned_usd_micro=row["returned_usd_micro"],
    )


def reference_of(transfer_id: UUID) -> str:
    """The ledger's name for a transfer."""
    return f"xfer:{transfer_id}"


async def _locked(conn: PoolConnection, transfer_id: UUID) -> Record:
    """The wallet first, then the transfer as it is now."""
    workspace_id = await conn.fetchval("SELECT workspace_id FROM transfers WHERE id = $1", transfer_id)
    if workspace_id is None:
        raise UnknownTransfer
    await conn.execute("SELECT FROM wallets WHERE workspace_id = $1 FOR NO KEY UPDATE", workspace_id)
    row = await conn.fetchrow(_LOCKED, transfer_id)
    assert row is not None, "transfers are never deleted"
    return row


def _whole_cents(credits_micro: int, credits_per_usd: Fraction) -> int:
    """What credits are worth, rounded down to a cent, in micro-dollars."""
    return int(credits_micro / credits_per_usd) // CENT_MICRO * CENT_MICRO
