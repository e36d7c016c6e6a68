"""Payments once: test cards, the holder's confirmation, slow banks, refunds, disputes, credit notes."""

import pytest
import stripe

from tests.stripe_shop import Shop

RETURN = "http://127.0.0.1:9/return"


async def top_up(shop: Shop, customer: object, card: str, **more: object) -> object:
    wanted = {"amount": 1000, "currency": "usd", "customer": customer.id, "payment_method": card, "confirm": True}
    return await shop.v1.payment_intents.create_async({**wanted, **(more or {"off_session": True})})


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedFraudulentCard", "card_declined", "fraudulent"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ],
)
async def test_declines(shop: Shop, card: str, code: str, decline_code: str) -> None:
    customer = await shop.customer(None)
    with pytest.raises(stripe.CardError) as refused:
        await top_up(shop, customer, card)
    problem = refused.value
    assert (problem.http_status, problem.code, problem.error.decline_code) == (402, code, decline_code)
    intent = await shop.v1.payment_intents.retrieve_async(problem.error.payment_intent.id)
    assert (intent.status, intent.last_payment_error.code) == ("requires_payment_method", code)
    assert (await shop.v1.charges.retrieve_async(intent.latest_charge)).status == "failed"
    with pytest.raises(stripe.CardError):
        await shop.v1.payment_methods.attach_async(card, {"customer": customer.id})
    assert (await shop.books())["charged"] == 0


async def test_a_saved_card_may_decline_later(shop: Shop) -> None:
    customer = await shop.customer()
    method = customer.invoice_settings.default_payment_method
    await top_up(shop, customer, method)
    await shop.behave(method, "pm_card_chargeDeclinedLostCard")
    with pytest.raises(stripe.CardError) as refused:
        await top_up(shop, customer, method)
    assert refused.value.error.decline_code == "lost_card"
    assert (await shop.books())["customers"][customer.id]["charged"] == 1000


async def test_a_bank_may_send_a_new_card(shop: Shop) -> None:
    customer = await shop.customer()
    method = customer.invoice_settings.default_payment_method
    before = (await shop.v1.payment_methods.retrieve_async(method)).card.exp_year
    await shop.ask("POST", f"payment_methods/{method}", renewed=True)
    assert (await shop.v1.payment_methods.retrieve_async(method)).card.exp_year > before
    assert (await shop.events())[-1] == "payment_method.automatically_updated"


async def test_funding_tells_prepaid_cards(shop: Shop) -> None:
    customer = await shop.customer(None)
    kinds = {}
    for card in ("pm_card_visa", "pm_card_visa_debit", "pm_card_mastercard_prepaid"):
        kinds[card] = (await shop.v1.payment_methods.attach_async(card, {"customer": customer.id})).card.funding
    assert list(kinds.values()) == ["credit", "debit", "prepaid"]
    assert len((await shop.v1.customers.payment_methods.list_async(customer.id)).data) == 3


async def test_off_session_a_card_that_asks_its_holder_is_declined(shop: Shop) -> None:
    customer = await shop.customer("pm_card_authenticationRequired")
    method = customer.invoice_settings.default_payment_method
    with pytest.raises(stripe.CardError) as refused:
        await top_up(shop, customer, method, off_session=True, error_on_requires_action=True)
    assert refused.value.code == "authentication_required"
    assert refused.value.error.payment_intent.status == "requires_payment_method"


@pytest.mark.parametrize(("success", "status"), [(True, "succeeded"), (False, "requires_payment_method")])
async def test_on_session_the_holder_confirms(shop: Shop, success: bool, status: str) -> None:
    customer = await shop.customer("pm_card_authenticationRequired")
    intent = await top_up(shop, customer, customer.invoice_settings.default_payment_method, return_url=RETURN)
    assert intent.status == "requires_action"
    assert intent.next_action.redirect_to_url.url.startswith(shop.url)
    await shop.ask("POST", f"payment_intents/{intent.id}/authenticate", success=success)
    intent = await shop.v1.payment_intents.retrieve_async(intent.id)
    assert intent.status == status
    told = ["payment_intent.requires_action", "payment_intent.succeeded", "payment_intent.payment_failed"]
    assert await shop.events(*told) == [told[0], told[1] if success else told[2]]


