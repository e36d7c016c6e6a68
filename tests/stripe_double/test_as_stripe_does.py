"""The same scenarios against the double and, where STRIPE_API_KEY is a test key, against Stripe: they behave alike."""

import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import stripe

from tests.stripe_shop import Shop

BOTH = ["double", pytest.param("stripe", marks=pytest.mark.stripe_live)]


@pytest.fixture(params=BOTH)
async def v1(request: pytest.FixtureRequest, stripe_double: Shop) -> AsyncIterator[Any]:
    """The SDK, before the double or before Stripe."""
    if request.param == "double":
        yield stripe_double.v1
        return
    key = os.environ.get("STRIPE_API_KEY", "")
    if not key.startswith(("sk_test_", "rk_test_")):
        pytest.skip("STRIPE_API_KEY is no key of a test account")
    async with aiohttp.ClientSession() as session:
        yield stripe.StripeClient(key, http_client=stripe.AIOHTTPClient(session=session)).v1


@pytest.fixture
async def customer(v1: Any) -> AsyncIterator[Any]:
    """With a card that pays as its default method."""
    made = await v1.customers.create_async({"email": "owner@example.com"})
    method = await v1.payment_methods.attach_async("pm_card_visa", {"customer": made.id})
    yield await v1.customers.update_async(made.id, {"invoice_settings": {"default_payment_method": method.id}})
    await v1.customers.delete_async(made.id)


async def price(v1: Any, cents: int) -> Any:
    return await v1.prices.create_async(
        {
            "currency": "usd",
            "unit_amount": cents,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Tollgate's test"},
        }
    )


