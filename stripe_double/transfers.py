"""Transfers from the platform to connected accounts, and their payouts to banks."""

from stripe_double.charges import book, make_available
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import invalid
from stripe_double.values import LIVEMODE, Json, listed, part
from stripe_double.world import World

_ARRIVES_AFTER_S = 2 * 86_400
_FAILING_BANKS = {
    "000111111116": ("no_account", "No account could be found."),
    "000111111113": ("account_closed", "The bank account has been closed."),
    "000222222227": ("insufficient_funds", "The bank account has insufficient funds."),
}


def available(world: World, account: str | None) -> int:
    """What can be moved out of a balance now, in cents."""
    lines = world.all("balance_transaction", account=account)
    return sum(line["net"] for line in lines if line["available_on"] <= world.now or line["net"] < 0)


def add_funds(world: World, amount: int) -> None:
    """Money of the platform's own, available at once; for tests of transfers."""
    source = {"id": world.new_id("tu"), "currency": "usd", "description": "Top-up of the platform's balance"}
    make_available(world, book(world, source, "topup", amount))


def _create_transfer(call: Call) -> Json:
    world, params = call.world, call.params
    amount = params.get("amount")
    if amount is None:
        raise invalid("Missing required param: amount.", code="parameter_missing", param="amount")
    if amount < 1:
        raise invalid("Invalid positive integer", code="parameter_invalid_integer", param="amount")
    account = world.get("account", params["destination"], param="destination")
    if account["capabilities"].get("transfers") != "active":
        raise invalid(
            "Your destination account needs to have at least one of the following capabilities enabled: transfers,"
            " crypto_transfers, legacy_payments",
            code="insufficient_capabilities_for_transfer",
        )
    if params.get("source_transaction") is None and available(world, None) < amount:
        raise invalid("You have insufficient available funds in your Stripe account.", code="balance_insufficient")
    key = world.new_id("tr")
    transfer: Json = {
        "id": key,
        "object": "transfer",
        "amount": amount,
        "amount_reversed": 0,
        "balance_transaction": None,
        "created": world.now,
        "currency": params["currency"].lower(),
        "description": params.get("description"),
        "destination": account["id"],
        "destination_payment": world.new_id("py"),
        "livemode": LIVEMODE,
        "metadata": part(params, "metadata"),
        "reversals": listed(f"/v1/transfers/{key}/reversals", []),
        "reversed": False,
        "source_transaction": params.get("source_transaction"),
        "source_type": params.get("source_type", "card"),
        "transfer_group": params.get("transfer_group"),
    }
    world.add(transfer)
    transfer["balance_transaction"] = make_available(world, book(world, transfer, "transfer", -amount))["id"]
    arrived = {**transfer, "id": transfer["destination_payment"]}
    make_available(world, book(world, arrived, "payment", amount, account=account["id"]))
    world.emit("transfer.created", transfer)
    return transfer


def _update_transfer(call: Call) -> Json:
    transfer = call.world.get("transfer", call.id)
    with call.world.changing(transfer, "transfer.updated"):
        copied(transfer, call.params, "description")
    return transfer


def _list_transfers(call: Call) -> Json:
    return page(call, matching(call.world.all("transfer"), call.params, "destination", "transfer_group"))


def _reverse(call: Call) -> Json:
    world, params = call.world, call.params
    transfer = world.get("transfer", call.id)
    left = transfer["amount"] - transfer["amount_reversed"]
    amount = params.get("amount", left)
    if not 0 < amount <= left:
        raise invalid(f"Reversal amount is greater than the unreversed amount on transfer ({left}).", param="amount")
    if available(world, transfer["destination"]) < amount:
        raise invalid("The connected account has insufficient funds for this reversal.", code="balance_insufficient")
    reversal: Json = {
        "id": world.new_id("trr"),
        "object": "transfer_reversal",
        "amount": amount,
        "balance_transaction": None,
        "created": world.now,
        "currency": transfer["currency"],
        "destination_payment_refund": world.new_id("pyr"),
        "metadata": part(params, "metadata"),
        "source_refund": None,
        "transfer": transfer["id"],
    }
    world.add(reversal)
    reversal["balance_transaction"] = make_available(world, book(world, reversal, "transfer_refund", amount))["id"]
    taken = {**reversal, "id": reversal["destination_payment_refund"]}
    make_available(world, book(world, taken, "payment_refund", -amount, account=transfer["destination"]))
    transfer["amount_reversed"] += amount
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    transfer["reversals"]["data"].insert(0, reversal)
    world.emit("transfer.reversed", transfer, previous={"amount_reversed": transfer["amount_reversed"] - amount})
    return reversal


def _list_reversals(call: Call) -> Json:
    reversals: list[Json] = call.world.get("transfer", call.id)["reversals"]["data"]
    return page(call, list(reversed(reversals)))


