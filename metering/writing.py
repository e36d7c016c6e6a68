"""Writes what a batch of postings changed: one function call for the common rows, a statement each for the rare ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson

from metering.loading import Connection
from metering.operations import UsageFacts
from metering.rules.state import CallRow, Hold, Lot, State, UsageRow

_WRITE: Final = f"SELECT ledger_write({', '.join(f'${number}' for number in range(1, 80))})"
_NEW_LOTS: Final = """
INSERT INTO credit_grants (id, wallet_id, kind, burn_rank, amount_micro, remaining_micro, held_micro, reinstated_micro,
    spent_micro, expired_micro, clawed_back_micro, refunded_micro, transferred_micro, adjusted_micro, effective_at,
    expires_at, frozen_reason, requires_active_plan, transferable, source_kind, source_id, subscription_id, payment_id,
    description, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)
"""
_CHECKPOINTS: Final = """
UPDATE holds h SET expires_at = n.expires_at, checkpoint_micro = n.cost, checkpoint = n.usage::jsonb
FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::text[]) AS n (call_id, expires_at, cost, usage)
WHERE h.call_id = n.call_id
"""
_LIMITS: Final = """
UPDATE spend_limits l SET period_start = n.period_start, spent_micro = n.spent, held_micro = n.held
FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[]) AS n (id, period_start, spent, held)
WHERE l.id = n.id
"""
_KEYS: Final = """
INSERT INTO idempotency_keys (workspace_id, key, operation, input_digest, call_id, created_at, expires_at)
SELECT n.workspace_id, n.key, n.operation, n.digest, n.call_id, $1, n.expires_at
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::uuid[], $7::timestamptz[])
    AS n (workspace_id, key, operation, digest, call_id, expires_at)
ON CONFLICT (workspace_id, key) DO UPDATE SET operation = excluded.operation, input_digest = excluded.input_digest,
    call_id = excluded.call_id, answer = NULL, created_at = excluded.created_at, completed_at = NULL,
    expires_at = excluded.expires_at
WHERE idempotency_keys.expires_at <= $1
"""
_ANSWERS: Final = """
UPDATE idempotency_keys k SET answer = n.answer::jsonb, completed_at = $1
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[]) AS n (workspace_id, key, call_id, answer)
WHERE k.workspace_id = n.workspace_id AND k.key = n.key AND k.call_id = n.call_id
"""
_OUTPUTS: Final = """
INSERT INTO call_outputs (call_id, workspace_id, key_version, sealed, created_at, expires_at)
SELECT n.call_id, n.workspace_id, n.key_version, n.sealed, $1, n.expires_at
FROM unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::bytea[], $6::timestamptz[])
    AS n (call_id, workspace_id, key_version, sealed, expires_at)
