"""Connected accounts: created, taken through onboarding, able to receive transfers and payouts."""

from stripe_double.endpoint import PAGE, Call, Endpoint, copied, page
from stripe_double.errors import invalid, require_url
from stripe_double.offered import only_offered
from stripe_double.values import Json, listed, part
from stripe_double.world import World

_DUE = ["business_profile.url", "external_account", "tos_acceptance.date", "tos_acceptance.ip"]
_LINK_LIVES_S = 300
_OFFERED = (
    "type",
    "controller",
    "country",
    "email",
    "capabilities",
    "business_type",
    "business_profile",
    "default_currency",
    "settings",
    "metadata",
    "tos_acceptance",
)


def _requirements(due: list[str]) -> Json:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": due,
        "disabled_reason": "requirements.past_due" if due else None,
        "errors": [],
        "eventually_due": due,
        "past_due": due,
        "pending_verification": [],
    }


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    key = world.new_id("acct")
    kind: str = params.get("type") or "none"
    controller: Json = part(params, "controller")
    dashboard = controller.get("stripe_dashboard", {}).get(
        "type", {"express": "express", "standard": "full"}.get(kind, "none")
    )
    wanted: Json = part(params, "capabilities")
    only_offered(part(params, "tos_acceptance"), "service_agreement", where="tos_acceptance")
    account: Json = {
        "id": key,
        "object": "account",
        "business_profile": {
            **dict.fromkeys(("annual_revenue", "estimated_worker_count", "mcc", "name", "product_description", "support_address",
                             "support_email", "support_phone", "support_url", "url")),
            **part(params, "business_profile"),
        },
        "business_type": params.get("business_type"),
        "capabilities": {name: "inactive" for name, asked in wanted.items() if asked.get("requested")},
        "charges_enabled": False,
        "controller": {
            "fees": {"payer": controller.get("fees", {}).get("payer", "application")},
            "is_controller": True,
            "losses": {"payments": controller.get("losses", {}).get("payments", "application")},
            "requirement_collection": controller.get("requirement_collection", "stripe"),
            "stripe_dashboard": {"type": dashboard},
            "type": "application",
        },
        "country": params.get("country", "US"),
        "created": world.now,
        "default_currency": params.get("default_currency", "usd"),
        "details_submitted": False,
        "email": params.get("email"),
        "external_accounts": listed(f"/v1/accounts/{key}/external_accounts", []),
        "future_requirements": _requirements([]),
        "metadata": part(params, "metadata"),
        "payouts_enabled": False,
        "requirements": _requirements(_DUE),
        "settings": _settings(part(params, "settings")),
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None, **part(params, "tos_acceptance")},
        "type": kind,
    }  # fmt: skip
    return world.add(account)


def _settings(wanted: Json) -> Json:
    schedule: Json = {"delay_days": 2, "interval": "manual", **part(part(wanted, "payouts"), "schedule")}
    return {
        "branding": dict.fromkeys(("icon", "logo", "primary_color", "secondary_color")),
        "card_issuing": {"tos_acceptance": {"date": None, "ip": None}},
        "card_payments": {"statement_descriptor_prefix": None},
        "dashboard": {"display_name": None, "timezone": "Etc/UTC"},
        "payments": dict.fromkeys(("statement_descriptor", "statement_descriptor_kana", "statement_descriptor_kanji")),
        "payouts": {"debit_negative_balances": True, "schedule": schedule, "statement_descriptor": None},
    }


