"""Checkout sessions as objects."""

from stripe_double.endpoint import copied
from stripe_double.errors import invalid
from stripe_double.values import LIVEMODE, Json, listed, part
from stripe_double.world import World

OFFERED_METHODS = ("card", "link", "paypal", "crypto", "us_bank_account")
NEVER_SAVED = frozenset({"crypto"})
_DAY_S = 86_400
_SHORTEST_S = 30 * 60

_EMPTY = [
    "adaptive_pricing",
    "after_expiration",
    "allow_promotion_codes",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "client_secret",
    "consent",
    "consent_collection",
    "currency_conversion",
    "customer",
    "customer_account",
    "customer_creation",
    "customer_email",
    "invoice",
    "invoice_creation",
    "locale",
    "payment_intent",
    "payment_link",
    "payment_method_collection",
    "payment_method_configuration_details",
    "recovered_from",
    "setup_intent",
    "shipping_address_collection",
    "shipping_cost",
    "submit_type",
    "subscription",
]
"""Fields that are null in a new one."""


def make_session(world: World, params: Json, lines: list[Json]) -> Json:
    """A new session from the API's parameters and its line items; not kept yet."""
    key = world.new_id("cs_test")
    expires_at: int = params.get("expires_at", world.now + _DAY_S)
    if not world.now + _SHORTEST_S <= expires_at <= world.now + _DAY_S:
        raise invalid("The `expires_at` timestamp must be at least 30 minutes and less than 24 hours from Checkout Session"
                      " creation.", param="expires_at")  # fmt: skip
    mode: str = params["mode"]
    total = due_now(params, lines) if mode != "setup" else None
    known = "customer" in params or mode == "setup"
    session: Json = {
        "id": key,
        "object": "checkout.session",
        **dict.fromkeys(_EMPTY),
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "created": world.now,
        "currency": lines[0]["currency"] if lines else params.get("currency"),
        "custom_fields": [],
        "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        "customer_creation": None if known else "always" if mode == "subscription" else "if_required",
        "customer_details": {"email": params.get("customer_email")} if "customer_email" in params else None,
        "discounts": [],
        "expires_at": expires_at,
        "line_items": listed(f"/v1/checkout/sessions/{key}/line_items", lines),
        "livemode": LIVEMODE,
        "metadata": {},
        "mode": mode,
        "payment_method_options": {
            kind: {"request_three_d_secure": "automatic", **options}
            for kind, options in part(params, "payment_method_options").items()
        },
        "payment_method_types": _method_types(params),
        "payment_status": "no_payment_required" if mode == "setup" else "unpaid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0} if total is not None else None,
        "ui_mode": "hosted_page",
        "url": f"{world.base_url}/checkout/{key}",
    }
    copied(
        session,
        params,
        "cancel_url",
        "client_reference_id",
        "customer",
        "customer_email",
        "customer_creation",
        "locale",
    )
    copied(session, params, "payment_method_collection", "submit_type", "billing_address_collection")
    if "tax_id_collection" in params:
        session["tax_id_collection"] = {"required": "never", **params["tax_id_collection"]}
    if "invoice_creation" in params:
        session["invoice_creation"] = _invoice_creation(params["invoice_creation"])
    return session


def _invoice_creation(wanted: Json) -> Json:
    data = dict.fromkeys(("account_tax_ids", "custom_fields", "description", "footer", "issuer", "rendering_options"))
    return {"enabled": wanted["enabled"], "invoice_data": {**data, "metadata": {}, **part(wanted, "invoice_data")}}


def due_now(params: Json, lines: list[Json]) -> int:
    """What is paid on the page; within a trial only what is paid once."""
    trial = part(params, "subscription_data")
    trials = bool(trial.get("trial_period_days") or trial.get("trial_end"))
    return sum(line["amount_total"] for line in lines if not trials or line["price"]["type"] == "one_time")


def _method_types(params: Json) -> list[str]:
    """What cannot be saved is not shown where all that is shown would be."""
    allowed: list[str] = params.get("allowed_payment_method_types") or list(OFFERED_METHODS)
    excluded: list[str] = params.get("excluded_payment_method_types") or []
    saves = params["mode"] == "setup" or "setup_future_usage" in part(params, "payment_intent_data")
    return [kind for kind in allowed if kind not in excluded and not (saves and kind in NEVER_SAVED)]
