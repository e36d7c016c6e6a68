"""Changes subscriptions: upgrade, downgrade, another period, cancel, resume, end."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.advance import advance, change, end_at_once
from billing.catalog import Snapshot
from billing.errors import ChangeRefused, NoSubscription, NothingToResume, PaymentsNotConfigured, UnknownWorkspace
from billing.lifetimes import charge_lifetime, require_chargeable, require_lifetime
from billing.paying import open_page
from billing.payment_port import Checkout, PriceChange
from billing.payment_rows import note_former_price, open_payment, payment_by_id, payment_view
from billing.payments import settle_charge
from billing.plan_payments import change_price_now
from billing.previews import moment_of_change, require_changeable
from billing.rules.proration import ChangeKind, Offer, change_kind, money_due_micro
from billing.rules.subscription_states import ENDED, INCOMPLETE, PAST_DUE, TRIALING, Event
from billing.rules.subscription_steps import ended, with_cancel
from billing.services import Billing, Note, unnoted
from billing.subscribing import (
    Subscribed,
    code_of,
    locked_subscription,
    offer_of,
    open_price_payment,
    require_on_offer,
    view_of,
)
from billing.subscription_rows import Subscription, live_subscription, lock_wallet
from billing.views import PaymentView, SubscriptionView
from kit import clock
from metering.idempotency import input_digest, run_once
from models.database import connection, transaction
from models.enums import PaymentPurpose, PaymentStatus, PricePeriod
from models.pool import PoolConnection

CHANGE_PLAN: Final = "change_plan"
CANCEL: Final = "cancel_subscription"
RESUME: Final = "resume_subscription"
_OPEN_CHANGE: Final = """SELECT true FROM payments WHERE subscription_id = $1 AND purpose = 'PLAN_CHANGE'
    AND status IN ('PENDING', 'ACTION_REQUIRED') AND created_at > $2 LIMIT 1"""
_CHANGE_LIFE: Final = timedelta(hours=23)
_LIFETIME: Final = "LIFETIME"  # a kind of change: bought with the saved method
_NO_INPUT: Final = b""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a change decided, as it is stored with its key."""

    subscription_id: UUID
    kind: str
    payment_id: UUID | None
    amount_usd_micro: int

    def stored(self) -> dict[str, object]:
        return {
            "subscription_id": str(self.subscription_id),
            "kind": str(self.kind),
            "payment_id": None if self.payment_id is None else str(self.payment_id),
            "amount_usd_micro": self.amount_usd_micro,
        }


async def change_plan(
    billing: Billing,
    workspace_id: UUID,
    price_id: UUID,
    *,
    idempotency_key: str,
    prorated_at: datetime | None = None,
    saved_method: bool = False,
    success_url: str | None = None,
    cancel_url: str | None = None,
    note: Note = unnoted,
) -> Subscribed:
    """Another price: an upgrade at once for the difference, anything else at the period's end (B8).

    Asking for the present price takes back what was scheduled. A decline is in the payment's view: its status and
    failure code. `prorated_at`: the instant of a preview, for its money. `saved_method`: charge a lifetime to the saved
    method at once, in the place of a page. The addresses are those a page leads back
    to. Raises UnknownPrice, NoSubscription, ChangeRefused, PaymentsNotConfigured,
    PaymentMethodRequired, IdempotencyKeyReused; InvalidInput for a preview that is too old, and for a saved method
    with another price than a lifetime.
    """
    offer = offer_of(billing.catalog.current, workspace_id, price_id)
    if saved_method:
        require_lifetime(offer.price)

    async def effect(conn: PoolConnection) -> dict[str, object]:
        decided = await _change(conn, billing, workspace_id, offer, prorated_at, saved_method=saved_method)
        facts = {"price": code_of(offer), "change": str(decided.kind)}
        await note(conn, "subscription.change", "subscription", decided.subscription_id, facts)
        return decided.stored()

    told = [prorated_at] if prorated_at is not None else []
    pages = [success_url, cancel_url] if success_url is not None or cancel_url is not None else []
    digest = input_digest(price_id, *told, *(("saved",) if saved_method else ()), *pages)
    stored = await run_once(billing.database, workspace_id, idempotency_key, CHANGE_PLAN, digest, effect)
    payment_id = UUID(str(stored["payment_id"])) if stored["payment_id"] else None
    subscription_id = UUID(str(stored["subscription_id"]))
    amount = int(str(stored["amount_usd_micro"]))
    answer = _Answer(subscription_id, str(stored["kind"]), payment_id, amount)
    payment = await _tell_provider(billing, workspace_id, offer, answer, idempotency_key, success_url, cancel_url)
    url = None if payment is None else payment.action_url
    return Subscribed(await view_of(billing, subscription_id), url, payment)


