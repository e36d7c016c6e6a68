"""The double's books: what each customer has paid and got back, to be compared with a ledger."""

from stripe_double.values import Json
from stripe_double.world import World


def books(world: World) -> Json:
    """Amounts in cents. Per customer: every succeeded charge with its refunds and disputes; over all: the sums."""
    customers: dict[str, Json] = {}
    disputes: dict[str, list[Json]] = {}
    for dispute in world.all("dispute"):
        disputes.setdefault(dispute["charge"], []).append(dispute)
    for charge in world.all("charge"):
        if charge["status"] != "succeeded":
            continue
        of = customers.setdefault(charge["customer"] or "", _empty(world, charge["customer"]))
        disputed = disputes.get(charge["id"], [])
        of["charged"] += charge["amount"]
        of["refunded"] += charge["amount_refunded"]
        of["disputed_open"] += _disputed(disputed, "needs_response", "under_review")
        of["disputed_lost"] += _disputed(disputed, "lost")
        of["charges"].append(_charge(world, charge, disputed))
    account_balances = {a["id"]: _balance(world, a["id"]) for a in world.all("account")}
    return {
        "now": world.now,
        "customers": customers,
        "charged": sum(c["charged"] for c in customers.values()),
        "refunded": sum(c["refunded"] for c in customers.values()),
        "balance": _balance(world, None),
        "accounts": account_balances,
        "transfers": [
            {k: t[k] for k in ("id", "amount", "amount_reversed", "destination", "metadata")}
            for t in world.all("transfer")
        ],
        "payouts": [
            {**{k: p[k] for k in ("id", "amount", "status", "metadata")}, "account": world.account_of[p["id"]]}
            for p in world.kinds.get("payout", {}).values()
        ],
        "subscriptions": [
            {
                "id": s["id"],
                "customer": s["customer"],
                "status": s["status"],
                "prices": [i["price"]["id"] for i in s["items"]["data"]],
                "current_period_start": s["items"]["data"][0]["current_period_start"],
                "current_period_end": s["items"]["data"][0]["current_period_end"],
                "cancel_at_period_end": s["cancel_at_period_end"],
                "metadata": s["metadata"],
            }
            for s in world.all("subscription")
        ],
    }


def _empty(world: World, customer: str | None) -> Json:
    known = world.find(customer or "")
    return {
        "metadata": known["metadata"] if known else {},
        "credit": -known["balance"] if known else 0,
        "charged": 0,
        "refunded": 0,
        "disputed_open": 0,
        "disputed_lost": 0,
        "charges": [],
    }


def _disputed(disputes: list[Json], *statuses: str) -> int:
    return sum(int(dispute["amount"]) for dispute in disputes if dispute["status"] in statuses)


def _charge(world: World, charge: Json, disputes: list[Json]) -> Json:
    return {
        **{k: charge[k] for k in ("id", "amount", "amount_refunded", "created", "payment_intent", "metadata")},
        "invoice": world.note(charge["payment_intent"]).get("invoice"),
        "session": world.note(charge["payment_intent"]).get("session"),
        "disputes": [{k: dispute[k] for k in ("id", "amount", "status")} for dispute in disputes],
    }


def _balance(world: World, account: str | None) -> int:
    return sum(int(line["net"]) for line in world.all("balance_transaction", account=account))
