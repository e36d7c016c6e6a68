"""Bills subscriptions and moves them on: first invoices, changes that wait for their payment, renewals, ends of trials."""

from stripe_double.errors import ApiError
from stripe_double.invoice_lines import Line, period_line
from stripe_double.invoice_payments import Collected, collect, give_up_payment
from stripe_double.invoices import draft, finalize, void
from stripe_double.pending_items import add_item, line_of, waiting
from stripe_double.products import plan_of
from stripe_double.subscription_changes import Change
from stripe_double.subscription_objects import (
    UPDATED,
    end,
    items_of,
    make_item,
    next_period,
    period_of,
    set_period,
    to_status,
)
from stripe_double.values import Json
from stripe_double.world import World

PENDING_FOR_S = 23 * 3600
"""How long a first payment or a pending update may wait for its customer."""


def bill(
    world: World,
    subscription: Json,
    lines: list[Line],
    reason: str,
    *,
    off_session: bool,
    collects: bool = True,
    method: Json | None = None,
    authenticated: bool = False,
) -> tuple[Json, Collected, ApiError | None]:
    """An invoice now, finalized and, if it collects, tried."""
    customer = world.get("customer", subscription["customer"])
    invoice = draft(world, customer, lines, reason=reason, subscription=subscription, period=period_of(subscription))
    subscription["latest_invoice"] = invoice["id"]
    finalize(world, invoice)
    if not collects and invoice["amount_due"] > 0:
        return invoice, "failed", None
    outcome, failure = collect(world, invoice, method=method, off_session=off_session, authenticated=authenticated)
    return invoice, outcome, failure


def apply(world: World, subscription: Json, change: Change) -> None:
    """Take the new items and, where the cycle starts anew, the new period."""
    period = change.period or period_of(subscription)
    old = {item["id"]: item for item in items_of(subscription)}
    items: list[Json] = []
    for new in change.items:
        item = old.pop(new.id, None) if new.id is not None else None
        if item is None:
            item = make_item(world, subscription["id"], new.price, new.quantity, period)
        item["price"], item["plan"], item["quantity"] = new.price, plan_of(new.price), new.quantity
        items.append(item)
    for gone in old:
        world.forget(gone)
    subscription["items"]["data"] = items
    if change.period is not None:
        subscription["billing_cycle_anchor"] = change.period[0]
        if change.ends_trial:
            subscription["status"], subscription["trial_end"] = "active", world.now
        set_period(world, subscription, *change.period)


def hold_back(world: World, subscription: Json, change: Change, invoice: Json) -> None:
    """The change waits for its payment; the subscription stays as it is."""
    key = subscription["id"]
    period = change.period or period_of(subscription)
    shown_items: list[Json] = []
    for new in change.items:
        made = make_item(world, key, new.price, new.quantity, period)
        world.forget(made["id"])
        shown_items.append({**made, "id": new.id or made["id"]})
    subscription["pending_update"] = {
        "billing_cycle_anchor": change.period[0] if change.period else None,
        "expires_at": world.now + PENDING_FOR_S,
        "subscription_items": shown_items,
        "trial_end": None,
        "trial_from_plan": None,
    }
    world.note(key)["pending"] = (change, invoice["id"])
    world.plan(world.now + PENDING_FOR_S, "subscription.pending_expires", key)


def after_paid(world: World, subscription: Json, invoice: Json) -> None:
    """What a paid invoice means for its subscription."""
    change, pending_invoice = world.note(subscription["id"]).get("pending") or (None, None)
    if subscription["pending_update"] is not None and change is not None and pending_invoice == invoice["id"]:
        world.note(subscription["id"]).pop("pending")
        with world.changing(subscription, UPDATED):
            apply(world, subscription, change)
            subscription["pending_update"] = None
        world.emit("customer.subscription.pending_update_applied", subscription)
        return
    _keep_method(world, subscription, invoice)
    if subscription["status"] == "incomplete" or (
        subscription["status"] in {"past_due", "unpaid"} and not _unpaid(world, subscription)
    ):
        to_status(world, subscription, "active")


