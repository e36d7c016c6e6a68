"""Asks Stripe how payments stand whose news are late: a lost answer, a lost webhook, a crash before the request."""

import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.payments import fail_payment, settle_charge
from billing.rules.auto_recharge import NEVER_SENT
from billing.rules.stripe_values import id_of
from billing.services import Billing
from billing.stripe_charges import find_intent, result_of
from billing.stripe_client import StripeAway, StripeRefused
from billing.stripe_invoices import invoice_changed
from billing.stripe_link import StripeLink
from billing.stripe_objects import intent_changed, session_changed
from kit import clock
from models.database import connection
from models.enums import PaymentPurpose

ASK_AFTER: Final = timedelta(minutes=5)
ASK_EVERY: Final = timedelta(minutes=30)
ASK_AT_LEAST_EVERY: Final = timedelta(hours=1)
"""The pause grows with what is asked about, a bank debit of days say, up to this."""

GIVE_UP_AFTER: Final = timedelta(hours=25)
"""Later than Stripe forgets a key and a page lapses: what is not found then was never made, and never will be."""

_CLAIM: Final = """UPDATE payments p SET asked_at = $1 FROM (SELECT id FROM payments
        WHERE status IN ('PENDING', 'ACTION_REQUIRED') AND updated_at <= $2 AND (asked_at IS NULL
            OR (asked_at <= $3 AND asked_at + least(asked_at - created_at, $5::interval) <= $1))
        ORDER BY updated_at LIMIT $4 FOR UPDATE SKIP LOCKED) AS due
    WHERE p.id = due.id RETURNING p.*"""
_STRIPE_ID: Final = "SELECT stripe_subscription_id FROM subscriptions WHERE id = $1"
logger = logging.getLogger(__name__)


async def ask_for_payments(billing: Billing, link: StripeLink, *, limit: int = 20) -> int:
    """Look at payments that are open for minutes, each every half hour, later every hour; how many were looked at."""
    now = clock.now()
    async with connection(link.database) as conn:
        rows = await conn.fetch(_CLAIM, now, now - ASK_AFTER, now - ASK_EVERY, limit, ASK_AT_LEAST_EVERY)
    for row in rows:
        try:
            await _ask(billing, link, row)
        except StripeAway as away:
            logger.warning("payment %s could not be asked for: %s", row["id"], away.problem)
        except StripeRefused as refused:
            logger.warning("payment %s: %s", row["id"], refused)
    return len(rows)


async def _ask(billing: Billing, link: StripeLink, row: Record) -> None:
    payment_id: UUID = row["id"]
    if row["stripe_checkout_id"] is not None:
        await session_changed(billing, link, row["stripe_checkout_id"])
        return
    if row["stripe_object_id"] is not None:
        await _object(billing, link, row["stripe_object_id"])
        return
    if row["purpose"] == PaymentPurpose.PLAN_CHANGE and await _asked_subscription(billing, link, row):
        return
    intent = await find_intent(link, row["workspace_id"], payment_id)
    if intent is not None:
        await settle_charge(billing, payment_id, result_of(intent))
    elif clock.now() >= row["created_at"] + GIVE_UP_AFTER:
        await fail_payment(billing, payment_id, NEVER_SENT)


async def _object(billing: Billing, link: StripeLink, object_id: str) -> None:
    if object_id.startswith("in_"):
        await invoice_changed(billing, link, object_id)
    else:
        await intent_changed(billing, link, object_id)


async def _asked_subscription(billing: Billing, link: StripeLink, row: Record) -> bool:
    """A change's invoice is the last one of its subscription; whether the payment has ended by it."""
    async with connection(link.database) as conn:
        stripe_id: str | None = await conn.fetchval(_STRIPE_ID, row["subscription_id"])
    if stripe_id is None:
        return False
    found = await link.stripe.call(lambda v1: v1.subscriptions.retrieve_async(stripe_id))
    invoice_id = id_of(found, "latest_invoice")
    if invoice_id is None:
        return False
    await invoice_changed(billing, link, invoice_id)
    async with connection(link.database) as conn:
        status = await conn.fetchval("SELECT status FROM payments WHERE id = $1", row["id"])
    return status not in {"PENDING", "ACTION_REQUIRED"}
