import pytest
import stripe

from tests.stripe_shop import Shop


async def test_all(shop: Shop):
    v1 = shop.v1
    cus = await v1.customers.create_async({"email": "a@example.com", "metadata": {"workspace_id": "w1"}})
    prod = await v1.products.create_async({"name": "Pro"})
    p20 = await v1.prices.create_async(
        {
            "product": prod.id,
            "currency": "usd",
            "unit_amount": 2000,
            "recurring": {"interval": "month"},
            "lookup_key": "pro",
        }
    )
    p100 = await v1.prices.create_async(
        {"product": prod.id, "currency": "usd", "unit_amount": 10000, "recurring": {"interval": "month"}}
    )
    await v1.prices.create_async({"product": prod.id, "currency": "usd", "unit_amount": 1000})
    pm = await v1.payment_methods.attach_async("pm_card_visa", {"customer": cus.id})
    await v1.customers.update_async(cus.id, {"invoice_settings": {"default_payment_method": pm.id}})
    pi = await v1.payment_intents.create_async(
        {
            "amount": 1000,
            "currency": "usd",
            "customer": cus.id,
            "payment_method": pm.id,
            "confirm": True,
            "off_session": True,
            "error_on_requires_action": True,
        }
    )
    assert pi.status == "succeeded"
    with pytest.raises(stripe.CardError) as e:
        await v1.payment_intents.create_async(
            {
                "amount": 1000,
                "currency": "usd",
                "customer": cus.id,
                "payment_method": "pm_card_chargeDeclinedLostCard",
                "confirm": True,
                "off_session": True,
            }
        )
    assert e.value.error.decline_code == "lost_card" and e.value.error.payment_intent.id
    s = await v1.checkout.sessions.create_async(
        {
            "mode": "subscription",
            "customer": cus.id,
            "line_items": [{"price": p20.id, "quantity": 1}],
            "success_url": "http://x/",
            "subscription_data": {"metadata": {"a": "b"}},
        }
    )
    await shop.pay(s.id)
    s = await v1.checkout.sessions.retrieve_async(s.id, {"expand": ["subscription", "line_items"]})
    sub = s.subscription
    assert sub.status == "active"
    item = sub["items"].data[0]
    at = await shop.now()
    prev = await v1.invoices.create_preview_async(
        {
            "subscription": sub.id,
            "subscription_details": {
                "items": [{"id": item.id, "price": p100.id}],
                "proration_behavior": "always_invoice",
                "proration_date": at,
            },
        }
    )
    sub = await v1.subscriptions.update_async(
        sub.id,
        {
            "items": [{"id": item.id, "price": p100.id}],
            "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
            "proration_date": at,
            "expand": ["latest_invoice.payments"],
        },
    )
    assert sub.latest_invoice.amount_paid == prev.amount_due == 8000, prev.amount_due
    sched = await v1.subscription_schedules.create_async({"from_subscription": sub.id})
    ph = sched.phases[0]
    await v1.subscription_schedules.update_async(
        sched.id,
        {
            "end_behavior": "release",
            "phases": [
                {"items": [{"price": p100.id, "quantity": 1}], "start_date": ph.start_date, "end_date": ph.end_date},
                {
                    "items": [{"price": p20.id, "quantity": 1}],
                    "start_date": ph.end_date,
                    "duration": {"interval": "month"},
                    "proration_behavior": "none",
                },
            ],
        },
    )
    await shop.advance(ph.end_date + 7200)
    sub = await v1.subscriptions.retrieve_async(sub.id, {"expand": ["latest_invoice"]})
    assert sub["items"].data[0].price.id == p20.id and sub.latest_invoice.amount_paid == 2000
    await shop.pass_time(days=65)
    evs = await v1.events.list_async({"limit": 100})
    print([x.type for x in evs.data][::-1])
    pi = await v1.payment_intents.list_async({"customer": cus.id, "limit": 3})
    await v1.refunds.create_async({"payment_intent": pi.data[0].id, "amount": 500})
    with pytest.raises(stripe.InvalidRequestError) as e:
        await v1.customers._request_async("post", "/v1/customers", base_address="api", params={"foo": "x"})
    acct = await v1.accounts.create_async({"type": "express", "capabilities": {"transfers": {"requested": True}}})
    await shop.ask("POST", f"accounts/{acct.id}/onboard")
    await shop.ask("POST", "balance", amount=5000)
    await v1.transfers.create_async({"amount": 3000, "currency": "usd", "destination": acct.id})
    po = await v1.payouts.create_async({"amount": 3000, "currency": "usd"}, {"stripe_account": acct.id})
    await shop.pass_time(days=3)
    assert (await v1.payouts.retrieve_async(po.id, None, {"stripe_account": acct.id})).status == "paid"
    print(await shop.books())
