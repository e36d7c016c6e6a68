"""Locks the wallets of a batch, then loads what its operations may read or change."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from kit import clock
from kit.ids import uuid7
from metering.operations import (
    Adjust,
    Checkpoint,
    Clawback,
    Expire,
    Freeze,
    Grant,
    Operation,
    PlaceHold,
    Reap,
    Refund,
    Reinstate,
    Release,
    ReverseTransfer,
    Settle,
    Thaw,
    TransferOut,
    UsageFacts,
)
from metering.rules.cache_writes import usage_of
from metering.rules.earnings import EARNINGS_SOURCE
from metering.rules.state import EndedCall, Hold, Key, Limit, Lot, State, Taken, Wallet
from metering.rules.uses import payees_of

Connection = asyncpg.Connection | PoolConnectionProxy
GRANTS_PER_WALLET: Final = 64
"""Live grants loaded at first, in burn order; all of them only where these do not cover what the batch asks for."""
_ALL: Final = 2**31

_LOAD: Final = "SELECT wallets, grants, holds, limited FROM ledger_load($1, $2, $3, $4, $5, $6, $7)"
_GRANTS: Final = "SELECT ledger_grants($1, $2, $3, $4, $5, $6)"
_WHOLE: Final = "SELECT id FROM credit_grants WHERE wallet_id = ANY ($1) AND remaining_micro > 0"
_KEYS: Final = """
SELECT k.workspace_id, k.key, k.call_id, k.operation, k.input_digest, k.completed_at IS NOT NULL, k.answer::text,
    k.expires_at
FROM unnest($1::uuid[], $2::text[]) AS wanted (workspace_id, key)
JOIN idempotency_keys k ON k.workspace_id = wanted.workspace_id AND k.key = wanted.key
"""
_LIMITS: Final = """
SELECT l.id, l.workspace_id, l.subject_kind, l.subject_id, l.period, l.limit_micro, l.period_start, l.spent_micro,
    l.held_micro, m.user_id
FROM spend_limits l
LEFT JOIN members m ON l.subject_kind = 'MEMBER' AND m.id = l.subject_id AND m.removed_at IS NULL
WHERE l.workspace_id = ANY ($1)
  AND (l.subject_kind = 'WORKSPACE' OR l.subject_id = ANY ($2) OR m.user_id = ANY ($3) OR l.id = ANY ($4))
