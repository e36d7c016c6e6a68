"""A customer that somebody deletes at Stripe: forgotten here with its methods, and followed by another (B5, B7)."""

import asyncio
import itertools
import json

import pytest

from billing.auto_recharge import auto_recharge_of, update_auto_recharge
from billing.stripe_client import StripeAway
from billing.stripe_customers import customer_of, known_customer, workspace_of
from billing.stripe_inbox import receive, work_inbox
from billing.top_ups import add_credits
from kit.errors import Refusal
from kit.ids import uuid7
from tests.billing.shop import MICRO
from tests.payments.house import Guest, House, open_house, session_of
from tests.payments.test_deliveries import events_of, signed
from tests.stripe_shop import WEBHOOK_SECRET

CATALOG = "usd-balance"
BACK = "https://app.example/back"


async def deleted(house: House, guest: Guest) -> str:
    """The operator deletes the workspace's customer in the dashboard; nobody has told us."""
    customer = await known_customer(house.link, guest.id)
    await house.double.v1.customers.delete_async(customer)
    return customer


async def subscriber(house: House) -> Guest:
    """On a plan, with credits bought, and recharging by itself."""
    guest = await house.with_recharge()
    await guest.subscribe_and_pay("pro")
    for _ in range(2):  # invoices are written by the first round, and heard of by the second
        await house.work()
    return guest


async def told_of(house: House, before: set[str]) -> list[dict]:
    """What Stripe has told since, and we have not heard."""
    return [event for event in reversed(await events_of(house)) if event["id"] not in before]


async def is_forgotten(house: House, guest: Guest, customer: str) -> None:
    """Neither the customer nor a method is left; what was paid for stays; it is told once."""
    assert await known_customer(house.link, guest.id) is None
    assert await workspace_of(house.link, customer) == guest.id
    assert await guest.methods() == []
    assert not (await auto_recharge_of(house.billing, guest.id)).enabled
    rows = await house.pg.fetch(
        "SELECT payload FROM outbox_events WHERE workspace_id = $1 AND kind = 'auto_recharge.suspended'", guest.id
    )
    assert [json.loads(row["payload"])["reason"] for row in rows] == ["payment_method_removed"]
    assert sum(amount for amount, *_ in await guest.grants("TOP_UP")) == 25


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))), ids=str)
@pytest.mark.parametrize("worked", ["at_once", "together"])
async def test_a_deleted_customer_is_forgotten_and_its_plan_ends_in_every_order(database, pg, double, order, worked):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await subscriber(house)
        before = {event["id"] for event in await events_of(house)}
        customer = await deleted(house, guest)
        events = await told_of(house, before)
        assert [event["type"] for event in events] == ["customer.subscription.deleted", "customer.deleted"]
        for index in (*order, *order):  # each comes twice
            await receive(database, *signed(events[index]), WEBHOOK_SECRET)
            if worked == "at_once":
                await work_inbox(house.billing, house.link)
        await asyncio.gather(*(work_inbox(house.billing, house.link) for _ in range(2)))
        await is_forgotten(house, guest, customer)
        assert (await guest.subscription())["ended_at"] is not None
        await house.go(days=40)
        await is_forgotten(house, guest, customer)
        await house.agree()


