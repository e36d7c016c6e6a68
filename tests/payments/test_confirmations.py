"""Payments that the bank wants confirmed (3-D Secure): each has a hosted page, and finishes by itself once it is done."""

import pytest

from billing.packs import buy_pack
from kit.ids import uuid7
from tests.payments.house import House, open_house, session_of

ASKS = "pm_card_authenticationRequired"


async def asks_from_now_on(house: House, guest) -> None:
    [method] = await guest.methods()
    await house.double.behave(method["stripe_payment_method_id"], ASKS)


async def confirm(house: House, guest, *, success: bool = True) -> None:
    """The holder, on the bank's page; then the worker alone hears of it."""
    [payment] = [row for row in await guest.payments() if row["status"] == "ACTION_REQUIRED"]
    intent = payment["stripe_object_id"]
    if intent.startswith("in_"):
        invoice = await house.double.v1.invoices.retrieve_async(intent, {"expand": ["payments"]})
        intent = invoice.payments.data[0].payment.payment_intent
    await house.double.ask("POST", f"payment_intents/{intent}/authenticate", success=success)
    await house.work()


async def test_a_plan_whose_page_asks_the_holder_begins_once_it_is_confirmed_there(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        page = session_of((await guest.page("studio")).checkout_url)
        status, _ = await double.try_ask("POST", f"checkout/{page}/pay", card="pm_card_threeDSecure2Required")
        assert status == 402
        await house.work()
        assert (await guest.subscription())["status"] == "INCOMPLETE"
        assert await guest.available() == 0
        await double.pay(page, "pm_card_threeDSecure2Required", authenticated=True)
        await house.work()
        assert (await guest.subscription())["status"] == "ACTIVE"
        assert await guest.available() == 8000
        await house.agree()


async def test_a_pack_that_the_bank_wants_confirmed_is_given_once_it_is(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await asks_from_now_on(house, guest)
        bought = await buy_pack(house.billing, guest.id, "addon-1000", idempotency_key=uuid7().hex)
        assert bought.payment.status == "ACTION_REQUIRED"
        assert bought.payment.action_url.startswith("http")
        await house.work()
        assert await guest.available() == 8000
        await confirm(house, guest)
        assert await guest.available() == 9000
        await house.agree()


@pytest.mark.parametrize("success", [True, False])
async def test_a_renewal_that_the_bank_wants_confirmed_waits_within_its_grace_and_goes_on_once_it_is(
    database, pg, double, success
):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        before = await guest.subscribe_and_pay("studio")
        await asks_from_now_on(house, guest)
        await house.go(days=31)
        row = await guest.subscription()
        assert (row["status"], row["period_number"]) == ("PAST_DUE", 1)
        payment = (await guest.payments())[-1]
        assert (payment["status"], payment["failure_code"]) == ("ACTION_REQUIRED", "authentication_required")
        assert payment["action_url"].startswith(double.url)
        told = await pg.fetch("SELECT payload->>'url' AS url FROM outbox_events WHERE kind = 'payment.failed'")
        assert {each["url"] for each in told} == {payment["action_url"]}
        await confirm(house, guest, success=success)
        row = await guest.subscription()
        assert (row["status"], row["period_number"]) == (("ACTIVE", 2) if success else ("PAST_DUE", 1))
        if success:
            assert row["current_period_start"] == before["current_period_end"]
            assert await guest.available() == 8000
            assert (await guest.payments())[-1]["action_url"] is None
        await house.agree()


async def test_a_renewal_that_nobody_confirms_ends_with_its_grace(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        await guest.subscribe_and_pay("studio")
        await asks_from_now_on(house, guest)
        await house.go(days=40)
        assert (await guest.subscription())["status"] == "EXPIRED"
        assert (await double.books())["charged"] == 10_000
        await house.agree()
