"""What Stripe's subscriptions tell: that one began on a hosted page, was cancelled in the portal, or ended."""

import logging
from typing import Final
from uuid import UUID

from billing.advance import advance, change
from billing.errors import NoSubscription
from billing.rules.stripe_values import flag, id_of, instant, our_id, part, required_id, text
from billing.rules.subscription_states import ENDED
from billing.rules.subscription_steps import with_cancel
from billing.services import Billing
from billing.stripe_client import StripeJson
from billing.stripe_customers import workspace_of
from billing.stripe_invoices import invoice_changed
from billing.stripe_link import StripeLink
from billing.stripe_methods import sync_methods
from billing.stripe_prices import RECURRING
from billing.stripe_tell import OVER, cancel_at_stripe, ends_with_period, tell_subscription
from billing.subscribing import find_locked, start_trial
from billing.subscription_rows import Subscription
from billing.subscriptions import end_now
from kit import clock
from models.database import connection, transaction
from models.pool import PoolConnection

# What was cancelled, scheduled or changed before it was known where could not be told: it is now.
_LINK: Final = """UPDATE subscriptions s SET stripe_subscription_id = $2, updated_at = $3, tell_due_at = CASE
    WHEN s.stripe_subscription_id IS DISTINCT FROM $2 AND (s.cancel_at_period_end OR s.scheduled_price_id IS NOT NULL
        OR s.price_id <> (SELECT p.price_id FROM payments p WHERE p.id = $4)) THEN $3 ELSE s.tell_due_at END
    WHERE s.id = $1"""
_UNLINK: Final = "UPDATE subscriptions SET stripe_subscription_id = NULL, tell_due_at = NULL WHERE id = $1"
_OF_STRIPE: Final = "SELECT id, tell_due_at FROM subscriptions WHERE stripe_subscription_id = $1"
_LINKED: Final = """SELECT s.stripe_subscription_id, s.ended_at IS NULL AND s.status <> 'INCOMPLETE'
    AND ($2::uuid IS NULL OR EXISTS (SELECT FROM payments p WHERE p.id = $2 AND p.subscription_id = s.id
        AND p.applied_at IS NOT NULL)) AS gave
    FROM subscriptions s WHERE s.id = $1 FOR UPDATE OF s"""
_WAITS: Final = "SELECT tell_due_at IS NOT NULL FROM subscriptions WHERE id = $1"
_NOTHING_TO_TELL: Final = "UPDATE subscriptions SET tell_due_at = NULL WHERE id = $1"
_EXISTS: Final = "SELECT true FROM subscriptions WHERE id = $1"
logger = logging.getLogger(__name__)


async def session_of_subscription(billing: Billing, link: StripeLink, session: StripeJson) -> None:
    """A hosted page was completed: its invoice first, which gives the plan; then the two subscriptions belong together.

    One that gave nothing, because another plan lives meanwhile, is ended at Stripe, so that it is not charged again; the
    payment is told as unapplied, for the operator to give back. One that somebody has ended at Stripe by then ends here.
    """
    subscription_id, stripe_id = our_id(session, "subscription_id"), id_of(session, "subscription")
    if subscription_id is None or stripe_id is None:
        return
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    if text(found, "status") == "trialing" and not await _trial_began(billing, subscription_id, found):
        logger.warning("the trial %s at Stripe has no place here and is ended", stripe_id)
        await cancel_at_stripe(link, stripe_id)
        return
    invoice_id = id_of(session, "invoice") or id_of(found, "latest_invoice")
    if invoice_id is not None:
        await invoice_changed(billing, link, invoice_id)
    if text(found, "status") in {"active", "trialing"}:
        await _belong(link, subscription_id, stripe_id, our_id(session, "payment_id"))
    elif text(found, "status") in OVER and await _gave(link, subscription_id, our_id(session, "payment_id")):
        await _ended(billing, subscription_id, found)  # before its page was heard of: as had it been heard of first


async def subscription_changed(billing: Billing, link: StripeLink, stripe_id: str) -> None:
    """Ended at Stripe, or cancelled or resumed in the portal while nothing of ours waited to be told."""
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    async with connection(link.database) as conn:
        row = await conn.fetchrow(_OF_STRIPE, stripe_id)
    if row is None:
        await _first_heard(billing, link, found)
        return
    if text(found, "status") in OVER:
        await _ended(billing, row["id"], found)
    elif row["tell_due_at"] is None:
        cancel = flag(found, "cancel_at_period_end")
        if cancel != await ends_with_period(link, row["id"]):
            await _adopt_cancel(billing, link, row["id"], stripe_id, cancel=cancel)
            if await _waits(link, row["id"]):
                # At once: while something waits to be told, what a person does next in the portal would not be heard.
                await tell_subscription(link, row["id"])


