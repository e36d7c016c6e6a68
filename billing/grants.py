"""Gives a subscription's credits when our own schedule says so, and freezes or thaws what needs a plan (A9)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.catalog import Snapshot
from billing.free_credits import may_have_free_credits
from billing.payment_rows import last_period_paid
from billing.rules.grant_schedule import CycleGrant, cycle_unit, grant_at, leftover_micro
from billing.rules.standing import gives_plan
from billing.rules.subscription_states import TRIALING
from billing.rules.subscription_steps import Life
from billing.services import Billing
from billing.subscription_rows import Subscription
from kit.ids import uuid7
from metering.operations import Expire, Freeze, Grant, Operation, Thaw
from metering.views import Outcome, Posted, Rejected
from models.enums import GrantKind, PricePeriod
from models.pool import PoolConnection

SCHEDULE_SOURCE: Final = "SUBSCRIPTION"
LEFTOVER_SOURCE: Final = "LEFTOVER"
ONCE_SOURCE: Final = "PLAN_ONCE"

_ENDING: Final = """SELECT id, remaining_micro - held_micro AS free_micro, expired_micro,
        (SELECT d.payment_id FROM payment_disputes d WHERE d.payment_id = g.payment_id AND d.status = 'OPEN' LIMIT 1)
        AS disputed_id
    FROM credit_grants g WHERE wallet_id = $1 AND subscription_id = $2 AND kind = 'CYCLE' AND expires_at = $3 ORDER BY id"""


async def give_cycle_grant(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, subscription: Subscription, at: datetime, now: datetime
) -> UUID | None:
    """The grant that is due at this instant of the schedule, once whoever asks: its number is its unique key.

    The cycle before ends at the same instant; what it left over comes along where the price says so. A cycle that is
    over already (the worker was away) is granted and expires in one, so that the history has no gap. Free credits that
    the workspace may not have are left out, and the schedule goes on. Answers the payment that bought it, if one did.
    """
    life = subscription.life
    due = grant_at(life.anchor_at, life.price, at, life.period_end, trial=life.status is TRIALING)
    if due is None:
        return None
    trial = life.status is TRIALING
    free = trial or life.price.period is PricePeriod.FREE
    if free and not await may_have_free_credits(conn, billing, subscription.workspace_id, now, trial=trial):
        return None
    ending = await conn.fetch(_ENDING, subscription.wallet_id, subscription.id, at)
    # Free credits were bought by no payment, and stay when the money of an earlier period goes back.
    payment_id: UUID | None = None if free else await last_period_paid(conn, subscription.id)
    operations: list[Operation] = [
        Expire(row["id"], subscription.wallet_id) for row in ending if row["free_micro"] and at <= now
    ]
    operations.append(_grant(snapshot, subscription, due, due.amount_micro, payment_id))
    for disputed_id, kept in _leftovers(due, ending):
        leftover = _grant(snapshot, subscription, due, kept, disputed_id or payment_id, leftover=True)
        operations.append(leftover if disputed_id is None else _disputed(leftover))
    await post_all(conn, billing, operations, now)
    return payment_id


def _leftovers(due: CycleGrant, ending: Sequence[Record]) -> list[tuple[UUID | None, int]]:
    """What comes along, up to the cap: what may be spent first, then what is disputed, by its payment."""
    if not due.keeps_leftover:
        return []
    left: dict[UUID | None, int] = {None: 0}
    for row in ending:
        disputed_id: UUID | None = row["disputed_id"]
        left[disputed_id] = left.get(disputed_id, 0) + row["free_micro"] + row["expired_micro"]
    rest = leftover_micro(sum(left.values()), due.leftover_cap_micro)
    kept: list[tuple[UUID | None, int]] = []
    for disputed_id, amount in left.items():
        part = min(amount, rest)
        rest -= part
        if part:
            kept.append((disputed_id, part))
    return kept


def _disputed(leftover: Grant) -> Grant:
    """Of a payment whose dispute is open: it stays frozen, and is thawed with the payment's other grants."""
    source_id = f"{leftover.source_id}:{leftover.payment_id}"
    return replace(leftover, source_id=source_id, frozen_reason="DISPUTE")


def _grant(
    snapshot: Snapshot,
    subscription: Subscription,
    due: CycleGrant,
    amount_micro: int,
    payment_id: UUID | None,
    *,
    leftover: bool = False,
) -> Grant:
    price = subscription.life.price
    plan = snapshot.plans_by_id[price.plan_id]
    source = (SCHEDULE_SOURCE, f"{subscription.id}:{subscription.life.grant_number + 1}")
    if leftover:
        source = (LEFTOVER_SOURCE, source[1])
    elif cycle_unit(price) is None:
        source = (ONCE_SOURCE, f"{subscription.workspace_id}:{plan.code}:{price.code}")
    return Grant(
        grant_id=uuid7(),
        wallet_id=subscription.wallet_id,
        kind="CYCLE",
        amount_micro=amount_micro,
        effective_at=due.at,
        expires_at=due.expires_at,
        source_kind=source[0],
        source_id=source[1],
        description=f"{plan.name}: {'left over from the cycle before' if leftover else 'credits of the plan'}",
        burn_rank=snapshot.burn_ranks[GrantKind.CYCLE],
        requires_active_plan=due.expires_at is None,
        subscription_id=subscription.id,
        payment_id=payment_id,
    )


async def freeze_or_thaw(
    conn: PoolConnection, billing: Billing, wallet_id: UUID, now: datetime, *, active: bool
) -> int:
    """Bring what requires an active plan in line with whether there is one; how many grants changed."""
    step = Thaw(wallet_id, "NO_ACTIVE_SUBSCRIPTION") if active else Freeze(wallet_id, "NO_ACTIVE_SUBSCRIPTION")
    [outcome] = await post_all(conn, billing, [step], now)
    return len(outcome.grants) if isinstance(outcome, Posted) else 0


def is_active(life: Life, now: datetime) -> bool:
    """Whether a subscription gives its plan now, and with it the credits that require one (A9)."""
    return gives_plan(
        life.status,
        now,
        current_period_end=life.period_end,
        grace_ends_at=life.grace_ends_at,
        cancel_at_period_end=life.cancel_at_period_end,
    )


async def post_all(
    conn: PoolConnection, billing: Billing, operations: Sequence[Operation], now: datetime
) -> list[Outcome]:
    """Post in the caller's transaction; raises what the ledger refuses, so that nothing of it is committed."""
    if not operations:
        return []
    outcomes = await billing.ledger.post(conn, operations, now=now)
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            raise outcome.error
    return outcomes
