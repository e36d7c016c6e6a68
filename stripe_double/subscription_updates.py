"""Updates of subscriptions: plain fields, cancelling and resuming, and changes of items with their payment."""

from stripe_double.coupons import redeem
from stripe_double.endpoint import copied
from stripe_double.errors import ApiError, invalid
from stripe_double.invoice_payments import Collected
from stripe_double.payment_methods import require_attached
from stripe_double.subscription_billing import after_failed, apply, bill, drop_pending, hold_back, keep_for_later
from stripe_double.subscription_changes import Change, compute
from stripe_double.subscription_objects import UPDATED, period_of
from stripe_double.values import Json
from stripe_double.world import World

UPDATABLE = (
    "items",
    "proration_behavior",
    "proration_date",
    "payment_behavior",
    "cancel_at_period_end",
    "metadata",
    "billing_cycle_anchor",
    "trial_end",
    "default_payment_method",
    "description",
    "off_session",
    "cancel_at",
    "cancellation_details",
    "payment_settings",
    "trial_settings",
    "collection_method",
    "discounts",
)
_WITH_PENDING = (
    "items",
    "proration_behavior",
    "proration_date",
    "payment_behavior",
    "billing_cycle_anchor",
    "trial_end",
    "off_session",
)
_CHANGING = ("items", "billing_cycle_anchor", "trial_end")


def update(world: World, subscription: Json, params: Json) -> Json:
    """Do what the parameters say; ApiError 402 where payment_behavior=error_if_incomplete and the payment failed."""
    if subscription["status"] in {"canceled", "incomplete_expired"}:
        only_canceled = params.keys() - {"metadata", "cancellation_details"}
        if only_canceled:
            raise invalid("A canceled subscription can only update its cancellation_details and metadata.")
    if params.get("payment_behavior") == "pending_if_incomplete":
        for name in params:
            if name not in _WITH_PENDING:
                raise invalid(
                    f"When `payment_behavior` is set to `pending_if_incomplete`, you can't pass {name}.", param=name
                )
    if subscription["schedule"] is not None and {"cancel_at_period_end", "cancel_at"} & params.keys():
        raise invalid(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and updating any"
            " cancelation behavior directly is not allowed. Please update the schedule instead."
        )
    if params.get("collection_method", "charge_automatically") != "charge_automatically":
        raise invalid("The double charges automatically only.", code="double_not_offered", param="collection_method")
    _take_trial_end(world, subscription, params)
    change = compute(world, subscription, params) if any(name in params for name in _CHANGING) else None
    before = dict(subscription)
    try:
        with world.changing(subscription, UPDATED):
            _take_fields(world, subscription, params)
            if change is not None:
                _change(world, subscription, change, params)
    except ApiError:
        subscription.clear()
        subscription.update(before)
        raise
    return subscription


def _take_trial_end(world: World, subscription: Json, params: Json) -> None:
    wanted = params.get("trial_end")
    if wanted is None or wanted == "now":
        return
    if subscription["status"] != "trialing":
        raise invalid("The double moves the end of a running trial only.", code="double_not_offered", param="trial_end")
    if wanted <= world.now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    subscription["trial_end"] = subscription["billing_cycle_anchor"] = wanted
    for item in subscription["items"]["data"]:
        item["current_period_end"] = item["billed_until"] = wanted
    world.plan(wanted, "subscription.period_end", subscription["id"])


def _take_fields(world: World, subscription: Json, params: Json) -> None:
    copied(subscription, params, "description", "default_payment_method")
    if (key := subscription["default_payment_method"]) is not None:
        require_attached(world, key, subscription["customer"], param="default_payment_method")
    for name in ("payment_settings", "trial_settings", "cancellation_details"):
        if name in params:
            subscription[name] = {**subscription[name], **params[name]}
    if "discounts" in params:
        redeem(world, subscription, params["discounts"])
    if "cancel_at" in params:
        _cancel_at(world, subscription, params["cancel_at"])
    if (ends := params.get("cancel_at_period_end")) is not None and ends != subscription["cancel_at_period_end"]:
        subscription["cancel_at_period_end"] = ends
        subscription["cancel_at"] = period_of(subscription)[1] if ends else None
        subscription["canceled_at"] = world.now if ends else None
        reason = "cancellation_requested" if ends else None
        subscription["cancellation_details"] = {**subscription["cancellation_details"], "reason": reason}


def _cancel_at(world: World, subscription: Json, wanted: object) -> None:
    if wanted == "":
        subscription.update(cancel_at=None, canceled_at=None, cancel_at_period_end=False)
        return
    at = period_of(subscription)[1] if isinstance(wanted, str) else wanted
    if not isinstance(at, int) or at != period_of(subscription)[1]:
        raise invalid("The double cancels at a period's end only.", code="double_not_offered", param="cancel_at")
    subscription.update(cancel_at=at, canceled_at=world.now, cancel_at_period_end=True)


def _change(world: World, subscription: Json, change: Change, params: Json) -> None:
    behavior = params.get("payment_behavior", "allow_incomplete")
    waits = subscription["pending_update"] is not None
    if waits and behavior != "error_if_incomplete":  # that one must leave all as it was, if it fails
        drop_pending(world, subscription)
        waits = False
    immediate = change.period is not None or params.get("proration_behavior") == "always_invoice"
    lines = [*change.prorations, *change.period_lines]
    if not immediate or not lines:
        if waits:
            drop_pending(world, subscription)
        apply(world, subscription, change)
        keep_for_later(world, subscription, change.prorations)
        return
    customer = world.get("customer", subscription["customer"])
    with world.tentative(customer) as attempt:
        before = subscription["latest_invoice"]
        invoice, outcome, failure = bill(
            world,
            subscription,
            lines,
            "subscription_update",
            off_session=params.get("off_session", False),
            collects=behavior != "default_incomplete",
        )
        if outcome != "paid" and behavior == "error_if_incomplete":
            attempt.undo()
            subscription["latest_invoice"] = before
            raise failure or _needs_action()
    if waits:
        drop_pending(world, subscription)
    _conclude(world, subscription, change, invoice, outcome, behavior)


def _conclude(
    world: World, subscription: Json, change: Change, invoice: Json, outcome: Collected, behavior: str
) -> None:
    if outcome == "paid":
        apply(world, subscription, change)
    elif behavior == "pending_if_incomplete":
        hold_back(world, subscription, change, invoice)
    else:
        apply(world, subscription, change)
        if outcome != "processing":
            after_failed(world, subscription, invoice)


def _needs_action() -> ApiError:
    return ApiError(
        402,
        "card_error",
        "Payment for this subscription requires additional user action before it can be completed successfully.",
        code="subscription_payment_intent_requires_action",
    )
