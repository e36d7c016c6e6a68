"""Gives back what was paid for nothing: a payment that had no place any more when its money came."""

import logging
from datetime import timedelta
from typing import Final

from asyncpg import Record

from billing.errors import PaymentRefused
from billing.refunds import refund_payment
from billing.services import Billing
from kit import clock
from kit.errors import Unavailable
from models.database import connection

AGAIN_AFTER: Final = timedelta(minutes=30)
GIVE_BACK_WITHIN: Final = timedelta(days=3)
"""What could not be given back for so long is the operator's to decide (`tollgate admin list-unapplied`)."""

REASON: Final = "it was paid for something that had no place any more"
_CLAIM: Final = """UPDATE payments p SET asked_at = $1 FROM (SELECT id FROM payments
        WHERE status = 'SUCCEEDED' AND applied_at IS NULL AND amount_usd_micro > 0 AND updated_at > $2
          AND failure_code IS DISTINCT FROM 'refund_failed'
          AND (asked_at IS NULL OR asked_at <= updated_at OR asked_at <= $3)
        ORDER BY updated_at LIMIT $4 FOR UPDATE SKIP LOCKED) AS due
    WHERE p.id = due.id RETURNING p.id, p.amount_usd_micro"""
logger = logging.getLogger(__name__)


async def give_back_unapplied(billing: Billing, *, limit: int = 20) -> int:
    """Refund such payments whole, once each; how many.

    The provider gives back so much in all, under a key of the payment, however often it is asked; the row, the event, the
    mail and the audit entry are one transaction, here or where the provider's own news of the refund come first.
    """
    if not billing.payments.configured:
        return 0
    now = clock.now()
    async with connection(billing.database) as conn:
        rows = await conn.fetch(_CLAIM, now, now - GIVE_BACK_WITHIN, now - AGAIN_AFTER, limit)
    return sum([await _give_back(billing, row) for row in rows])


async def _give_back(billing: Billing, row: Record) -> bool:
    try:
        await billing.payments.refund(row["id"], row["amount_usd_micro"], REASON)
    except (PaymentRefused, Unavailable) as problem:
        logger.warning("payment %s had no place and could not be given back yet: %s", row["id"], problem)
        return False
    await refund_payment(billing, row["id"], row["amount_usd_micro"])
    logger.warning("payment %s had no place and was given back", row["id"])
    return True