def _create_payout(call: Call) -> Json:
    world, params = call.world, call.params
    if call.account is None:
        raise invalid("The double pays out connected accounts only (Stripe-Account).", code="double_not_offered")
    account = world.get("account", call.account)
    banks = account["external_accounts"]["data"]
    if not account["payouts_enabled"] or not banks:
        raise invalid("Cannot create payouts; this account has requirements that need to be collected.",
                      code="payouts_not_allowed")  # fmt: skip
    amount: int = params["amount"]
    if amount < 1:
        raise invalid("Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if available(world, call.account) < amount:
        raise invalid(
            "You have insufficient funds in your Stripe account for this transfer.", code="balance_insufficient"
        )
    payout: Json = {
        "id": world.new_id("po"),
        "object": "payout",
        "amount": amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": world.now + _ARRIVES_AFTER_S,
        "automatic": False,
        "balance_transaction": None,
        "created": world.now,
        "currency": params["currency"].lower(),
        "description": params.get("description"),
        "destination": banks[0]["id"],
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": LIVEMODE,
        "metadata": part(params, "metadata"),
        "method": params.get("method", "standard"),
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": params.get("statement_descriptor"),
        "status": "pending",
        "trace_id": None,
        "type": "bank_account",
    }
    world.add(payout, account=call.account)
    line = book(world, payout, "payout", -amount, account=call.account)
    payout["balance_transaction"] = make_available(world, line)["id"]
    world.emit("payout.created", payout)
    world.plan(payout["arrival_date"], "payout.arrives", payout["id"])
    return payout


def arrive(world: World, payout: Json) -> None:
    """The bank has taken it, or sends it back."""
    if payout["status"] not in {"pending", "in_transit"}:
        return
    failing = _FAILING_BANKS.get(world.note(payout["destination"]).get("number", ""))
    if failing is None:
        payout["status"] = "paid"
        world.emit("payout.paid", payout)
        return
    _fail(world, payout, failing)


def come_back(world: World, payout: Json) -> None:
    """The bank sends back within days what it had taken."""
    if payout["status"] != "paid":
        raise invalid("Only a payout that was paid comes back.")
    _fail(world, payout, ("account_closed", "The bank account has been closed."))


def _fail(world: World, payout: Json, failing: tuple[str, str]) -> None:
    account = world.account_of[payout["id"]]
    payout["status"], (payout["failure_code"], payout["failure_message"]) = "failed", failing
    line = book(world, payout, "payout_failure", payout["amount"], account=account)
    payout["failure_balance_transaction"] = make_available(world, line)["id"]
    world.emit("payout.failed", payout)


def _cancel_payout(call: Call) -> Json:
    world = call.world
    payout = world.get("payout", call.id, account=call.account)
    if payout["status"] != "pending":
        raise invalid("Payouts can be canceled only while they are pending.", code="payout_not_cancelable")
    payout["status"] = "canceled"
    line = book(world, payout, "payout_cancel", payout["amount"], account=call.account)
    payout["failure_balance_transaction"] = make_available(world, line)["id"]
    world.emit("payout.canceled", payout)
    return payout


def _list_payouts(call: Call) -> Json:
    return page(call, matching(call.world.all("payout", account=call.account), call.params, "status", "destination"))


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/transfers",
        "TransferCreateParams",
        _create_transfer,
        (
            "amount",
            "currency",
            "destination",
            "description",
            "metadata",
            "source_transaction",
            "source_type",
            "transfer_group",
        ),
    ),
    Endpoint("GET", "/v1/transfers", "TransferListParams", _list_transfers, (*PAGE, "destination", "transfer_group")),
    Endpoint(
        "GET", "/v1/transfers/{id}", "TransferRetrieveParams", lambda call: call.world.get("transfer", call.id), ()
    ),
    Endpoint("POST", "/v1/transfers/{id}", "TransferUpdateParams", _update_transfer, ("description", "metadata")),
    Endpoint(
        "POST",
        "/v1/transfers/{id}/reversals",
        "TransferReversalCreateParams",
        _reverse,
        ("amount", "metadata", "description"),
    ),
    Endpoint("GET", "/v1/transfers/{id}/reversals", "TransferReversalListParams", _list_reversals, PAGE),
    Endpoint(
        "POST",
        "/v1/payouts",
        "PayoutCreateParams",
        _create_payout,
        ("amount", "currency", "description", "metadata", "method", "source_type", "statement_descriptor"),
    ),
    Endpoint("GET", "/v1/payouts", "PayoutListParams", _list_payouts, (*PAGE, "status", "destination")),
    Endpoint(
        "GET",
        "/v1/payouts/{id}",
        "PayoutRetrieveParams",
        lambda call: call.world.get("payout", call.id, account=call.account),
        (),
    ),
    Endpoint("POST", "/v1/payouts/{id}/cancel", "PayoutCancelParams", _cancel_payout, ()),
)
