"""Every object and event of a long scenario has the shape that the SDK's resource classes state."""

from tests.stripe_double.shapes import problems_of
from tests.stripe_double.test_checkout import session_for
from tests.stripe_double.test_connect import account, transfer
from tests.stripe_double.test_subscriptions import change
from tests.stripe_shop import Shop


def test_the_judge_finds_what_is_wrong() -> None:
    wrong = {"object": "refund", "id": "re_1", "amount": "5", "reason": "regret", "coupon": None, "created": 1}
    assert {p.partition(":")[0] for p in problems_of(wrong)} == {
        "refund.amount",
        "refund.reason",
        "refund.coupon",
        "refund.currency",
    }


async def test_shapes(shop: Shop) -> None:
    await _live(shop)
    objects = await shop.ask("GET", "objects")
    assert objects.keys() >= EXPECTED
    found = {problem for kind in objects.values() for one in kind for problem in problems_of(one)}
    events = [e async for e in (await shop.v1.events.list_async({"limit": 100})).auto_paging_iter()]
    assert len(events) > 60
    for event in events:
        found |= {f"{event.type}: {p}" for p in problems_of(event.data.object.to_dict())}
    preview = await shop.v1.invoices.create_preview_async({"subscription": objects["subscription"][0]["id"]})
    found |= set(problems_of(preview.to_dict()))
    assert found == set()


EXPECTED = {
    *("customer", "tax_id", "product", "price", "payment_method", "setup_intent", "payment_intent", "charge"),
    *("balance_transaction", "refund", "dispute", "checkout.session", "billing_portal.session", "subscription"),
    *("subscription_item", "subscription_schedule", "invoice", "invoice_payment", "invoiceitem", "credit_note"),
    *(
        "coupon",
        "discount",
        "customer_balance_transaction",
        "account",
        "transfer",
        "transfer_reversal",
        "payout",
        "webhook_endpoint",
    ),
}


async def _live(shop: Shop) -> None:
    """A bit of everything."""
    pro, business, pack = await shop.price(2000), await shop.price(10_000), await shop.price(500, None)
    customer = await shop.customer(address={"country": "DE", "city": "Berlin"}, phone="+49")
    await shop.v1.customers.tax_ids.create_async(customer.id, {"type": "eu_vat", "value": "DE123456789"})
    subscription = await shop.subscription(customer, business)
    await change(shop, subscription, pro)
    await change(
        shop, subscription, business, proration_behavior="create_prorations", payment_behavior="allow_incomplete"
    )
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_authenticationRequired")
    bigger = await shop.price(90_000)
    await change(shop, subscription, bigger)
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_visa")
    second = await shop.subscription(customer, pro, trial_period_days=5, metadata={"a": "b"})
    schedule = await shop.v1.subscription_schedules.create_async({"from_subscription": second.id})
    await shop.v1.subscription_schedules.release_async(schedule.id)
    third = await shop.subscription(customer, pro)
    await shop.v1.subscription_schedules.create_async({"from_subscription": third.id})
    lines = [{"price": pack.id, "quantity": 3}]
    coupon = await shop.v1.coupons.create_async({"percent_off": 100, "duration": "forever"})
    await shop.v1.subscriptions.update_async(second.id, {"discounts": [{"coupon": coupon.id}]})
    for mode, more in (
        ("payment", {"line_items": lines, "customer": customer.id, "invoice_creation": {"enabled": True}}),
        ("payment", {"line_items": lines}),
        ("subscription", {"line_items": [{"price": pro.id, "quantity": 1}], "customer": customer.id}),
        ("setup", {"customer": customer.id, "currency": "usd"}),
    ):
        await shop.pay((await session_for(shop, mode, **more)).id, email="guest@example.com")
    await session_for(shop, "payment", line_items=lines)
    for card in ("pm_card_createDispute", "pm_card_authenticationRequired", "pm_paypal", "pm_usBankAccount_success"):
        await shop.v1.payment_intents.create_async(
            {
                "amount": 900,
                "currency": "usd",
                "payment_method": card,
                "confirm": True,
                "return_url": "http://127.0.0.1:9",
            }
        )
    invoice = await shop.v1.invoices.retrieve_async(third.latest_invoice)
    await shop.v1.credit_notes.create_async({"invoice": invoice.id, "amount": 300, "refund_amount": 300})
    await shop.v1.billing_portal.sessions.create_async({"customer": customer.id, "return_url": "http://127.0.0.1:9"})
    await shop.v1.invoice_items.create_async({"customer": customer.id, "amount": 700, "currency": "usd"})
    by_hand = await shop.v1.invoices.create_async(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    await shop.v1.invoices.pay_async(by_hand.id)
    declining = await shop.customer("pm_card_chargeCustomerFail")
    await shop.subscription(declining, pro)
    await shop.ask("POST", "balance", amount=50_000)
    to = await account(shop)
    sent = await transfer(shop, to.id, 5000)
    await shop.v1.transfers.reversals.create_async(sent.id, {"amount": 1000})
    await shop.v1.payouts.create_async({"amount": 4000, "currency": "usd"}, {"stripe_account": to.id})
    await shop.v1.webhook_endpoints.create_async({"url": "http://127.0.0.1:9/none", "enabled_events": ["*"]})
    await shop.pass_time(days=6)
    await shop.pass_time(days=20)
    gone = await shop.customer()
    await shop.subscription(gone, pro)
    await shop.v1.customers.delete_async(gone.id)
