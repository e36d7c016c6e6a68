"""Buys credits when few are left (B4, D4): the settings, what is shown of them, and the worker's task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.catalog import Snapshot
from billing.errors import (
    AmountOutOfBounds,
    AutoRechargeNotOffered,
    PaymentMethodRequired,
    PaymentsNotConfigured,
    UnknownWorkspace,
)
from billing.paying import has_method, with_method
from billing.payment_port import Charge
from billing.payment_rows import open_payment
from billing.payments import settle_charge
from billing.purchases import has_plan
from billing.rules.auto_recharge import (
    WINDOW,
    Recharge,
    RechargeFacts,
    RechargeState,
    decide,
    lowest_wanted,
    state_at,
)
from billing.services import Billing, Note, unnoted
from billing.subscription_rows import lock_wallet
from kit import clock
from kit.errors import InvalidInput
from kit.money import credits_micro_for_usd, usd_micro_text
from kit.unchanged import UNCHANGED, Unchanged
from models.database import connection, transaction
from models.enums import PaymentPurpose
from models.pool import PoolConnection

REPLAY_AFTER: Final = timedelta(seconds=30)
REPLAY_AT_LEAST_EVERY: Final = timedelta(hours=1)
"""A charge that the provider has and is at work on, such as a bank debit of days, is asked about after 30 s, then after as long
again as it is old, and so on up to this pause; a lost answer, which may be nothing but a network's fault, every 30 s."""

REPLAY_UNTIL: Final = timedelta(hours=20)
"""Providers forget idempotency keys after a day; what is unknown for longer is the reconciler's to find out."""

_ROW: Final = "SELECT * FROM auto_recharges WHERE workspace_id = $1"
_ROWS: Final = "SELECT * FROM auto_recharges WHERE workspace_id = ANY ($1)"
_SAVE: Final = """INSERT INTO auto_recharges (workspace_id, enabled, threshold_usd_micro, amount_usd_micro,
    monthly_limit_usd_micro, is_low, updated_at) VALUES ($1, $2, $3, $4, $5, $2, $6)
    ON CONFLICT (workspace_id) DO UPDATE SET enabled = excluded.enabled, updated_at = excluded.updated_at,
    threshold_usd_micro = excluded.threshold_usd_micro, amount_usd_micro = excluded.amount_usd_micro,
    monthly_limit_usd_micro = excluded.monthly_limit_usd_micro, is_low = excluded.is_low"""
_WATCH: Final = "UPDATE wallets SET recharge_below_micro = $2 WHERE id = $1"
_ATTEMPTED: Final = "UPDATE auto_recharges SET last_attempt_at = $2, updated_at = $2 WHERE workspace_id = $1"
_NOT_LOW: Final = "UPDATE auto_recharges SET is_low = false, updated_at = $2 WHERE workspace_id = $1"
_TRIED_NOW: Final = "UPDATE auto_recharges SET updated_at = $2 WHERE workspace_id = $1"
# Money on its way is what a saved method is being charged: a page, or a confirmation, may be left and never paid.
_HISTORY: Final = """SELECT workspace_id,
    coalesce(array_agg(created_at) FILTER (WHERE purpose = 'AUTO_RECHARGE' AND created_at > $2), '{}') AS attempts,
    coalesce(bool_or(purpose = 'AUTO_RECHARGE' AND open), false) AS in_progress,
    coalesce(sum(amount_usd_micro) FILTER (WHERE status = 'PENDING' AND stripe_checkout_id IS NULL
        AND created_at > $4), 0)::bigint AS pending,
    coalesce(sum(amount_usd_micro) FILTER (WHERE purpose = 'AUTO_RECHARGE' AND created_at >= $3
        AND status <> 'FAILED'), 0)::bigint AS this_month
    FROM (SELECT *, status IN ('PENDING', 'ACTION_REQUIRED') AS open FROM payments
        WHERE workspace_id = ANY ($1) AND purpose IN ('AUTO_RECHARGE', 'TOP_UP')
          AND (created_at >= least($2::timestamptz, $3::timestamptz, $4::timestamptz) OR status IN ('PENDING', 'ACTION_REQUIRED'))) AS recent
    GROUP BY workspace_id"""
_AVAILABLE: Final = """SELECT coalesce(sum(remaining_micro - held_micro), 0)::bigint FROM credit_grants
    WHERE wallet_id = $1 AND remaining_micro > 0 AND frozen_reason IS NULL AND effective_at <= $2
      AND (expires_at IS NULL OR expires_at > $2)"""
# Those looked at longest ago first, so that some which must wait do not keep the others waiting.
_DUE: Final = """SELECT workspace_id FROM auto_recharges WHERE is_low AND enabled AND suspended_reason IS NULL
    AND (last_attempt_at IS NULL OR last_attempt_at <= $1) ORDER BY updated_at LIMIT $2"""
