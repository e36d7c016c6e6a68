"""Opens Stripe's hosted pages: to pay, to give a card for a trial, to save a payment method, and the billing portal."""

from typing import Final
from uuid import UUID

from billing.errors import UnknownPack
from billing.payment_port import Checkout
from billing.rules.stripe_values import cents_of, id_of, required_id, text
from billing.stripe_client import PageParams, StripeAway, StripeJson, StripeRefused
from billing.stripe_closing import close_others
from billing.stripe_customers import customers_of, with_customer
from billing.stripe_link import StripeLink
from billing.stripe_prices import RECURRING, pack_price_id_of, price_id_of
from kit import clock
from models.database import connection, transaction
from models.enums import PaymentPurpose

_SAVE_PAGE: Final = "UPDATE payments SET stripe_checkout_id = $2, updated_at = $3 WHERE id = $1"
_PAGE: Final = "SELECT stripe_checkout_id FROM payments WHERE id = $1"


async def open_checkout(link: StripeLink, order: Checkout) -> str:
    """The page for a payment, or for a trial's card. A subscription's earlier ones are closed: one is paid.

    Raises StripeAway; StripeRefused where the request is wrong.
    """
    if order.purpose is PaymentPurpose.SUBSCRIPTION:
        await close_others(link, order.workspace_id, order.payment_id)
    session = await with_customer(link, order.workspace_id, lambda customer: _page_of(link, order, customer))
    if order.payment_id is not None:
        async with transaction(link.database) as conn:
            await conn.execute(_SAVE_PAGE, order.payment_id, required_id(session), clock.now())
    return _url(session)


async def open_setup(link: StripeLink, workspace_id: UUID, return_url: str) -> str:
    """The page on which a payment method is saved. Raises StripeAway, UnknownWorkspace."""
    metadata = {"workspace_id": str(workspace_id)}
    session = await with_customer(
        link,
        workspace_id,
        lambda customer: link.stripe.call(
            lambda v1: v1.checkout.sessions.create_async(
                {
                    "mode": "setup",
                    "currency": "usd",
                    "customer": customer,
                    "success_url": return_url,
                    "cancel_url": return_url,
                    "ui_mode": "hosted_page",
                    "metadata": metadata,
                    "setup_intent_data": {"metadata": metadata},
                }
            )
        ),
    )
    return _url(session)


async def open_portal(link: StripeLink, workspace_id: UUID, return_url: str) -> str:
    """The portal with invoices, methods and tax ids (D7). Raises StripeAway, UnknownWorkspace."""
    session = await with_customer(
        link,
        workspace_id,
        lambda customer: link.stripe.call(
            lambda v1: v1.billing_portal.sessions.create_async({"customer": customer, "return_url": return_url})
        ),
    )
    return _url(session)


async def _page_of(link: StripeLink, order: Checkout, customer: str) -> StripeJson:
    """The session of this customer; the order's key may have been used for one that was deleted since."""
    key = order.key
    if [customer] != list(await customers_of(link, order.workspace_id)):
        key = f"{key}:{customer}"
        await _close_former(link, order.payment_id, customer)
    params = _common(link, order, customer)
    if order.purpose is PaymentPurpose.SUBSCRIPTION and await _recurs(link, order.price_id):
        params |= await _of_subscription(link, order)
    else:
        params |= await _of_payment(link, order)
    return await link.stripe.call(lambda v1: v1.checkout.sessions.create_async(params, {"idempotency_key": key}))


async def _close_former(link: StripeLink, payment_id: UUID | None, customer: str) -> None:
    """The page that a deleted customer had for the same payment: one of the two is paid. Raises StripeAway where it is."""
    async with connection(link.database) as conn:
        page: str | None = await conn.fetchval(_PAGE, payment_id)
    if page is None:
        return
    session = await link.stripe.call(lambda v1: v1.checkout.sessions.retrieve_async(page))
    if id_of(session, "customer") == customer or text(session, "status") == "expired":
        return
    try:
        await link.stripe.call(lambda v1: v1.checkout.sessions.expire_async(page))
    except StripeRefused as refused:
        raise StripeAway(f"session {page} cannot be closed: {refused.code}") from refused


def _common(link: StripeLink, order: Checkout, customer: str) -> PageParams:
    """What every page has on which something is bought."""
    return {
        "customer": customer,
        "client_reference_id": str(order.workspace_id),
        "success_url": order.success_url or link.paid_url,
        "cancel_url": order.cancel_url or order.success_url or link.return_url,
        "ui_mode": "hosted_page",
        "metadata": _metadata(order),
        "customer_update": {"name": "auto", "address": "auto"},
        "tax_id_collection": {"enabled": True},
    }


async def _of_subscription(link: StripeLink, order: Checkout) -> PageParams:
    assert order.price_id is not None, "a subscription has a price"
    metadata = _metadata(order)
    return {
        "mode": "subscription",
        "line_items": [{"price": await price_id_of(link, order.price_id), "quantity": 1}],
        "payment_method_collection": "always",
        "subscription_data": {"metadata": metadata, "trial_period_days": order.trial_days}
        if order.trial_days
        else {"metadata": metadata},
    }


async def _of_payment(link: StripeLink, order: Checkout) -> PageParams:
    price, metadata = await _single_price(link, order), _metadata(order)
    return {
        "mode": "payment",
        "line_items": [
            {"price": price, "quantity": 1}
            if price is not None
            else {
                "price_data": {
                    "currency": "usd",
                    "unit_amount": cents_of(order.amount_usd_micro),
                    "product_data": {"name": "Credits"},
                },
                "quantity": 1,
            }
        ],
        "invoice_creation": {"enabled": True, "invoice_data": {"metadata": metadata}},
        "payment_intent_data": {"metadata": metadata},
        # Of cards alone: what is asked of all methods hides those that cannot be saved, on-chain ones among them (A10, D8).
        "payment_method_options": {"card": {"setup_future_usage": "off_session"}},
    }


async def _single_price(link: StripeLink, order: Checkout) -> str | None:
    """Stripe's price of what is bought once; None for an amount of the customer's choice."""
    if order.purpose is PaymentPurpose.SUBSCRIPTION and order.price_id is not None:
        return await price_id_of(link, order.price_id)
    if order.pack_id is None:
        return None
    pack = link.catalog.current.packs_by_id.get(order.pack_id)
    if pack is None:
        pack = (await link.catalog.reload()).packs_by_id.get(order.pack_id)
    if pack is None:
        raise UnknownPack("")
    return await pack_price_id_of(link, pack)


async def _recurs(link: StripeLink, price_id: UUID | None) -> bool:
    snapshot = link.catalog.current
    if price_id is not None and price_id not in snapshot.prices_by_id:
        snapshot = await link.catalog.reload()
    return price_id is not None and snapshot.prices_by_id[price_id].period in RECURRING


def _metadata(order: Checkout) -> dict[str, str]:
    """Ids of ours that come back with every object which the page makes."""
    ids = {
        "workspace_id": order.workspace_id,
        "payment_id": order.payment_id,
        "subscription_id": order.subscription_id,
    }
    return {name: str(value) for name, value in ids.items() if value is not None}


def _url(session: StripeJson) -> str:
    """The page's address; a session without one is over, which its key's repeat may meet."""
    url = text(session, "url")
    if url is None:
        raise StripeAway(f"session {session.get('id')} has no page any more")
    return url
