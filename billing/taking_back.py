"""Takes the credits of a cycle whose plan ended before its time: at once, and what calls held then once it is free again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.grants import post_all
from billing.released import claim_waiting, end_waiting
from billing.services import Billing
from billing.subscription_rows import Subscription
from kit import clock
from kit.ids import uuid7
from metering.operations import Clawback
from metering.views import Posted
from models.database import transaction
from models.pool import PoolConnection

TAKE_BACK_DUE: Final = "plan.take_back"
"""The outbox's kind of plans that ended while calls held their credits; no event that is told."""
_LIVING: Final = """SELECT id, remaining_micro FROM credit_grants
    WHERE wallet_id = $1 AND subscription_id = $2 AND kind = 'CYCLE' AND remaining_micro > 0
      AND (expires_at IS NULL OR expires_at > $3) ORDER BY id"""
_HELD: Final = """SELECT h.call_id, p.grant_id, p.amount FROM holds h, unnest(h.grant_ids, h.grant_amounts_micro)
    AS p (grant_id, amount) WHERE h.wallet_id = $1 AND p.grant_id = ANY ($2) ORDER BY h.call_id, p.grant_id"""
_LATER: Final = """INSERT INTO outbox_events (id, workspace_id, kind, dedupe_key, payload, created_at, due_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (kind, dedupe_key) DO NOTHING"""
# What a call consumed of a grant stands in its entries; the rest of what it held has become free.
_ENDED: Final = """SELECT w.grant_id, greatest(0, w.amount + coalesce((SELECT sum(e.amount_micro) FROM ledger_entries e
        WHERE e.call_id = w.call_id AND e.grant_id = w.grant_id AND e.kind = 'USAGE'), 0))::bigint AS released
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS w (call_id, grant_id, amount)
    WHERE NOT EXISTS (SELECT FROM holds h WHERE h.call_id = w.call_id)"""


async def take_back_cycle(conn: PoolConnection, billing: Billing, subscription: Subscription, now: datetime) -> None:
    """End the credits of a cycle whose subscription was ended before its time, the wallet being locked."""
    rows = await conn.fetch(_LIVING, subscription.wallet_id, subscription.id, now)
    taken = await _take(
        conn, billing, subscription.id, subscription.wallet_id, {row["id"]: row["remaining_micro"] for row in rows}
    )
    held = await conn.fetch(_HELD, subscription.wallet_id, list(taken))
    if held:
        waits = {
            "wallet": str(subscription.wallet_id),
            "taken": {str(grant_id): amount for grant_id, amount in taken.items()},
            "held": [[str(row["call_id"]), str(row["grant_id"]), row["amount"]] for row in held],
        }
        key = str(subscription.id)
        await conn.execute(_LATER, uuid7(), subscription.workspace_id, TAKE_BACK_DUE, key, waits, now)


async def take_back_released(billing: Billing, *, limit: int = 20) -> int:
    """Take what calls held when their plan ended and did not use; how many plans are done with.

    Repeatable, and safe beside itself: how much is to be gone in all of each grant follows from the calls' entries, so
    that nothing else that came to the grant meanwhile, with a refund that failed say, is taken.
    """
    rows = await claim_waiting(billing.database, TAKE_BACK_DUE, limit)
    return sum([await _take_released(billing, row) for row in rows])


async def _take_released(billing: Billing, due: Record) -> bool:
    waits = due["payload"]
    calls, grants, amounts = zip(*waits["held"], strict=True)
    async with transaction(billing.database) as conn:
        ended = await conn.fetch(_ENDED, [UUID(call) for call in calls], [UUID(grant) for grant in grants], amounts)
        wanted = {UUID(grant): amount for grant, amount in waits["taken"].items()}
        for row in ended:
            wanted[row["grant_id"]] += row["released"]
        await _take(conn, billing, UUID(due["dedupe_key"]), UUID(waits["wallet"]), wanted)
        done = len(ended) == len(calls)
        if done:
            await end_waiting(conn, due["id"])
    return done


async def _take(
    conn: PoolConnection, billing: Billing, subscription_id: UUID, wallet_id: UUID, wanted: Mapping[UUID, int]
) -> dict[UUID, int]:
    """So much of each grant in all, as far as it is free; how much is gone then."""
    operations = [
        Clawback(f"end:{subscription_id}", wallet_id, grant_id, amount, "Plan ended")
        for grant_id, amount in wanted.items()
    ]
    outcomes = await post_all(conn, billing, operations, clock.now())
    return {
        grant_id: outcome.total_micro
        for grant_id, outcome in zip(wanted, outcomes, strict=True)
        if isinstance(outcome, Posted)
    }
