"""Makes Stripe's subscriptions stand as ours do: what was cancelled, resumed, scheduled, replaced or ended.

Ours is changed first, in a transaction that notes `tell_due_at`; Stripe is told after it, and by the worker where that
failed. It is the wanted state that is told, compared with what Stripe has, so any number of repeats end alike.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.rules.stripe_values import entries, first, flag, id_of, number, required_id, text
from billing.stripe_client import StripeAway, StripeJson, StripeRefused
from billing.stripe_link import StripeLink
from billing.stripe_prices import RECURRING, interval_of, price_id_of
from billing.views import PriceView
from kit import clock
from models.database import connection
from models.enums import PricePeriod

_READ: Final = """SELECT s.stripe_subscription_id, s.price_id, s.scheduled_price_id, s.cancel_at_period_end, s.ended_at,
    s.tell_due_at, EXISTS (SELECT FROM payments p WHERE p.subscription_id = s.id AND p.purpose = 'PLAN_CHANGE'
        AND p.status IN ('PENDING', 'ACTION_REQUIRED')) AS changing
    FROM subscriptions s WHERE s.id = $1"""
_DUE: Final = "SELECT id FROM subscriptions WHERE tell_due_at <= $1 ORDER BY tell_due_at LIMIT $2"
_TOLD: Final = "UPDATE subscriptions SET tell_due_at = NULL WHERE id = $1 AND tell_due_at IS NOT DISTINCT FROM $2"
_NOBODY_TO_TELL: Final = """UPDATE subscriptions SET tell_due_at = NULL
    WHERE id = $1 AND stripe_subscription_id IS NULL AND tell_due_at IS NOT NULL"""
_FORGET: Final = "UPDATE subscriptions SET stripe_subscription_id = NULL WHERE id = $1 AND stripe_subscription_id = $2"
_POSTPONE: Final = "UPDATE subscriptions SET tell_due_at = $3 WHERE id = $1 AND tell_due_at IS NOT DISTINCT FROM $2"
_RENEWALS: Final = """UPDATE subscriptions s SET tell_due_at = $1 FROM prices p WHERE p.id = s.price_id
    AND s.ended_at IS NULL AND s.stripe_subscription_id IS NOT NULL AND p.retired_at IS NOT NULL"""
AGAIN_AFTER: Final = timedelta(minutes=1)
OVER: Final = frozenset({"canceled", "incomplete_expired"})
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How Stripe's subscription should stand. `following`: the price of its next period; None: it ends with this one."""

    stripe_id: str
    price: PriceView
    following: PriceView | None
    over: bool
    changing: bool
    due_at: datetime | None


async def tell_subscription(link: StripeLink, subscription_id: UUID) -> None:
    """Tell Stripe how a subscription stands now. Raises StripeAway; it stays due then."""
    wanted = await _wanted(link, subscription_id)
    if wanted is None:
        async with connection(link.database) as conn:
            await conn.execute(_NOBODY_TO_TELL, subscription_id)
        return
    try:
        found = await _found(link, wanted.stripe_id)
        if found is not None and text(found, "status") not in OVER:
            await _make_so(link, wanted, found)
    except StripeRefused as refused:
        logger.error("subscription %s could not be told: %s", subscription_id, refused)
        await _postpone(link, subscription_id, wanted)
        return
    async with connection(link.database) as conn:
        if wanted.over:
            await conn.execute(_FORGET, subscription_id, wanted.stripe_id)
        await conn.execute(_TOLD, subscription_id, wanted.due_at)


async def tell_due(link: StripeLink, *, limit: int = 50) -> int:
    """Tell what could not be told when it changed; how many subscriptions were."""
    async with connection(link.database) as conn:
        due = [row["id"] for row in await conn.fetch(_DUE, clock.now(), limit)]
    for subscription_id in due:
        try:
            await tell_subscription(link, subscription_id)
        except StripeAway:
            wanted = await _wanted(link, subscription_id)
            if wanted is not None:
                await _postpone(link, subscription_id, wanted)
    return len(due)


async def renewals_changed(link: StripeLink) -> None:
    """A catalog was applied: subscriptions on retired prices renew onto others, which Stripe is to learn before."""
    async with connection(link.database) as conn:
        await conn.execute(_RENEWALS, clock.now())


async def ends_with_period(link: StripeLink, subscription_id: UUID) -> bool:
    """Whether Stripe should know that a subscription ends with its period: cancelled, or what follows is free."""
    wanted = await _wanted(link, subscription_id)
    return wanted is not None and (wanted.over or wanted.following is None)


async def cancel_at_stripe(link: StripeLink, stripe_id: str) -> None:
    """End a subscription at Stripe now, without a last invoice; one that is over stays so. Raises StripeAway."""
    try:
        await link.stripe.call(
            lambda v1: v1.subscriptions.cancel_async(stripe_id, {"invoice_now": False, "prorate": False})
        )
    except StripeRefused as refused:
        logger.info("subscription %s was over already: %s", stripe_id, refused.code)


