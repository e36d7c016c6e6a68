"""The endpoints of subscriptions."""

from stripe_double.customers import get_customer
from stripe_double.endpoint import PAGE, Call, Endpoint, matching, page
from stripe_double.errors import invalid
from stripe_double.invoice_lines import Line
from stripe_double.invoice_payments import give_up_payment
from stripe_double.invoices import void
from stripe_double.periods import prorated
from stripe_double.products import product_name
from stripe_double.subscription_billing import bill, drop_pending, keep_for_later
from stripe_double.subscription_creation import OFFERED, create
from stripe_double.subscription_objects import end, items_of, living_of, period_of
from stripe_double.subscription_updates import UPDATABLE, update
from stripe_double.values import Json
from stripe_double.world import World


def _update(call: Call) -> Json:
    return update(call.world, call.world.get("subscription", call.id), call.params)


def cancel(world: World, subscription: Json, *, reason: str = "cancellation_requested") -> None:
    """End it now; a first or pending invoice that nobody paid is void."""
    if subscription["status"] not in {"active", "trialing", "past_due", "incomplete", "unpaid", "paused"}:
        raise invalid(f"No such subscription: '{subscription['id']}'", code="resource_missing", param="id")
    if subscription["pending_update"] is not None:
        drop_pending(world, subscription)
    latest = world.find(subscription["latest_invoice"] or "")
    if subscription["status"] == "incomplete" and latest is not None and latest["status"] == "open":
        give_up_payment(world, latest, "void_invoice")
        void(world, latest)
    end(world, subscription, reason=reason)


def _cancel(call: Call) -> Json:
    world, params = call.world, call.params
    subscription = world.get("subscription", call.id)
    lines = _unused(world, subscription) if params.get("prorate") else ()
    if "cancellation_details" in params:
        given = params["cancellation_details"]
        subscription["cancellation_details"] = {**subscription["cancellation_details"], **given}
    cancel(world, subscription)
    if params.get("invoice_now") and lines:
        bill(world, subscription, list(lines), "subscription_update", off_session=True)
    elif lines:
        keep_for_later(world, subscription, lines)
    return subscription


def _unused(world: World, subscription: Json) -> tuple[Line, ...]:
    start, finish = period_of(subscription)
    return tuple(
        Line(
            -prorated(item["price"]["unit_amount"] * item["quantity"], start, finish, world.now),
            f"Unused time on {product_name(world, item['price'])}",
            world.now,
            finish,
            item["price"],
            item["quantity"],
            proration=True,
            subscription=subscription["id"],
            item=item["id"],
        )
        for item in items_of(subscription)
    )


def _list(call: Call) -> Json:
    subscriptions = matching(call.world.all("subscription"), call.params, "customer")
    status = call.params.get("status")
    if status is None:
        subscriptions = [s for s in subscriptions if s["status"] != "canceled"]
    elif status == "ended":
        subscriptions = [s for s in subscriptions if s["status"] in {"canceled", "incomplete_expired"}]
    elif status != "all":
        subscriptions = [s for s in subscriptions if s["status"] == status]
    if (price := call.params.get("price")) is not None:
        subscriptions = [s for s in subscriptions if any(i["price"]["id"] == price for i in items_of(s))]
    return page(call, subscriptions)


def _list_items(call: Call) -> Json:
    subscription = call.world.get("subscription", call.params["subscription"], param="subscription")
    return page(call, list(reversed(items_of(subscription))))


def _delete_customer(call: Call) -> Json:
    customer = get_customer(call.world, call.id, param=None)
    for subscription in living_of(call.world, call.id):
        cancel(call.world, subscription)
    for method in call.world.all("payment_method"):
        if method["customer"] == call.id:
            method["customer"] = None
            call.world.note(method["id"])["detached"] = True
    customer["deleted"] = True
    call.world.emit("customer.deleted", customer)
    return {"id": call.id, "object": "customer", "deleted": True}


ENDPOINTS = (
    Endpoint(
        "POST", "/v1/subscriptions", "SubscriptionCreateParams", lambda call: create(call.world, call.params), OFFERED
    ),
    Endpoint("GET", "/v1/subscriptions", "SubscriptionListParams", _list, (*PAGE, "customer", "status", "price")),
    Endpoint(
        "GET",
        "/v1/subscriptions/{id}",
        "SubscriptionRetrieveParams",
        lambda call: call.world.get("subscription", call.id),
        (),
    ),
    Endpoint("POST", "/v1/subscriptions/{id}", "SubscriptionUpdateParams", _update, UPDATABLE),
    Endpoint(
        "DELETE",
        "/v1/subscriptions/{id}",
        "SubscriptionCancelParams",
        _cancel,
        ("invoice_now", "prorate", "cancellation_details"),
    ),
    Endpoint("GET", "/v1/subscription_items", "SubscriptionItemListParams", _list_items, (*PAGE, "subscription")),
    Endpoint("DELETE", "/v1/customers/{id}", "CustomerDeleteParams", _delete_customer, ()),
)
