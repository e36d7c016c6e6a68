"""Writes what a batch of postings changed: one function call for the common rows, a statement each for the rare ones."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from metering.array_text import array_text, array_texts, json_array
from metering.loading import Connection
from metering.rows import (
    call_row,
    counted_lot_row,
    end_row,
    hold_row,
    is_counted,
    json_text,
    lot_row,
    new_lot_row,
    usage_json,
    usage_row,
)
from metering.rules.state import Changes, EntryRow, Hold, State, UsageRow

_WRITE: Final = f"SELECT ledger_write({', '.join(f'${number}' for number in range(1, 52))})"
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
INSERT INTO call_outputs (call_id, workspace_id, key_version, sealed, created_at, expires_at, repeat_until)
SELECT n.call_id, n.workspace_id, n.key_version, n.sealed, $1, n.expires_at, n.repeat_until
FROM unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::bytea[], $6::timestamptz[], $7::timestamptz[])
    AS n (call_id, workspace_id, key_version, sealed, expires_at, repeat_until)
ON CONFLICT (call_id) DO NOTHING
"""
_USES: Final = """
INSERT INTO published_uses (call_id, model_id, wallet_id, uses, input_tokens, output_tokens, charged_micro, earned_micro,
    created_at)
SELECT call_id, model_id, wallet_id, count(*), sum(input_tokens), sum(output_tokens), sum(charged), sum(earned), $1
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
    AS n (call_id, model_id, wallet_id, input_tokens, output_tokens, charged, earned)
GROUP BY call_id, model_id, wallet_id
ON CONFLICT (call_id, model_id) DO UPDATE SET uses = excluded.uses, input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens, charged_micro = excluded.charged_micro, earned_micro = excluded.earned_micro
"""
_LOTS: Final = """
UPDATE credit_grants SET amount_micro = $2, remaining_micro = $3, held_micro = $4, spent_micro = spent_micro + $5,
    frozen_reason = $6, reinstated_micro = reinstated_micro + $7, expired_micro = expired_micro + $8,
    clawed_back_micro = clawed_back_micro + $9, refunded_micro = refunded_micro + $10,
    transferred_micro = transferred_micro + $11, adjusted_micro = adjusted_micro + $12
WHERE id = $1
"""
_ENTRIES: Final = """
INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account, call_id,
    reference_kind, reference_id, description, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
_CLOSED: Final = "DELETE FROM holds WHERE call_id = ANY ($1)"
_USAGE: Final = """
INSERT INTO usage_events (call_id, sequence, workspace_id, wallet_id, model_slug, modality, user_id, api_key_id,
    input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, requests, images, seconds, characters,
    cost_micro, charged_micro, estimated, presumed, provider, details, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22::text::jsonb, $23)
