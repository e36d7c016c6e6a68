"""Charges, and the balance of the platform that they and everything else that moves money change."""

from stripe_double.cards import message_of
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.payment_methods import behaviour_of
from stripe_double.values import LIVEMODE, Json, listed
from stripe_double.world import World

_FEE_PER_MILLE = 29
_FEE_FIXED = 30
_AVAILABLE_AFTER_S = 2 * 86_400


def book(world: World, source: Json, kind: str, amount: int, *, fee: int = 0, account: str | None = None) -> Json:
    """One line of the account's balance. Amounts in cents; negative leaves the balance."""
    fees = [
        {
            "amount": fee,
            "application": None,
            "currency": "usd",
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]
    return world.add(
        {
            "id": world.new_id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": world.now + _AVAILABLE_AFTER_S,
            "balance_type": "payments",
            "created": world.now,
            "currency": source["currency"],
            "description": source.get("description"),
            "exchange_rate": None,
            "fee": fee,
            "fee_details": fees if fee else [],
            "net": amount - fee,
            "reporting_category": kind,
            "source": source["id"],
            "status": "pending",
            "type": kind,
        },
        account=account,
    )


def make_available(world: World, line: Json) -> Json:
    """The line's money can be moved now."""
    line["available_on"], line["status"] = world.now, "available"
    return line


def _as_of_now(world: World, line: Json) -> Json:
    if line["status"] == "pending" and line["available_on"] <= world.now:
        line["status"] = "available"
    return line


def make_charge(world: World, intent: Json, method: Json, *, status: str, authenticated: bool) -> Json:
    """The charge of one attempt: succeeded, pending or failed."""
    behaviour = behaviour_of(world, method)
    failed = status == "failed"
    key = world.new_id("py" if behaviour.kind != "card" else "ch")
    charge: Json = {
        "id": key,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0 if failed else intent["amount"],
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "TOLLGATE DOUBLE",
        "captured": not failed,
        "created": world.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": behaviour.code if failed else None,
        "failure_message": message_of(behaviour) if failed else None,
        "fraud_details": {},
        "livemode": LIVEMODE,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": _outcome(behaviour.decline_code or behaviour.code, failed=failed),
        "paid": status == "succeeded",
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _details(method, authenticated=authenticated),
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": f"{world.base_url}/receipts/{key}",
        "refunded": False,
        "refunds": listed(f"/v1/charges/{key}/refunds", []),
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": status,
        "transfer_data": None,
        "transfer_group": intent["transfer_group"],
    }
    world.add(charge)
    intent["latest_charge"] = key
    if status == "succeeded":
        settle(world, charge)
    elif status == "failed":
        world.emit("charge.failed", charge)
    else:
        world.emit("charge.pending", charge)
    return charge


def settle(world: World, charge: Json) -> None:
    """The money has come."""
    fee = (charge["amount"] * _FEE_PER_MILLE + 500) // 1000 + _FEE_FIXED
    charge["status"], charge["paid"] = "succeeded", True
    line = book(world, charge, "charge", charge["amount"], fee=fee)
    if behaviour_of(world, world.get("payment_method", charge["payment_method"])).at_once:
        make_available(world, line)
    charge["balance_transaction"] = line["id"]
    world.emit("charge.succeeded", charge)


def _outcome(reason: str | None, *, failed: bool) -> Json:
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if failed else "approved_by_network",
        "reason": reason if failed else None,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": "The bank did not return any further details." if failed else "Payment complete.",
        "type": "issuer_declined" if failed else "authorized",
    }


def _details(method: Json, *, authenticated: bool) -> Json:
    kind: str = method["type"]
    if kind != "card":
        return {"type": kind, kind: {k: v for k, v in method[kind].items() if k in _SHARED.get(kind, ())}}
    card = method["card"]
    shared = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "wallet")
    secured = {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": None,
        "version": "2.2.0",
    }
    return {
        "type": "card",
        "card": {
            **{name: card[name] for name in shared},
            "amount_authorized": None,
            "installments": None,
            "mandate": None,
            "network": card["brand"],
            "three_d_secure": secured if authenticated else None,
        },
    }


_SHARED: dict[str, tuple[str, ...]] = {
    "paypal": ("country", "payer_email", "payer_id"),
    "us_bank_account": ("account_holder_type", "account_type", "bank_name", "fingerprint", "last4", "routing_number"),
}


def _list(call: Call) -> Json:
    return page(call, matching(call.world.all("charge"), call.params, "customer", "payment_intent", "transfer_group"))


def _update(call: Call) -> Json:
    charge = call.world.get("charge", call.id)
    with call.world.changing(charge, "charge.updated"):
        copied(charge, call.params, "description", "receipt_email", "transfer_group")
    return charge


def _balance(call: Call) -> Json:
    funds: dict[bool, int] = {True: 0, False: 0}
    for line in call.world.all("balance_transaction", account=call.account):
        funds[line["available_on"] <= call.world.now] += line["net"]
    source = {"card": 0}
    return {
        "object": "balance",
        "available": [{"amount": funds[True], "currency": "usd", "source_types": source}],
        "livemode": LIVEMODE,
        "pending": [{"amount": funds[False], "currency": "usd", "source_types": source}],
    }


def _list_transactions(call: Call) -> Json:
    lines = [_as_of_now(call.world, one) for one in call.world.all("balance_transaction", account=call.account)]
    return page(call, matching(lines, call.params, "source", "type", "currency"))


ENDPOINTS = (
    Endpoint("GET", "/v1/charges", "ChargeListParams", _list, (*PAGE, "customer", "payment_intent", "transfer_group")),
    Endpoint("GET", "/v1/charges/{id}", "ChargeRetrieveParams", lambda call: call.world.get("charge", call.id), ()),
    Endpoint(
        "POST",
        "/v1/charges/{id}",
        "ChargeUpdateParams",
        _update,
        ("description", "receipt_email", "transfer_group", "metadata"),
    ),
    Endpoint("GET", "/v1/balance", "BalanceRetrieveParams", _balance, ()),
    Endpoint(
        "GET",
        "/v1/balance_transactions",
        "BalanceTransactionListParams",
        _list_transactions,
        (*PAGE, "source", "type", "currency"),
    ),
    Endpoint(
        "GET",
        "/v1/balance_transactions/{id}",
        "BalanceTransactionRetrieveParams",
        lambda call: _as_of_now(call.world, call.world.get("balance_transaction", call.id, account=call.account)),
        (),
    ),
)
