"""Killed between any request to Stripe and any commit: charged exactly once, granted exactly once, both books agree.

`make kills` kills at each step in turn; here at four of them.
"""

import asyncio
import os
import signal

import pytest

from billing.auto_recharge import update_auto_recharge
from billing.stripe_customers import known_customer
from kit.ids import uuid7
from tests.billing.shop import MICRO
from tests.payments.house import Guest, House, open_house, session_of
from tests.payments.kill_points import FAILED, FINISHED, child
from tests.payments.kill_scenarios import ACTS
from tests.payments.test_transfers import publisher

CATALOG = "usd-balance"
WITH_LIFETIMES = "team-workspaces"
EVERY_STEP = bool(os.environ.get("TOLLGATE_TEST_EVERY_KILL"))


async def ready_for(act: str, house: House) -> Guest:
    """A workspace as the act finds it."""
    if act == "transfer":
        return await publisher(house)
    guest = await house.workspace()
    if act == "lifetime_over":
        await guest.subscribe_and_pay("studio")
    elif act in {"upgrade", "end"}:
        await guest.subscribe_and_pay("pro")
    elif act == "inbox":
        await guest.save_card()
        row = await guest.top_up(25)
        assert row.payment.status == "SUCCEEDED"
        made = await guest.page("pro")
        await house.double.pay(session_of(made.checkout_url))
    elif act == "give_back":
        await guest.pay_twice("pro")
    else:
        await guest.save_card()
    if act == "anew":
        await house.double.v1.customers.delete_async(await known_customer(house.link, guest.id))
    if act in {"recharge", "invoice"}:
        await guest.top_up(25)
    if act == "recharge":
        await update_auto_recharge(
            house.billing, guest.id, enabled=True, threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO
        )
        await guest.spend(10 * MICRO)
    return guest


async def recovered(act: str, house: House, guest: Guest, key: str) -> None:
    """The client or the worker does it again, and time passes."""
    if act != "recharge":
        await ACTS[act](house.billing, house.link, guest.id, key)
    if act in {"page", "anew"}:
        [payment] = await guest.payments()
        await house.double.pay(session_of(payment["action_url"]))
    await house.go(hours=1)
    await house.go(days=4)


async def as_it_should_be(act: str, house: House, guest: Guest) -> None:
    payments = [(row["purpose"], row["status"]) for row in await guest.payments()]
    row = await guest.subscription()
    match act:
        case "top_up" | "page" | "anew":
            assert payments == [("TOP_UP", "SUCCEEDED")]
            assert await guest.available() == 25
            living = (await house.double.v1.customers.list_async({"limit": 100})).data
            assert [one.metadata["workspace_id"] for one in living].count(str(guest.id)) == 1
        case "lifetime" | "lifetime_over":
            before = [("SUBSCRIPTION", "SUCCEEDED")] if act == "lifetime_over" else []
            assert payments == [*before, ("SUBSCRIPTION", "SUCCEEDED")]
            assert (row["status"], row["price_id"]) == ("ACTIVE", house.price("studio", "lifetime").id)
            assert row["stripe_subscription_id"] is None
            [customer] = [
                found for found in (await house.double.books())["customers"].items()
                if found[1]["metadata"]["workspace_id"] == str(guest.id)
            ]  # fmt: skip
            of_it = await house.double.v1.subscriptions.list_async({"customer": customer[0], "status": "all"})
            assert [one.status for one in of_it.data] == ["canceled"] * len(before)
            assert len(await guest.invoices()) == len(payments)
        case "upgrade":
            assert payments == [("SUBSCRIPTION", "SUCCEEDED"), ("PLAN_CHANGE", "SUCCEEDED")]
            assert row["price_id"] == house.price("business").id
            assert (await guest.stripe_subscription())["pending_update"] is None
        case "end":
            assert row["cancel_at_period_end"]
            assert (await guest.stripe_subscription())["cancel_at_period_end"]
        case "recharge":
            assert payments == [("TOP_UP", "SUCCEEDED"), ("AUTO_RECHARGE", "SUCCEEDED")]
            assert await guest.available() == 25
        case "inbox":
            assert payments == [("TOP_UP", "SUCCEEDED"), ("SUBSCRIPTION", "SUCCEEDED")]
            assert row["status"] == "ACTIVE"
            assert row["stripe_subscription_id"] is not None
        case "give_back":
            assert sorted(payments) == [("SUBSCRIPTION", "REFUNDED"), ("SUBSCRIPTION", "SUCCEEDED")]
            assert (row["status"], row["period_number"]) == ("ACTIVE", 1)
            assert await guest.told() == ["payment.give_back", "payment.given_back", "payment.unapplied"]
            of = (await house.double.books())["customers"]
            [mine] = [one for one in of.values() if one["metadata"]["workspace_id"] == str(guest.id)]
            assert (mine["charged"], mine["refunded"]) == (4_000, 2_000)
        case "invoice":
            assert payments == [("TOP_UP", "SUCCEEDED")]
            assert await guest.available() == 25
            [kept], [made] = await guest.invoices(), await guest.invoices_at_stripe()
            assert (made.status, made.amount_paid, len(made.payments.data)) == ("paid", 2_500, 1)
            assert (kept["stripe_invoice_id"], kept["status"]) == (made.id, "paid")
        case "transfer":
            assert await guest.available() == 60
            books = await house.double.books()
            mine = await house.pg.fetchrow("SELECT * FROM transfers WHERE workspace_id = $1", guest.id)
            assert mine["status"] == "PAID"
            for kind in ("transfers", "payouts"):
                sent = [one for one in books[kind] if one["metadata"]["transfer_id"] == str(mine["id"])]
                assert [one["amount"] for one in sent] == [4000]


async def killed_at(step: int, act: str, house: House, database_url: str) -> tuple[int, int]:
    """Do the act once, killed there, and recover; its exit code and how many steps it came to."""
    guest, key = await ready_for(act, house), uuid7().hex
    process, count = child(act, guest.id, key, database_url, house.double.url, house.now, step)
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode not in {None, FAILED}, f"{act} at step {step}"
    await recovered(act, house, guest, key)
    await as_it_should_be(act, house, guest)
    await house.agree()
    return process.exitcode, count.value


@pytest.mark.parametrize("act", list(ACTS))
@pytest.mark.timeout(0 if EVERY_STEP else 180)
async def test_killed_at_a_step_it_is_done_once(database, pg, double, database_url, act):
    catalog = WITH_LIFETIMES if act.startswith("lifetime") else CATALOG
    async with open_house(database, pg, double, catalog) as house:
        code, steps = await killed_at(0, act, house, database_url)
        assert code == FINISHED
        assert steps >= 4, "requests and commits are watched"
        chosen = range(1, steps + 1) if EVERY_STEP else sorted({1 + steps * part // 4 for part in range(4)})
        codes = [(await killed_at(step, act, house, database_url))[0] for step in chosen]
        assert codes.count(-signal.SIGKILL) >= len(codes) // 2, "what is made at Stripe once makes later acts shorter"