async def test_a_card_set_up_once_pays_off_session(shop: Shop) -> None:
    customer = await shop.customer(None)
    setup = await shop.v1.setup_intents.create_async(
        {"customer": customer.id, "payment_method": "pm_card_authenticationRequiredOnSetup", "confirm": True}
    )
    assert setup.status == "requires_action"
    async with shop._http.post(setup.next_action.redirect_to_url.url, data={"holder": "confirmed"}) as page:
        assert page.status == 200
    setup = await shop.v1.setup_intents.retrieve_async(setup.id)
    assert setup.status == "succeeded"
    assert (await top_up(shop, customer, setup.payment_method)).status == "succeeded"


async def test_on_session_without_a_return_url_redirecting_methods_must_be_off(shop: Shop) -> None:
    customer = await shop.customer()
    method = customer.invoice_settings.default_payment_method
    with pytest.raises(stripe.InvalidRequestError, match="return_url"):
        await top_up(shop, customer, method, confirm=True)
    never = {"enabled": True, "allow_redirects": "never"}
    assert (await top_up(shop, customer, method, automatic_payment_methods=never)).status == "succeeded"


async def test_another_customers_method_is_refused(shop: Shop) -> None:
    owner, other = await shop.customer(), await shop.customer()
    with pytest.raises(stripe.InvalidRequestError):
        await top_up(shop, other, owner.invoice_settings.default_payment_method)


async def test_a_detached_method_is_gone_for_ever(shop: Shop) -> None:
    customer = await shop.customer()
    method = customer.invoice_settings.default_payment_method
    await shop.v1.payment_methods.detach_async(method)
    assert (await shop.v1.customers.retrieve_async(customer.id)).invoice_settings.default_payment_method is None
    with pytest.raises(stripe.InvalidRequestError):
        await top_up(shop, customer, method)
    with pytest.raises(stripe.InvalidRequestError):
        await shop.v1.payment_methods.attach_async(method, {"customer": customer.id})


@pytest.mark.parametrize(("card", "status"), [("success", "succeeded"), ("accountClosed", "requires_payment_method")])
async def test_a_bank_takes_days(shop: Shop, card: str, status: str) -> None:
    customer = await shop.customer(None)
    intent = await top_up(shop, customer, f"pm_usBankAccount_{card}", return_url=RETURN)
    assert intent.status == "processing"
    assert (await shop.books())["charged"] == 0
    await shop.pass_time(days=5)
    assert (await shop.v1.payment_intents.retrieve_async(intent.id)).status == status


