"""Moves running subscriptions onto the terms of a new catalog at once, where the operator says so."""

from dataclasses import replace
from typing import Final
from uuid import UUID

from billing.advance import advance
from billing.catalog import Snapshot
from billing.rules.subscription_states import INCOMPLETE
from billing.rules.subscription_steps import Life, with_price
from billing.services import Billing
from billing.subscription_rows import live_subscription, lock_wallet, save_subscription
from billing.views import PriceView
from kit import clock
from models.database import connection, transaction

BATCH: Final = 200
_ON_OLD_TERMS: Final = """SELECT workspace_id FROM subscriptions
    WHERE ended_at IS NULL AND price_id <> ALL ($1) AND workspace_id > $2 ORDER BY workspace_id LIMIT $3"""
_FIRST: Final = UUID(int=0)


async def move_subscriptions(billing: Billing) -> int:
    """Give running subscriptions what the live version of their plan says now, not at their renewal; how many.

    Only who pays the same for the same period is moved: nobody's money changes before a renewal. What was granted stays,
    the next credits are those of the new terms. A lifetime, which never renews, is moved by this alone. Repeatable.
    """
    await billing.catalog.refresh_if_changed()
    live = [price.id for plan in billing.catalog.current.plans for price in plan.prices]
    moved, after = 0, _FIRST
    while True:
        async with connection(billing.database) as conn:
            rows = await conn.fetch(_ON_OLD_TERMS, live, after, BATCH)
        for row in rows:
            moved += await _move(billing, row["workspace_id"])
        if len(rows) < BATCH:
            return moved
        after = rows[-1]["workspace_id"]


async def _move(billing: Billing, workspace_id: UUID) -> bool:
    async with transaction(billing.database) as conn:
        if await lock_wallet(conn, workspace_id) is None:
            return False
        found = await live_subscription(conn, billing, workspace_id)
        if found is None:
            return False
        snapshot, now = billing.catalog.current, clock.now()
        current = await advance(conn, billing, snapshot, found, now)  # what is due until now is of the old terms
        price = live_price_of(snapshot, current.life)
        if price is None:
            return False
        life = replace(with_price(current.life, price, now), scheduled=current.life.scheduled)
        await save_subscription(conn, snapshot, current.with_life(life), now)
        return True


def live_price_of(snapshot: Snapshot, life: Life) -> PriceView | None:
    """The live price of the same codes that costs the same for the same period; None where there is none but its own."""
    if life.ended_at is not None or life.status is INCOMPLETE:
        return None
    plan = snapshot.plans_by_code.get(snapshot.plans_by_id[life.price.plan_id].code)
    if plan is None:
        return None
    for price in plan.prices:
        same = (price.code, price.period, price.amount_usd_micro)
        if price.id != life.price.id and same == (life.price.code, life.price.period, life.price.amount_usd_micro):
            return price
    return None