_UNKNOWN: Final = """SELECT id, workspace_id, amount_usd_micro FROM payments WHERE purpose = 'AUTO_RECHARGE'
    AND status = 'PENDING' AND updated_at <= $1 AND created_at > $2 AND EXISTS (SELECT FROM auto_recharges a
        WHERE a.workspace_id = payments.workspace_id AND a.enabled)
    AND (stripe_object_id IS NULL OR updated_at + least(updated_at - created_at, $4::interval) <= $5)
    ORDER BY updated_at LIMIT $3"""


@dataclass(frozen=True, slots=True)
class AutoRechargeView:
    """A workspace's settings, and how it stands with them."""

    enabled: bool
    threshold_usd_micro: int | None
    amount_usd_micro: int | None
    monthly_limit_usd_micro: int | None
    state: RechargeState
    suspended_reason: str | None


_NONE: Final = AutoRechargeView(
    enabled=False,
    threshold_usd_micro=None,
    amount_usd_micro=None,
    monthly_limit_usd_micro=None,
    state=RechargeState.OFF,
    suspended_reason=None,
)


async def auto_recharge_of(billing: Billing, workspace_id: UUID) -> AutoRechargeView:
    """The settings; OFF where none were made."""
    return (await auto_recharges_of(billing, [workspace_id]))[workspace_id]


async def auto_recharges_of(billing: Billing, workspace_ids: Sequence[UUID]) -> dict[UUID, AutoRechargeView]:
    """The same for many workspaces, in as many queries as for one."""
    views = dict.fromkeys(workspace_ids, _NONE)
    async with connection(billing.database) as conn:
        rows = await conn.fetch(_ROWS, workspace_ids)
        now = clock.now()
        facts = await _facts(conn, billing.catalog.current, rows, now)
    for row in rows:
        views[row["workspace_id"]] = AutoRechargeView(
            enabled=row["enabled"],
            threshold_usd_micro=row["threshold_usd_micro"],
            amount_usd_micro=row["amount_usd_micro"],
            monthly_limit_usd_micro=row["monthly_limit_usd_micro"],
            state=state_at(facts[row["workspace_id"]][0], now),
            suspended_reason=row["suspended_reason"],
        )
    return views


async def update_auto_recharge(
    billing: Billing,
    workspace_id: UUID,
    *,
    enabled: bool,
    threshold_usd_micro: int | Unchanged | None = UNCHANGED,
    amount_usd_micro: int | Unchanged | None = UNCHANGED,
    monthly_limit_usd_micro: int | Unchanged | None = UNCHANGED,
    note: Note = unnoted,
) -> AutoRechargeView:
    """Turn it on with a threshold and an amount within the catalog's bounds, or off, which is always possible (D4).

    What is left out keeps its value, None clears it. Raises AutoRechargeNotOffered, AmountOutOfBounds, InvalidInput,
    PaymentsNotConfigured, PaymentMethodRequired, UnknownWorkspace.
    """
    snapshot = billing.catalog.current
    async with transaction(billing.database) as conn:
        wallet_id = await lock_wallet(conn, workspace_id)
        if wallet_id is None:
            raise UnknownWorkspace
        row = await conn.fetchrow(_ROW, workspace_id)
        wanted = [threshold_usd_micro, amount_usd_micro, monthly_limit_usd_micro]
        names = ("threshold_usd_micro", "amount_usd_micro", "monthly_limit_usd_micro")
        threshold, amount, limit = (
            (None if row is None else row[name]) if isinstance(value, Unchanged) else value
            for name, value in zip(names, wanted, strict=True)
        )
        if enabled:
            _require_within(snapshot, threshold, amount, limit)
            await _require_method(conn, billing, workspace_id)
        await conn.execute(_SAVE, workspace_id, enabled, threshold, amount, limit, clock.now())
        watched = None
        if enabled and threshold is not None:
            watched = credits_micro_for_usd(lowest_wanted(threshold), snapshot.credits_per_usd)
        await conn.execute(_WATCH, wallet_id, watched)
        facts = {"enabled": str(enabled).lower()}
        if enabled and threshold is not None and amount is not None:
            facts |= {"threshold_usd": usd_micro_text(threshold), "amount_usd": usd_micro_text(amount)}
        await note(conn, "auto_recharge.update", "workspace", workspace_id, facts)
    return await auto_recharge_of(billing, workspace_id)


async def recharge_due(billing: Billing, *, limit: int = 50) -> int:
    """Charge the workspaces that the ledger has noted as low, and ask again for charges whose outcome is unknown.

    How many charges were sent. The attempt is committed before the provider is asked, with no transaction open; the
    same key goes with every repeat, so that a lost answer charges once and counts as no decline. Where recharging was
    turned off meanwhile nothing is sent any more (D4); the reconciler finds out what became of it.
    """
    if not billing.payments.configured:
        return 0
    now = clock.now()
    async with connection(billing.database) as conn:
        due = await conn.fetch(_DUE, now - REPLAY_AFTER, limit)
        unknown = await conn.fetch(_UNKNOWN, now - REPLAY_AFTER, now - REPLAY_UNTIL, limit, REPLAY_AT_LEAST_EVERY, now)
    charges = [_charge(row["id"], row["workspace_id"], row["amount_usd_micro"]) for row in unknown]
    for row in due:
        charge = await _attempt(billing, row["workspace_id"])
        if charge is not None:
            charges.append(charge)
    for charge in charges:
        await settle_charge(billing, charge.payment_id, await billing.payments.charge(charge))
    return len(charges)


