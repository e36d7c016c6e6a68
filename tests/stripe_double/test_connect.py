"""Connected accounts: onboarding, transfers, payouts, their failures and reversals."""

from typing import Any

import pytest
import stripe

from tests.stripe_shop import Shop


async def account(shop: Shop, **onboarding: str) -> Any:
    wanted = {"type": "express", "capabilities": {"transfers": {"requested": True}}}
    made = await shop.v1.accounts.create_async(wanted)
    await shop.ask("POST", f"accounts/{made.id}/onboard", **onboarding)
    return made


async def transfer(shop: Shop, to: str, amount: int) -> Any:
    return await shop.v1.transfers.create_async({"amount": amount, "currency": "usd", "destination": to})


async def test_onboarding_on_its_page_opens_transfers(shop: Shop) -> None:
    wanted = {"type": "express", "capabilities": {"transfers": {"requested": True}}}
    made = await shop.v1.accounts.create_async(wanted)
    assert (made.details_submitted, made.payouts_enabled, made.capabilities.transfers) == (False, False, "inactive")
    await shop.ask("POST", "balance", amount=10_000)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await transfer(shop, made.id, 100)
    assert refused.value.code == "insufficient_capabilities_for_transfer"
    back = "http://127.0.0.1:9"
    link = await shop.v1.account_links.create_async(
        {"account": made.id, "type": "account_onboarding", "return_url": f"{back}/ok", "refresh_url": f"{back}/again"}
    )
    for expected in ("/ok", "/again"):
        async with shop._http.post(link.url, data={"bank": "000123456789"}, allow_redirects=False) as answer:
            assert answer.headers["location"] == back + expected
    made = await shop.v1.accounts.retrieve_async(made.id)
    assert (made.details_submitted, made.payouts_enabled, made.capabilities.transfers) == (True, True, "active")
    assert (await transfer(shop, made.id, 100)).amount == 100


async def test_a_transfer_needs_available_money(shop: Shop) -> None:
    customer, to = await shop.customer(), await account(shop)
    await shop.subscription(customer, await shop.price(2000))
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await transfer(shop, to.id, 1000)
    assert refused.value.code == "balance_insufficient"
    await shop.pass_time(days=3)
    await transfer(shop, to.id, 1000)
    books = await shop.books()
    assert (books["accounts"][to.id], books["balance"]) == (1000, 2000 - 88 - 1000)


async def test_money_is_available_after_two_days_or_at_once(shop: Shop) -> None:
    to = await account(shop)
    for card, seen in (("pm_card_visa", "pending"), ("pm_card_bypassPending", "available")):
        intent = await shop.v1.payment_intents.create_async(
            {"amount": 1000, "currency": "usd", "payment_method": card, "confirm": True, "off_session": True},
            {"idempotency_key": card},
        )
        charge = await shop.v1.charges.retrieve_async(intent.latest_charge, {"expand": ["balance_transaction"]})
        assert (charge.balance_transaction.status, charge.balance_transaction.fee) == (seen, 59)
    balance = await shop.v1.balance.retrieve_async()
    assert (balance.available[0].amount, balance.pending[0].amount) == (941, 941)
    await transfer(shop, to.id, 941)
    await shop.pass_time(days=2)
    lines = (await shop.v1.balance_transactions.list_async({"type": "charge"})).data
    assert {line.status for line in lines} == {"available"}


async def test_a_payout_arrives_after_two_days(shop: Shop) -> None:
    to = await account(shop)
    await shop.ask("POST", "balance", amount=10_000)
    await transfer(shop, to.id, 3000)
    on = {"stripe_account": to.id}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.payouts.create_async({"amount": 3001, "currency": "usd"}, on)
    assert refused.value.code == "balance_insufficient"
    payout = await shop.v1.payouts.create_async(
        {"amount": 3000, "currency": "usd"}, {**on, "idempotency_key": "xfer:1"}
    )
    again = await shop.v1.payouts.create_async({"amount": 3000, "currency": "usd"}, {**on, "idempotency_key": "xfer:1"})
    assert (payout.status, again.id) == ("pending", payout.id)
    with pytest.raises(stripe.InvalidRequestError):
        await shop.v1.payouts.retrieve_async(payout.id)
    await shop.pass_time(days=2)
    assert (await shop.v1.payouts.retrieve_async(payout.id, None, on)).status == "paid"
    assert (await shop.books())["accounts"][to.id] == 0
    told = [e async for e in (await shop.v1.events.list_async({}, on)).auto_paging_iter()]
    assert [(e.type, e.account) for e in told][:2] == [("payout.paid", to.id), ("payout.created", to.id)]


async def test_a_failed_payout_comes_back_and_the_transfer_is_reversed(shop: Shop) -> None:
    to = await account(shop, bank_number="000111111116")
    await shop.ask("POST", "balance", amount=10_000)
    sent = await transfer(shop, to.id, 3000)
    on = {"stripe_account": to.id}
    payout = await shop.v1.payouts.create_async({"amount": 3000, "currency": "usd"}, on)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.transfers.reversals.create_async(sent.id, {})
    assert refused.value.code == "balance_insufficient"
    await shop.pass_time(days=3)
    payout = await shop.v1.payouts.retrieve_async(payout.id, None, on)
    assert (payout.status, payout.failure_code) == ("failed", "no_account")
    reversal = await shop.v1.transfers.reversals.create_async(sent.id, {"amount": 3000})
    sent = await shop.v1.transfers.retrieve_async(sent.id)
    assert (reversal.amount, sent.reversed, sent.amount_reversed) == (3000, True, 3000)
    books = await shop.books()
    assert (books["accounts"][to.id], books["balance"]) == (0, 10_000)
    assert await shop.events("transfer.created", "transfer.reversed") == ["transfer.created", "transfer.reversed"]


async def test_an_unknown_account_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.PermissionError):
        await shop.v1.payouts.list_async({}, {"stripe_account": "acct_none"})
