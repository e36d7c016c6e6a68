"""The endpoints of the customer portal's sessions."""

from stripe_double.customers import get_customer
from stripe_double.endpoint import Call, Endpoint
from stripe_double.errors import invalid, require_url
from stripe_double.values import LIVEMODE, Json, part

_FLOWS = ("payment_method_update", "subscription_cancel")


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    if "customer" not in params:
        raise invalid("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = get_customer(world, params["customer"])
    require_url(params, "return_url")
    flow = params.get("flow_data")
    if flow is not None:
        if flow["type"] not in _FLOWS:
            raise invalid(
                f"The double offers the flows {', '.join(_FLOWS)}.", code="double_not_offered", param="flow_data[type]"
            )
        if flow["type"] == "subscription_cancel":
            if "subscription_cancel" not in flow:
                raise invalid("Missing required param: flow_data[subscription_cancel].", code="parameter_missing")
            world.get("subscription", flow["subscription_cancel"]["subscription"], param="flow_data")
    key = world.new_id("bps")
    session: Json = {
        "id": key,
        "object": "billing_portal.session",
        "configuration": params.get("configuration", "bpc_double"),
        "created": world.now,
        "customer": customer["id"],
        "customer_account": None,
        "flow": None if flow is None else _flow(flow),
        "livemode": LIVEMODE,
        "locale": params.get("locale"),
        "on_behalf_of": None,
        "return_url": params.get("return_url"),
        "url": f"{world.base_url}/portal/{key}",
    }
    return world.add(session)


def _flow(wanted: Json) -> Json:
    completion: Json = {"hosted_confirmation": None, "redirect": None, "type": "portal_homepage"}
    cancel = wanted.get("subscription_cancel")
    return {
        "after_completion": {**completion, **part(wanted, "after_completion")},
        "subscription_cancel": None if cancel is None else {"retention": None, "subscription": cancel["subscription"]},
        "subscription_update": None,
        "subscription_update_confirm": None,
        "type": wanted["type"],
    }


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/billing_portal/sessions",
        "billing_portal.SessionCreateParams",
        _create,
        ("customer", "return_url", "flow_data", "locale", "configuration"),
    ),
)