def _keep_method(world: World, subscription: Json, invoice: Json) -> None:
    """Where the subscription asks for it, the method that paid becomes its default."""
    if subscription["payment_settings"]["save_default_payment_method"] != "on_subscription":
        return
    for payment in invoice["payments"]["data"]:
        if payment["status"] == "paid" and payment["payment"]["type"] == "payment_intent":
            intent = world.get("payment_intent", payment["payment"]["payment_intent"])
            subscription["default_payment_method"] = intent["payment_method"]


def _unpaid(world: World, subscription: Json) -> bool:
    latest = world.find(subscription["latest_invoice"] or "")
    return latest is not None and latest["status"] == "open"


def after_failed(world: World, subscription: Json, invoice: Json) -> None:
    """A renewal or an applied change was not paid."""
    if subscription["status"] in {"active", "trialing"} and subscription["pending_update"] is None:
        to_status(world, subscription, "past_due")
    if invoice["next_payment_attempt"] is None and invoice["billing_reason"] == "subscription_cycle":
        _give_up(world, subscription, invoice)


def _give_up(world: World, subscription: Json, invoice: Json) -> None:
    """The last retry failed: the subscription ends; the invoice stays open but is not tried again."""
    if invoice["attempt_count"] > 1 and subscription["status"] == "past_due":
        invoice["auto_advance"] = False
        end(world, subscription, reason="payment_failed")


def period_lines(world: World, subscription: Json, period: tuple[int, int]) -> list[Line]:
    """A whole period of each item."""
    return [
        period_line(world, i["price"], i["quantity"], *period, subscription=subscription["id"], item=i["id"])
        for i in items_of(subscription)
    ]


def renew(world: World, subscription: Json) -> None:
    """The period is over: the next begins, with a draft invoice that is finalized a little later."""
    period = next_period(subscription)
    customer = world.get("customer", subscription["customer"])
    with world.changing(subscription, UPDATED):
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
        set_period(world, subscription, *period)
        pending = waiting(world, customer["id"], subscription["id"])
        lines = [*(line_of(world, item) for item in pending), *period_lines(world, subscription, period)]
        invoice = draft(
            world, customer, lines, reason="subscription_cycle", subscription=subscription,
            period=(period[0], period[0]), automatically_finalizes_at=world.now + world.invoice_delay_s,
        )  # fmt: skip
        for item in pending:
            item["invoice"] = invoice["id"]
        subscription["latest_invoice"] = invoice["id"]
    if world.invoice_delay_s:
        world.plan(world.now + world.invoice_delay_s, "invoice.finalize", invoice["id"])
    else:
        collect_renewal(world, invoice)


def collect_renewal(world: World, invoice: Json) -> None:
    """Finalize a renewal's draft and try to have it paid, unless its subscription has ended meanwhile."""
    if invoice["status"] != "draft" or not invoice["auto_advance"]:
        return
    finalize(world, invoice)
    settle_renewal(world, invoice)


def settle_renewal(world: World, invoice: Json) -> None:
    """Try an open renewal invoice, with what that means for the subscription."""
    subscription = world.get("subscription", invoice["parent"]["subscription_details"]["subscription"])
    outcome, _ = collect(world, invoice)
    if outcome == "paid":
        after_paid(world, subscription, invoice)
    elif outcome != "processing":
        after_failed(world, subscription, invoice)


def expire_pending(world: World, subscription: Json) -> None:
    """Nobody paid for the change in time: it is dropped and its invoice void."""
    waiting_for = world.note(subscription["id"]).get("pending")
    if subscription["pending_update"] is None or waiting_for is None:
        return
    if subscription["pending_update"]["expires_at"] > world.now:
        return
    drop_pending(world, subscription)
    world.emit("customer.subscription.pending_update_expired", subscription)


def drop_pending(world: World, subscription: Json) -> None:
    """Take back a change that waits; its invoice is void."""
    _, key = world.note(subscription["id"]).pop("pending")
    invoice = world.get("invoice", key)
    if invoice["status"] == "open":
        give_up_payment(world, invoice, "void_invoice")
        void(world, invoice)
    with world.changing(subscription, UPDATED):
        subscription["pending_update"] = None


def keep_for_later(world: World, subscription: Json, lines: tuple[Line, ...]) -> None:
    """Prorations that go on the next invoice."""
    customer = world.get("customer", subscription["customer"])
    for line in lines:
        add_item(world, customer, line)
