"""Saved payment methods as they are known here: read for the API, written from what the provider holds (B7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.errors import UnknownPaymentMethod
from billing.event_kinds import EventKind
from billing.events import emit
from billing.recharge_rows import note_method_set
from billing.subscription_rows import lock_wallet
from kit import clock
from kit.ids import uuid7
from models.database import Database, connection, transaction
from models.pool import PoolConnection

METHOD_REMOVED: Final = "payment_method_removed"
"""Why auto-recharge was turned off where its last payment method is gone."""

_LIVE: Final = """SELECT * FROM payment_methods WHERE workspace_id = ANY ($1) AND removed_at IS NULL
    ORDER BY is_default DESC, created_at DESC, id"""
_BY_IDS: Final = "SELECT * FROM payment_methods WHERE id = ANY ($1) AND removed_at IS NULL"
_ONE: Final = "SELECT * FROM payment_methods WHERE id = $1"
_NEWEST: Final = """UPDATE workspaces SET methods_fetch_number = $2 WHERE id = $1 AND methods_fetch_number < $2
    RETURNING true"""
_DEFAULT: Final = """SELECT stripe_payment_method_id FROM payment_methods
    WHERE workspace_id = $1 AND is_default AND removed_at IS NULL"""
_UNSET: Final = """UPDATE payment_methods SET is_default = false,
    removed_at = CASE WHEN stripe_payment_method_id = ANY ($2) THEN removed_at ELSE coalesce(removed_at, $3) END
    WHERE workspace_id = $1"""
_PUT: Final = """INSERT INTO payment_methods (id, workspace_id, stripe_payment_method_id, kind, brand, last4, exp_month,
    exp_year, fingerprint_digest, is_default, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (stripe_payment_method_id) DO UPDATE SET brand = excluded.brand, last4 = excluded.last4,
    exp_month = excluded.exp_month, exp_year = excluded.exp_year, is_default = excluded.is_default, removed_at = NULL
    WHERE payment_methods.workspace_id = excluded.workspace_id"""
_RECHARGE_OFF: Final = """UPDATE auto_recharges SET enabled = false, is_low = false, updated_at = $2
    WHERE workspace_id = $1 AND enabled RETURNING true"""
_UNWATCH: Final = "UPDATE wallets SET recharge_below_micro = NULL WHERE workspace_id = $1"


_FORMER: Final = """INSERT INTO former_customers (id, workspace_id, stripe_customer_id, deleted_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (stripe_customer_id) DO NOTHING"""
_FORGET: Final = """UPDATE workspaces SET stripe_customer_id = NULL, methods_fetch_number = nextval('stripe_fetches')
    WHERE id = $1 AND stripe_customer_id = $2 RETURNING true"""


@dataclass(frozen=True, slots=True)
class PaymentMethodView:
    """A saved card or account. `object_id`: the provider's; `kind` such as "card" or "paypal"."""

    id: UUID
    workspace_id: UUID
    object_id: str
    kind: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    is_default: bool


@dataclass(frozen=True, slots=True)
class HeldMethod:
    """A method as the provider holds it. `fingerprint_digest`: the same for the same card, whoever saves it."""

    object_id: str
    kind: str
    brand: str | None = None
    last4: str | None = None
    exp_month: int | None = None
    exp_year: int | None = None
    fingerprint_digest: bytes | None = None


async def methods_of(database: Database, workspace_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[PaymentMethodView]]:
    """The saved methods of each workspace, the default one first."""
    found: dict[UUID, list[PaymentMethodView]] = {workspace_id: [] for workspace_id in workspace_ids}
    async with connection(database) as conn:
        for row in await conn.fetch(_LIVE, list(workspace_ids)):
            found[row["workspace_id"]].append(_view(row))
    return found


async def methods_by_ids(database: Database, ids: Sequence[UUID]) -> dict[UUID, PaymentMethodView]:
    """Those of them that are saved now."""
    async with connection(database) as conn:
        rows = await conn.fetch(_BY_IDS, list(ids))
    return {row["id"]: _view(row) for row in rows}


async def live_method(database: Database, method_id: UUID) -> PaymentMethodView:
    """A method that is saved now. Raises UnknownPaymentMethod."""
    async with connection(database) as conn:
        row = await conn.fetchrow(_ONE, method_id)
    if row is None or row["removed_at"] is not None:
        raise UnknownPaymentMethod
    return _view(row)


async def write_methods(
    database: Database,
    workspace_id: UUID,
    held: Sequence[HeldMethod],
    default_id: str | None,
    *,
    fetch_number: int,
) -> bool:
    """Write what the provider held at a fetch: these and no others; False where a later fetch is written already.

    Another default ends a suspension of auto-recharge and what waits to be confirmed of it; where none is left
    auto-recharge is turned off, and that is told.
    """
    async with transaction(database) as conn:
        if await lock_wallet(conn, workspace_id) is None or not await conn.fetchval(
            _NEWEST, workspace_id, fetch_number
        ):
            return False
        now = clock.now()
        before: str | None = await conn.fetchval(_DEFAULT, workspace_id)
        await conn.execute(_UNSET, workspace_id, [method.object_id for method in held], now)
        for method in sorted(held, key=lambda method: method.object_id):
            await _put(conn, workspace_id, method, is_default=method.object_id == default_id)
        if default_id is not None and default_id != before:
            await note_method_set(conn, workspace_id, now)
        if default_id is None:
            await _stop_recharge(conn, workspace_id, now)
        return True


async def forget_customer(database: Database, workspace_id: UUID, customer_id: str) -> None:
    """The workspace's customer was deleted at the provider, and its methods with it: none is left. Repeatable.

    What was fetched of it before is too late. What it paid for stays; the next purchase makes another customer.
    """
    async with transaction(database) as conn:
        is_live = await lock_wallet(conn, workspace_id) is not None
        now = clock.now()
        await conn.execute(_FORMER, uuid7(), workspace_id, customer_id, now)
        if await conn.fetchval(_FORGET, workspace_id, customer_id):
            await conn.execute(_UNSET, workspace_id, [], now)
            if is_live:
                await _stop_recharge(conn, workspace_id, now)


async def _stop_recharge(conn: PoolConnection, workspace_id: UUID, now: datetime) -> None:
    """No method is left to charge: turned off, and told where it was on."""
    if await conn.fetchval(_RECHARGE_OFF, workspace_id, now):
        await conn.execute(_UNWATCH, workspace_id)
        facts = {"reason": METHOD_REMOVED, "actionUrl": None}
        await emit(conn, EventKind.AUTO_RECHARGE_SUSPENDED, workspace_id, facts)


async def _put(conn: PoolConnection, workspace_id: UUID, method: HeldMethod, *, is_default: bool) -> None:
    await conn.execute(
        _PUT,
        uuid7(),
        workspace_id,
        method.object_id,
        method.kind,
        method.brand,
        method.last4,
        method.exp_month,
        method.exp_year,
        method.fingerprint_digest,
        is_default,
        clock.now(),
    )


def _view(row: Record) -> PaymentMethodView:
    return PaymentMethodView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        object_id=row["stripe_payment_method_id"],
        kind=row["kind"],
        brand=row["brand"],
        last4=row["last4"],
        exp_month=row["exp_month"],
        exp_year=row["exp_year"],
        is_default=row["is_default"],
    )
