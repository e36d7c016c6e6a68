"""Refunds of charges."""

from stripe_double.charges import book
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import invalid
from stripe_double.payment_methods import behaviour_of
from stripe_double.values import Json, part
from stripe_double.world import World

_FAILS_AFTER_S = 60


def make_refund(world: World, charge: Json, amount: int | None, *, reason: str | None, metadata: Json) -> Json:
    """Give back all that is left, or an amount; ApiError 400 where there is less, or a lost dispute took it."""
    left = charge["amount"] - charge["amount_refunded"]
    if charge["status"] != "succeeded":
        raise invalid("This charge has not succeeded and cannot be refunded.", code="charge_not_refundable")
    if left == 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if any(d["charge"] == charge["id"] and d["status"] != "won" for d in world.all("dispute")):
        raise invalid(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    given: int = left if amount is None else amount
    if not 0 < given <= left:
        raise invalid(
            f"Refund amount (${given / 100:.2f}) is greater than unrefunded amount on charge (${left / 100:.2f})",
            code="amount_too_large" if given > 0 else "parameter_invalid_integer",
            param="amount",
        )
    refund: Json = {
        "id": world.new_id("re"),
        "object": "refund",
        "amount": given,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": world.now,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "customer_account": None,
        "destination_details": {"card": {"reference_status": "pending", "reference_type": "acquirer_reference_number",
                                         "type": "refund"}, "type": "card"},
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }  # fmt: skip
    world.add(refund)
    refund["balance_transaction"] = book(world, refund, "refund", -given)["id"]
    _count(charge, given)
    charge["refunds"]["data"].insert(0, refund)
    world.emit("refund.created", refund)
    world.emit("charge.refunded", charge, previous={"amount_refunded": charge["amount_refunded"] - given})
    method = world.find(charge["payment_method"] or "")
    if method is not None and behaviour_of(world, method).refund_fails:
        world.plan(world.now + _FAILS_AFTER_S, "refund.fail", refund["id"])
    return refund


def _count(charge: Json, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]


def fail_refund(world: World, refund: Json) -> None:
    """The bank sends it back: the money is the platform's again."""
    if refund["status"] != "succeeded":
        return
    charge = world.get("charge", refund["charge"])
    with world.changing(refund, "refund.updated"):
        refund["status"], refund["failure_reason"] = "failed", "unknown"
        refund["failure_balance_transaction"] = book(world, refund, "refund_failure", refund["amount"])["id"]
    _count(charge, -refund["amount"])
    world.emit("refund.failed", refund)


def charge_of(world: World, params: Json) -> Json:
    """The charge that a request names, itself or by its payment intent."""
    if "charge" in params:
        return world.get("charge", params["charge"], param="charge")
    if "payment_intent" not in params:
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.",
                      code="parameter_missing", param="payment_intent")  # fmt: skip
    intent = world.get("payment_intent", params["payment_intent"], param="payment_intent")
    if intent["latest_charge"] is None or intent["status"] != "succeeded":
        raise invalid("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
    return world.get("charge", intent["latest_charge"])


def _create(call: Call) -> Json:
    params = call.params
    return make_refund(
        call.world,
        charge_of(call.world, params),
        params.get("amount"),
        reason=params.get("reason"),
        metadata=part(params, "metadata"),
    )


def _update(call: Call) -> Json:
    refund = call.world.get("refund", call.id)
    with call.world.changing(refund, "refund.updated"):
        copied(refund, call.params)
    return refund


def _list(call: Call) -> Json:
    return page(call, matching(call.world.all("refund"), call.params, "charge", "payment_intent"))


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/refunds",
        "RefundCreateParams",
        _create,
        ("charge", "payment_intent", "amount", "reason", "metadata"),
    ),
    Endpoint("GET", "/v1/refunds", "RefundListParams", _list, (*PAGE, "charge", "payment_intent")),
    Endpoint("GET", "/v1/refunds/{id}", "RefundRetrieveParams", lambda call: call.world.get("refund", call.id), ()),
    Endpoint("POST", "/v1/refunds/{id}", "RefundUpdateParams", _update, ("metadata",)),
)
