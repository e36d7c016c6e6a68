"""Checkout and portal: by the control endpoint, and by clicking through their pages."""

import re
from typing import Any

import pytest
import stripe

from tests.stripe_shop import Shop

BACK = "http://127.0.0.1:9"


async def session_for(shop: Shop, mode: str, **more: Any) -> Any:
    base = {"mode": mode, "success_url": f"{BACK}/done?session={{CHECKOUT_SESSION_ID}}", "cancel_url": f"{BACK}/no"}
    return await shop.v1.checkout.sessions.create_async({**base, **more})


async def found(shop: Shop, session: Any, *expand: str) -> Any:
    return await shop.v1.checkout.sessions.retrieve_async(session.id, {"expand": list(expand)})


async def post(shop: Shop, url: str, **fields: str) -> tuple[int, str, str]:
    """What a form's submission answers: status, where it leads, the page."""
    async with shop._http.post(url, data=fields, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("location", ""), await answer.text()


async def get(shop: Shop, url: str) -> tuple[int, str, str]:
    async with shop._http.get(url) as answer:
        return answer.status, answer.headers["content-security-policy"], await answer.text()


async def test_a_subscription_begins_on_the_page(shop: Shop) -> None:
    customer, price = await shop.customer(None), await shop.price(2000)
    session = await session_for(
        shop,
        "subscription",
        customer=customer.id,
        line_items=[{"price": price.id, "quantity": 1}],
        subscription_data={"metadata": {"workspace": "w"}},
    )
    assert (session.status, session.payment_status, session.subscription) == ("open", "unpaid", None)
    status, policy, page = await get(shop, session.url)
    assert (status, "$20.00" in page, "<script" in page) == (200, True, False)
    assert policy.startswith("default-src 'none'") and f"form-action 'self' {BACK}" in policy
    status, where, _ = await post(shop, session.url, card="pm_card_visa")
    assert (status, where) == (303, f"{BACK}/done?session={session.id}")
    session = await found(shop, session, "subscription.default_payment_method", "invoice")
    assert (session.status, session.payment_status, session.url) == ("complete", "paid", None)
    assert session.subscription.metadata.to_dict() == {"workspace": "w"}
    assert session.subscription.default_payment_method.customer == customer.id
    assert session.invoice.amount_paid == 2000
    assert (await shop.events())[-1] == "checkout.session.completed"


async def test_a_declined_card_leaves_the_session_open_and_nothing_charged(shop: Shop) -> None:
    price = await shop.price(2000)
    customer = await shop.customer(None)
    lines = [{"price": price.id, "quantity": 1}]
    session = await session_for(shop, "subscription", customer=customer.id, line_items=lines)
    status, _, page = await post(shop, session.url, card="pm_card_chargeDeclinedInsufficientFunds")
    assert (status, "insufficient funds" in page) == (402, True)
    assert (await found(shop, session)).status == "open"
    assert (await shop.v1.subscriptions.list_async({"status": "all"})).data == []
    assert (await post(shop, session.url, card="pm_card_visa"))[0] == 303
    assert (await shop.books())["charged"] == 2000


async def test_a_pack_is_paid_once_with_an_invoice_and_the_card_saved(shop: Shop) -> None:
    customer = await shop.customer(None)
    data = {"currency": "usd", "unit_amount": 700, "product_data": {"name": "Pack"}}
    session = await session_for(
        shop,
        "payment",
        customer=customer.id,
        line_items=[{"price_data": data, "quantity": 2}],
        payment_intent_data={"setup_future_usage": "off_session", "metadata": {"purchase": "7"}},
        invoice_creation={"enabled": True, "invoice_data": {"metadata": {"purchase": "7"}}},
    )
    await shop.pay(session.id)
    session = await found(shop, session, "payment_intent", "invoice", "line_items")
    assert (session.payment_status, session.amount_total) == ("paid", 1400)
    assert session.payment_intent.metadata["purchase"] == session.invoice.metadata["purchase"] == "7"
    assert session.line_items.data[0].description == "Pack"
    methods = (await shop.v1.customers.payment_methods.list_async(customer.id)).data
    assert [m.id for m in methods] == [session.payment_intent.payment_method]
    payments = await shop.v1.invoice_payments.list_async({"invoice": session.invoice.id})
    assert payments.data[0].payment.payment_intent == session.payment_intent.id
    with pytest.raises(AssertionError, match="complete"):
        await shop.pay(session.id)
    assert (await shop.books())["charged"] == 1400


async def test_a_guest_becomes_a_customer_where_asked(shop: Shop) -> None:
    price = await shop.price(700, None)
    lines = [{"price": price.id, "quantity": 1}]
    guest = await session_for(shop, "payment", line_items=lines)
    await shop.pay(guest.id, email="guest@example.com")
    assert ((await found(shop, guest)).customer, (await found(shop, guest)).customer_details.email) == (
        None,
        "guest@example.com",
    )
    always = await session_for(shop, "payment", line_items=lines, customer_creation="always")
    await shop.pay(always.id, email="new@example.com")
    assert (await found(shop, always, "customer")).customer.email == "new@example.com"


@pytest.mark.parametrize("mode", ["payment", "subscription", "setup"])
async def test_the_holder_confirms_on_the_page(shop: Shop, mode: str) -> None:
    customer = await shop.customer(None)
    price = await shop.price(700, None if mode == "payment" else "month")
    lines = {} if mode == "setup" else {"line_items": [{"price": price.id, "quantity": 1}]}
    currency = {"currency": "usd"} if mode == "setup" else {}
    session = await session_for(shop, mode, customer=customer.id, **lines, **currency)
    status, _, page = await post(shop, session.url, card="pm_card_authenticationRequired")
    assert (status, "Complete" in page, "Fail" in page) == (200, True, True)
    card = re.search(r'name="card" value="(\w+)"', page)[1]
    assert "unable to authenticate" in (await post(shop, session.url, card=card, holder="failed"))[2]
    assert (await post(shop, session.url, card=card, holder="confirmed"))[0] == 303
    assert (await found(shop, session)).status == "complete"


async def test_a_method_is_saved_without_a_payment(shop: Shop) -> None:
    customer = await shop.customer(None)
    session = await session_for(shop, "setup", customer=customer.id, currency="usd")
    await shop.pay(session.id, "pm_card_mastercard_prepaid")
    session = await found(shop, session, "setup_intent.payment_method")
    assert session.payment_status == "no_payment_required"
    assert session.setup_intent.payment_method.card.funding == "prepaid"
    assert session.setup_intent.payment_method.customer == customer.id


async def test_a_tax_id_is_collected_and_stands_on_the_invoice(shop: Shop) -> None:
    price, number = await shop.price(2000), "DE123456789"
    lines = [{"price": price.id, "quantity": 1}]
    plain = await session_for(shop, "subscription", line_items=lines)
    with pytest.raises(AssertionError, match="no tax ids"):
        await shop.pay(plain.id, tax_id={"type": "eu_vat", "value": number})
    session = await session_for(shop, "subscription", line_items=lines, tax_id_collection={"enabled": True})
    fields = {"card": "pm_card_visa", "email": "new@example.com", "tax_type": "eu_vat", "tax_value": number}
    assert (await post(shop, session.url, **fields))[0] == 303
    invoice = (await found(shop, session, "invoice")).invoice
    assert [t.value for t in invoice.customer_tax_ids] == [number]


async def test_a_session_takes_only_its_kinds_of_methods(shop: Shop) -> None:
    price = await shop.price(700, None)
    lines = [{"price": price.id, "quantity": 1}]
    session = await session_for(shop, "payment", line_items=lines, excluded_payment_method_types=["paypal"])
    with pytest.raises(AssertionError, match="paypal"):
        await shop.pay(session.id, "pm_paypal")
    await shop.pay(session.id, "pm_crypto")
    assert (await found(shop, session)).payment_status == "paid"


async def test_a_trial_takes_the_card_and_no_money(shop: Shop) -> None:
    customer, price = await shop.customer(None), await shop.price(2000)
    lines = [{"price": price.id, "quantity": 1}]
    data = {"trial_period_days": 7}
    session = await session_for(shop, "subscription", customer=customer.id, line_items=lines, subscription_data=data)
    assert session.amount_total == 0
    await shop.pay(session.id)
    session = await found(shop, session, "subscription")
    assert (session.payment_status, session.subscription.status) == ("no_payment_required", "trialing")
    assert session.subscription.default_payment_method.startswith("pm_")
    await shop.pass_time(days=8)
    assert (await shop.books())["charged"] == 2000


async def test_a_bank_payment_completes_the_session_before_it_is_paid(shop: Shop) -> None:
    price = await shop.price(700, None)
    session = await session_for(shop, "payment", line_items=[{"price": price.id, "quantity": 1}])
    await shop.pay(session.id, "pm_usBankAccount_success")
    assert ((await found(shop, session)).status, (await found(shop, session)).payment_status) == ("complete", "unpaid")
    await shop.pass_time(days=5)
    assert (await found(shop, session)).payment_status == "paid"
    assert (await shop.events())[-1] == "checkout.session.async_payment_succeeded"


async def test_a_session_expires_after_a_day_or_at_once(shop: Shop) -> None:
    price = await shop.price(700, None)
    lines = [{"price": price.id, "quantity": 1}]
    first, second = [await session_for(shop, "payment", line_items=lines) for _ in range(2)]
    await shop.v1.checkout.sessions.expire_async(first.id)
    await shop.pass_time(hours=24)
    assert [(await found(shop, one)).status for one in (first, second)] == ["expired", "expired"]
    assert await shop.events("checkout.session.expired") == ["checkout.session.expired"] * 2
    assert (await post(shop, second.url or f"{shop.url}/checkout/{second.id}", card="pm_card_visa"))[0] == 410
    with pytest.raises(stripe.InvalidRequestError):
        await shop.v1.checkout.sessions.expire_async(second.id)


@pytest.mark.parametrize(
    "wanted",
    [
        {"mode": "payment", "line_items": []},
        {"mode": "payment", "subscription_data": {"trial_period_days": 1}},
        {"mode": "subscription", "invoice_creation": {"enabled": True}},
        {"mode": "subscription", "recurring": False},
        {"mode": "payment", "recurring": True},
        {"mode": "payment", "expires_at": 1},
        {"mode": "payment", "success_url": "/relative"},
        {"mode": "setup", "line_items": []},
    ],
)
async def test_what_does_not_fit_the_mode_is_refused(shop: Shop, wanted: dict[str, Any]) -> None:
    recurring = wanted.pop("recurring", wanted["mode"] == "subscription")
    price = await shop.price(700, "month" if recurring else None)
    lines = {"line_items": [{"price": price.id, "quantity": 1}]}
    with pytest.raises(stripe.InvalidRequestError):
        await session_for(shop, **{**lines, **wanted})


async def test_the_portal_adds_removes_cancels_and_shows(shop: Shop) -> None:
    customer = await shop.customer()
    subscription = await shop.subscription(customer, await shop.price(2000))
    portal = await shop.v1.billing_portal.sessions.create_async({"customer": customer.id, "return_url": BACK})
    _, policy, page = await get(shop, portal.url)
    assert "•••• 4242" in page and "renews on" in page and f'href="{BACK}"' in page
    assert policy.startswith("default-src 'none'")
    assert (await post(shop, portal.url, do="add", card="pm_card_mastercard"))[0] == 303
    old = customer.invoice_settings.default_payment_method
    customer = await shop.v1.customers.retrieve_async(customer.id)
    assert customer.invoice_settings.default_payment_method != old
    assert (await post(shop, portal.url, do="remove", method=old))[0] == 303
    assert len((await shop.v1.customers.payment_methods.list_async(customer.id)).data) == 1
    await post(shop, portal.url, do="cancel", subscription=subscription.id)
    assert (await shop.v1.subscriptions.retrieve_async(subscription.id)).cancel_at_period_end
    await post(shop, portal.url, do="resume", subscription=subscription.id)
    assert not (await shop.v1.subscriptions.retrieve_async(subscription.id)).cancel_at_period_end
    assert (await post(shop, portal.url, do="tax", tax_type="eu_vat", tax_value="DE123456789"))[0] == 303
    assert (await post(shop, portal.url, do="add", card="pm_card_chargeDeclined"))[0] == 402


async def test_a_portal_flow_returns_where_it_was_told(shop: Shop) -> None:
    customer = await shop.customer(None)
    flow = {
        "type": "payment_method_update",
        "after_completion": {"type": "redirect", "redirect": {"return_url": f"{BACK}/saved"}},
    }
    portal = await shop.v1.billing_portal.sessions.create_async({"customer": customer.id, "flow_data": flow})
    assert (await post(shop, portal.url, do="add", card="pm_card_visa"))[1] == f"{BACK}/saved"


async def test_the_invoice_has_a_page_and_a_pdf(shop: Shop) -> None:
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    invoice = await shop.v1.invoices.retrieve_async(subscription.latest_invoice)
    assert "$20.00" in (await get(shop, invoice.hosted_invoice_url))[2]
    async with shop._http.get(invoice.invoice_pdf) as answer:
        document = await answer.read()
    assert document.startswith(b"%PDF-1.4") and document.endswith(b"%%EOF\n") and invoice.number.encode() in document
    start = int(document.rsplit(b"startxref\n", 1)[1].split()[0])
    assert document[start : start + 4] == b"xref"


async def test_another_sites_form_is_refused(shop: Shop) -> None:
    price = await shop.price(700, None)
    session = await session_for(shop, "payment", line_items=[{"price": price.id, "quantity": 1}])
    headers = {"Origin": "https://elsewhere.example"}
    async with shop._http.post(session.url, data={"card": "pm_card_visa"}, headers=headers) as answer:
        assert answer.status == 403
    async with shop._http.post(f"{shop.url}/_double/reset", data="{}", headers=headers) as answer:
        assert answer.status == 400
    assert (await found(shop, session)).status == "open"