async def cancel(
    billing: Billing, workspace_id: UUID, *, idempotency_key: str, note: Note = unnoted
) -> SubscriptionView:
    """End it with its period (C11); what is not paid, or was never begun, ends at once. A repeat changes nothing.

    Raises NoSubscription, and ChangeRefused for a lifetime, which has no period and no further charge.
    """

    async def effect(conn: PoolConnection) -> dict[str, object]:
        current, snapshot = await _current(conn, billing, workspace_id)
        life, now = current.life, clock.now()
        if life.status in {INCOMPLETE, PAST_DUE}:
            after = ended(life, Event.CANCEL_ASKED, now)
        elif life.period_end is None:
            raise ChangeRefused("a lifetime plan is not charged again, so there is nothing to cancel")
        else:
            after = with_cancel(life, now, cancel=True)
        await change(conn, billing, snapshot, current, current.with_life(after))
        facts = {"at_once": str(after.status in ENDED).lower()}
        await note(conn, "subscription.cancel", "subscription", current.id, facts)
        return {"subscription_id": str(current.id), "at_once": after.status in ENDED, "paid": _is_paid(current)}

    stored = await run_once(billing.database, workspace_id, idempotency_key, CANCEL, _NO_INPUT, effect)
    subscription_id = UUID(str(stored["subscription_id"]))
    if stored["paid"]:
        await billing.payments.set_cancel(subscription_id, cancel=True, at_once=bool(stored["at_once"]))
    return await view_of(billing, subscription_id)


async def resume(
    billing: Billing, workspace_id: UUID, *, idempotency_key: str, note: Note = unnoted
) -> SubscriptionView:
    """Take a cancellation back before the period's end. Raises NoSubscription, NothingToResume."""

    async def effect(conn: PoolConnection) -> dict[str, object]:
        current, snapshot = await _current(conn, billing, workspace_id)
        if not current.life.cancel_at_period_end:
            raise NothingToResume
        after = with_cancel(current.life, clock.now(), cancel=False)
        await change(conn, billing, snapshot, current, current.with_life(after))
        await note(conn, "subscription.resume", "subscription", current.id, {})
        return {"subscription_id": str(current.id), "paid": _is_paid(current)}

    stored = await run_once(billing.database, workspace_id, idempotency_key, RESUME, _NO_INPUT, effect)
    subscription_id = UUID(str(stored["subscription_id"]))
    if stored["paid"]:
        await billing.payments.set_cancel(subscription_id, cancel=False)
    return await view_of(billing, subscription_id)


async def end_now(billing: Billing, subscription_id: UUID) -> SubscriptionView:
    """The operator, or the payment provider, ended it: the plan and its cycle's credits end now. Repeatable."""
    async with transaction(billing.database) as conn:
        found = await locked_subscription(conn, billing, subscription_id)
        snapshot, now = billing.catalog.current, clock.now()
        current = found if found.life.status in ENDED else await advance(conn, billing, snapshot, found, now)
        if current.life.status not in ENDED:
            await end_at_once(conn, billing, snapshot, current, now)
    return await view_of(billing, subscription_id)


async def _change(
    conn: PoolConnection,
    billing: Billing,
    workspace_id: UUID,
    offer: Offer,
    previewed_at: datetime | None,
    *,
    saved_method: bool,
) -> _Answer:
    current, snapshot = await _current(conn, billing, workspace_id)
    await require_on_offer(conn, offer.price)
    life, now = current.life, clock.now()
    at = moment_of_change(life, previewed_at)
    require_changeable(life, offer.price.id, now)
    if offer.price.id == life.price.id:
        await change(conn, billing, snapshot, current, current.with_life(replace(life, scheduled=None)))
        return _Answer(current.id, "UNSCHEDULED", None, 0)
    kind = change_kind(Offer(snapshot.plans_by_id[life.price.plan_id], life.price), offer)
    if offer.price.period is not PricePeriod.FREE and not billing.payments.configured:
        raise PaymentsNotConfigured
    if kind is ChangeKind.IMPOSSIBLE:
        raise ChangeRefused("a lifetime plan can only be changed to a higher lifetime plan")
    if kind is ChangeKind.CHECKOUT:
        if saved_method:
            await require_chargeable(conn, workspace_id, now)
        payment_id = await open_price_payment(conn, workspace_id, current.id, offer.price, now)
        return _Answer(current.id, _LIFETIME if saved_method else kind, payment_id, offer.price.amount_usd_micro)
    if kind is ChangeKind.SCHEDULED:
        await change(conn, billing, snapshot, current, current.with_life(replace(life, scheduled=offer.price)))
        return _Answer(current.id, kind, None, 0)
    return await _upgrade(conn, billing, snapshot, current, offer, at)


