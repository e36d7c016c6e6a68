"""Closes at Stripe what a workspace had opened to buy a plan, when it buys another way: one of them is paid."""

from typing import Final
from uuid import UUID

from billing.stripe_client import StripeRefused
from billing.stripe_link import StripeLink
from models.database import connection

_OTHERS: Final = """SELECT stripe_checkout_id, stripe_object_id FROM payments WHERE workspace_id = $1
    AND purpose = 'SUBSCRIPTION' AND applied_at IS NULL AND status IN ('PENDING', 'ACTION_REQUIRED')
    AND id IS DISTINCT FROM $2 AND (stripe_checkout_id IS NOT NULL OR starts_with(stripe_object_id, 'pi_'))"""


async def close_others(link: StripeLink, workspace_id: UUID, payment_id: UUID | None) -> None:
    """Hosted pages, and charges that wait for a confirmation. Raises StripeAway.

    What cannot be closed is paid or over already; then its payment says so itself.
    """
    async with connection(link.database) as conn:
        rows = await conn.fetch(_OTHERS, workspace_id, payment_id)
    for row in rows:
        try:
            await _close(link, row["stripe_checkout_id"], row["stripe_object_id"])
        except StripeRefused:
            continue


async def _close(link: StripeLink, page: str | None, intent: str) -> None:
    if page is not None:
        await link.stripe.call(lambda v1: v1.checkout.sessions.expire_async(page))
    else:
        await link.stripe.call(lambda v1: v1.payment_intents.cancel_async(intent))