async def test_refunds_in_parts_and_never_more_than_was_paid(shop: Shop) -> None:
    customer = await shop.customer()
    intent = await top_up(shop, customer, customer.invoice_settings.default_payment_method)
    await shop.v1.refunds.create_async({"payment_intent": intent.id, "amount": 400}, {"idempotency_key": "refund:1"})
    await shop.v1.refunds.create_async({"payment_intent": intent.id, "amount": 400}, {"idempotency_key": "refund:1"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.refunds.create_async({"payment_intent": intent.id, "amount": 601})
    assert refused.value.code == "amount_too_large"
    await shop.v1.refunds.create_async({"charge": intent.latest_charge})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.refunds.create_async({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"
    charge = await shop.v1.charges.retrieve_async(intent.latest_charge, {"expand": ["refunds"]})
    assert (charge.amount_refunded, charge.refunded, len(charge.refunds.data)) == (1000, True, 2)
    assert await shop.events("charge.refunded", "refund.created") == ["refund.created", "charge.refunded"] * 2


async def test_a_refund_may_fail_later(shop: Shop) -> None:
    customer = await shop.customer("pm_card_refundFail")
    intent = await top_up(shop, customer, customer.invoice_settings.default_payment_method)
    refund = await shop.v1.refunds.create_async({"payment_intent": intent.id})
    await shop.pass_time(hours=1)
    assert (await shop.v1.refunds.retrieve_async(refund.id)).status == "failed"
    assert (await shop.books())["customers"][customer.id]["refunded"] == 0
    assert "refund.failed" in await shop.events()


@pytest.mark.parametrize(("outcome", "told"), [("won", "funds_reinstated"), ("lost", "closed")])
async def test_disputes(shop: Shop, outcome: str, told: str) -> None:
    customer = await shop.customer()
    intent = await top_up(shop, customer, customer.invoice_settings.default_payment_method)
    before = (await shop.books())["balance"]
    dispute = await shop.ask("POST", "disputes", payment_intent=intent.id)
    assert (await shop.books())["balance"] == before - 1000 - 1500
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.refunds.create_async({"payment_intent": intent.id})
    assert refused.value.code == "charge_disputed"
    await shop.ask("POST", "disputes", dispute=dispute["id"], outcome=outcome)
    assert (await shop.v1.disputes.retrieve_async(dispute["id"])).status == outcome
    assert (await shop.events())[-1] == f"charge.dispute.{told}"
    assert (await shop.books())["balance"] == before - 1500 - (1000 if outcome == "lost" else 0)
    if outcome == "won":
        await shop.v1.refunds.create_async({"payment_intent": intent.id, "amount": 100})


async def test_two_parts_of_a_charge_are_disputed_and_no_more_than_the_whole(shop: Shop) -> None:
    customer = await shop.customer()
    intent = await top_up(shop, customer, customer.invoice_settings.default_payment_method)
    before = (await shop.books())["balance"]
    parts = [await shop.ask("POST", "disputes", payment_intent=intent.id, amount=amount) for amount in (400, 600)]
    assert (await shop.try_ask("POST", "disputes", payment_intent=intent.id, amount=1))[0] == 400
    for part, outcome in zip(parts, ("won", "lost"), strict=True):
        await shop.ask("POST", "disputes", dispute=part["id"], outcome=outcome)
    books = await shop.books()
    assert books["balance"] == before - 2 * 1500 - 600
    assert books["customers"][customer.id]["disputed_lost"] == 600


@pytest.mark.parametrize(
    ("outcome", "status", "taken"), [("closed", "warning_closed", 0), ("escalated", "needs_response", 2500)]
)
async def test_an_inquiry_takes_nothing_until_it_is_escalated(
    shop: Shop, outcome: str, status: str, taken: int
) -> None:
    customer = await shop.customer()
    intent = await top_up(shop, customer, customer.invoice_settings.default_payment_method)
    before = (await shop.books())["balance"]
    inquiry = await shop.ask("POST", "disputes", payment_intent=intent.id, inquiry=True)
    assert (inquiry["status"], (await shop.books())["balance"]) == ("warning_needs_response", before)
    await shop.ask("POST", "disputes", dispute=inquiry["id"], outcome=outcome)
    assert (await shop.v1.disputes.retrieve_async(inquiry["id"])).status == status
    assert (await shop.books())["balance"] == before - taken


async def test_a_card_that_disputes_does_so_by_itself(shop: Shop) -> None:
    customer = await shop.customer("pm_card_createDispute")
    intent = await top_up(shop, customer, customer.invoice_settings.default_payment_method)
    dispute = (await shop.v1.disputes.list_async({"payment_intent": intent.id})).data[0]
    assert (dispute.status, dispute.reason) == ("needs_response", "fraudulent")
    assert (await shop.v1.disputes.close_async(dispute.id)).status == "lost"


async def test_credit_notes_refund_what_was_invoiced(shop: Shop) -> None:
    customer, price = await shop.customer(), await shop.price(2000)
    subscription = await shop.subscription(customer, price)
    note = await shop.v1.credit_notes.create_async(
        {"invoice": subscription.latest_invoice, "amount": 500, "refund_amount": 500, "reason": "order_change"}
    )
    assert (note.type, note.refunds[0].amount_refunded) == ("post_payment", 500)
    assert (await shop.books())["customers"][customer.id]["refunded"] == 500
    with pytest.raises(stripe.InvalidRequestError):
        await shop.v1.credit_notes.create_async(
            {"invoice": subscription.latest_invoice, "amount": 1600, "refund_amount": 1600}
        )


async def test_an_intent_is_cancelled_once(shop: Shop) -> None:
    customer = await shop.customer()
    intent = await shop.v1.payment_intents.create_async({"amount": 100, "currency": "usd", "customer": customer.id})
    assert (await shop.v1.payment_intents.cancel_async(intent.id)).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert refused.value.code == "payment_intent_unexpected_state"