async def _upgrade(
    conn: PoolConnection, billing: Billing, snapshot: Snapshot, current: Subscription, offer: Offer, at: datetime
) -> _Answer:
    """At once where nothing is due at that instant, else when the difference is paid. One at a time."""
    life, now = current.life, clock.now()
    if await conn.fetchval(_OPEN_CHANGE, current.id, now - _CHANGE_LIFE):
        raise ChangeRefused("another change of this plan is being paid")
    due = money_due_micro(life.anchor_at, life.price, offer.price, at, trial=life.status is TRIALING)
    if not due:
        await change_price_now(conn, billing, snapshot, current, offer.price, at, payment_id=None)
        return _Answer(current.id, ChangeKind.AT_ONCE, None, 0)
    payment_id = await open_payment(
        conn,
        current.workspace_id,
        PaymentPurpose.PLAN_CHANGE,
        due,
        at,
        price_id=offer.price.id,
        subscription_id=current.id,
    )
    await note_former_price(conn, payment_id, life.price.id)
    return _Answer(current.id, ChangeKind.AT_ONCE, payment_id, due)


async def _tell_provider(
    billing: Billing,
    workspace_id: UUID,
    offer: Offer,
    answer: _Answer,
    idempotency_key: str,
    success_url: str | None,
    cancel_url: str | None,
) -> PaymentView | None:
    """After the commit, and again on a repeat: the provider knows each request by its key. The payment, if any."""
    price = offer.price
    if answer.kind in {"UNSCHEDULED", ChangeKind.SCHEDULED}:
        wanted = None if answer.kind == "UNSCHEDULED" else price.id
        await billing.payments.schedule_price(answer.subscription_id, wanted)
        return None
    if answer.payment_id is None:
        if price.period is not PricePeriod.FREE:
            key = f"change:{answer.subscription_id}:{hashlib.sha256(idempotency_key.encode()).hexdigest()[:16]}"
            order = PriceChange(key, workspace_id, None, answer.subscription_id, price.id, 0, clock.now())
            await billing.payments.change_price(order)
        return None
    async with connection(billing.database) as conn:
        payment = await payment_by_id(conn, answer.payment_id)
    if payment is None:
        return None
    if payment.applied_at is not None or payment.status is PaymentStatus.FAILED or payment.action_url is not None:
        return payment_view(payment)
    if answer.kind == _LIFETIME:
        return await charge_lifetime(billing, payment.id, success_url)
    if answer.kind == ChangeKind.CHECKOUT:
        key = f"checkout:{payment.id}"
        purpose, amount = PaymentPurpose.SUBSCRIPTION, payment.amount_usd_micro
        page = Checkout(
            key,
            workspace_id,
            purpose,
            payment.id,
            amount,
            answer.subscription_id,
            price.id,
            success_url=success_url,
            cancel_url=cancel_url,
        )
        return replace(payment_view(payment), action_url=await open_page(billing, page))
    order = PriceChange(
        f"change:{payment.id}",
        workspace_id,
        payment.id,
        answer.subscription_id,
        price.id,
        payment.amount_usd_micro,
        payment.created_at,
    )
    return await settle_charge(billing, payment.id, await billing.payments.change_price(order))


async def _current(conn: PoolConnection, billing: Billing, workspace_id: UUID) -> tuple[Subscription, Snapshot]:
    """The live subscription, brought up to now under the wallet's lock."""
    if await lock_wallet(conn, workspace_id) is None:
        raise UnknownWorkspace
    live = await live_subscription(conn, billing, workspace_id)
    if live is None:
        raise NoSubscription
    snapshot = billing.catalog.current
    live = await advance(conn, billing, snapshot, live, clock.now())
    if live.life.status in ENDED:
        raise NoSubscription
    return live, snapshot


def _is_paid(subscription: Subscription) -> bool:
    return subscription.life.price.period is not PricePeriod.FREE
