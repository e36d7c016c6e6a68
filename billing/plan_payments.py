"""What a payment means for a subscription: its next period, or a higher price now."""

from datetime import datetime
from uuid import UUID

from billing.advance import advance, change
from billing.catalog import Snapshot
from billing.free_credits import may_have_free_credits
from billing.grants import post_all
from billing.payment_rows import Payment, note_former_price
from billing.rules.grant_schedule import cycle_of
from billing.rules.proration import credits_due_micro
from billing.rules.subscription_states import ENDED, PAST_DUE, TRIALING, Event, target_of
from billing.rules.subscription_steps import Life, paid, past_due, with_price
from billing.services import Billing
from billing.subscription_rows import Subscription, live_subscription, price_by_id, subscription_by_id, tell_again
from billing.views import PriceView
from kit import clock
from kit.ids import uuid7
from metering.operations import Grant
from models.enums import GrantKind, PricePeriod
from models.pool import PoolConnection


async def pay_period(conn: PoolConnection, billing: Billing, payment: Payment, at: datetime) -> bool:
    """A period, from where the life says; False where such a payment has no place, or another subscription lives."""
    before = await _subscription_of(conn, billing, payment)
    if before is None or await _another_lives(conn, billing, before):
        return False
    snapshot = billing.catalog.current
    current = before if before.life.status in ENDED else await advance(conn, billing, snapshot, before, at)
    life = paid(current.life, await _price_paid(billing, snapshot, payment, current.life), at)
    if life is None:
        return False
    await change(conn, billing, snapshot, current, current.with_life(life))
    return True


async def _price_paid(billing: Billing, snapshot: Snapshot, payment: Payment, life: Life) -> PriceView:
    if payment.price_id is not None:
        return await price_by_id(billing, payment.price_id)
    return snapshot.renewal_of(life.scheduled or life.price) or life.price


async def pay_change(conn: PoolConnection, billing: Billing, payment: Payment) -> bool:
    """An upgrade that was paid; False where the subscription has ended meanwhile, or what it was made from was undone."""
    before = await _subscription_of(conn, billing, payment)
    if before is None or payment.price_id is None:
        return False
    snapshot = billing.catalog.current
    current = await advance(conn, billing, snapshot, before, clock.now())
    if target_of(current.life.status, Event.PRICE_CHANGED) is None:
        return False
    if payment.former_price_id not in {None, current.life.price.id}:  # it is the difference to another price
        await tell_again(conn, current.id, clock.now())
        return False
    price = await price_by_id(billing, payment.price_id)
    await note_former_price(conn, payment.id, current.life.price.id)
    await change_price_now(conn, billing, snapshot, current, price, payment.created_at, payment_id=payment.id)
    return True


async def change_price_now(
    conn: PoolConnection,
    billing: Billing,
    snapshot: Snapshot,
    current: Subscription,
    price: PriceView,
    at: datetime,
    *,
    payment_id: UUID | None,
) -> Subscription:
    """Another price for the period under way, with the credits' difference by the money's fraction at `at`."""
    life = current.life
    trial = life.status is TRIALING
    added = credits_due_micro(life.anchor_at, life.price, price, at, life.period_end, trial=trial)
    after = await change(conn, billing, snapshot, current, current.with_life(with_price(life, price, clock.now())))
    _, expires_at = cycle_of(life.anchor_at, price, clock.now(), life.period_end)
    if added and trial:
        may = await may_have_free_credits(conn, billing, current.workspace_id, clock.now(), trial=True)
        added = added if may else 0
    if added:
        grant_id = uuid7()
        grant = Grant(
            grant_id=grant_id,
            wallet_id=after.wallet_id,
            kind="CYCLE",
            amount_micro=added,
            effective_at=min(at, clock.now()),
            expires_at=expires_at,
            source_kind="PLAN_CHANGE",
            source_id=str(payment_id or grant_id),
            description=f"{snapshot.plans_by_id[price.plan_id].name}: credits for the rest of the cycle",
            burn_rank=snapshot.burn_ranks[GrantKind.CYCLE],
            subscription_id=after.id,
            payment_id=payment_id,
        )
        await post_all(conn, billing, [grant], clock.now())
    return after


async def fail_renewal(conn: PoolConnection, billing: Billing, payment: Payment) -> None:
    """A renewal that was declined makes the subscription past due, once the time that is paid for is over.

    A lifetime that was declined leaves it as it is.
    """
    before = await _subscription_of(conn, billing, payment)
    if before is None or before.life.status in ENDED:
        return
    snapshot = billing.catalog.current
    current = await advance(conn, billing, snapshot, before, clock.now())
    price = await _price_paid(billing, snapshot, payment, current.life)
    bought = {PricePeriod.FREE, PricePeriod.LIFETIME} & {current.life.price.period, price.period}
    is_paid_for = current.life.period_end is not None and clock.now() < current.life.period_end
    if not bought and not is_paid_for and target_of(current.life.status, Event.PAYMENT_FAILED) is PAST_DUE:
        await change(conn, billing, snapshot, current, current.with_life(past_due(current.life, clock.now())))


async def give_due_grants(conn: PoolConnection, billing: Billing, payment: Payment) -> None:
    """After the payment is marked, so that the grants due by now carry its id."""
    if payment.subscription_id is None:
        return
    current = await subscription_by_id(conn, billing, payment.subscription_id)
    if current is not None and current.life.status not in ENDED:
        await advance(conn, billing, billing.catalog.current, current, clock.now())


async def _another_lives(conn: PoolConnection, billing: Billing, subscription: Subscription) -> bool:
    live = await live_subscription(conn, billing, subscription.workspace_id)
    return live is not None and live.id != subscription.id


async def _subscription_of(conn: PoolConnection, billing: Billing, payment: Payment) -> Subscription | None:
    if payment.subscription_id is None:
        return None
    return await subscription_by_id(conn, billing, payment.subscription_id)
