"""Charges a workspace's first lifetime to its saved method; on a hosted page it is bought as any other price."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.errors import ChangeRefused, PaymentMethodRequired, UnknownPayment
from billing.paying import charge_method, has_method
from billing.payment_rows import payment_by_id, payment_view
from billing.rules.subscription_steps import paid
from billing.services import Billing
from billing.subscription_rows import price_by_id, subscription_by_id
from billing.views import PaymentView, PriceView
from kit import clock
from kit.errors import InvalidInput
from models.database import connection
from models.enums import PaymentStatus, PricePeriod
from models.pool import PoolConnection

ON_ITS_WAY: Final = timedelta(minutes=10)
"""How long a payment of which the provider has said nothing may be on its way; later the reconciler has asked for it."""

_ON_ITS_WAY: Final = """SELECT true FROM payments p JOIN prices r ON r.id = p.price_id AND r.period = 'LIFETIME'
    WHERE p.workspace_id = $1 AND p.purpose = 'SUBSCRIPTION' AND p.status = 'PENDING' AND p.stripe_checkout_id IS NULL
      AND p.stripe_object_id IS NULL AND p.created_at > $2 LIMIT 1"""


def require_lifetime(price: PriceView) -> None:
    """InvalidInput for a price that is charged again and again, which begins on a hosted page."""
    if price.period is not PricePeriod.LIFETIME:
        raise InvalidInput("only a lifetime price is bought with the saved method", field=["savedMethod"])


async def require_chargeable(conn: PoolConnection, workspace_id: UUID, now: datetime) -> None:
    """That there is a method, and that no other purchase of a lifetime is on its way. The wallet is locked.

    One that waits for its customer is no hindrance: the provider gives it up before it takes another.
    """
    if not await has_method(conn, workspace_id):
        raise PaymentMethodRequired("savedMethod: false")
    if await conn.fetchval(_ON_ITS_WAY, workspace_id, now - ON_ITS_WAY):
        raise ChangeRefused("another purchase of a lifetime plan is being paid; try again in some minutes")


async def charge_lifetime(billing: Billing, payment_id: UUID, return_url: str | None = None) -> PaymentView:
    """Charge and begin, once; a repeat asks under the same key. What has no place any more is not charged."""
    async with connection(billing.database) as conn:
        payment = await payment_by_id(conn, payment_id)
        if payment is None or payment.subscription_id is None or payment.price_id is None:
            raise UnknownPayment
        subscription = await subscription_by_id(conn, billing, payment.subscription_id)
    view, price = payment_view(payment), await price_by_id(billing, payment.price_id)
    if payment.status is not PaymentStatus.PENDING:
        return view
    if subscription is None or paid(subscription.life, price, clock.now()) is None:
        return view
    return await charge_method(billing, view, f"lifetime:{payment.id}", return_url)