ON CONFLICT (call_id) DO NOTHING
"""
_LOT_COLUMNS: Final = 12
_ENTRY_COLUMNS: Final = 11
_HOLD_COLUMNS: Final = 18
_USAGE_COLUMNS: Final = 22
_CALL_COLUMNS: Final = 11
_MESSAGE_LENGTH: Final = 2000


async def write(connection: Connection, state: State) -> None:
    """Write everything the postings changed; nothing where nothing did."""
    changes = state.changes
    wallets = [wallet for wallet in state.wallets.values() if wallet.touched]
    held = list(state.holds.values())
    renewed = [hold for hold in held if hold.touched and not hold.is_new]
    if not wallets and not renewed:
        assert not (changes.usage or changes.calls or changes.entries), "what is written touches its wallet"
        return
    touched = [lot for lot in state.lots.values() if lot.touched]
    new_lots = [lot for lot in touched if lot.is_new]
    if new_lots:
        await connection.executemany(_NEW_LOTS, [_new_lot_row(lot) for lot in new_lots])
    if changes.keys:
        await _write_keys(connection, state)
    if wallets:
        await connection.execute(
            _WRITE,
            state.now,
            [wallet.id for wallet in wallets],
            [wallet.balance for wallet in wallets],
            [wallet.held for wallet in wallets],
            *_columns([_lot_row(lot) for lot in touched if not lot.is_new], _LOT_COLUMNS),
            changes.closed_holds,
            *_columns([_hold_row(hold) for hold in held if hold.is_new], _HOLD_COLUMNS),
            *_columns(changes.entries, _ENTRY_COLUMNS),
            *_columns([_usage_row(row) for row in changes.usage], _USAGE_COLUMNS),
            *_columns([_call_row(row) for row in changes.calls.values()], _CALL_COLUMNS),
        )
    await _write_rare(connection, state, renewed)


async def _write_rare(connection: Connection, state: State, renewed: Sequence[Hold]) -> None:
    changes = state.changes
    if renewed:
        await connection.execute(
            _CHECKPOINTS,
            [hold.call_id for hold in renewed],
            [hold.expires_at for hold in renewed],
            [hold.checkpoint_micro for hold in renewed],
            [None if hold.checkpoint is None else _json(usage_json(hold.checkpoint)) for hold in renewed],
        )
    limits = [limit for found in state.limits.values() for limit in found if limit.touched]
    if limits:
        await connection.execute(
            _LIMITS,
            [limit.id for limit in limits],
            [limit.period_start for limit in limits],
            [limit.spent for limit in limits],
            [limit.held for limit in limits],
        )
    if changes.answers:
        workspaces, keys, calls, answers = zip(*changes.answers, strict=True)
        await connection.execute(_ANSWERS, state.now, workspaces, keys, calls, [_json(answer) for answer in answers])
    if changes.outputs:
        outputs = changes.outputs
        await connection.execute(
            _OUTPUTS,
            state.now,
            list(outputs),
            [workspace_id for workspace_id, _ in outputs.values()],
            [output.key_version for _, output in outputs.values()],
            [output.sealed for _, output in outputs.values()],
            [output.expires_at for _, output in outputs.values()],
        )


async def _write_keys(connection: Connection, state: State) -> None:
    claims = state.changes.keys
    await connection.execute(
        _KEYS,
        state.now,
        [workspace_id for workspace_id, _ in claims],
        [key for _, key in claims],
        [key.operation for key in claims.values()],
        [key.input_digest for key in claims.values()],
        [key.call_id for key in claims.values()],
        [key.expires_at for key in claims.values()],
    )


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> Iterable[Sequence[object]]:
    """Rows as columns. One with nothing but NULLs, zeros and the like goes empty: encoding arrays is what costs most."""
    if not rows:
        return [()] * width
    return [column if any(column) else () for column in zip(*rows, strict=True)]


def _lot_row(lot: Lot) -> tuple[object, ...]:
    return (
        lot.id,
        lot.amount,
        lot.remaining,
        lot.held,
        lot.reinstated,
        lot.spent,
        lot.expired,
        lot.clawed_back,
        lot.refunded,
        lot.transferred,
        lot.adjusted,
        lot.frozen_reason,
    )


def _new_lot_row(lot: Lot) -> tuple[object, ...]:
    return (
        lot.id,
        lot.wallet_id,
        lot.kind,
        lot.burn_rank,
        lot.amount,
        lot.remaining,
        lot.held,
        lot.reinstated,
        lot.spent,
        lot.expired,
        lot.clawed_back,
        lot.refunded,
        lot.transferred,
        lot.adjusted,
        lot.effective_at,
        lot.expires_at,
        lot.frozen_reason,
        lot.requires_active_plan,
        lot.transferable,
        lot.source_kind,
        lot.source_id,
        lot.subscription_id,
        lot.payment_id,
        lot.description,
        lot.created_at,
    )


def _hold_row(hold: Hold) -> tuple[object, ...]:
    parts = hold.parts
    return (
        hold.call_id,
        hold.wallet_id,
        hold.workspace_id,
        hold.amount,
        f"{{{','.join([str(lot.id) for lot, _ in parts])}}}",
        f"{{{','.join([str(part) for _, part in parts])}}}",
        hold.model_slug,
        hold.modality,
        hold.user_id,
        hold.api_key_id,
        hold.request_id,
        hold.idempotency_key,
        hold.owner,
        hold.payee_wallet_id,
        hold.payee_share_percent,
        _json(hold.terms or {}),
        hold.expires_at,
        f"{{{','.join([str(limit.id) for limit in hold.limits])}}}" if hold.limits else None,
    )


def _usage_row(row: UsageRow) -> tuple[object, ...]:
    call, usage = row.call, row.usage
    return (
        call.call_id,
        row.sequence,
        call.workspace_id,
        call.wallet_id,
        call.model_slug,
        call.modality,
        call.user_id,
        call.api_key_id,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.requests,
        usage.images,
        usage.seconds,
        usage.characters,
        row.cost,
        row.charged,
        usage.estimated,
        row.presumed,
        clean_text(usage.provider),
        None if usage.details is None else _json(usage.details),
    )


def _call_row(row: CallRow) -> tuple[object, ...]:
    call = row.call
    return (
        call.call_id,
        call.workspace_id,
        call.model_slug,
        row.status,
        call.user_id,
        call.api_key_id,
        call.request_id,
        call.idempotency_key,
        row.error_code,
        None if row.error_message is None else clean_text(row.error_message),
        call.created_at,
    )


def usage_json(usage: UsageFacts) -> dict[str, object]:
    """The facts as they are kept with a checkpoint and in the journal."""
    return {name: getattr(usage, name) for name in usage.__slots__}


def clean_text(text: str) -> str:
    """What a provider sent must not keep a settlement from being written: no NUL, no lone surrogate, no endless text."""
    if len(text) > _MESSAGE_LENGTH or not text.isascii() or "\x00" in text:
        text = text[:_MESSAGE_LENGTH].replace("\x00", "").encode(errors="replace").decode()
    return text


def _json(value: Mapping[str, object]) -> str:
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        text = orjson.dumps({"unwritable": repr(value)[:_MESSAGE_LENGTH].encode(errors="replace").decode()}).decode()
    # jsonb has no NUL character. Where the escape is itself escaped this only changes a text nobody relies on.
    return text.replace("\\u0000", "\\ufffd") if "\\u0000" in text else text
