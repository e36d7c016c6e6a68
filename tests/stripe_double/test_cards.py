"""Every test card of the double, by its token and by its number: what it is and how it behaves, none left out."""

import pytest
import stripe

from stripe_double.cards import BY_NUMBER, BY_TOKEN, MESSAGES, TestMethod
from tests.stripe_shop import Shop

TestMethod.__test__ = False  # a name of the double's, not a class of tests
RETURN = "http://127.0.0.1:9/return"
SCENARIOS = {
    "success": "pm_card_visa",
    "decline": "pm_card_chargeDeclined",
    "authentication required": "pm_card_authenticationRequired",
    "prepaid": "pm_card_mastercard_prepaid",
    "dispute": "pm_card_createDispute",
    "expired": "pm_card_chargeDeclinedExpiredCard",
}


async def pay(shop: Shop, token: str) -> dict:
    """One payment of ten dollars with its holder present, or the error's words."""
    wanted = {"amount": 1000, "currency": "usd", "payment_method": token, "confirm": True, "return_url": RETURN}
    try:
        intent = await shop.v1.payment_intents.create_async({**wanted, "expand": ["latest_charge"]})
    except stripe.CardError as refused:
        return {"status": "declined", "code": refused.code, "decline_code": refused.error.decline_code}
    return {"status": intent.status, "id": intent.id, "charge": intent.latest_charge}


def test_each_kind_of_card_that_scenarios_need_is_there() -> None:
    assert set(SCENARIOS.values()) <= BY_TOKEN.keys()
    assert {method.number for method in BY_TOKEN.values() if method.kind == "card"} == BY_NUMBER.keys()
    assert {method.decline_code for method in BY_TOKEN.values() if method.decline_code} <= MESSAGES.keys()


@pytest.mark.parametrize("method", BY_TOKEN.values(), ids=lambda method: method.token)
async def test_a_card_does_what_its_table_says(shop: Shop, method: TestMethod) -> None:
    made = await pay(shop, method.token)
    if method.slow:
        assert made["status"] == "processing"
        await shop.pass_time(days=5)
        ended = (await shop.v1.payment_intents.retrieve_async(made["id"])).status
        assert ended == ("requires_payment_method" if method.code else "succeeded")
        return
    if method.authentication != "never":
        assert made["status"] == "requires_action"
        await shop.ask("POST", f"payment_intents/{made['id']}/authenticate", success=True)
        after = await shop.v1.payment_intents.retrieve_async(made["id"])
        assert after.status == ("requires_payment_method" if method.code else "succeeded")
        assert (after.last_payment_error and after.last_payment_error.decline_code) == method.decline_code
        return
    if method.code is not None:
        assert made == {"status": "declined", "code": method.code, "decline_code": method.decline_code}
        assert (await shop.books())["charged"] == 0
        return
    assert made["status"] == "succeeded"
    if method.kind == "card":
        card = made["charge"].payment_method_details.card
        assert (card.brand, card.last4, card.funding, card.country) == (
            method.brand, method.last4, method.funding, method.country,
        )  # fmt: skip
    disputed = [e for e in await shop.events() if e == "charge.dispute.created"]
    assert bool(disputed) == (method.dispute is not None)
    available = (await shop.v1.balance.retrieve_async()).available
    assert (sum(each.amount for each in available) > 0) == method.at_once


@pytest.mark.parametrize("method", [m for m in BY_TOKEN.values() if m.kind == "card"], ids=lambda m: m.token)
async def test_a_card_can_be_saved_where_its_table_says(shop: Shop, method: TestMethod) -> None:
    customer = await shop.customer(None)
    if method.attaches:
        saved = await shop.v1.payment_methods.attach_async(method.token, {"customer": customer.id})
        assert (saved.customer, saved.card.funding) == (customer.id, method.funding)
    else:
        with pytest.raises(stripe.CardError) as refused:
            await shop.v1.payment_methods.attach_async(method.token, {"customer": customer.id})
        assert refused.value.error.decline_code == method.decline_code