def onboard(world: World, account: Json, *, bank_number: str = "000123456789") -> None:
    """The account's owner has given all that was due, with a bank account."""
    bank: Json = {
        "id": world.new_id("ba"),
        "object": "bank_account",
        "account": account["id"],
        "account_holder_name": None,
        "account_holder_type": None,
        "account_type": None,
        "available_payout_methods": ["standard"],
        "bank_name": "STRIPE TEST BANK",
        "country": "US",
        "currency": "usd",
        "default_for_currency": True,
        "fingerprint": f"double{bank_number}",
        "last4": bank_number[-4:],
        "metadata": {},
        "routing_number": "110000000",
        "status": "new",
    }
    world.note(bank["id"])["number"] = bank_number
    with world.changing(account, None):
        account["external_accounts"]["data"] = [bank]
        account["capabilities"] = dict.fromkeys(account["capabilities"] or {"transfers": ""}, "active")
        account.update(details_submitted=True, payouts_enabled=True, requirements=_requirements([]))
        account["charges_enabled"] = account["capabilities"].get("card_payments") == "active"
        account["tos_acceptance"] = {
            **account["tos_acceptance"],
            "date": world.now,
            "ip": "127.0.0.1",
            "user_agent": None,
        }
    world.emit("account.updated", account, previous={"details_submitted": False}, account=account["id"])


def disable(world: World, account: Json) -> None:
    """Stripe wants more: neither transfers nor payouts until then."""
    account["capabilities"] = dict.fromkeys(account["capabilities"], "inactive")
    account.update(payouts_enabled=False, requirements=_requirements(["individual.verification.document"]))
    world.emit("account.updated", account, previous={"payouts_enabled": True}, account=account["id"])


def _retrieve_own(call: Call) -> Json:
    if call.account is None:
        raise invalid("The double has no account object of the platform.", code="double_not_offered")
    return call.world.get("account", call.account)


def _update(call: Call) -> Json:
    account = call.world.get("account", call.id)
    copied(account, call.params, "email", "business_type", "default_currency")
    if "business_profile" in call.params:
        account["business_profile"] = {**account["business_profile"], **call.params["business_profile"]}
    for name, asked in part(call.params, "capabilities").items():
        state = "active" if account["details_submitted"] else "inactive"
        account["capabilities"] = {**account["capabilities"], **({name: state} if asked.get("requested") else {})}
    call.world.emit("account.updated", account, previous={}, account=account["id"])
    return account


def _delete(call: Call) -> Json:
    call.world.get("account", call.id)
    call.world.forget(call.id)
    return {"id": call.id, "object": "account", "deleted": True}


def _link(call: Call) -> Json:
    world, params = call.world, call.params
    world.get("account", params["account"], param="account")
    for name in ("refresh_url", "return_url"):
        if name not in params:
            raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
        require_url(params, name)
    key = world.new_id("link")
    world.note(key).update(account=params["account"], return_url=params["return_url"], refresh_url=params["refresh_url"],
                           expires_at=world.now + _LINK_LIVES_S)  # fmt: skip
    return {
        "object": "account_link",
        "created": world.now,
        "expires_at": world.now + _LINK_LIVES_S,
        "url": f"{world.base_url}/onboarding/{key}",
    }


def _login_link(call: Call) -> Json:
    account = call.world.get("account", call.id)
    if not account["details_submitted"]:
        raise invalid("Cannot create a login link for an account that has not completed onboarding.")
    return {"object": "login_link", "created": call.world.now, "url": f"{call.world.base_url}/express/{call.id}"}


ENDPOINTS = (
    Endpoint("POST", "/v1/accounts", "AccountCreateParams", _create, _OFFERED),
    Endpoint("GET", "/v1/accounts", "AccountListParams", lambda call: page(call, call.world.all("account")), PAGE),
    Endpoint("GET", "/v1/account", "AccountRetrieveCurrentParams", _retrieve_own, ()),
    Endpoint("GET", "/v1/accounts/{id}", "AccountRetrieveParams", lambda call: call.world.get("account", call.id), ()),
    Endpoint(
        "POST",
        "/v1/accounts/{id}",
        "AccountUpdateParams",
        _update,
        ("email", "business_type", "default_currency", "business_profile", "capabilities", "metadata"),
    ),
    Endpoint("DELETE", "/v1/accounts/{id}", "AccountDeleteParams", _delete, ()),
    Endpoint("POST", "/v1/accounts/{id}/login_links", "AccountLoginLinkCreateParams", _login_link, ()),
    Endpoint(
        "POST",
        "/v1/account_links",
        "AccountLinkCreateParams",
        _link,
        ("account", "type", "return_url", "refresh_url", "collect", "collection_options"),
    ),
)
