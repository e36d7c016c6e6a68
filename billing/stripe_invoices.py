"""Invoices: kept for the list of a workspace's invoices (D7), and what a paid or failed one means for a subscription."""

import logging
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.advance import change
from billing.errors import NoSubscription
from billing.event_kinds import EventKind
from billing.events import emit
from billing.payment_port import Charged, Declined
from billing.payments import ask_for_action, fail_payment, renewal_payment, settle_charge
from billing.rules.stripe_values import (
    entries,
    first,
    flag,
    id_of,
    instant,
    number,
    our_id,
    part,
    required_id,
    text,
    usd_micro,
)
from billing.rules.subscription_states import ACTIVE
from billing.rules.subscription_steps import with_cancel
from billing.services import Billing
from billing.stripe_changes import intent_of, invoice_of_intent, keep_amount_due, result_of_change
from billing.stripe_charges import PREPAID, failure_of, give_back, is_prepaid, read_intent
from billing.stripe_client import StripeJson
from billing.stripe_customers import workspace_of
from billing.stripe_link import StripeLink, next_fetch
from billing.stripe_prices import RECURRING, our_price
from billing.stripe_tell import OVER, cancel_at_stripe, tell_subscription
from billing.subscribing import find_locked, start_trial
from kit import clock
from kit.ids import encode_id, uuid7
from kit.money import usd_micro_text
from models.database import connection, transaction

_PUT: Final = """INSERT INTO invoices AS i (id, workspace_id, stripe_invoice_id, number, status, total_usd_micro,
    hosted_url, pdf_url, created_at, updated_at, fetch_number) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (stripe_invoice_id) DO UPDATE SET number = excluded.number, status = excluded.status,
    total_usd_micro = excluded.total_usd_micro, hosted_url = excluded.hosted_url, pdf_url = excluded.pdf_url,
    updated_at = excluded.updated_at, fetch_number = excluded.fetch_number
    WHERE i.fetch_number < excluded.fetch_number"""
_SUBSCRIPTION: Final = """SELECT id, workspace_id, grace_ends_at FROM subscriptions
    WHERE id = $1 OR stripe_subscription_id = $2 ORDER BY id = $1 DESC NULLS LAST LIMIT 1"""
_CHANGE: Final = """SELECT id, created_at FROM payments WHERE subscription_id = $1 AND purpose = 'PLAN_CHANGE'
    AND (stripe_object_id = $2 OR (stripe_object_id IS NULL AND applied_at IS NULL)) AND price_id = $3
    ORDER BY stripe_object_id NULLS LAST, created_at DESC"""
_CHARGED: Final = "SELECT stripe_subscription_id IS NOT NULL FROM subscriptions WHERE id = $1"
_OF_OBJECT: Final = "SELECT id FROM payments WHERE stripe_object_id = $1"
logger = logging.getLogger(__name__)


async def invoice_changed(billing: Billing, link: StripeLink, invoice_id: str) -> None:
    """Keep it, and apply what it says of a subscription's period, trial or change. Raises StripeAway, StripeRefused."""
    fetch_number = await next_fetch(link)
    invoice = await link.stripe.call(lambda v1: v1.invoices.retrieve_async(invoice_id, {"expand": ["payments"]}))
    workspace_id = await workspace_of(link, id_of(invoice, "customer"))
    if workspace_id is None or text(invoice, "status") == "draft":
        return
    await _keep(link, workspace_id, invoice, fetch_number)
    subscription = await _subscription_of(link, invoice)
    if subscription is None:
        return
    match text(invoice, "billing_reason"):
        case "subscription_create":
            await _first_period(billing, link, subscription, invoice)
        case "subscription_update":
            await _change(billing, link, subscription, invoice)
        case "subscription_cycle":
            await _renewal(billing, link, subscription, workspace_id, invoice)
        case reason:  # an invoice that somebody wrote by hand, say, buys no period
            logger.info("invoice %s is kept, and means nothing for its subscription: %s", invoice_id, reason)