"""
_ENDED: Final = """
SELECT c.id, c.workspace_id, c.model_slug, c.user_id, c.api_key_id, c.request_id, c.idempotency_key, c.created_at, u.*
FROM calls c, LATERAL (
    SELECT sum(e.cost_micro)::bigint AS cost, sum(e.charged_micro)::bigint AS charged, max(e.sequence) AS sequence,
        bool_or(e.presumed) AS presumed, min(e.modality) AS modality,
        sum(e.input_tokens)::bigint AS input_tokens, sum(e.cached_input_tokens)::bigint AS cached_input_tokens,
        sum(e.output_tokens)::bigint AS output_tokens, sum(e.reasoning_tokens)::bigint AS reasoning_tokens,
        sum(e.requests)::bigint AS requests, sum(e.images)::bigint AS images, sum(e.seconds)::bigint AS seconds,
        sum(e.characters)::bigint AS characters,
        coalesce(sum((e.details->>'cache_write_input_tokens')::bigint), 0)::bigint AS written,
        coalesce(sum((e.details->>'long_cache_write_input_tokens')::bigint), 0)::bigint AS written_long
    FROM usage_events e WHERE e.call_id = c.id
) AS u
WHERE c.id = ANY ($1) AND c.completed_at IS NOT NULL
"""
_CHARGES: Final = """
SELECT call_id, wallet_id, grant_id, kind, amount_micro, counter_account FROM ledger_entries
WHERE call_id = ANY ($1) ORDER BY id
"""
_REFERENCES: Final = """
SELECT e.reference_kind, e.reference_id, e.grant_id, e.amount_micro
FROM unnest($1::text[], $2::text[]) AS wanted (kind, id)
JOIN ledger_entries e ON e.reference_kind = wanted.kind AND e.reference_id = wanted.id AND e.call_id IS NULL
WHERE e.wallet_id = ANY ($3)
ORDER BY e.id
"""
_REFERENCE_KINDS: Final[dict[type, str]] = {
    Refund: "REFUND",
    Clawback: "CLAWBACK",
    Reinstate: "CLAWBACK",
    TransferOut: "TRANSFER",
    ReverseTransfer: "TRANSFER",
    Adjust: "ADJUSTMENT",
}


@dataclass(slots=True)
class Needs:
    """What a batch's operations touch."""

    day: str
    wallets: set[UUID] = field(default_factory=set[UUID])
    calls: list[UUID] = field(default_factory=list[UUID])
    grants: list[UUID] = field(default_factory=list[UUID])
    sources: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    keys: set[tuple[UUID, str]] = field(default_factory=set[tuple[UUID, str]])
    references: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    whole: set[UUID] = field(default_factory=set[UUID])
    spending: dict[UUID, int] = field(default_factory=dict[UUID, int])
    placed: set[UUID] = field(default_factory=set[UUID])
    users: set[UUID] = field(default_factory=set[UUID])
    api_keys: set[UUID] = field(default_factory=set[UUID])

    def add(self, op: Operation) -> None:
        """Note what this operation touches."""
        self.wallets.add(op.wallet_id)
        kind = type(op)
        if kind in (PlaceHold, Settle, Release, Checkpoint, Reap):
            self._add_call(op)  # pyright: ignore[reportArgumentType]  the line above has looked
            return
        if isinstance(op, (Expire, Refund, Clawback, Grant)):
            self.grants.append(op.grant_id)
        if isinstance(op, Grant):
            self.sources.add((op.source_kind, op.source_id))
        elif isinstance(op, (Freeze, Thaw)) and op.grant_ids is not None:
            self.grants.extend(op.grant_ids)
        elif isinstance(op, (Freeze, Thaw, TransferOut, Adjust)):
            self.whole.add(op.wallet_id)
        if isinstance(op, Adjust):
            self.sources.add(("ADJUSTMENT", op.reference))
        if isinstance(op, (Refund, Clawback, Reinstate, TransferOut, ReverseTransfer, Adjust)):
            self.references.add((_REFERENCE_KINDS[kind], op.reference))

    def _add_call(self, op: PlaceHold | Settle | Release | Checkpoint | Reap) -> None:
        self.calls.append(op.call_id)
        if isinstance(op, PlaceHold):
            self.spending[op.wallet_id] = self.spending.get(op.wallet_id, 0) + op.amount_micro
            self.placed.add(op.call_id)
            if op.idempotency is not None:
                self.keys.add((op.workspace_id, op.idempotency.key))
            if op.user_id is not None:
                self.users.add(op.user_id)
            if op.api_key_id is not None:
                self.api_keys.add(op.api_key_id)
        elif isinstance(op, Settle):
            self.spending[op.wallet_id] = self.spending.get(op.wallet_id, 0) + op.cost_micro
            if op.payee_wallet_id is not None:
                self._add_payee(op.payee_wallet_id)
            for wallet_id in payees_of(op.usage.details):
                self._add_payee(wallet_id)
        elif isinstance(op, Reap):
            if op.payee_wallet_id is not None:
                self._add_payee(op.payee_wallet_id)
            for wallet_id in op.payees:
                self._add_payee(wallet_id)

    def _add_payee(self, wallet_id: UUID) -> None:
        self.wallets.add(wallet_id)
        self.sources.add((EARNINGS_SOURCE, f"{wallet_id}:{self.day}"))


async def load(
    connection: Connection,
    operations: Sequence[Operation],
    *,
    now: datetime | None,
    earnings_rank: int,
    resent: bool = False,
    extra_wallets: Iterable[UUID] = (),
    new_id: Callable[[], UUID] = uuid7,
) -> State:
    """Lock, then load; `now` None takes the time at which the locks were had.

    `resent`: calls may have ended since the operations were first sent, so that ended ones are looked for too.
    """
    asked_at = clock.now() if now is None else now
    needs = Needs(day=asked_at.astimezone(UTC).date().isoformat())
    for op in operations:
        needs.add(op)
    for wallet_id in extra_wallets:
        needs.wallets.add(wallet_id)
        needs.sources.add((EARNINGS_SOURCE, f"{wallet_id}:{needs.day}"))
    wallet_ids = list(needs.wallets)
    loaded = await connection.fetchrow(
        _LOAD,
        asked_at,
        wallet_ids,
        needs.calls,
        needs.grants,
        [kind for kind, _ in needs.sources],
        [source_id for _, source_id in needs.sources],
        GRANTS_PER_WALLET,
    )
    assert loaded is not None
    state = State(clock.now() if now is None else now, new_id, needs.day, earnings_rank, asked=frozenset(needs.wallets))
    for row in loaded[0]:
        state.wallets[row[0]] = Wallet(*row)
    await _load_lots(connection, state, needs, asked_at, loaded[1] or ())
    if needs.references:
        await _load_references(connection, state, needs, asked_at)
    await _load_calls(connection, state, needs, loaded, resent=resent)
    if needs.keys:
        await _load_keys(connection, state, needs)
    return state


async def _load_lots(
    connection: Connection, state: State, needs: Needs, at: datetime, rows: Sequence[asyncpg.Record]
) -> None:
    lots = [_lot(row) for row in rows]
    state.adopt(lots)
    if len(lots) >= GRANTS_PER_WALLET:
        short: list[UUID] = []
        for wallet in state.wallets.values():
            live = [lot for lot in wallet.lots if lot.live]
            if len(live) >= GRANTS_PER_WALLET:
                wallet.complete = False
                if sum(lot.free for lot in live) < needs.spending.get(wallet.id, 0):
                    wallet.complete = True
                    short.append(wallet.id)
        if short:
            state.adopt(_lot(row) for row in await connection.fetchval(_GRANTS, at, short, [], [], [], _ALL) or ())
    if needs.whole:
        ids = [row[0] for row in await connection.fetch(_WHOLE, list(needs.whole))]
        await _load_named(connection, state, at, ids)
        for wallet_id in needs.whole & state.wallets.keys():
            state.wallets[wallet_id].complete = True


