"""What a payment needs of somebody is told: by mail to those who pay, and to the endpoints that asked for it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from accounts.alert_mails import AlertMails
from accounts.audit import noting_for_system
from accounts.mail.messages import Sender
from accounts.mail.outbox import deliver_mail
from billing.alerts import AlertSettings, change_alert_settings
from billing.auto_recharge import auto_recharge_of, recharge_due, update_auto_recharge
from billing.disputes import close_dispute, dispute_payment
from billing.errors import PaymentRefused
from billing.event_kinds import EventKind
from billing.events import dispatch_events
from billing.giving_back import give_back_unapplied
from billing.payment_methods import write_methods
from billing.payment_port import ActionNeeded, Declined
from billing.payment_rows import unapplied_payments
from billing.payments import apply_payment, renewal_payment, settle_charge
from billing.refunds import refund_failed, refund_payment, seen_at
from billing.rules.auto_recharge import RechargeState
from billing.subscribing import subscribe
from billing.subscriptions import end_now
from billing.top_ups import add_credits
from billing.transfers import end_transfer, give_back_part, request_transfer
from kit.errors import Unavailable
from kit.ids import encode_id, uuid7
from kit.sealing import Sealer
from metering.operations import Grant
from models.enums import PaymentStatus, TransferStatus
from tests.billing.shop import MICRO, open_shop

SEALER = Sealer({1: b"a secret key for the tests of events"}, 1)
SENDER = Sender("Tollgate <mail@tollgate.test>", "Tollgate", "https://tollgate.test")
CONFIRM = "https://confirm.example/pay?key=1"


class Box:
    """A mail server's place: keeps what it is given."""

    def __init__(self):
        self.mails = []

    async def send(self, message):
        self.mails.append(message)


async def people(shop, customer):
    for role in ("OWNER", "ADMIN", "BILLING", "MEMBER"):
        user = uuid7()
        await shop.pg.execute(
            "INSERT INTO users (id, email, email_key, name, created_at, updated_at, email_verified_at)"
            " VALUES ($1, $2, $2, 'S', $3, $3, $3)", user, f"{role.lower()}@example.com", shop.time.at,
        )  # fmt: skip
        await shop.pg.execute(
            "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4, $5)",
            uuid7(), customer.id, user, role, shop.time.at,
        )  # fmt: skip


async def endpoint(shop, customer, *kinds):
    await shop.pg.execute(
        "INSERT INTO webhook_endpoints (id, workspace_id, url, description, event_kinds, secret_encrypted, key_version,"
        " created_at) VALUES ($1, $2, 'https://1.1.1.1/', '', $3, '\\x00', 1, $4)",
        uuid7(), customer.id, [kind.value for kind in kinds], shop.time.at,
    )  # fmt: skip


async def tell(shop):
    """Everything that waits, as the worker tells it; the mails that left."""
    box = Box()
    await dispatch_events(shop.billing.database, AlertMails(SEALER, "Tollgate"), limit=100)
    await deliver_mail(shop.billing.database, SEALER, box, SENDER)
    return box.mails


async def delivered(shop):
    rows = await shop.pg.fetch(
        "SELECT o.kind, o.payload FROM webhook_deliveries d JOIN outbox_events o ON o.id = d.event_id ORDER BY o.id"
    )
    return [(row["kind"], row["payload"]) for row in rows]


@pytest.mark.parametrize("by_mail", [True, False])
async def test_a_recharge_to_confirm_has_one_mail_with_its_link_to_those_who_pay_whatever_they_turned_off(
    database, pg, by_mail
):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await shop.workspace()
        await people(shop, customer)
        await endpoint(shop, customer, EventKind.AUTO_RECHARGE_ACTION_REQUIRED, EventKind.AUTO_RECHARGE_SUSPENDED)
        await update_auto_recharge(
            shop.billing, customer.id, enabled=True, threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO
        )
        shop.provider.result = ActionNeeded(CONFIRM)
        await change_alert_settings(database, customer.id, lambda _: AlertSettings(by_mail=by_mail))
        assert await recharge_due(shop.billing) == 1
        payment = encode_id("pay", await customer.open_payment_id())
        mails = await tell(shop)
        assert sorted(mail["To"] for mail in mails) == ["billing@example.com", "owner@example.com"]
        assert (await auto_recharge_of(shop.billing, customer.id)).state is RechargeState.SUSPENDED
        for mail in mails:
            assert mail["Subject"] == "Tollgate: Confirm a payment of $20.00"
            assert "Auto-recharge pauses until" in mail.get_body(("plain",)).get_content()
            assert mail["List-Unsubscribe"] is None
            assert CONFIRM in mail.get_body(("plain",)).get_content()
        [suspended, (kind, payload)] = await delivered(shop)
        assert suspended[0] == "auto_recharge.suspended"
        assert CONFIRM in suspended[1]
        assert kind == "auto_recharge.action_required"
        assert payment in payload
        assert CONFIRM in payload
        shop.go(hours=1)
        assert await tell(shop) == []