async def _attempt(billing: Billing, workspace_id: UUID) -> Charge | None:
    """Decide under the wallet's lock, and write the attempt down before it is made."""
    async with transaction(billing.database) as conn:
        wallet_id = await lock_wallet(conn, workspace_id, skip_locked=True)
        row = await conn.fetchrow(_ROW, workspace_id)
        if wallet_id is None or row is None:
            return None
        now, snapshot = clock.now(), billing.catalog.current
        facts, pending = (await _facts(conn, snapshot, [row], now))[workspace_id]
        top_up = snapshot.settings.top_up
        needs_plan = top_up is not None and top_up.requires_active_plan
        facts = replace(facts, lacks_plan=needs_plan and not await has_plan(conn, billing, workspace_id))
        available_micro: int = await conn.fetchval(_AVAILABLE, wallet_id, now)
        available = int(available_micro / snapshot.credits_per_usd)
        decision = decide(facts, available, pending, now)
        if isinstance(decision, Recharge):
            amount = decision.amount_usd_micro
            await conn.execute(_ATTEMPTED, workspace_id, now)
            payment_id = await open_payment(conn, workspace_id, PaymentPurpose.AUTO_RECHARGE, amount, now)
            return _charge(payment_id, workspace_id, amount)
        still_low = available < lowest_wanted(facts.threshold_usd_micro)
        await conn.execute(_TRIED_NOW if still_low else _NOT_LOW, workspace_id, now)
        return None


def _charge(payment_id: UUID, workspace_id: UUID, amount_usd_micro: int) -> Charge:
    return Charge(
        key=f"topup:{payment_id}",
        workspace_id=workspace_id,
        purpose=PaymentPurpose.AUTO_RECHARGE,
        payment_id=payment_id,
        amount_usd_micro=amount_usd_micro,
        off_session=True,
    )


async def _facts(
    conn: PoolConnection, snapshot: Snapshot, rows: Sequence[Record], now: datetime
) -> dict[UUID, tuple[RechargeFacts, int]]:
    """By workspace: what the decision needs, and the money that is being paid already."""
    ids = [row["workspace_id"] for row in rows]
    if not ids:
        return {}
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    history = {
        found["workspace_id"]: found
        for found in await conn.fetch(_HISTORY, ids, now - WINDOW, month, now - REPLAY_UNTIL)
    }
    chargeable = await with_method(conn, ids)
    return {
        row["workspace_id"]: _facts_of(
            snapshot, row, history.get(row["workspace_id"]), has_method=row["workspace_id"] in chargeable
        )
        for row in rows
    }


def _facts_of(
    snapshot: Snapshot, row: Record, history: Record | None, *, has_method: bool
) -> tuple[RechargeFacts, int]:
    """`history` None: nothing was paid or tried of late."""
    terms = snapshot.settings.auto_recharge
    most = terms.max_monthly_usd_micro if terms else 0
    facts = RechargeFacts(
        enabled=row["enabled"] and terms is not None,
        threshold_usd_micro=row["threshold_usd_micro"] or 0,
        amount_usd_micro=row["amount_usd_micro"] or 1,
        monthly_limit_usd_micro=min(row["monthly_limit_usd_micro"] or most, most),
        largest_usd_micro=terms.max_amount_usd_micro if terms else 0,
        suspended=row["suspended_reason"] is not None,
        in_progress=history is not None and history["in_progress"],
        has_method=has_method,
        attempts_at=() if history is None else history["attempts"],
        last_failure_at=row["last_failure_at"],
        this_month_usd_micro=0 if history is None else history["this_month"],
    )
    return facts, 0 if history is None else history["pending"]


def _require_within(snapshot: Snapshot, threshold: int | None, amount: int | None, limit: int | None) -> None:
    terms = snapshot.settings.auto_recharge
    if terms is None:
        raise AutoRechargeNotOffered
    if threshold is None or amount is None:
        raise InvalidInput("give a threshold and an amount", field=["threshold" if threshold is None else "amount"])
    if not terms.min_threshold_usd_micro <= threshold <= terms.max_threshold_usd_micro:
        raise AmountOutOfBounds("threshold", terms.min_threshold_usd_micro, terms.max_threshold_usd_micro)
    if not terms.min_amount_usd_micro <= amount <= terms.max_amount_usd_micro or amount % 10_000:
        raise AmountOutOfBounds("amount", terms.min_amount_usd_micro, terms.max_amount_usd_micro)
    if limit is not None and not amount <= limit <= terms.max_monthly_usd_micro:
        raise AmountOutOfBounds("monthlyLimit", amount, terms.max_monthly_usd_micro)


async def _require_method(conn: PoolConnection, billing: Billing, workspace_id: UUID) -> None:
    if not billing.payments.configured:
        raise PaymentsNotConfigured
    if not await has_method(conn, workspace_id):
        raise PaymentMethodRequired