"""
_CALLS: Final = """
INSERT INTO calls (id, workspace_id, model_slug, status, user_id, api_key_id, request_id, idempotency_key, error_code,
    error_message, created_at, completed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, error_code = excluded.error_code,
    error_message = excluded.error_message, completed_at = excluded.completed_at
"""
_LOT_COLUMNS: Final = 6
_HOLD_COLUMNS: Final = 17
_END_COLUMNS: Final = 22


async def write(connection: Connection, state: State) -> None:
    """Write everything the postings changed; nothing where nothing did."""
    changes = state.changes
    wallets = [wallet for wallet in state.wallets.values() if wallet.touched]
    held = list(state.holds.values())
    renewed = [hold for hold in held if hold.touched and not hold.is_new]
    if not wallets and not renewed:
        assert not any((changes.usage, changes.calls, changes.entries)), "what is written touches its wallet"
        return
    touched = [lot for lot in state.lots.values() if lot.touched]
    new_lots = [lot for lot in touched if lot.is_new]
    if new_lots:
        await connection.executemany(_NEW_LOTS, [new_lot_row(lot) for lot in new_lots])
        touched = [lot for lot in touched if not lot.is_new]
    counted = [lot for lot in touched if is_counted(lot)]
    if counted:
        await connection.executemany(_LOTS, [counted_lot_row(lot) for lot in counted])
        touched = [lot for lot in touched if not is_counted(lot)]
    if changes.keys:
        await _write_keys(connection, state)
    if wallets:
        placed = [hold for hold in held if hold.is_new]
        ends, singly = _ends(changes)
        await connection.execute(
            _WRITE,
            state.now,
            array_text([wallet.id for wallet in wallets]),
            array_text([wallet.balance for wallet in wallets]),
            array_text([wallet.held for wallet in wallets]),
            *array_texts([lot_row(lot) for lot in touched], _LOT_COLUMNS),
            *array_texts([hold_row(hold) for hold in placed], _HOLD_COLUMNS),
            json_array([hold.terms or {} for hold in placed], json_text) if placed else None,
            *array_texts([end[:-1] for end in ends], _END_COLUMNS),
            json_array([end[-1] for end in ends], json_text) if any(end[-1] is not None for end in ends) else None,
        )
        await _write_singly(connection, state, singly)
    await _write_rare(connection, state, renewed)


def _ends(changes: Changes) -> tuple[list[tuple[object, ...]], Changes]:
    """The ends of calls whose holds are in the database, each with its usage and its first charge in a row.

    And what remains: holds of this very batch, calls charged late or again, entries that are not of one grant's charge.
    """
    calls = changes.calls
    ended = {call_id: row for call_id, row in calls.items() if type(row.call) is Hold and not row.call.is_new}
    rest = Changes(entries=changes.entries, usage=changes.usage, closed_holds=changes.closed_holds, calls=calls)
    if not ended:
        return [], rest
    charges: dict[UUID, EntryRow] = {}
    rest.entries = []
    for entry in changes.entries:
        call_id = entry[7]
        if (
            call_id is None
            or entry[3] != "USAGE"
            or call_id not in ended
            or charges.setdefault(call_id, entry) is not entry
        ):
            rest.entries.append(entry)
    used: dict[UUID, UsageRow] = {}
    rest.usage = []
    for row in changes.usage:
        call_id = row.call.call_id
        # A second event of a call would have made an EndedCall of its row.
        if call_id in ended:
            used[call_id] = row
        else:
            rest.usage.append(row)
    rest.closed_holds = [call_id for call_id in changes.closed_holds if call_id not in ended]
    rest.calls = {} if len(ended) == len(calls) else {key: row for key, row in calls.items() if key not in ended}
    return [end_row(row, used.get(key), charges.get(key)) for key, row in ended.items()], rest


async def _write_singly(connection: Connection, state: State, rest: Changes) -> None:
    """The rows that few batches have, one by one."""
    at = state.now
    if rest.closed_holds:
        await connection.execute(_CLOSED, rest.closed_holds)
    if rest.entries:
        await connection.executemany(_ENTRIES, [(*entry, at) for entry in rest.entries])
    if rest.usage:
        await connection.executemany(_USAGE, [(*usage_row(row), at) for row in rest.usage])
    if rest.calls:
        await connection.executemany(_CALLS, [(*call_row(row), at) for row in rest.calls.values()])


async def _write_rare(connection: Connection, state: State, renewed: Sequence[Hold]) -> None:
    changes = state.changes
    if renewed:
        await connection.execute(
            _CHECKPOINTS,
            [hold.call_id for hold in renewed],
            [hold.expires_at for hold in renewed],
            [hold.checkpoint_micro for hold in renewed],
            [None if hold.checkpoint is None else json_text(usage_json(hold.checkpoint)) for hold in renewed],
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
    if changes.uses:
        await _write_uses(connection, state)
    if changes.answers:
        workspaces, keys, calls, answers = zip(*changes.answers, strict=True)
        await connection.execute(
            _ANSWERS, state.now, workspaces, keys, calls, [json_text(answer) for answer in answers]
        )
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
            [output.repeat_until for _, output in outputs.values()],
        )


async def _write_uses(connection: Connection, state: State) -> None:
    uses = state.changes.uses
    await connection.execute(
        _USES,
        state.now,
        [row.call_id for row in uses],
        [row.use.model_id for row in uses],
        [row.use.wallet_id for row in uses],
        [row.use.input_tokens for row in uses],
        [row.use.output_tokens for row in uses],
        [row.charged for row in uses],
        [row.earned for row in uses],
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
