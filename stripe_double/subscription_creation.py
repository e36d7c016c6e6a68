"""Subscriptions begin: over the API, or by a Checkout session."""

from stripe_double.customers import get_customer
from stripe_double.endpoint import copied
from stripe_double.errors import ApiError, invalid
from stripe_double.invoice_lines import Line, one_time_line, sold
from stripe_double.invoice_payments import collect, open_payment
from stripe_double.invoices import draft, finalize
from stripe_double.offered import only_offered
from stripe_double.payment_methods import require_attached
from stripe_double.periods import after, prorated
from stripe_double.products import price_given, require_recurring
from stripe_double.subscription_billing import PENDING_FOR_S, period_lines
from stripe_double.subscription_objects import TRIAL_WARNING_S, blank, make_item, set_period
from stripe_double.values import Json, part
from stripe_double.world import World

OFFERED = (
    "customer",
    "items",
    "metadata",
    "default_payment_method",
    "payment_behavior",
    "off_session",
    "trial_end",
    "trial_period_days",
    "trial_settings",
    "cancel_at_period_end",
    "billing_cycle_anchor",
    "description",
    "proration_behavior",
    "payment_settings",
    "currency",
    "collection_method",
    "billing_mode",
    "add_invoice_items",
)


def create(world: World, params: Json, *, method: Json | None = None, authenticated: bool = False) -> Json:
    """A new subscription with its first invoice. `method`, `authenticated`: what a Checkout session has just been given.

    Raises ApiError 402 where payment_behavior=error_if_incomplete and the payment failed: nothing is kept then.
    """
    only_offered(params, *OFFERED)
    if params.get("collection_method", "charge_automatically") != "charge_automatically":
        raise invalid("The double charges automatically only.", code="double_not_offered", param="collection_method")
    if part(params, "billing_mode").get("type", "flexible") != "flexible":
        raise invalid("The double bills flexibly only.", code="double_not_offered", param="billing_mode")
    if "customer" not in params:
        raise invalid("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = get_customer(world, params["customer"])
    chosen = _chosen(world, params)
    behavior = params.get("payment_behavior", "allow_incomplete")
    with world.tentative(customer) as attempt:
        subscription = _begin(world, customer, params, chosen)
        default = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
        lines = _first_lines(world, subscription, params)
        due = sum(line.amount for line in lines) > 0
        if due and default is None and method is None and behavior != "default_incomplete":
            attempt.undo()
            raise invalid(
                "This customer has no attached payment source or default payment method. Please consider adding a default"
                " payment method.",
                code="resource_missing",
            )
        outcome, failure = _bill_first(
            world, subscription, lines, method=method, authenticated=authenticated,
            off_session=params.get("off_session", False), collects=behavior != "default_incomplete",
        )  # fmt: skip
        if outcome != "paid" and behavior == "error_if_incomplete":
            attempt.undo()
            raise failure or ApiError(
                402, "card_error", "Payment for this subscription requires additional user action before it can be completed"
                " successfully.", code="subscription_payment_intent_requires_action",
            )  # fmt: skip
    return subscription


def _chosen(world: World, params: Json) -> list[tuple[Json, int]]:
    chosen: list[tuple[Json, int]] = []
    for position, wanted in enumerate(params.get("items") or []):
        where = f"items[{position}]"
        only_offered(wanted, "price", "price_data", "quantity", where=where)
        price = price_given(world, wanted, where=where)
        if price is None:
            raise invalid("You must specify a price.", code="parameter_missing", param=f"{where}[price]")
        require_recurring(price, where=where)
        chosen.append((price, wanted.get("quantity", 1)))
    if not chosen:
        raise invalid("Missing required param: items.", code="parameter_missing", param="items")
    if len({(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p, _ in chosen}) > 1:
        raise invalid("The double keeps one billing interval per subscription.", param="items")
    return chosen


def _begin(world: World, customer: Json, params: Json, chosen: list[tuple[Json, int]]) -> Json:
    subscription = blank(world, customer, chosen[0][0]["currency"])
    copied(subscription, params, "description", "default_payment_method")
    if (key := subscription["default_payment_method"]) is not None:
        require_attached(world, key, customer["id"], param="default_payment_method")
    if "trial_settings" in params:
        subscription["trial_settings"] = params["trial_settings"]
    subscription["payment_settings"] = {**subscription["payment_settings"], **params.get("payment_settings", {})}
    recurring = chosen[0][0]["recurring"]
    trial_end = _trial_end(world, params)
    if trial_end is not None:
        subscription.update(
            status="trialing", trial_start=world.now, trial_end=trial_end, billing_cycle_anchor=trial_end
        )
        period = world.now, trial_end
        world.plan(trial_end - TRIAL_WARNING_S, "subscription.trial_will_end", subscription["id"])
    elif "billing_cycle_anchor" in params:
        anchor: int = params["billing_cycle_anchor"]
        if not world.now < anchor <= after(world.now, recurring, 1):
            raise invalid(
                "billing_cycle_anchor cannot be later than next natural billing date.", param="billing_cycle_anchor"
            )
        subscription["billing_cycle_anchor"] = anchor
        period = world.now, anchor
    else:
        period = world.now, after(world.now, recurring, 1)
    items = [make_item(world, subscription["id"], price, quantity, period) for price, quantity in chosen]
    subscription["items"]["data"] = items
    if params.get("cancel_at_period_end"):
        subscription.update(cancel_at_period_end=True, canceled_at=world.now)
    world.add(subscription)
    set_period(world, subscription, *period)
    customer["subscriptions"]["data"].insert(0, subscription)
    customer["currency"] = customer["currency"] or subscription["currency"]
    return subscription


def _trial_end(world: World, params: Json) -> int | None:
    if "trial_period_days" in params:
        days: int = params["trial_period_days"]
        return world.now + days * 86_400 if days > 0 else None
    end = params.get("trial_end")
    if end is None or end == "now":
        return None
    if end <= world.now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    return int(end)


def _first_lines(world: World, subscription: Json, params: Json) -> list[Line]:
    period = (
        subscription["items"]["data"][0]["current_period_start"],
        subscription["items"]["data"][0]["current_period_end"],
    )
    whole = period_lines(world, subscription, period)
    if subscription["status"] == "trialing":
        lines = [Line(0, f"Trial period for {line.description}", line.start, line.end, line.price, line.quantity,
                      subscription=line.subscription, item=line.item) for line in whole]  # fmt: skip
    elif "billing_cycle_anchor" in params:
        start, anchor = period
        if params.get("proration_behavior") == "none":
            lines = []
        else:
            recurring = subscription["items"]["data"][0]["price"]["recurring"]
            natural = after(anchor, recurring, -1)
            lines = [
                Line(prorated(line.amount, natural, anchor, start), line.description, start, anchor, line.price,
                     line.quantity, proration=True, subscription=line.subscription, item=line.item)
                for line in whole
            ]  # fmt: skip
    else:
        lines = whole
    for position, extra in enumerate(params.get("add_invoice_items") or []):
        price, quantity = sold(world, extra, param=f"add_invoice_items[{position}]")
        lines.append(one_time_line(world, price, quantity))
    return lines


def _bill_first(
    world: World,
    subscription: Json,
    lines: list[Line],
    *,
    method: Json | None,
    authenticated: bool,
    off_session: bool,
    collects: bool,
) -> tuple[str, ApiError | None]:
    customer = world.get("customer", subscription["customer"])
    trialing = subscription["status"] == "trialing"
    start = subscription["start_date"]
    invoice = draft(
        world, customer, lines, reason="subscription_create", subscription=subscription, period=(start, start)
    )
    subscription["latest_invoice"] = invoice["id"]
    finalize(world, invoice)
    if invoice["amount_due"] > 0:
        subscription["status"] = "incomplete"
        open_payment(world, invoice)
    world.emit("customer.subscription.created", subscription)
    if invoice["amount_due"] > 0 and not collects:
        world.plan(world.now + PENDING_FOR_S, "subscription.incomplete_expires", subscription["id"])
        return "open", None
    outcome, failure = collect(world, invoice, method=method, off_session=off_session, authenticated=authenticated)
    if outcome == "paid" and subscription["status"] == "incomplete":
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"
    elif outcome != "paid":
        world.plan(world.now + PENDING_FOR_S, "subscription.incomplete_expires", subscription["id"])
    assert not trialing or subscription["status"] == "trialing" or invoice["amount_due"] > 0
    return outcome, failure
