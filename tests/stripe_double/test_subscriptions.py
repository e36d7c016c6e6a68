"""Subscriptions: first payment, renewals by the clock, changes with proration, schedules, trials, dunning, ends."""

from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from tests.stripe_shop import Shop

DAY = 86_400


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())


def item_of(subscription: Any) -> Any:
    return subscription["items"].data[0]


async def invoice_of(shop: Shop, subscription: Any) -> Any:
    wanted = {"expand": ["latest_invoice.payments"]}
    return (await shop.v1.subscriptions.retrieve_async(subscription.id, wanted)).latest_invoice


async def change(shop: Shop, subscription: Any, price: Any, **more: Any) -> Any:
    wanted = {
        "items": [{"id": item_of(subscription).id, "price": price.id}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "pending_if_incomplete",
        **more,
    }
    return await shop.v1.subscriptions.update_async(subscription.id, wanted)


async def test_the_first_invoice_is_paid_at_once(shop: Shop) -> None:
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    invoice = await invoice_of(shop, subscription)
    assert (subscription.status, invoice.status, invoice.amount_paid) == ("active", "paid", 2000)
    assert invoice.billing_reason == "subscription_create"
    assert invoice.parent.subscription_details.subscription == subscription.id
    line = invoice.lines.data[0]
    assert line.pricing.price_details.price == item_of(subscription).price.id
    assert not line.parent.subscription_item_details.proration
    assert "current_period_end" not in subscription
    assert item_of(subscription).current_period_end > item_of(subscription).current_period_start


async def test_renewals_on_the_31st_clamp_and_return(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 31, 12))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    ends = []
    for _ in range(4):
        end = item_of(await shop.v1.subscriptions.retrieve_async(subscription.id)).current_period_end
        ends.append(datetime.fromtimestamp(end, UTC).strftime("%m-%d"))
        await shop.advance(end)
    assert ends == ["02-28", "03-31", "04-30", "05-31"]


async def test_every_thirty_days(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000, "day", 30))
    await shop.pass_time(days=90, hours=2)
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert item_of(found).current_period_start == at(2027, 1, 1) + 90 * DAY
    assert (await shop.books())["charged"] == 4 * 2000