async def test_one_that_no_webhook_told_of_is_found_by_the_days_sweep(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await subscriber(house)
        customer = await deleted(house, guest)
        await house.work()
        await is_forgotten(house, guest, customer)
        assert (await guest.subscription())["ended_at"] is not None
        await house.agree()


async def charge(house: House, guest: Guest) -> None:
    made = await guest.top_up(25)
    assert (made.payment.status, made.payment.failure_code) == ("FAILED", "no_payment_method")


async def page(house: House, guest: Guest) -> None:
    made = await guest.top_up(25, checkout=True)
    await house.double.pay(session_of(made.payment.action_url))
    await house.work()
    assert sum(amount for amount, *_ in await guest.grants("TOP_UP")) == 50


async def setup(house: House, guest: Guest) -> None:
    await guest.save_card()
    assert len(await guest.methods()) == 1


async def portal(house: House, guest: Guest) -> None:
    assert await house.billing.payments.open_portal(guest.id, BACK)


async def tax_id(house: House, guest: Guest) -> None:
    await house.billing.payments.add_tax_id(guest.id, "eu_vat", "DE123456789")
    assert [found.value for found in await house.billing.payments.tax_ids(guest.id)] == ["DE123456789"]


async def removal(house: House, guest: Guest) -> None:
    [method] = await guest.methods()
    await house.billing.payments.remove_method(method["id"])


async def choice(house: House, guest: Guest) -> None:
    [method] = await guest.methods()
    with pytest.raises(Refusal):
        await house.billing.payments.make_default(method["id"])


async def recharge(house: House, guest: Guest) -> None:
    """Off-session, by the worker: no method is left, so it is turned off rather than tried again."""
    from billing.auto_recharge import recharge_due

    await guest.spend(10 * MICRO)
    assert await recharge_due(house.billing) == 1
    assert await recharge_due(house.billing) == 0


@pytest.mark.parametrize("ask", [charge, page, setup, portal, tax_id, removal, choice, recharge])
async def test_the_first_refusal_tells_of_one_that_nothing_told_of(database, pg, double, ask):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        for _ in range(2):
            await house.work()
        customer = await deleted(house, guest)
        await ask(house, guest)
        assert await known_customer(house.link, guest.id) != customer
        assert not (await auto_recharge_of(house.billing, guest.id)).enabled
        if ask in {charge, page, removal, choice, recharge}:
            assert not any(row["is_default"] for row in await guest.methods() if ask is not page)
        assert (await guest.told()).count("auto_recharge.suspended") == 1
        await house.work()
        await house.agree()


async def test_the_next_customer_is_another_and_pays_as_the_first_did(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await subscriber(house)
        first = await deleted(house, guest)
        await house.work()
        await guest.save_card()
        second = await known_customer(house.link, guest.id)
        assert second not in {None, first}
        await guest.top_up(30)
        row = await guest.subscribe_and_pay("pro")
        assert (row["status"], row["period_number"]) == ("ACTIVE", 1)
        await update_auto_recharge(
            house.billing, guest.id, enabled=True, threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO
        )
        await house.go(days=31)
        assert (await guest.subscription())["period_number"] == 2
        of = (await house.double.books())["customers"]
        assert of[second]["charged"] == 3_000 + 2_000 + 2_000
        await double.v1.customers.delete_async(second)  # and that one too
        await house.work()
        third = await customer_of(house.link, guest.id)
        assert third not in {first, second}
        made = await double.calls("/v1/customers$".removesuffix("$"))
        keys = [call["key"] for call in made if call["path"] == "/v1/customers" and call["key"]]
        assert keys[-3:] == [f"ws:{guest.id}:customer", f"ws:{guest.id}:customer:1", f"ws:{guest.id}:customer:2"]
        await house.agree()


async def test_a_customer_deleted_before_it_was_written_down_is_followed_by_another(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await double.fault("drop_after", "/v1/customers$", times=3)
        with pytest.raises(StripeAway):
            await customer_of(house.link, guest.id)
        [lost] = (await double.v1.customers.list_async({})).data
        await double.v1.customers.delete_async(lost.id)
        assert await customer_of(house.link, guest.id) != lost.id
        await guest.save_card()
        await guest.top_up(25)
        await house.agree()


async def test_what_a_deleted_customer_paid_is_given_however_late_it_is_told(database, pg, double):
    """The page is paid and the card charged, then the customer is deleted, and only that is heard of at first."""
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        plan = await guest.page("pro")
        await house.double.pay(session_of(plan.checkout_url))
        await double.fault("drop_after", "/v1/payment_intents$", times=3)
        made = await guest.top_up(25, key="once")
        assert made.payment.status == "PENDING"
        before = {event["id"] for event in await events_of(house)}
        await deleted(house, guest)
        for event in reversed(await told_of(house, before)):
            await receive(database, *signed(event), WEBHOOK_SECRET)
            await work_inbox(house.billing, house.link)
        assert await guest.methods() == []
        await guest.save_card()  # of the next customer, under which the first charge is not made again
        again = await guest.top_up(25, key="once")
        assert again.payment.id == made.payment.id
        await house.go(hours=2)
        assert [(row["purpose"], row["status"]) for row in await guest.payments()] == [
            ("SUBSCRIPTION", "SUCCEEDED"),
            ("TOP_UP", "SUCCEEDED"),
        ]
        assert (await guest.subscription())["ended_at"] is not None, "as where its page was heard of first"
        assert sum(amount for amount, *_ in await guest.grants("TOP_UP")) == 25
        assert (await double.books())["charged"] == 2_000 + 2_500
        await house.agree()


@pytest.mark.parametrize("lost", ["answer", "address"])
async def test_a_page_of_a_deleted_customer_gives_way_to_one_of_the_next(database, pg, double, lost):
    """The client, which never got its address, asks again with the same key; only the second page can be paid."""
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()

        async def ask():
            return await add_credits(house.billing, guest.id, 25 * MICRO, idempotency_key=key, checkout=True)

        key = uuid7().hex
        if lost == "answer":
            await double.fault("drop_after", "/v1/checkout/sessions$", times=3)
            with pytest.raises(StripeAway):
                await ask()
        else:  # killed in between
            await ask()
            await pg.execute("UPDATE payments SET action_url = NULL")
        await deleted(house, guest)
        await house.work()
        second = await ask()
        pages = [page.id for page in reversed((await double.v1.checkout.sessions.list_async({})).data)]
        assert pages[1:] == [session_of(second.payment.action_url)]
        await house.work()  # hears that the first has expired
        [payment] = await guest.payments()
        assert payment["status"] == "PENDING"
        status, _ = await double.try_ask("POST", f"checkout/{pages[0]}/pay", card="pm_card_visa")
        assert status != 200
        await double.pay(pages[1])
        await house.work()
        assert await guest.available() == 25
        assert (await double.books())["charged"] == 2_500
        await house.agree()


async def test_another_accounts_key_forgets_nobody(database, pg, double):
    """A customer that Stripe does not know at all is not one that it calls deleted."""
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await pg.execute("UPDATE workspaces SET stripe_customer_id = 'cus_of_another' WHERE id = $1", guest.id)
        with pytest.raises(StripeAway):
            await house.billing.payments.open_setup(guest.id, BACK)
        made = await guest.top_up(25)
        assert (made.payment.status, made.payment.failure_code) == ("FAILED", "resource_missing")
        assert await known_customer(house.link, guest.id) == "cus_of_another"
        assert len(await guest.methods()) == 1


async def test_the_invoice_of_a_charge_whose_customer_is_gone_is_its_receipt(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await guest.top_up(25)
        customer = await deleted(house, guest)
        await house.work()
        await house.work()
        [kept] = await guest.invoices()
        assert kept["stripe_invoice_id"].startswith("ch_")
        assert await known_customer(house.link, guest.id) is None
        assert (await double.v1.invoices.list_async({"customer": customer})).data == []
        await guest.save_card()
        await house.work()
        assert len(await guest.invoices()) == 1
        await house.agree()


async def test_a_fetch_from_before_the_deletion_brings_no_method_back(database, pg, double):
    from billing.payment_methods import HeldMethod, write_methods
    from billing.stripe_link import next_fetch

    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        [row] = await guest.methods()
        held = HeldMethod(object_id=row["stripe_payment_method_id"], kind="card")
        number = await next_fetch(house.link)
        await deleted(house, guest)
        await house.work()
        assert not await write_methods(database, guest.id, [held], held.object_id, fetch_number=number)
        assert await guest.methods() == []


async def test_refunds_and_disputes_of_what_a_deleted_customer_paid_take_its_credits(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await guest.top_up(25)
        await guest.top_up(40)
        await house.work()
        await deleted(house, guest)
        await house.work()
        first, second = (row["stripe_object_id"] for row in await guest.payments())
        await double.v1.refunds.create_async({"payment_intent": first, "amount": 500})
        opened = await double.ask("POST", "disputes", payment_intent=second)
        await house.work()
        assert await guest.available() == 20
        await double.ask("POST", "disputes", dispute=opened["id"], outcome="lost")
        await house.work()
        assert await guest.available() == 20
        await house.agree()
