"""One-time purchases with saved methods: paid, declined, confirmed, lost on the way; methods, auto-recharge, refunds."""

import pytest

from billing.auto_recharge import auto_recharge_of, recharge_due
from billing.errors import PaymentMethodRequired, UnknownPaymentMethod
from billing.payments import apply_payment
from billing.refunds import refund_payment
from billing.rules.auto_recharge import RechargeState
from billing.stripe_customers import customer_of
from billing.stripe_inbox import list_inbox, replay, sweep, work_inbox
from billing.top_ups import add_credits
from kit.errors import InvalidInput
from kit.ids import uuid7
from tests.billing.shop import MICRO
from tests.payments.house import open_house, session_of

CATALOG = "usd-balance"


async def authenticate(house, guest):
    [payment] = [row for row in await guest.payments() if row["status"] == "ACTION_REQUIRED"]
    await house.double.ask("POST", f"payment_intents/{payment['stripe_object_id']}/authenticate")
    await house.work()


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
    ],
)
async def test_a_decline_gives_nothing_and_says_why(database, pg, double, card, code):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], card)
        made = await guest.top_up(25)
        assert (made.payment.status, made.payment.failure_code) == ("FAILED", code)
        await house.work()
        assert await guest.available() == 0
        await house.agree()


async def test_a_payment_that_the_bank_wants_confirmed_finishes_when_it_is(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        made = await guest.top_up(25)
        assert made.payment.status == "ACTION_REQUIRED"
        assert made.payment.action_url
        await authenticate(house, guest)
        assert await guest.available() == 25
        await house.agree()


async def test_D7_what_a_saved_method_pays_has_one_invoice_with_links_as_what_a_page_takes(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        await guest.spend(10 * MICRO)
        await house.go(minutes=1)
        made = await guest.top_up(30, checkout=True)
        await double.pay(session_of(made.payment.action_url))
        for _ in range(2):
            await house.go(hours=1)
        invoices = await guest.invoices()
        assert [(row["total_usd_micro"] // MICRO, row["status"]) for row in invoices] == [
            (25, "paid"), (10, "paid"), (30, "paid"),
        ]  # fmt: skip
        assert all(row["number"] and row["hosted_url"] and row["pdf_url"].endswith("/pdf") for row in invoices)
        texts = [one.lines.data[0].description for one in reversed(await guest.invoices_at_stripe())]
        assert texts[:2] == ["Credits", "Credits (auto-recharge)"]
        assert (await double.books())["charged"] == 6_500
        await house.agree()


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("drop_after", "/v1/invoices$"),
        ("error_before", "/v1/invoiceitems$"),
        ("drop_after", "/v1/invoiceitems$"),
        ("drop_after", "/finalize$"),
        ("drop_after", "/attach_payment$"),
        ("error_before", "/attach_payment$"),
    ],
)
async def test_an_invoice_whose_answer_is_lost_is_finished_later_and_written_once(database, pg, double, kind, path):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await guest.top_up(25)
        await double.fault(kind, path, method="POST", times=3)
        await house.work()
        await house.go(days=2)
        [made], [kept] = await guest.invoices_at_stripe(), await guest.invoices()
        assert (made.status, made.amount_paid, len(made.lines.data)) == ("paid", 2_500, 1)
        assert (kept["stripe_invoice_id"], kept["status"]) == (made.id, "paid")
        await house.agree()


async def test_D7_a_refund_of_what_was_invoiced_is_a_credit_note(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        made = await guest.top_up(25)
        await house.work()
        for _ in range(2):
            await house.billing.payments.refund(made.payment.id, 10 * MICRO, "sorry")
        [invoice] = await guest.invoices_at_stripe()
        assert invoice.post_payment_credit_notes_amount == 1_000
        await house.work()
        assert await guest.available() == 15
        assert (await double.books())["refunded"] == 1_000
        await house.agree()


@pytest.mark.parametrize("invoiced", [False, True])
async def test_D5_a_refund_that_fails_gives_the_credits_back_and_can_be_tried_again(database, pg, double, invoiced):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card("pm_card_refundFail")
        [method] = await guest.methods()
        made = await guest.top_up(20)
        if invoiced:
            await house.work()

        async def refund(dollars):
            given = await house.billing.payments.refund(made.payment.id, dollars * MICRO, "sorry")
            await refund_payment(house.billing, made.payment.id, given)
            [payment] = await guest.payments()
            return payment["status"], payment["failure_code"], await guest.available()

        assert await refund(20) == ("REFUNDED", None, 0)
        for _ in range(2):
            await house.go(hours=1)
            [payment] = await guest.payments()
            assert (payment["status"], payment["refunded_usd_micro"]) == ("SUCCEEDED", 0)
            assert payment["failure_code"] == "refund_failed"
            assert await guest.available() == 20
        assert (await guest.told()).count("payment.refund_failed") == 1
        assert (await guest.told()).count("refund.failed") == 1
        await house.agree()
        await double.behave(method["stripe_payment_method_id"], "pm_card_visa")
        assert await refund(5) == ("SUCCEEDED", None, 15)
        assert await refund(20) == ("REFUNDED", None, 0)
        await house.go(hours=1)
        assert await guest.available() == 0
        assert (await double.books())["refunded"] == 2_000
        await house.agree()


async def test_a_giving_back_that_fails_is_left_to_the_operator(database, pg, double):
    async with open_house(database, pg, double) as house:
        guest = await house.workspace()
        for _ in range(2):
            made = await guest.page("studio")
            await double.pay(session_of(made.checkout_url), card="pm_card_refundFail")
        await house.work()
        assert sorted(payment["status"] for payment in await guest.payments()) == ["REFUNDED", "SUCCEEDED"]
        await house.go(days=2)
        left = [payment for payment in await guest.payments() if payment["applied_at"] is None]
        assert [(payment["status"], payment["failure_code"]) for payment in left] == [("SUCCEEDED", "refund_failed")]
        assert (await guest.told()).count("payment.refund_failed") == 1
        assert (await guest.told()).count("refund.failed") == 1
        assert (await double.books())["refunded"] == 0
        await house.agree()


async def test_D7_a_receipt_stands_for_an_invoice_that_the_customers_balance_would_change(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await double.v1.customers.update_async(await customer_of(house.link, guest.id), {"balance": -700})
        await guest.top_up(25)
        await house.go(hours=1)
        [kept] = [row for row in await guest.invoices() if row["status"] == "paid"]
        assert (kept["total_usd_micro"], kept["pdf_url"]) == (25 * MICRO, None)
        assert "/receipts/" in kept["hosted_url"]
        customer = await double.v1.customers.retrieve_async(await customer_of(house.link, guest.id))
        assert customer.balance == -700
        await house.agree()


@pytest.mark.parametrize(("kind", "times"), [("drop_after", 3), ("error_before", 3), ("lock_timeout_before", 1)])
async def test_a_lost_answer_charges_once(database, pg, double, kind, times):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await double.fault(kind, "/v1/payment_intents$", method="POST", times=times)
        first = await guest.top_up(25, key="k")
        assert first.payment.status in {"PENDING", "SUCCEEDED"}
        again = await guest.top_up(25, key="k")
        assert again.payment.status == "SUCCEEDED"
        await house.work()
        assert (await double.books())["charged"] == 2500
        assert await guest.available() == 25
        await house.agree()


async def test_a_lost_answer_is_found_by_the_reconciler(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await double.fault("drop_after", "/v1/payment_intents$", method="POST", times=3)
        assert (await guest.top_up(25)).payment.status == "PENDING"
        await house.go(work=False, minutes=10)
        from billing.stripe_reconcile import ask_for_payments

        await ask_for_payments(house.billing, house.link)
        assert await guest.available() == 25
        await house.agree()


async def test_a_request_that_was_never_sent_fails_after_a_day_and_is_not_sent_later(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await double.fault("error_before", "/v1/payment_intents$", method="POST", times=3)
        assert (await guest.top_up(25, key="k")).payment.status == "PENDING"
        await house.go(hours=26)
        assert (await guest.top_up(25, key="k")).payment.failure_code == "never_sent"
        await house.work()
        assert (await double.books())["charged"] == 0
        await house.agree()


async def test_a_card_declined_on_an_open_page_ends_nothing_until_the_page_does(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        made = [
            await add_credits(house.billing, guest.id, 25 * MICRO, idempotency_key=key, checkout=True)
            for key in ("paid later", "never paid")
        ]
        pages = [each.payment.action_url for each in made]
        for url in pages:
            status, _ = await double.try_ask(
                "POST", f"checkout/{session_of(url)}/pay", card="pm_card_visa_chargeDeclined"
            )
            assert status == 402
        await house.work()
        assert {payment["status"] for payment in await guest.payments()} == {"PENDING"}
        await double.pay(session_of(pages[0]), "pm_card_visa")
        await house.work()
        assert await guest.available() == 25
        await house.go(days=2)
        found = {(payment["status"], payment["failure_code"]) for payment in await guest.payments()}
        assert found == {("SUCCEEDED", None), ("FAILED", "checkout_expired")}
        await house.agree()


async def test_one_purchase_many_tellers_one_grant(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        made = await guest.top_up(25)
        for _ in range(3):
            await sweep(house.link, force=True)
            await pg.execute("UPDATE inbox_events SET completed_at = NULL, due_at = received_at")
            await work_inbox(house.billing, house.link)
            await apply_payment(house.billing, made.payment.id)
        assert await guest.available() == 25
        await house.agree()


async def test_B7_methods_are_saved_made_the_default_and_removed(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await guest.save_card("pm_card_mastercard")
        first, second = await guest.methods()
        assert [first["is_default"], second["is_default"]] == [True, False]
        assert (second["brand"], second["last4"]) == ("mastercard", "4444")
        await house.billing.payments.make_default(second["id"])
        first, second = await guest.methods()
        assert [first["is_default"], second["is_default"]] == [False, True]
        await house.billing.payments.remove_method(second["id"])
        [left] = await guest.methods()
        assert left["is_default"]
        with pytest.raises(UnknownPaymentMethod):
            await house.billing.payments.make_default(second["id"])


async def test_D8_a_prepaid_card_is_not_kept_and_the_workspace_is_told(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card("pm_card_mastercard_prepaid")
        assert await guest.methods() == []
        assert await pg.fetchval("SELECT count(*) FROM outbox_events WHERE kind = 'payment_method.refused'") == 1
        with pytest.raises(PaymentMethodRequired):
            await guest.top_up(25)


async def test_removing_the_last_method_turns_auto_recharge_off_with_notice(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await house.billing.payments.remove_method(method["id"])
        view = await auto_recharge_of(house.billing, guest.id)
        assert view.state is RechargeState.OFF
        told = await pg.fetchval("SELECT payload->>'reason' FROM outbox_events WHERE kind = 'auto_recharge.suspended'")
        assert told == "payment_method_removed"


async def test_a_card_that_is_lost_suspends_until_another_is_set(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_visa_chargeDeclinedLostCard")
        await guest.spend(10 * MICRO)
        await house.go(minutes=1)
        view = await auto_recharge_of(house.billing, guest.id)
        assert (view.state, view.suspended_reason) == (RechargeState.SUSPENDED, "lost_card")
        await house.go(hours=5)
        assert len(await guest.payments()) == 2
        await guest.save_card("pm_card_mastercard")
        [_, second] = await guest.methods()
        await house.billing.payments.make_default(second["id"])
        await house.go(hours=2)
        assert await guest.available() == 25
        await house.agree()


async def test_a_recharge_that_needs_the_customer_sends_a_link_and_finishes_by_it(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        await guest.spend(10 * MICRO)
        await house.go(minutes=1)
        [payment] = [row for row in await guest.payments() if row["status"] == "ACTION_REQUIRED"]
        assert payment["action_url"]
        told = await pg.fetchval(
            "SELECT payload->>'actionUrl' FROM outbox_events WHERE kind = 'auto_recharge.action_required'"
        )
        assert told == payment["action_url"]
        assert (await auto_recharge_of(house.billing, guest.id)).state is RechargeState.SUSPENDED
        await authenticate(house, guest)
        assert await guest.available() == 25
        assert (await auto_recharge_of(house.billing, guest.id)).state is not RechargeState.SUSPENDED
        await house.agree()


async def test_a_recharge_that_needs_the_customer_is_given_up_when_another_card_is_set(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], "pm_card_authenticationRequired")
        await guest.spend(10 * MICRO)
        await house.go(minutes=1)
        await guest.save_card("pm_card_mastercard")
        [_, second] = await guest.methods()
        await house.billing.payments.make_default(second["id"])
        await house.go(hours=2)
        given_up, paid = (await guest.payments())[1:]
        assert (given_up["status"], paid["status"]) == ("FAILED", "SUCCEEDED")
        intent = await double.v1.payment_intents.retrieve_async(given_up["stripe_object_id"])
        assert intent.status == "canceled"
        assert await guest.available() == 25
        assert (await auto_recharge_of(house.billing, guest.id)).state is not RechargeState.SUSPENDED
        await house.agree()


@pytest.mark.parametrize(
    ("path", "card"),
    [
        ("/v1/payment_intents$", "pm_card_visa_chargeDeclinedLostCard"),
        ("/v1/payment_intents$", "pm_card_authenticationRequired"),
        ("/v1/payment_intents/.*/confirm$", "pm_card_authenticationRequired"),
        ("/v1/payment_intents$", "pm_card_visa"),
    ],
)
async def test_a_recharge_whose_answer_was_lost_counts_nothing_against_another_card_set_meanwhile(
    database, pg, double, path, card
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await guest.save_card("pm_card_mastercard")
        [_, second] = await guest.methods()
        await double.behave(method["stripe_payment_method_id"], card)
        await double.fault("drop_after", path, method="POST", times=3)
        await guest.spend(10 * MICRO)
        await recharge_due(house.billing)
        assert (await guest.payments())[-1]["status"] == "PENDING"
        await house.billing.payments.make_default(second["id"])
        await house.go(minutes=1)
        view = await auto_recharge_of(house.billing, guest.id)
        assert view.suspended_reason is None
        assert await pg.fetchval("SELECT consecutive_failures FROM auto_recharges") == 0
        await house.go(minutes=11)
        assert await guest.available() == 25
        assert await pg.fetchval("SELECT count(*) FROM outbox_events WHERE kind LIKE 'auto_recharge.%'") == 0
        await house.agree()


async def test_a_page_to_top_up_that_was_left_keeps_no_recharge_from_being_made(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        await guest.top_up(100, checkout=True)
        await guest.spend(25 * MICRO)
        await house.go(minutes=1)
        assert await guest.available() == 20
        await house.agree()


async def test_a_recharge_whose_answer_is_lost_is_asked_for_under_the_same_key(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        await double.fault("drop_after", "/v1/payment_intents$", method="POST", times=3)
        await guest.spend(10 * MICRO)
        await recharge_due(house.billing)
        assert (await guest.payments())[-1]["status"] == "PENDING"
        await house.go(minutes=1)
        assert await guest.available() == 25
        assert (await double.books())["charged"] == 3500
        await house.agree()


async def test_D5_a_dispute_takes_what_is_unspent_and_gives_it_back_when_it_is_won(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        made = await guest.top_up(20)
        await guest.spend(5 * MICRO)
        opened = await double.ask("POST", "disputes", payment_intent=(await guest.payments())[0]["stripe_object_id"])
        await house.work()
        assert await guest.available() == 0
        assert (await guest.payments())[0]["status"] == "DISPUTED"
        frozen = await pg.fetchval("SELECT count(*) FROM credit_grants WHERE frozen_reason = 'DISPUTE'")
        assert frozen == 1
        await double.ask("POST", "disputes", dispute=opened["id"], outcome="won")
        await house.work()
        assert await guest.available() == 15
        assert (await guest.payments())[0]["status"] == "SUCCEEDED"
        assert made.payment.amount_usd_micro == 20 * MICRO
        await house.agree()


async def test_a_dispute_that_is_lost_keeps_what_it_took(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await guest.top_up(20)
        opened = await double.ask("POST", "disputes", payment_intent=(await guest.payments())[0]["stripe_object_id"])
        await house.work()
        await double.ask("POST", "disputes", dispute=opened["id"], outcome="lost")
        await house.work()
        assert await guest.available() == 0
        await house.agree()


async def test_the_inbox_can_be_looked_at_and_replayed(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await guest.top_up(20)
        await house.work()
        lines = await list_inbox(database, "payment_intent.%", 10, only_open=False)
        assert {line.kind for line in lines} >= {"payment_intent.succeeded"}
        assert all(line.completed_at is not None for line in lines)
        object_id = lines[0].object_id
        assert await replay(database, [object_id]) >= 1
        assert await list_inbox(database, object_id, 10, only_open=True)
        await house.work()
        assert await guest.available() == 20
        assert await replay(database, [uuid7().hex]) == 0


@pytest.mark.parametrize(
    ("method", "saved"), [("pm_card_visa", ["card"]), ("pm_paypal", []), ("pm_crypto", []), ("pm_card_amex", ["card"])]
)
async def test_A10_D8_a_page_takes_what_the_account_offers_on_chain_payment_too_and_keeps_cards(
    database, pg, double, method, saved
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        made = await guest.top_up(25, checkout=True)
        await double.pay(session_of(made.payment.action_url), method)
        await house.work()
        assert await guest.available() == 25
        assert [each["kind"] for each in await guest.methods()] == saved
        assert [each["status"] for each in await guest.invoices()] == ["paid"]
        await house.agree()


async def test_a_last_method_removed_at_stripe_turns_auto_recharge_off_with_one_notice(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.with_recharge()
        [method] = await guest.methods()
        await double.v1.payment_methods.detach_async(method["stripe_payment_method_id"])
        for _ in range(2):
            await house.work()
        assert (await auto_recharge_of(house.billing, guest.id)).state is RechargeState.OFF
        assert (await guest.told()).count("auto_recharge.suspended") == 1
        await guest.spend(10 * MICRO)
        await house.go(hours=1)
        assert await guest.available() == 15
        await house.agree()


async def test_D7_a_tax_id_stands_on_the_invoices_that_are_written_after_it_and_on_no_other_customers(
    database, pg, double
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest, other = await house.workspace(), await house.workspace()
        for each in (guest, other):
            await each.save_card()
        await guest.top_up(25)
        await house.work()
        payments = house.billing.payments
        made = await payments.add_tax_id(guest.id, "eu_vat", "DE123456789")
        assert await payments.add_tax_id(guest.id, "eu_vat", "DE123456789") == made
        with pytest.raises(InvalidInput):
            await payments.add_tax_id(guest.id, "no_such_kind", "DE123456789")
        await payments.remove_tax_id(other.id, made.id)  # another workspace's id changes nothing
        assert list(await payments.tax_ids(guest.id)) == [made]
        for each in (guest, other):
            await each.top_up(30)
        await house.work()
        shown = [
            [one.value for one in invoice.customer_tax_ids] for invoice in reversed(await guest.invoices_at_stripe())
        ]
        assert shown == [[], ["DE123456789"]]
        assert [list(invoice.customer_tax_ids) for invoice in await other.invoices_at_stripe()] == [[]]
        await house.agree()
