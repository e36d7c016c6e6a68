"""Begins subscriptions: free ones at once, paid ones through a checkout, trials when their checkout is done."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.advance import advance, change
from billing.catalog import Snapshot
from billing.errors import AlreadySubscribed, NoSubscription, PaymentsNotConfigured, UnknownPrice, UnknownWorkspace
from billing.lifetimes import charge_lifetime, require_chargeable, require_lifetime
from billing.paying import open_page
from billing.payment_port import Checkout
from billing.payment_rows import open_payment, payment_by_id
from billing.rules.proration import Offer
from billing.rules.subscription_states import INCOMPLETE, TRIALING, Event, target_of
from billing.rules.subscription_steps import Life, begin_period, begin_trial, ended
from billing.services import Billing, Note, unnoted
from billing.subscription_rows import (
    Subscription,
    insert_subscription,
    live_subscription,
    lock_wallet,
    save_subscription,
    subscription_by_id,
    subscription_view,
)
from billing.views import PaymentView, PriceView, SubscriptionView
from kit import clock
from kit.ids import uuid7
from metering.idempotency import input_digest, run_once
from models.database import connection, transaction
from models.enums import PaymentPurpose, PricePeriod
from models.pool import PoolConnection

SUBSCRIBE: Final = "subscribe"
_TRIED: Final = "SELECT true FROM subscriptions WHERE workspace_id = $1 AND trial_ends_at IS NOT NULL LIMIT 1"
# Whoever subscribes and the catalog's `apply` (which takes SHARE) wait for each other: no price is retired meanwhile.
_NOT_WHILE_APPLYING: Final = "LOCK TABLE subscriptions IN ROW EXCLUSIVE MODE"
_ON_OFFER: Final = "SELECT retired_at IS NULL FROM prices WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The subscription, and the page on which to pay, to confirm or to give a card where that comes first.

    `payment`: of a change that was to be paid at once, and may have been declined.
    """

    subscription: SubscriptionView
    checkout_url: str | None
    payment: PaymentView | None = None


async def subscribe(
    billing: Billing,
    workspace_id: UUID,
    price_id: UUID,
    *,
    idempotency_key: str,
    success_url: str | None = None,
    cancel_url: str | None = None,
    saved_method: bool = False,
    note: Note = unnoted,
) -> Subscribed:
    """Subscribe a workspace to a price (A1, B8, C1). A checkout that was not paid makes room for this one.

    `saved_method`: charge a lifetime to the saved method at once, in the place of a page; a decline is in the payment's
    view. Raises UnknownPrice, UnknownWorkspace, AlreadySubscribed, PaymentsNotConfigured, IdempotencyKeyReused;
    PaymentMethodRequired, ChangeRefused and InvalidInput for a saved method.
    """
    offer = offer_of(billing.catalog.current, workspace_id, price_id)
    if saved_method:
        require_lifetime(offer.price)
    if offer.price.period is not PricePeriod.FREE and not billing.payments.configured:
        raise PaymentsNotConfigured

    async def effect(conn: PoolConnection) -> dict[str, object]:
        begun = await _begin(conn, billing, workspace_id, offer, saved_method=saved_method)
        subject = UUID(str(begun["subscription_id"]))
        await note(conn, "subscription.begin", "subscription", subject, {"price": code_of(offer)})
        return begun

    digest = input_digest(price_id, success_url, cancel_url, *(("saved",) if saved_method else ()))
    answer = await run_once(billing.database, workspace_id, idempotency_key, SUBSCRIBE, digest, effect)
    subscription_id = UUID(str(answer["subscription_id"]))
    payment_id = UUID(str(answer["payment_id"])) if answer["payment_id"] else None
    if saved_method and payment_id is not None:
        payment = await charge_lifetime(billing, payment_id, success_url)
        return Subscribed(await view_of(billing, subscription_id), payment.action_url, payment)
    url = None
    if answer["trial_days"] or payment_id is not None:
        url = await _page(billing, workspace_id, subscription_id, offer.price, payment_id, success_url, cancel_url)
    return Subscribed(await view_of(billing, subscription_id), url)


