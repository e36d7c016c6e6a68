"""Shows what a plan change would cost and bring before anybody agrees to it; nothing is changed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.advance import advance
from billing.errors import ChangeRefused, NoSubscription, UnknownWorkspace
from billing.payment_port import PriceChange
from billing.rules.proration import ChangeKind, Offer, change_kind, credits_due_micro, money_due_micro
from billing.rules.subscription_states import ENDED, INCOMPLETE, PAST_DUE, TRIALING
from billing.rules.subscription_steps import Life
from billing.services import Billing
from billing.subscribing import offer_of
from billing.subscription_rows import live_subscription, lock_wallet
from kit import clock
from kit.errors import InvalidInput
from models.database import transaction

PREVIEW_LIFE: Final = timedelta(minutes=10)
"""How long a change may be made at the instant of its preview, and so for the same money."""


@dataclass(frozen=True, slots=True)
class ChangePreview:
    """What a change does. `at` is the instant of its proration: a change that names it within ten minutes costs this.

    `due_usd_micro` is charged now, `credits_micro` come now; from `next_at` on, None for never, each period costs
    `next_usd_micro`.
    """

    kind: ChangeKind
    at: datetime
    due_usd_micro: int
    credits_micro: int
    next_at: datetime | None
    next_usd_micro: int


async def preview_change(billing: Billing, workspace_id: UUID, price_id: UUID) -> ChangePreview:
    """What `change_plan` to this price would do now.

    Raises UnknownPrice, UnknownWorkspace, NoSubscription, ChangeRefused as the change itself, Unavailable.
    """
    snapshot = billing.catalog.current
    offer = offer_of(snapshot, workspace_id, price_id)
    async with transaction(billing.database) as conn:
        if await lock_wallet(conn, workspace_id) is None:
            raise UnknownWorkspace
        live = await live_subscription(conn, billing, workspace_id)
        if live is None:
            raise NoSubscription
        live = await advance(conn, billing, snapshot, live, clock.now())
    life = live.life
    if life.status in ENDED:
        raise NoSubscription
    at = moment_of_change(life, None)
    require_changeable(life, price_id, clock.now())
    kind = change_kind(Offer(snapshot.plans_by_id[life.price.plan_id], life.price), offer)
    amount = offer.price.amount_usd_micro
    if kind is ChangeKind.CHECKOUT:
        granted = 0 if offer.price.credits is None else offer.price.credits.amount_micro
        return ChangePreview(kind, at, amount, granted, None, amount)
    if kind is not ChangeKind.AT_ONCE:
        return ChangePreview(kind, at, 0, 0, life.period_end, amount)
    trial = life.status is TRIALING
    due = money_due_micro(life.anchor_at, life.price, offer.price, at, trial=trial)
    if due and billing.payments.configured:
        order = PriceChange("preview", workspace_id, live.id, live.id, price_id, due, at)
        due = await billing.payments.preview_price(order)
    added = credits_due_micro(life.anchor_at, life.price, offer.price, at, life.period_end, trial=trial)
    return ChangePreview(kind, at, due, added, life.period_end, amount)


def require_changeable(life: Life, price_id: UUID, now: datetime) -> None:
    """ChangeRefused where a change to this price cannot be made, nor be previewed, now."""
    if life.status in {INCOMPLETE, PAST_DUE}:
        raise ChangeRefused("pay for the present plan first, or cancel it")
    if life.cancel_at_period_end:
        raise ChangeRefused("this subscription is cancelled; resume it first")
    if life.period_end is not None and life.period_end <= now:
        raise ChangeRefused("its renewal is being paid; try again when it is")
    if price_id == life.price.id and life.scheduled is None:
        raise ChangeRefused("this is the present price")


def moment_of_change(life: Life, previewed_at: datetime | None) -> datetime:
    """The instant of a change's proration, for its preview and its deed alike: that of the preview, or now.

    In whole seconds, as payment providers count, and not before the period under way. InvalidInput for an instant that
    no preview of the last ten minutes can have shown.
    """
    now = clock.now()
    latest = max(now, life.period_start)
    if previewed_at is not None and not now - PREVIEW_LIFE <= previewed_at <= latest:
        raise InvalidInput("this preview is older than ten minutes; ask for another", field=["proratedAt"])
    return max((previewed_at or now).replace(microsecond=0), life.period_start)