async def _first_heard(billing: Billing, link: StripeLink, found: StripeJson) -> None:
    """Its page's own news may come later than this, or be lost: what it has paid is enough."""
    subscription_id, invoice_id = our_id(found, "subscription_id"), id_of(found, "latest_invoice")
    if subscription_id is None or text(found, "status") not in {"active", "trialing", "past_due"}:
        return
    async with connection(link.database) as conn:
        known = await conn.fetchval(_EXISTS, subscription_id)
    if not known:
        return
    workspace_id = await workspace_of(link, id_of(found, "customer"))
    if workspace_id is not None:
        await sync_methods(link, workspace_id)
    page = {"metadata": part(found, "metadata"), "subscription": required_id(found), "invoice": invoice_id}
    await session_of_subscription(billing, link, page)


async def _belong(link: StripeLink, subscription_id: UUID, stripe_id: str, payment_id: UUID | None) -> None:
    """Tie the two together where this one gave ours its plan; one that gave nothing is one too many, as is one before."""
    async with transaction(link.database) as conn:
        row = await conn.fetchrow(_LINKED, subscription_id, payment_id)
        if row is None:
            return
        before: str | None = row["stripe_subscription_id"]
        belongs = row["gave"] and (payment_id is not None or before in {None, stripe_id})
        if belongs:
            await conn.execute(_LINK, subscription_id, stripe_id, clock.now(), payment_id)
    if not belongs:
        logger.warning("subscription %s at Stripe has no place here and is ended", stripe_id)
        await cancel_at_stripe(link, stripe_id)
    elif before is not None and before != stripe_id:
        await cancel_at_stripe(link, before)


async def _trial_began(billing: Billing, subscription_id: UUID, found: StripeJson) -> bool:
    """False where another price was chosen, or the page lapsed, before the card was given; or the workspace is gone."""
    try:
        await start_trial(billing, subscription_id, at=instant(found, "trial_start"))
    except NoSubscription:
        return False
    return True


async def _gave(link: StripeLink, subscription_id: UUID, payment_id: UUID | None) -> bool:
    """Whether this payment gave ours its plan, which no other of Stripe's subscriptions has taken over."""
    async with transaction(link.database) as conn:
        row = await conn.fetchrow(_LINKED, subscription_id, payment_id)
    return payment_id is not None and row is not None and row["gave"] and row["stripe_subscription_id"] is None


async def _ended(billing: Billing, subscription_id: UUID, found: StripeJson) -> None:
    """Over at Stripe: ours ends with its period where that is paid and was cancelled, at once where somebody ended it."""
    ended_at = instant(found, "ended_at") or clock.now()
    async with transaction(billing.database) as conn:
        before = await find_locked(conn, billing, subscription_id)
        current = None
        if before is not None:
            current = await advance(conn, billing, billing.catalog.current, before, clock.now())
        await conn.execute(_UNLINK, subscription_id)
    if current is None:  # its workspace was deleted: nothing is left to end
        return
    life = current.life
    unpaid = life.period_end is not None and life.period_end <= ended_at
    if life.status in ENDED or life.cancel_at_period_end or unpaid or life.price.period not in RECURRING:
        return  # the grace, or the period's end, ends it; or it has become a plan that Stripe does not charge
    await end_now(billing, subscription_id)


async def _waits(link: StripeLink, subscription_id: UUID) -> bool:
    async with connection(link.database) as conn:
        return bool(await conn.fetchval(_WAITS, subscription_id))


async def _adopt_cancel(
    billing: Billing, link: StripeLink, subscription_id: UUID, stripe_id: str, *, cancel: bool
) -> None:
    """As Stripe has it, so there is nothing to tell: told back, it would undo what is done in the portal meanwhile.

    That of a deleted workspace, which somebody resumed there, is ended.
    """
    async with transaction(billing.database) as conn:
        before = await find_locked(conn, billing, subscription_id)
        if before is not None:
            await _adopted(conn, billing, before, cancel=cancel)
    if before is None:
        await cancel_at_stripe(link, stripe_id)


async def _adopted(conn: PoolConnection, billing: Billing, before: Subscription, *, cancel: bool) -> None:
    snapshot = billing.catalog.current
    current = await advance(conn, billing, snapshot, before, clock.now())
    if current.life.status in ENDED or current.life.cancel_at_period_end == cancel:
        return
    if await conn.fetchval(_WAITS, before.id):  # ours changed meanwhile, and is told first
        return
    await change(
        conn, billing, snapshot, current, current.with_life(with_cancel(current.life, clock.now(), cancel=cancel))
    )
    if current.life.scheduled is None:
        await conn.execute(_NOTHING_TO_TELL, before.id)