async def _load_named(connection: Connection, state: State, at: datetime, grant_ids: Iterable[UUID]) -> None:
    missing = [grant_id for grant_id in set(grant_ids) if grant_id not in state.lots]
    if missing:
        rows = await connection.fetchval(_GRANTS, at, [], missing, [], [], 0)
        state.adopt(_lot(row) for row in rows or ())


async def _load_references(connection: Connection, state: State, needs: Needs, at: datetime) -> None:
    kinds, ids = zip(*needs.references, strict=True)
    rows = await connection.fetch(_REFERENCES, kinds, ids, list(needs.wallets))
    for kind, reference_id, grant_id, amount in rows:
        taken = state.references.setdefault((kind, reference_id), {}).setdefault(grant_id, Taken())
        if amount < 0:
            taken.out -= amount
        else:
            taken.back += amount
    await _load_named(connection, state, at, (row[2] for row in rows))


async def _load_calls(
    connection: Connection, state: State, needs: Needs, loaded: asyncpg.Record, *, resent: bool
) -> None:
    rows = loaded[2] or ()
    found = {row[0] for row in rows}
    late = [call_id for call_id in needs.calls if call_id not in found and (resent or call_id not in needs.placed)]
    if late:
        await _load_ended(connection, state, late)
    limits: dict[UUID, Limit] = {}
    if loaded[3]:
        ended = state.ended.values()
        needs.users.update(call.user_id for call in ended if call.user_id is not None)
        needs.api_keys.update(call.api_key_id for call in ended if call.api_key_id is not None)
        limit_ids = [limit_id for row in rows for limit_id in row[17]]
        for row in await connection.fetch(_LIMITS, loaded[3], list(needs.api_keys), list(needs.users), limit_ids):
            limits[row[0]] = Limit(*row)
        state.adopt_limits(limits.values())
    for row in rows:
        if row[1] in state.wallets:
            state.holds[row[0]] = _hold(state, row, limits)


async def _load_ended(connection: Connection, state: State, call_ids: list[UUID]) -> None:
    wallet_of = {wallet.workspace_id: wallet.id for wallet in state.wallets.values()}
    for row in await connection.fetch(_ENDED, call_ids):
        wallet_id = wallet_of.get(row[1])
        if wallet_id is None:
            continue
        call = EndedCall(row[0], row[1], wallet_id, row[2], row["modality"] or "TEXT", *row[3:8])
        if row["cost"] is not None:
            call.cost, call.charged, call.sequence = row["cost"], row["charged"], row["sequence"]
            call.presumed = row["presumed"] and call.sequence == 0
            call.usage = UsageFacts(*row[-10:])
        state.ended[call.call_id] = call
    settled = [call.call_id for call in state.ended.values() if call.cost is not None]
    if settled:
        entries = await connection.fetch(_CHARGES, settled)
        await _load_named(connection, state, state.now, (row[2] for row in entries if row[2] is not None))
        for row in entries:
            _count_charge(state, state.ended[row[0]], row)


def _count_charge(state: State, call: EndedCall, row: asyncpg.Record) -> None:
    if row["kind"] == "USAGE":
        lot = state.lots[row["grant_id"]]
        call.charges[lot] = call.charges.get(lot, 0) - row["amount_micro"]
    elif row["counter_account"] == "EARNINGS":
        call.earned_by[row["wallet_id"]] = call.earned_by.get(row["wallet_id"], 0) + row["amount_micro"]


async def _load_keys(connection: Connection, state: State, needs: Needs) -> None:
    workspaces, keys = zip(*needs.keys, strict=True)
    for row in await connection.fetch(_KEYS, workspaces, keys):
        answer = None if row[6] is None else orjson.loads(row[6])
        state.keys[row[0], row[1]] = Key(row[2], row[3], row[4], row[5], answer, row[7])


def _lot(row: asyncpg.Record) -> Lot:
    return Lot(*row)


def _hold(state: State, row: asyncpg.Record, limits: dict[UUID, Limit]) -> Hold:
    lots = state.lots
    return Hold(
        row[0],
        row[1],
        row[2],
        row[3],
        [(lots[grant_id], part) for grant_id, part in zip(row[4], row[5], strict=True)],
        *row[6:17],
        limits=[limits[limit_id] for limit_id in row[17] if limit_id in limits],
        checkpoint_micro=row[18],
        checkpoint=None if row[19] is None else usage_of(orjson.loads(row[19])),
    )
