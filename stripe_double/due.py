"""Runs what is due: renewals, ends of trials, retries, expiries, arrivals; each at its own instant, in order."""

import heapq
import sys
from collections.abc import Callable

from stripe_double.cards import BY_TOKEN
from stripe_double.checkout_end import expire
from stripe_double.consequences import after_intent
from stripe_double.disputes import open_dispute
from stripe_double.errors import ApiError
from stripe_double.invoice_payments import give_up_payment
from stripe_double.invoices import void
from stripe_double.payment_intents import end_processing
from stripe_double.refunds import fail_refund
from stripe_double.schedules import enter_phase, phase_end
from stripe_double.subscription_billing import collect_renewal, expire_pending, renew, settle_renewal
from stripe_double.subscription_objects import end, period_of
from stripe_double.transfers import arrive
from stripe_double.values import Json
from stripe_double.world import World


def run_due(world: World) -> None:
    """All that is due by now, at the present time of the clock."""
    while world.agenda and world.agenda[0][0] <= world.now:
        _, _, what, key = heapq.heappop(world.agenda)
        subject = world.find(key)
        if subject is not None:
            _happen(world, what, subject)


def _happen(world: World, what: str, subject: Json) -> None:
    try:
        _ACTIONS[what](world, subject)
    except ApiError as refusal:  # nobody asked, so nobody can be told; the server goes on
        sys.stderr.write(f"{what} of {subject['id']} was refused: {refusal.message}\n")


def advance(world: World, to: int, *, frozen: bool) -> int:
    """Move the clock forward; what falls due on the way happens at its own instant. Answers how much that was."""
    count = 0
    while world.agenda and world.agenda[0][0] <= to:
        at, _, what, key = heapq.heappop(world.agenda)
        if at > world.now:
            world.clock.set(at, frozen=True)
        subject = world.find(key)
        if subject is not None:
            _happen(world, what, subject)
            count += 1
    world.clock.set(to, frozen=frozen)
    world.forget_old()
    return count


def _period_end(world: World, subscription: Json) -> None:
    if subscription["status"] not in {"active", "trialing", "past_due", "unpaid"}:
        return
    if period_of(subscription)[1] > world.now:
        return
    if subscription["cancel_at_period_end"]:
        end(world, subscription, reason=None)
        return
    enter_phase(world, subscription)
    if subscription["status"] == "canceled":
        return
    if subscription["status"] == "trialing" and not _has_method(world, subscription):
        behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
        if behavior == "cancel":
            end(world, subscription, reason="canceled_by_retention_policy")
            return
        if behavior == "pause":
            with world.changing(subscription, "customer.subscription.paused"):
                subscription["status"] = "paused"
            return
    renew(world, subscription)


def _has_method(world: World, subscription: Json) -> bool:
    settings = world.get("customer", subscription["customer"])["invoice_settings"]
    return (subscription["default_payment_method"] or settings["default_payment_method"]) is not None


def _trial_will_end(world: World, subscription: Json) -> None:
    if subscription["status"] == "trialing":
        world.emit("customer.subscription.trial_will_end", subscription)


def _incomplete_expires(world: World, subscription: Json) -> None:
    if subscription["status"] != "incomplete":
        return
    invoice = world.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        give_up_payment(world, invoice, "void_invoice")
        void(world, invoice)
    end(world, subscription, reason=None, status="incomplete_expired")


def _retry(world: World, invoice: Json) -> None:
    subscription = world.find(invoice["parent"]["subscription_details"]["subscription"])
    if invoice["status"] == "open" and invoice["auto_advance"] and subscription is not None:
        settle_renewal(world, invoice)


def _settle_intent(world: World, intent: Json) -> None:
    if intent["status"] == "processing":
        after_intent(world, intent, end_processing(world, intent))


def _expire_session(world: World, session: Json) -> None:
    if session["status"] == "open" and session["expires_at"] <= world.now:
        expire(world, session)


def _dispute(world: World, charge: Json) -> None:
    if not charge["disputed"]:
        token = world.note(charge["payment_method"])["token"]
        open_dispute(world, charge, reason=BY_TOKEN[token].dispute or "fraudulent")


_ACTIONS: dict[str, Callable[[World, Json], None]] = {
    "subscription.period_end": _period_end,
    "subscription.trial_will_end": _trial_will_end,
    "subscription.incomplete_expires": _incomplete_expires,
    "subscription.pending_expires": expire_pending,
    "schedule.phase_end": phase_end,
    "invoice.finalize": collect_renewal,
    "invoice.retry": _retry,
    "payment_intent.settle": _settle_intent,
    "checkout.expire": _expire_session,
    "charge.dispute": _dispute,
    "refund.fail": fail_refund,
    "payout.arrives": arrive,
}