async def payment_of_invoice(link: StripeLink, intent_id: str) -> UUID | None:
    """The payment whose invoice this payment intent pays. Raises StripeAway, StripeRefused."""
    invoice_id = await invoice_of_intent(link, intent_id)
    async with connection(link.database) as conn:
        return await conn.fetchval(_OF_OBJECT, invoice_id)


async def keep_receipt(link: StripeLink, workspace_id: UUID, intent: StripeJson) -> None:
    """The receipt of a charge in the place of an invoice; its `latest_charge` is expanded. Raises StripeAway."""
    fetch_number = await next_fetch(link)
    charge = part(intent, "latest_charge")
    receipt = {
        "id": required_id(charge),
        "number": text(charge, "receipt_number"),
        "status": "paid",
        "total": number(charge, "amount"),
        "hosted_invoice_url": text(charge, "receipt_url"),
        "created": number(charge, "created"),
    }
    await _keep(link, workspace_id, receipt, fetch_number)


async def _first_period(billing: Billing, link: StripeLink, subscription_id: UUID, invoice: StripeJson) -> None:
    """The period that was bought on a hosted page, though it may have cost nothing; a trial has no payment of ours."""
    payment_id = our_id(part(invoice, "parent", "subscription_details"), "payment_id")
    if payment_id is None:
        if not usd_micro(invoice, "total"):
            with suppress(NoSubscription):  # what has no place is ended by the news of its subscription
                await start_trial(billing, subscription_id, at=instant(invoice, "period_start"))
        return
    if text(invoice, "status") != "paid":
        return
    await keep_amount_due(link, payment_id, invoice)
    if not await _settle_paid(billing, link, payment_id, invoice):
        await _end_at_stripe(link, invoice)


async def _settle_paid(billing: Billing, link: StripeLink, payment_id: UUID, invoice: StripeJson) -> bool:
    """Apply the payment of a paid invoice; False where a prepaid card paid it: then it is given back (D8)."""
    invoice_id, intent_id = required_id(invoice), intent_of(invoice)
    intent = part(None) if intent_id is None else await read_intent(link, intent_id)
    if is_prepaid(intent):
        await give_back(link, payment_id, intent)
        await fail_payment(billing, payment_id, PREPAID, object_id=invoice_id, is_last_word=True)
        return False
    await settle_charge(billing, payment_id, Charged(_paid_at(invoice), invoice_id))
    return True


async def _change(billing: Billing, link: StripeLink, subscription_id: UUID, invoice: StripeJson) -> None:
    """The invoice of an upgrade, found by the new price and the instant of its proration."""
    charged = first([line for line in entries(invoice, "lines") if (number(line, "amount") or 0) > 0])
    price_id = await our_price(link, text(charged, "pricing", "price_details", "price"))
    start = instant(charged, "period", "start")
    async with connection(link.database) as conn:
        rows = await conn.fetch(_CHANGE, subscription_id, required_id(invoice), price_id)
    at = [row["id"] for row in rows if start is not None and row["created_at"].replace(microsecond=0) == start]
    if not at:
        logger.warning("invoice %s is of no change that was asked for here", required_id(invoice))
        return
    result = await result_of_change(link, at[0], invoice)
    if not isinstance(result, Charged):
        await settle_charge(billing, at[0], result)
    elif not await _settle_paid(billing, link, at[0], invoice):
        await tell_subscription(link, subscription_id)  # the price it had, which stays


async def _renewal(
    billing: Billing, link: StripeLink, subscription_id: UUID, workspace_id: UUID, invoice: StripeJson
) -> None:
    """A period that Stripe charged by itself, or tried to; one that costs nothing there, by a coupon, say, is paid."""
    due, invoice_id = usd_micro(invoice, "amount_due") or 0, required_id(invoice)
    if text(invoice, "status") not in {"paid", "open", "uncollectible", "void"}:
        return
    attempts = number(invoice, "attempt_count") or 0
    if text(invoice, "status") != "paid" and not attempts:
        return  # it is finalised, and not tried yet
    price_id = await our_price(link, text(_period_line(invoice), "pricing", "price_details", "price"))
    payment_id = await renewal_payment(billing, subscription_id, due, invoice_id, price_id=price_id)
    if text(invoice, "status") == "paid":
        await _settle_paid(billing, link, payment_id, invoice)
        await _end_with_period(billing, link, subscription_id, invoice)
        return
    intent_id = intent_of(invoice)
    intent = part(None) if intent_id is None else await read_intent(link, intent_id)
    failure = "authentication_required" if text(intent, "status") == "requires_action" else failure_of(intent)
    await settle_charge(billing, payment_id, Declined(failure, invoice_id))
    if text(intent, "status") == "requires_action":
        await ask_for_action(billing, payment_id, text(invoice, "hosted_invoice_url") or link.return_url)
    if text(invoice, "status") == "open":
        await _tell_failed(billing, workspace_id, payment_id, invoice, failure, attempts)