async def test_a_renewal_is_a_draft_for_an_hour(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    await shop.advance(at(2027, 2, 1))
    invoice = await invoice_of(shop, subscription)
    assert (invoice.status, invoice.billing_reason) == ("draft", "subscription_cycle")
    assert invoice.number is None
    await shop.pass_time(hours=1)
    invoice = await invoice_of(shop, subscription)
    assert (invoice.status, invoice.amount_paid) == ("paid", 2000)
    assert invoice.status_transitions.paid_at == at(2027, 2, 1, 1)


async def test_an_upgrade_costs_what_the_preview_said(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    business = await shop.price(10_000)
    now = await shop.pass_time(days=12, hours=7, seconds=13)
    details = {
        "items": [{"id": item_of(subscription).id, "price": business.id}],
        "proration_behavior": "always_invoice",
        "proration_date": now,
    }
    wanted = {"subscription": subscription.id, "subscription_details": details}
    preview = await shop.v1.invoices.create_preview_async(wanted)
    assert (await shop.books())["charged"] == 2000
    await shop.pass_time(seconds=40)
    changed = await change(shop, subscription, business, proration_date=now)
    invoice = await invoice_of(shop, changed)
    rest = at(2027, 2, 1) - now
    unused, remaining = (round(amount * rest / (31 * DAY)) for amount in (2000, 10_000))
    assert [line.amount for line in preview.lines.data] == [-unused, remaining]
    assert [line.amount for line in invoice.lines.data] == [-unused, remaining]
    assert preview.amount_due == invoice.amount_due == invoice.amount_paid == remaining - unused
    assert all(line.parent.subscription_item_details.proration for line in invoice.lines.data)
    assert item_of(changed).price.id == business.id
    assert item_of(changed).current_period_end == at(2027, 2, 1)


async def test_a_declined_upgrade_waits_as_pending_update(shop: Shop) -> None:
    customer, pro, business = await shop.customer(), await shop.price(2000), await shop.price(10_000)
    subscription = await shop.subscription(customer, pro)
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_chargeDeclinedInsufficientFunds")
    changed = await change(shop, subscription, business)
    assert (item_of(changed).price.id, changed.status) == (pro.id, "active")
    assert changed.pending_update.subscription_items[0].price.id == business.id
    invoice = await invoice_of(shop, changed)
    assert invoice.status == "open"
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_visa")
    assert (await shop.v1.invoices.pay_async(invoice.id)).status == "paid"
    applied = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert (item_of(applied).price.id, applied.pending_update) == (business.id, None)
    assert "customer.subscription.pending_update_applied" in await shop.events()


async def test_a_pending_update_expires_and_its_invoice_is_void(shop: Shop) -> None:
    customer, pro, business = await shop.customer(), await shop.price(2000), await shop.price(10_000)
    subscription = await shop.subscription(customer, pro)
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_chargeDeclined")
    invoice = await invoice_of(shop, await change(shop, subscription, business))
    await shop.pass_time(hours=24)
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert (item_of(found).price.id, found.pending_update) == (pro.id, None)
    assert (await shop.v1.invoices.retrieve_async(invoice.id)).status == "void"
    assert "customer.subscription.pending_update_expired" in await shop.events()


async def test_an_upgrade_that_asks_the_holder_is_finished_on_the_hosted_page(shop: Shop) -> None:
    customer, pro, business = await shop.customer(), await shop.price(2000), await shop.price(10_000)
    subscription = await shop.subscription(customer, pro)
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_authenticationRequired")
    invoice = await invoice_of(shop, await change(shop, subscription, business))
    assert "invoice.payment_action_required" in await shop.events()
    async with shop._http.post(invoice.hosted_invoice_url, data={"holder": "confirmed"}) as page:
        assert page.status == 200
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert (item_of(found).price.id, found.pending_update) == (business.id, None)


async def test_with_pending_if_incomplete_other_parameters_are_refused(shop: Shop) -> None:
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await change(shop, subscription, await shop.price(10_000), metadata={"a": "b"})
    assert refused.value.param == "metadata"


async def test_error_if_incomplete_leaves_nothing_behind(shop: Shop) -> None:
    customer, pro, business = await shop.customer(), await shop.price(2000), await shop.price(10_000)
    subscription = await shop.subscription(customer, pro)
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_chargeDeclined")
    wanted = {"payment_behavior": "error_if_incomplete", "metadata": {"a": "b"}}
    with pytest.raises(stripe.CardError):
        await change(shop, subscription, business, **wanted)
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert (item_of(found).price.id, found.latest_invoice) == (pro.id, subscription.latest_invoice)
    assert found.metadata.to_dict() == {}
    assert len((await shop.v1.invoices.list_async()).data) == 1
    with pytest.raises(stripe.CardError):
        await shop.subscription(customer, pro, payment_behavior="error_if_incomplete")
    assert len((await shop.v1.subscriptions.list_async()).data) == 1


async def test_another_interval_starts_the_cycle_anew(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    await shop.advance(at(2027, 1, 16, 12))
    changed = await change(shop, subscription, await shop.price(20_000, "year"))
    assert item_of(changed).current_period_end == at(2028, 1, 16, 12)
    assert [line.amount for line in (await invoice_of(shop, changed)).lines.data] == [-1000, 20_000]


async def test_prorations_wait_for_the_next_invoice(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    await shop.advance(at(2027, 1, 16, 12))
    wanted = {"proration_behavior": "create_prorations", "payment_behavior": "allow_incomplete"}
    await change(shop, subscription, await shop.price(10_000), **wanted)
    assert (await shop.books())["charged"] == 2000
    await shop.advance(at(2027, 2, 1, 2))
    invoice = await invoice_of(shop, subscription)
    assert sorted(line.amount for line in invoice.lines.data) == [-1000, 5000, 10_000]
    assert invoice.amount_paid == 14_000


async def test_credit_of_a_cheaper_plan_pays_the_next_invoice(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    customer = await shop.customer()
    subscription = await shop.subscription(customer, await shop.price(10_000))
    await shop.advance(at(2027, 1, 16, 12))
    changed = await change(shop, subscription, await shop.price(2000))
    assert (await invoice_of(shop, changed)).total == -4000
    assert (await shop.v1.customers.retrieve_async(customer.id)).balance == -4000
    await shop.advance(at(2027, 2, 1, 2))
    invoice = await invoice_of(shop, subscription)
    assert (invoice.total, invoice.amount_due, invoice.ending_balance) == (2000, 0, -2000)


async def test_a_downgrade_by_schedule_takes_effect_with_the_renewal(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    business, pro = await shop.price(10_000), await shop.price(2000)
    subscription = await shop.subscription(await shop.customer(), business)
    schedule = await shop.v1.subscription_schedules.create_async({"from_subscription": subscription.id})
    now, later = schedule.phases[0], {"items": [{"price": pro.id}], "proration_behavior": "none"}
    current = {"items": [{"price": business.id}], "start_date": now.start_date, "end_date": now.end_date}
    phases = [current, {**later, "duration": {"interval": "month"}}]
    wanted = {"phases": phases, "end_behavior": "release"}
    await shop.v1.subscription_schedules.update_async(schedule.id, wanted)
    with pytest.raises(stripe.InvalidRequestError, match="managed by the subscription schedule"):
        await shop.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    upcoming = await shop.v1.invoices.create_preview_async({"subscription": subscription.id})
    assert upcoming.amount_due == 2000
    await shop.advance(at(2027, 2, 1, 2))
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert (item_of(found).price.id, (await invoice_of(shop, found)).amount_paid) == (pro.id, 2000)
    assert (item_of(found).id, found.schedule) == (item_of(subscription).id, schedule.id)
    await shop.advance(at(2027, 3, 1, 2))
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert (found.schedule, found.status) == (None, "active")
    assert (await shop.v1.subscription_schedules.retrieve_async(schedule.id)).status == "released"


async def test_a_schedule_released_before_its_time_changes_nothing(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    business = await shop.price(10_000)
    subscription = await shop.subscription(await shop.customer(), business)
    schedule = await shop.v1.subscription_schedules.create_async({"from_subscription": subscription.id})
    released = await shop.v1.subscription_schedules.release_async(schedule.id)
    assert (released.status, released.released_subscription) == ("released", subscription.id)
    await shop.advance(at(2027, 2, 1, 2))
    assert item_of(await shop.v1.subscriptions.retrieve_async(subscription.id)).price.id == business.id


async def test_cancel_and_resume(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    ending = await shop.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    assert (ending.cancel_at, ending.status) == (at(2027, 2, 1), "active")
    resumed = await shop.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": False})
    assert (resumed.cancel_at, resumed.canceled_at) == (None, None)
    await shop.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    await shop.advance(at(2027, 2, 1, 2))
    assert (await shop.v1.subscriptions.retrieve_async(subscription.id)).status == "canceled"
    assert (await shop.events())[-1] == "customer.subscription.deleted"
    assert (await shop.books())["charged"] == 2000
    with pytest.raises(stripe.InvalidRequestError):
        await shop.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": False})


async def test_cancelled_within_the_hour_of_a_draft_nothing_more_is_charged(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    await shop.advance(at(2027, 2, 1))
    await shop.v1.subscriptions.cancel_async(subscription.id)
    await shop.pass_time(days=9)
    invoice = await invoice_of(shop, subscription)
    assert (invoice.status, invoice.auto_advance, (await shop.books())["charged"]) == ("draft", False, 2000)


async def test_a_trial_ends_with_the_first_payment(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000), trial_period_days=14)
    assert (subscription.status, subscription.trial_end) == ("trialing", at(2027, 1, 15))
    await shop.advance(at(2027, 1, 12))
    assert (await shop.events())[-1] == "customer.subscription.trial_will_end"
    await shop.advance(at(2027, 1, 15, 2))
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert (found.status, item_of(found).current_period_end) == ("active", at(2027, 2, 15))
    assert (await shop.books())["charged"] == 2000


async def test_an_upgrade_within_a_trial_costs_nothing(shop: Shop) -> None:
    business = await shop.price(10_000)
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000), trial_period_days=14)
    changed = await change(shop, subscription, business)
    assert (changed.status, item_of(changed).price.id) == ("trialing", business.id)
    assert (await shop.books())["charged"] == 0


async def test_a_coupon_of_100_percent_makes_renewals_cost_nothing_until_it_is_taken_away(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    subscription = await shop.subscription(await shop.customer(), await shop.price(2000))
    coupon = await shop.v1.coupons.create_async({"percent_off": 100, "duration": "forever"})
    given = await shop.v1.subscriptions.update_async(subscription.id, {"discounts": [{"coupon": coupon.id}]})
    assert len(given.discounts) == 1
    await shop.advance(at(2027, 2, 1, 2))
    invoice = await invoice_of(shop, subscription)
    assert (invoice.status, invoice.subtotal, invoice.total, invoice.amount_due) == ("paid", 2000, 0, 0)
    assert (invoice.attempt_count, invoice.payments.data) == (0, [])
    assert invoice.total_discount_amounts[0].amount == 2000
    await shop.v1.subscriptions.update_async(subscription.id, {"discounts": ""})
    await shop.advance(at(2027, 3, 1, 2))
    assert (await invoice_of(shop, subscription)).amount_paid == 2000


async def test_a_failed_renewal_is_tried_again_until_the_subscription_ends(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    customer = await shop.customer()
    subscription = await shop.subscription(customer, await shop.price(2000))
    await shop.behave(customer.invoice_settings.default_payment_method, "pm_card_chargeDeclinedInsufficientFunds")
    await shop.advance(at(2027, 2, 1, 2))
    found = await shop.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice"]})
    assert (found.status, found.latest_invoice.status) == ("past_due", "open")
    assert found.latest_invoice.next_payment_attempt == at(2027, 2, 4, 1)
    await shop.advance(at(2027, 2, 20))
    found = await shop.v1.subscriptions.retrieve_async(subscription.id, {"expand": ["latest_invoice"]})
    assert (found.status, found.cancellation_details.reason) == ("canceled", "payment_failed")
    assert found.latest_invoice.attempt_count == 4


async def test_a_retry_that_succeeds_brings_it_back(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 1))
    customer = await shop.customer()
    subscription = await shop.subscription(customer, await shop.price(2000))
    method = customer.invoice_settings.default_payment_method
    await shop.behave(method, "pm_card_chargeDeclinedInsufficientFunds")
    await shop.advance(at(2027, 2, 1, 2))
    await shop.behave(method, "pm_card_visa")
    await shop.advance(at(2027, 2, 5))
    assert (await shop.v1.subscriptions.retrieve_async(subscription.id)).status == "active"
    assert (await shop.books())["charged"] == 4000


async def test_an_incomplete_first_payment_expires(shop: Shop) -> None:
    customer = await shop.customer("pm_card_chargeCustomerFail")
    subscription = await shop.subscription(customer, await shop.price(2000))
    assert subscription.status == "incomplete"
    await shop.pass_time(hours=24)
    found = await shop.v1.subscriptions.retrieve_async(subscription.id)
    assert found.status == "incomplete_expired"
    assert (await shop.v1.invoices.retrieve_async(found.latest_invoice)).status == "void"


async def test_default_incomplete_waits_for_its_secret(shop: Shop) -> None:
    customer = await shop.customer(None)
    subscription = await shop.subscription(
        customer,
        await shop.price(2000),
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret"],
    )
    secret = subscription.latest_invoice.confirmation_secret.client_secret
    await shop.v1.payment_intents.confirm_async(
        secret.partition("_secret_")[0], {"payment_method": "pm_card_visa", "return_url": "http://127.0.0.1:9/"}
    )
    assert (await shop.v1.subscriptions.retrieve_async(subscription.id)).status == "active"


async def test_without_a_method_a_paid_plan_is_refused_and_a_free_one_is_not(shop: Shop) -> None:
    customer = await shop.customer(None)
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        await shop.subscription(customer, await shop.price(2000))
    assert (await shop.subscription(customer, await shop.price(0))).status == "active"
    assert len((await shop.v1.subscriptions.list_async({"customer": customer.id})).data) == 1


async def test_three_years_of_renewals_keep_their_books(shop: Shop) -> None:
    await shop.reset(now=at(2027, 1, 31))
    customer = await shop.customer()
    await shop.subscription(customer, await shop.price(2000))
    await shop.advance(at(2030, 1, 31, 2))
    books = await shop.books()
    assert books["charged"] == 37 * 2000
    instants = [charge["created"] for charge in books["customers"][customer.id]["charges"]]
    days = [datetime.fromtimestamp(instant, UTC).day for instant in instants]
    assert days[:4] == [31, 28, 31, 30]
    assert days.count(31) == 22
