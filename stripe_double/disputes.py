"""Disputes: a cardholder's bank takes a charge back, until the platform wins."""

from stripe_double.charges import book
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import invalid
from stripe_double.values import LIVEMODE, Json, part
from stripe_double.world import World

_FEE = 1500
_DUE_AFTER_S = 9 * 86_400
_INQUIRY = ("warning_needs_response", "warning_under_review")
_OPEN = ("needs_response", "under_review")
_EVIDENCE = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
]


def open_dispute(
    world: World, charge: Json, *, reason: str = "fraudulent", amount: int | None = None, inquiry: bool = False
) -> Json:
    """The bank takes the charge (or a part of it) back at once, and a fee; or only asks about it first."""
    if charge["status"] != "succeeded":
        raise invalid("Only a succeeded charge can be disputed.")
    whole: int = charge["amount"] - charge["amount_refunded"]
    taken = whole if amount is None else amount
    if taken > whole - sum(int(other["amount"]) for other in _of_charge(world, charge)):
        raise invalid(f"Charge {charge['id']} is disputed already.", code="charge_disputed")
    dispute: Json = {
        "id": world.new_id("du"),
        "object": "dispute",
        "amount": taken,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": world.now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": world.now + _DUE_AFTER_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": inquiry,
        "livemode": LIVEMODE,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network": "visa", "network_reason_code": "10.4"},
            "type": "card",
        },
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
    world.add(dispute)
    world.emit("charge.dispute.created", dispute)
    if not inquiry:
        _withdraw(world, dispute)
    return dispute


def escalate(world: World, dispute: Json) -> None:
    """An inquiry becomes a dispute: the money goes now."""
    if dispute["status"] not in _INQUIRY:
        raise invalid(f"This is no open inquiry: {dispute['status']}.")
    with world.changing(dispute, "charge.dispute.updated"):
        dispute["status"], dispute["is_charge_refundable"] = "needs_response", False
    _withdraw(world, dispute)


def close_inquiry(world: World, dispute: Json) -> None:
    """The bank leaves it at the question."""
    if dispute["status"] not in _INQUIRY:
        raise invalid(f"This is no open inquiry: {dispute['status']}.")
    dispute["status"] = "warning_closed"
    world.emit("charge.dispute.closed", dispute)


def _withdraw(world: World, dispute: Json) -> None:
    world.get("charge", dispute["charge"])["disputed"] = True
    dispute["balance_transactions"] = [
        book(world, {**dispute, "description": "Dispute"}, "adjustment", -int(dispute["amount"]), fee=_FEE)
    ]
    world.emit("charge.dispute.funds_withdrawn", dispute)


def _of_charge(world: World, charge: Json) -> list[Json]:
    return [each for each in world.all("dispute") if each["charge"] == charge["id"]]


def conclude(world: World, dispute: Json, *, won: bool) -> None:
    """The bank decides; the money comes back where the platform wins (the fee stays)."""
    if dispute["status"] not in _OPEN:
        raise invalid(f"This dispute is already closed: {dispute['status']}.", code="dispute_already_closed")
    dispute["status"] = "won" if won else "lost"
    if won:
        line = book(world, {**dispute, "description": "Dispute won"}, "adjustment", dispute["amount"])
        dispute["balance_transactions"] = [*dispute["balance_transactions"], line]
        world.get("charge", dispute["charge"])["disputed"] = True
    world.emit("charge.dispute.closed", dispute)
    if won:
        world.emit("charge.dispute.funds_reinstated", dispute)


def _close(call: Call) -> Json:
    dispute = call.world.get("dispute", call.id)
    conclude(call.world, dispute, won=False)
    return dispute


def _update(call: Call) -> Json:
    """Evidence is kept; with the test words of Stripe the bank decides at once."""
    world = call.world
    dispute = world.get("dispute", call.id)
    if dispute["status"] not in (*_OPEN, *_INQUIRY):
        raise invalid("This dispute is already closed.", code="dispute_already_closed")
    with world.changing(dispute, "charge.dispute.updated"):
        copied(dispute, call.params)
        evidence: Json = part(call.params, "evidence")
        dispute["evidence"] = {**dispute["evidence"], **evidence}
        dispute["evidence_details"] = {**dispute["evidence_details"], "has_evidence": bool(evidence)}
        if call.params.get("submit", True) and evidence:
            dispute["status"] = "warning_under_review" if dispute["status"] in _INQUIRY else "under_review"
    decisive = {"winning_evidence": True, "losing_evidence": False}.get(str(evidence.get("uncategorized_text")))
    if decisive is not None:
        conclude(world, dispute, won=decisive)
    return dispute


def _list(call: Call) -> Json:
    return page(call, matching(call.world.all("dispute"), call.params, "charge", "payment_intent"))


ENDPOINTS = (
    Endpoint("GET", "/v1/disputes", "DisputeListParams", _list, (*PAGE, "charge", "payment_intent")),
    Endpoint("GET", "/v1/disputes/{id}", "DisputeRetrieveParams", lambda call: call.world.get("dispute", call.id), ()),
    Endpoint("POST", "/v1/disputes/{id}", "DisputeUpdateParams", _update, ("metadata", "evidence", "submit")),
    Endpoint("POST", "/v1/disputes/{id}/close", "DisputeCloseParams", _close, ()),
)