async def _end_with_period(billing: Billing, link: StripeLink, subscription_id: UUID, invoice: StripeJson) -> None:
    """A plan that was paid after its end lives again; where Stripe's had ended by then nothing renews it, and it says so."""
    stripe_id = id_of(invoice, "parent", "subscription_details", "subscription")
    async with connection(link.database) as conn:
        is_charged = await conn.fetchval(_CHARGED, subscription_id)
    if is_charged or stripe_id is None:
        return
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    if text(found, "status") not in OVER:
        return  # its page has not been heard of yet
    async with transaction(billing.database) as conn:
        current = await find_locked(conn, billing, subscription_id)
        if current is None:  # its workspace was deleted
            return
        life = current.life
        if life.status is ACTIVE and not life.cancel_at_period_end and life.price.period in RECURRING:
            after = current.with_life(with_cancel(life, clock.now(), cancel=True))
            await change(conn, billing, billing.catalog.current, current, after)


def _period_line(invoice: StripeJson) -> StripeJson:
    """The line of the period itself: prorations and other items that waited for this invoice may stand before it."""
    details = ("parent", "subscription_item_details")
    return first(
        [line for line in entries(invoice, "lines") if part(line, *details) and not flag(line, *details, "proration")]
    )


async def _tell_failed(
    billing: Billing, workspace_id: UUID, payment_id: UUID, invoice: StripeJson, failure: str, attempts: int
) -> None:
    next_try = instant(invoice, "next_payment_attempt")
    facts = {
        "paymentId": encode_id("pay", payment_id),
        "amountUsd": usd_micro_text(usd_micro(invoice, "amount_due") or 0),
        "failureCode": failure,
        "url": text(invoice, "hosted_invoice_url"),
        "nextTryAt": None if next_try is None else next_try.isoformat(),
    }
    async with transaction(billing.database) as conn:
        await emit(conn, EventKind.PAYMENT_FAILED, workspace_id, facts, dedupe_key=f"{payment_id}:{attempts}")


async def _end_at_stripe(link: StripeLink, invoice: StripeJson) -> None:
    stripe_id = id_of(invoice, "parent", "subscription_details", "subscription")
    if stripe_id is not None:
        await cancel_at_stripe(link, stripe_id)


async def _subscription_of(link: StripeLink, invoice: StripeJson) -> UUID | None:
    details = part(invoice, "parent", "subscription_details")
    stripe_id = id_of(details, "subscription")
    if stripe_id is None:
        return None
    async with connection(link.database) as conn:
        row = await conn.fetchrow(_SUBSCRIPTION, our_id(details, "subscription_id"), stripe_id)
    return None if row is None else row["id"]


async def _keep(link: StripeLink, workspace_id: UUID, invoice: StripeJson, fetch_number: int) -> None:
    now = clock.now()
    async with connection(link.database) as conn:
        await conn.execute(
            _PUT,
            uuid7(),
            workspace_id,
            required_id(invoice),
            text(invoice, "number"),
            text(invoice, "status") or "open",
            usd_micro(invoice, "total") or 0,
            text(invoice, "hosted_invoice_url"),
            text(invoice, "invoice_pdf"),
            instant(invoice, "created") or now,
            now,
            fetch_number,
        )


def _paid_at(invoice: StripeJson) -> datetime:
    return instant(invoice, "status_transitions", "paid_at") or clock.now()