async def test_the_mail_of_a_suspension_says_what_ends_it(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await shop.workspace()
        await people(shop, customer)
        settings = {"threshold_usd_micro": 20 * MICRO, "amount_usd_micro": 10 * MICRO}
        await update_auto_recharge(shop.billing, customer.id, enabled=True, **settings)
        shop.provider.result = Declined("lost_card")
        await recharge_due(shop.billing)
        told = (await tell(shop))[0].get_body(("plain",)).get_content()
        assert "lost_card" in told
        assert "once another payment method is set" in " ".join(told.split())
        await update_auto_recharge(shop.billing, customer.id, enabled=True)
        assert (await auto_recharge_of(shop.billing, customer.id)).state is RechargeState.SUSPENDED


async def test_money_without_a_place_is_told_to_endpoints_once_and_mailed_to_no_customer(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await people(shop, customer)
        await endpoint(shop, customer, EventKind.PAYMENT_UNAPPLIED)
        await subscribe(shop.billing, customer.id, shop.price("starter", "monthly").id, idempotency_key="k")
        forgotten = await customer.open_payment_id()
        await customer.subscribe("pro")
        await apply_payment(shop.billing, forgotten)
        await apply_payment(shop.billing, forgotten)
        shop.go(to=shop.time.at + timedelta(seconds=1))
        assert await tell(shop) == []
        [(kind, payload)] = await delivered(shop)
        assert kind == "payment.unapplied"
        assert encode_id("pay", forgotten) in payload
        assert "15.00" in payload


async def paid_for_nothing(shop, customer):
    """A page that was replaced is paid all the same."""
    await subscribe(shop.billing, customer.id, shop.price("starter", "monthly").id, idempotency_key="k")
    forgotten = await customer.open_payment_id()
    await customer.subscribe("pro")
    await apply_payment(shop.billing, forgotten)
    return forgotten


async def test_money_without_a_place_is_given_back_once_and_the_customer_and_the_operator_see_it(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await people(shop, customer)
        await change_alert_settings(database, customer.id, lambda _: AlertSettings(by_mail=False))
        forgotten = await paid_for_nothing(shop, customer)
        billing = replace(shop.billing, note_for=noting_for_system)
        assert await give_back_unapplied(billing) == 1
        assert await give_back_unapplied(billing) == 0
        assert shop.provider.refunds == [(forgotten, 15 * MICRO)]
        mails = await tell(shop)
        assert sorted(mail["To"] for mail in mails) == ["billing@example.com", "owner@example.com"]
        assert {mail["Subject"] for mail in mails} == {"Tollgate: A payment of $15.00 was given back"}
        [noted] = await pg.fetch("SELECT * FROM audit_events WHERE action = 'payment.give_back'")
        assert (noted["actor_kind"], noted["subject_id"]) == ("SYSTEM", forgotten)
        [listed] = await unapplied_payments(database, 10)
        assert (listed.id, listed.status) == (forgotten, PaymentStatus.REFUNDED)
        assert not (await apply_payment(billing, forgotten)).changed
        assert await customer.available() == 4000


async def test_D5_a_refund_that_fails_is_told_once_to_those_who_pay_and_again_when_it_fails_again(database, pg):
    async with open_shop(database, pg, "pay-as-you-go") as shop:
        customer = await shop.workspace()
        await people(shop, customer)
        await endpoint(shop, customer, *[kind for kind in EventKind if kind.value == "refund.failed"])
        await change_alert_settings(database, customer.id, lambda _: AlertSettings(by_mail=False))
        made = await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")
        for fails in (1, 2):
            await refund_payment(shop.billing, made.payment.id, 15 * MICRO)
            for _ in range(2):
                seen = await seen_at(shop.billing, made.payment.id)
                assert await refund_failed(shop.billing, made.payment.id, 5 * MICRO, seen=seen)
            mails = await tell(shop)
            assert sorted(mail["To"] for mail in mails) == ["billing@example.com", "owner@example.com"]
            assert {mail["Subject"] for mail in mails} == {"Tollgate: A refund of $10.00 failed"}
            told = await delivered(shop)
            assert [kind for kind, _ in told] == ["refund.failed"] * fails
            assert encode_id("pay", made.payment.id) in told[-1][1]
            assert "10.00" in told[-1][1]


async def test_a_renewal_of_nothing_that_has_no_place_is_told_to_nobody_as_there_is_no_money_in_it(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        await endpoint(shop, customer, EventKind.PAYMENT_UNAPPLIED)
        row = await customer.subscribe("pro")
        await end_now(shop.billing, row["id"])
        for amount_usd_micro in (0, 15 * MICRO):
            payment_id = await renewal_payment(shop.billing, row["id"], amount_usd_micro, f"in_{amount_usd_micro}")
            assert not (await apply_payment(shop.billing, payment_id)).changed
        await tell(shop)
        [(_, told)] = await delivered(shop)
        assert encode_id("pay", payment_id) in told
        assert [listed.id for listed in await unapplied_payments(database, 10)] == [payment_id]


@pytest.mark.parametrize("news", [Declined("checkout_expired"), ActionNeeded(CONFIRM)])
async def test_late_news_of_a_page_do_not_hide_money_that_came_for_nothing(database, pg, news):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        forgotten = await paid_for_nothing(shop, customer)
        assert (await settle_charge(shop.billing, forgotten, news)).status is PaymentStatus.SUCCEEDED
        assert await give_back_unapplied(shop.billing) == 1
        assert (await settle_charge(shop.billing, forgotten, news)).status is PaymentStatus.REFUNDED
        assert shop.provider.refunds == [(forgotten, 15 * MICRO)]


@pytest.mark.parametrize("problem", [PaymentRefused("no"), Unavailable("away")])
async def test_what_cannot_be_given_back_is_tried_again_and_after_days_left_to_the_operator(database, pg, problem):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        forgotten = await paid_for_nothing(shop, customer)
        shop.provider.refund_problem = problem
        assert await give_back_unapplied(shop.billing) == 0
        shop.go(minutes=1)
        await give_back_unapplied(shop.billing)
        tries = len(shop.provider.refunds)
        shop.go(minutes=10)
        assert await give_back_unapplied(shop.billing) == 0
        assert len(shop.provider.refunds) == tries, "not more often than every half hour"
        shop.go(days=4)
        shop.provider.refund_problem = None
        assert await give_back_unapplied(shop.billing) == 0
        [listed] = await unapplied_payments(database, 10)
        assert (listed.id, listed.status) == (forgotten, PaymentStatus.SUCCEEDED)


async def test_money_without_a_place_that_is_disputed_stays_in_the_operators_list(database, pg):
    async with open_shop(database, pg, "creator-tiers") as shop:
        customer = await shop.workspace()
        forgotten = await paid_for_nothing(shop, customer)
        await dispute_payment(shop.billing, forgotten, "dp_1", 5 * MICRO)
        assert await give_back_unapplied(shop.billing) == 0
        await close_dispute(shop.billing, forgotten, "dp_1", disputed_usd_micro=5 * MICRO, won=False)
        [listed] = await unapplied_payments(database, 10)
        assert (listed.id, listed.status) == (forgotten, PaymentStatus.DISPUTED)


async def test_the_mail_about_a_transfer_that_came_back_in_part_says_how_much(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await shop.workspace()
        await people(shop, customer)

        async def ready(_workspace_id):
            return True

        shop.provider.payouts_ready = ready
        earned = Grant(
            uuid7(), customer.wallet_id, "EARNINGS", 100 * MICRO, shop.time.at, None, "TEST", "1", "t", 1, transferable=True
        )  # fmt: skip
        await shop.billing.ledger.submit(earned)
        made = await request_transfer(shop.billing, customer.id, 40 * MICRO, requested_by=None, idempotency_key="k")
        for returned, words in ((15, "$15.00 of it came back"), (40, "$40.00 of it came back")):
            if returned < 40:
                await give_back_part(shop.billing, made.id, returned * MICRO)
            else:
                await end_transfer(shop.billing, made.id, TransferStatus.FAILED)
            mails = await tell(shop)
            assert mails
            assert all(words in mail.get_body(("plain",)).get_content() for mail in mails)


async def test_who_removes_the_last_method_is_told_that_and_not_that_payments_failed(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await shop.workspace()
        await people(shop, customer)
        await update_auto_recharge(
            shop.billing, customer.id, enabled=True, threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO
        )
        for fetch_number in (1, 2):
            await write_methods(database, customer.id, [], None, fetch_number=fetch_number)
        assert (await auto_recharge_of(shop.billing, customer.id)).state is RechargeState.OFF
        mails = await tell(shop)
        assert sorted(mail["To"] for mail in mails) == ["admin@example.com", "billing@example.com", "owner@example.com"]
        for mail in mails:
            text = mail.get_body(("plain",)).get_content()
            assert mail["Subject"] == "Tollgate: Auto-recharge was turned off"
            assert "The last payment method was removed" in text
            assert "failed" not in text


async def test_a_card_that_is_lost_is_told_with_what_sets_recharging_going_again(database, pg):
    async with open_shop(database, pg, "usd-balance") as shop:
        customer = await shop.workspace()
        await people(shop, customer)
        await update_auto_recharge(
            shop.billing, customer.id, enabled=True, threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO
        )
        shop.provider.result = Declined("lost_card")
        await recharge_due(shop.billing)
        mails = [mail for mail in await tell(shop) if "Auto-recharge" in mail["Subject"]]
        assert len(mails) == 3
        assert "Payments failed (lost_card)" in mails[0].get_body(("plain",)).get_content()