async def release_schedule(link: StripeLink, found: StripeJson) -> None:
    """Take a scheduled price back, so that the subscription itself can be changed. Raises StripeAway, StripeRefused."""
    schedule = id_of(found, "schedule")
    if schedule is not None:
        await link.stripe.call(lambda v1: v1.subscription_schedules.release_async(schedule))


def item_of(subscription: StripeJson) -> StripeJson:
    """Its one item, which has the price and the period."""
    return first(subscription, "items")


async def _make_so(link: StripeLink, wanted: _Wanted, found: StripeJson) -> None:
    if wanted.over:
        await release_schedule(link, found)
        await cancel_at_stripe(link, wanted.stripe_id)
    elif wanted.following is None:
        await release_schedule(link, found)
        await _set_cancel(link, wanted.stripe_id, found, cancel=True)
    else:
        await _set_cancel(link, wanted.stripe_id, found, cancel=False)
        if not wanted.changing:
            await _set_prices(link, wanted, wanted.following, found)


async def _set_cancel(link: StripeLink, stripe_id: str, found: StripeJson, *, cancel: bool) -> None:
    if flag(found, "cancel_at_period_end") != cancel:
        await link.stripe.call(lambda v1: v1.subscriptions.update_async(stripe_id, {"cancel_at_period_end": cancel}))


async def _set_prices(link: StripeLink, wanted: _Wanted, following: PriceView, found: StripeJson) -> None:
    """The price of the period under way without a charge, and that of the next one by a schedule."""
    item = item_of(found)
    price, next_price = await price_id_of(link, wanted.price.id), await price_id_of(link, following.id)
    current = id_of(item, "price")
    if current not in {price, next_price}:
        await release_schedule(link, found)
        item_id = required_id(item)
        await link.stripe.call(
            lambda v1: v1.subscriptions.update_async(
                wanted.stripe_id, {"items": [{"id": item_id, "price": price}], "proration_behavior": "none"}
            )
        )
        current, found = price, await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(wanted.stripe_id))
    if current == next_price:
        await release_schedule(link, found)
    else:
        await _schedule(link, wanted.stripe_id, found, price, next_price, following.period)


async def _schedule(
    link: StripeLink, stripe_id: str, found: StripeJson, price: str, next_price: str, period: PricePeriod
) -> None:
    schedule_id = id_of(found, "schedule")
    if schedule_id is None:
        schedule = await link.stripe.call(
            lambda v1: v1.subscription_schedules.create_async({"from_subscription": stripe_id})
        )
    else:
        schedule = await link.stripe.call(lambda v1: v1.subscription_schedules.retrieve_async(schedule_id))
    phases = entries(schedule, "phases")
    if phases and id_of(first(phases[-1], "items"), "price") == next_price:
        return
    start = number(schedule, "current_phase", "start_date") or number(phases[0], "start_date") or 0
    end = number(item_of(found), "current_period_end") or 0
    interval, count = interval_of(period)
    made = required_id(schedule)
    await link.stripe.call(
        lambda v1: v1.subscription_schedules.update_async(
            made,
            {
                "end_behavior": "release",
                "proration_behavior": "none",
                "phases": [
                    {"items": [{"price": price, "quantity": 1}], "start_date": start, "end_date": end},
                    {
                        "items": [{"price": next_price, "quantity": 1}],
                        "duration": {"interval": interval, "interval_count": count},
                    },
                ],
            },
        )
    )


async def _wanted(link: StripeLink, subscription_id: UUID) -> _Wanted | None:
    async with connection(link.database) as conn:
        row = await conn.fetchrow(_READ, subscription_id)
    if row is None or row["stripe_subscription_id"] is None:
        return None
    snapshot = link.catalog.current
    if row["price_id"] not in snapshot.prices_by_id or (
        row["scheduled_price_id"] is not None and row["scheduled_price_id"] not in snapshot.prices_by_id
    ):
        snapshot = await link.catalog.reload()
    price = snapshot.prices_by_id[row["price_id"]]
    scheduled = snapshot.prices_by_id.get(row["scheduled_price_id"]) if row["scheduled_price_id"] else None
    following = None if row["cancel_at_period_end"] else snapshot.renewal_of(scheduled or price)
    return _Wanted(
        stripe_id=row["stripe_subscription_id"],
        price=price,
        following=following if following is not None and following.period in RECURRING else None,
        over=row["ended_at"] is not None or price.period not in RECURRING,
        changing=row["changing"],
        due_at=row["tell_due_at"],
    )


async def _found(link: StripeLink, stripe_id: str) -> StripeJson | None:
    try:
        return await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    except StripeRefused as refused:
        if refused.code == "resource_missing":
            return None
        raise


async def _postpone(link: StripeLink, subscription_id: UUID, wanted: _Wanted) -> None:
    async with connection(link.database) as conn:
        await conn.execute(_POSTPONE, subscription_id, wanted.due_at, clock.now() + AGAIN_AFTER)