async def start_trial(billing: Billing, subscription_id: UUID, *, at: datetime | None = None) -> SubscriptionView:
    """The card for a trial was given: it begins, once. Raises NoSubscription where there is none that waits for it."""
    async with transaction(billing.database) as conn:
        before = await locked_subscription(conn, billing, subscription_id)
        if before.life.trial_ends_at is None:
            if target_of(before.life.status, Event.TRIAL_STARTED) is None:
                raise NoSubscription
            now = clock.now()
            life = begin_trial(before.life, before.life.price.trial_days, now if at is None else min(at, now))
            snapshot = billing.catalog.current
            after = await change(conn, billing, snapshot, before, before.with_life(life))
            await advance(conn, billing, snapshot, after, now)
    return await view_of(billing, subscription_id)


async def begin_free(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, workspace_id: UUID, wallet_id: UUID, price: PriceView
) -> Subscription:
    """A free price from now on, with its credits; the wallet is locked and nothing else lives."""
    now = clock.now()
    new = _new(workspace_id, wallet_id, price, now)
    subscription = new.with_life(begin_period(new.life, price, now, anew=True))
    await insert_subscription(conn, snapshot, subscription, now)
    return await advance(conn, billing, snapshot, await change(conn, billing, snapshot, None, subscription), now)


async def open_price_payment(
    conn: PoolConnection, workspace_id: UUID, subscription_id: UUID, price: PriceView, now: datetime
) -> UUID:
    """The payment of the first period of a price, to be made in a checkout, or a lifetime's with the saved method."""
    return await open_payment(
        conn,
        workspace_id,
        PaymentPurpose.SUBSCRIPTION,
        price.amount_usd_micro,
        now,
        price_id=price.id,
        subscription_id=subscription_id,
    )


def offer_of(snapshot: Snapshot, workspace_id: UUID, price_id: UUID) -> Offer:
    """A price that this workspace may take; UnknownPrice where it is retired or for others (D10)."""
    price = snapshot.prices_by_id.get(price_id)
    plan = None if price is None or price.retired else snapshot.plans_by_id.get(price.plan_id)
    if price is None or plan is None or plan.retired:
        raise UnknownPrice
    if not plan.is_public and plan.workspace_id != workspace_id:
        raise UnknownPrice
    return Offer(plan, price)


def code_of(offer: Offer) -> str:
    """The price in the words of the catalog, such as "pro.monthly"."""
    return f"{offer.plan.code}.{offer.price.code}"


async def require_on_offer(conn: PoolConnection, price: PriceView) -> None:
    """UnknownPrice where another process has retired it; it stays on offer until this transaction ends."""
    await conn.execute(_NOT_WHILE_APPLYING)
    if not await conn.fetchval(_ON_OFFER, price.id):
        raise UnknownPrice


async def locked_subscription(conn: PoolConnection, billing: Billing, subscription_id: UUID) -> Subscription:
    """A subscription by id, read under its wallet's lock; NoSubscription where there is none."""
    locked = await find_locked(conn, billing, subscription_id)
    if locked is None:
        raise NoSubscription
    return locked


async def find_locked(conn: PoolConnection, billing: Billing, subscription_id: UUID) -> Subscription | None:
    """The same; None where there is none, or its workspace was deleted."""
    found = await subscription_by_id(conn, billing, subscription_id)
    if found is None or await lock_wallet(conn, found.workspace_id) is None:
        return None
    return await subscription_by_id(conn, billing, subscription_id)


async def view_of(billing: Billing, subscription_id: UUID) -> SubscriptionView:
    """A subscription as it is now; NoSubscription where there is none."""
    async with connection(billing.database) as conn:
        found = await subscription_by_id(conn, billing, subscription_id)
    if found is None:
        raise NoSubscription
    return subscription_view(found)