async def other_card(v1: Any, customer: Any, card: str) -> str:
    method = await v1.payment_methods.attach_async(card, {"customer": customer.id})
    await v1.customers.update_async(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    return method.id


def top_up(customer: Any, method: str) -> dict[str, Any]:
    wanted = {"amount": 1000, "currency": "usd", "customer": customer.id, "payment_method": method}
    return {**wanted, "confirm": True, "off_session": True}


def to_price(subscription: Any, new: Any) -> list[dict[str, str]]:
    return [{"id": subscription["items"].data[0].id, "price": new.id}]


async def test_keys(v1: Any, customer: Any) -> None:
    wanted, key = top_up(customer, customer.invoice_settings.default_payment_method), str(uuid.uuid4())
    first = await v1.payment_intents.create_async(wanted, {"idempotency_key": key})
    again = await v1.payment_intents.create_async(wanted, {"idempotency_key": key})
    assert (first.id, first.status) == (again.id, "succeeded")
    with pytest.raises(stripe.IdempotencyError):
        await v1.payment_intents.create_async({**wanted, "amount": 2000}, {"idempotency_key": key})


async def test_a_declined_top_up(v1: Any, customer: Any) -> None:
    method = await other_card(v1, customer, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError) as refused:
        await v1.payment_intents.create_async(top_up(customer, method))
    assert (refused.value.http_status, refused.value.code) == (402, "card_declined")
    assert refused.value.error.decline_code == "generic_decline"
    intent = await v1.payment_intents.retrieve_async(refused.value.error.payment_intent.id)
    assert (intent.status, intent.last_payment_error.code) == ("requires_payment_method", "card_declined")


async def test_a_top_up_that_asks_the_holder(v1: Any, customer: Any) -> None:
    method = await other_card(v1, customer, "pm_card_authenticationRequired")
    with pytest.raises(stripe.CardError) as refused:
        await v1.payment_intents.create_async({**top_up(customer, method), "error_on_requires_action": True})
    assert refused.value.code == "authentication_required"
    wanted = {**top_up(customer, method), "off_session": False, "return_url": "https://example.com/return"}
    intent = await v1.payment_intents.create_async(wanted)
    assert (intent.status, intent.next_action.type) == ("requires_action", "redirect_to_url")


async def test_a_card_that_declines_cannot_be_saved(v1: Any, customer: Any) -> None:
    with pytest.raises(stripe.CardError) as refused:
        await v1.payment_methods.attach_async("pm_card_chargeDeclined", {"customer": customer.id})
    assert refused.value.code == "card_declined"


async def test_an_upgrade_costs_what_its_preview_said(v1: Any, customer: Any) -> None:
    pro, business = await price(v1, 2000), await price(v1, 10_000)
    subscription = await v1.subscriptions.create_async({"customer": customer.id, "items": [{"price": pro.id}]})
    assert subscription.status == "active"
    change = {
        "items": to_price(subscription, business),
        "proration_behavior": "always_invoice",
        "proration_date": subscription["items"].data[0].current_period_start,
    }
    preview = await v1.invoices.create_preview_async({"subscription": subscription.id, "subscription_details": change})
    changed = await v1.subscriptions.update_async(
        subscription.id, {**change, "payment_behavior": "pending_if_incomplete", "expand": ["latest_invoice.payments"]}
    )
    assert changed.latest_invoice.amount_paid == preview.amount_due == 8000
    assert sorted(line.amount for line in preview.lines.data) == [-2000, 10_000]
    assert changed.latest_invoice.parent.subscription_details.subscription == subscription.id
    assert changed.latest_invoice.payments.data[0].payment.type == "payment_intent"
    assert changed.latest_invoice.billing_reason == "subscription_update"
    assert changed.pending_update is None


async def test_a_proration_before_the_period_is_refused(v1: Any, customer: Any) -> None:
    pro, business = await price(v1, 2000), await price(v1, 10_000)
    subscription = await v1.subscriptions.create_async({"customer": customer.id, "items": [{"price": pro.id}]})
    too_early = subscription["items"].data[0].current_period_start - 1
    change = {"items": to_price(subscription, business), "proration_date": too_early}
    with pytest.raises(stripe.InvalidRequestError):
        await v1.subscriptions.update_async(subscription.id, change)
    with pytest.raises(stripe.InvalidRequestError):
        await v1.invoices.create_preview_async({"subscription": subscription.id, "subscription_details": change})


async def test_a_declined_upgrade_waits(v1: Any, customer: Any) -> None:
    pro, business = await price(v1, 2000), await price(v1, 10_000)
    subscription = await v1.subscriptions.create_async({"customer": customer.id, "items": [{"price": pro.id}]})
    await other_card(v1, customer, "pm_card_chargeCustomerFail")
    changed = await v1.subscriptions.update_async(
        subscription.id,
        {
            "items": to_price(subscription, business),
            "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
            "expand": ["latest_invoice"],
        },
    )
    assert (changed.status, changed["items"].data[0].price.id) == ("active", pro.id)
    assert changed.pending_update.subscription_items[0].price.id == business.id
    assert changed.latest_invoice.status == "open"
    with pytest.raises(stripe.InvalidRequestError):
        await v1.subscriptions.update_async(
            subscription.id,
            {"payment_behavior": "pending_if_incomplete", "metadata": {"a": "b"}, "cancel_at_period_end": True},
        )


async def test_a_scheduled_downgrade(v1: Any, customer: Any) -> None:
    pro, business = await price(v1, 2000), await price(v1, 10_000)
    subscription = await v1.subscriptions.create_async({"customer": customer.id, "items": [{"price": business.id}]})
    schedule = await v1.subscription_schedules.create_async({"from_subscription": subscription.id})
    now = schedule.phases[0]
    phases = [
        {"items": [{"price": business.id}], "start_date": now.start_date, "end_date": now.end_date},
        {"items": [{"price": pro.id}], "duration": {"interval": "month"}, "proration_behavior": "none"},
    ]
    updated = await v1.subscription_schedules.update_async(schedule.id, {"phases": phases, "end_behavior": "release"})
    assert [phase.items[0].price for phase in updated.phases] == [business.id, pro.id]
    upcoming = await v1.invoices.create_preview_async({"subscription": subscription.id})
    assert upcoming.amount_due == 2000
    with pytest.raises(stripe.InvalidRequestError):
        await v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    assert (await v1.subscription_schedules.release_async(schedule.id)).status == "released"
    ending = await v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    assert ending.cancel_at == now.end_date
    assert (await v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": False})).cancel_at is None


async def test_refunds(v1: Any, customer: Any) -> None:
    method = customer.invoice_settings.default_payment_method
    intent = await v1.payment_intents.create_async(top_up(customer, method))
    refund = await v1.refunds.create_async({"payment_intent": intent.id, "amount": 400})
    assert (refund.status, refund.charge) == ("succeeded", intent.latest_charge)
    with pytest.raises(stripe.InvalidRequestError):
        await v1.refunds.create_async({"payment_intent": intent.id, "amount": 601})
    await v1.refunds.create_async({"payment_intent": intent.id})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await v1.refunds.create_async({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"


async def test_sessions_of_checkout(v1: Any, customer: Any) -> None:
    pro = await price(v1, 2000)
    session = await v1.checkout.sessions.create_async(
        {
            "mode": "subscription",
            "customer": customer.id,
            "line_items": [{"price": pro.id, "quantity": 1}],
            "success_url": "https://example.com/done?session={CHECKOUT_SESSION_ID}",
            "ui_mode": "hosted_page",
        }
    )
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 2000)
    assert session.url.startswith("http")
    assert (await v1.checkout.sessions.expire_async(session.id)).status == "expired"
    with pytest.raises(stripe.InvalidRequestError):
        await v1.checkout.sessions.expire_async(session.id)


async def test_what_is_missing_or_unknown(v1: Any, customer: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await v1.customers.retrieve_async("cus_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await v1.customers.create_async({"nmae": "x"})
    assert (refused.value.code, refused.value.param) == ("parameter_unknown", "nmae")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await v1.payment_intents.create_async({"currency": "usd"})
    assert (refused.value.code, refused.value.param) == ("parameter_missing", "amount")