async def _begin(
    conn: PoolConnection, billing: Billing, workspace_id: UUID, offer: Offer, *, saved_method: bool
) -> dict[str, object]:
    wallet_id = await lock_wallet(conn, workspace_id)
    if wallet_id is None:
        raise UnknownWorkspace
    await require_on_offer(conn, offer.price)
    snapshot, now, price = billing.catalog.current, clock.now(), offer.price
    live = await _live_now(conn, billing, snapshot, workspace_id, now)
    paid = price.period is not PricePeriod.FREE
    if live is not None and not (paid and live.life.price.period is PricePeriod.FREE):
        raise AlreadySubscribed(snapshot.plans_by_id[live.life.price.plan_id].name)
    if not paid:
        subscription = await begin_free(conn, billing, snapshot, workspace_id, wallet_id, price)
        return {"subscription_id": str(subscription.id), "payment_id": None, "trial_days": 0}
    if saved_method:
        await require_chargeable(conn, workspace_id, now)
    if live is not None:  # the free plan stays until the other one is paid
        payment_id = await open_price_payment(conn, workspace_id, live.id, price, now)
        return {"subscription_id": str(live.id), "payment_id": str(payment_id), "trial_days": 0}
    subscription = _new(workspace_id, wallet_id, price, now)
    await insert_subscription(conn, snapshot, subscription, now)
    if price.trial_days and not await conn.fetchval(_TRIED, workspace_id):
        return {"subscription_id": str(subscription.id), "payment_id": None, "trial_days": price.trial_days}
    payment_id = await open_price_payment(conn, workspace_id, subscription.id, price, now)
    return {"subscription_id": str(subscription.id), "payment_id": str(payment_id), "trial_days": 0}


async def _live_now(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, workspace_id: UUID, now: datetime
) -> Subscription | None:
    """What lives after everything due is done, and after a checkout that nobody paid has made room."""
    live = await live_subscription(conn, billing, workspace_id)
    if live is None:
        return None
    live = await advance(conn, billing, snapshot, live, now)
    if live.life.status is INCOMPLETE:
        replaced = live.with_life(ended(live.life, Event.CHECKOUT_REPLACED, now))
        await save_subscription(conn, snapshot, replaced, now)
        return None
    return live if live.life.ended_at is None else None


def _new(workspace_id: UUID, wallet_id: UUID, price: PriceView, now: datetime) -> Subscription:
    life = Life(status=INCOMPLETE, price=price, anchor_at=now, period_start=now, period_end=None, created_at=now)
    return Subscription(uuid7(), workspace_id, wallet_id, life)


async def _page(
    billing: Billing,
    workspace_id: UUID,
    subscription_id: UUID,
    price: PriceView,
    payment_id: UUID | None,
    success_url: str | None,
    cancel_url: str | None,
) -> str | None:
    """The checkout's page, opened outside of any transaction, again with the same key where the first answer was lost."""
    async with connection(billing.database) as conn:
        payment = None if payment_id is None else await payment_by_id(conn, payment_id)
        subscription = await subscription_by_id(conn, billing, subscription_id)
    if payment is not None and (payment.applied_at is not None or payment.action_url is not None):
        return payment.action_url
    if payment is None and (subscription is None or subscription.life.status is TRIALING):
        return None
    order = Checkout(
        key=f"checkout:{payment_id or subscription_id}",
        workspace_id=workspace_id,
        purpose=PaymentPurpose.SUBSCRIPTION,
        payment_id=payment_id,
        amount_usd_micro=price.amount_usd_micro if payment_id else 0,
        subscription_id=subscription_id,
        price_id=price.id,
        trial_days=0 if payment_id else price.trial_days,
        success_url=success_url,
        cancel_url=cancel_url,
    )
    return await open_page(billing, order)
