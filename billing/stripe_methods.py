"""Payment methods at Stripe: fetched and written here, made the default, removed; prepaid cards are refused (D8)."""

from typing import Final
from uuid import UUID

from billing.event_kinds import EventKind
from billing.events import emit
from billing.payment_methods import HeldMethod, PaymentMethodView, write_methods
from billing.rules.free_credits import fingerprint_digest
from billing.rules.stripe_values import flag, id_of, number, part, required_id, text
from billing.stripe_client import StripeJson, StripeRefused
from billing.stripe_customers import known_customer, note_deleted
from billing.stripe_link import StripeLink, next_fetch
from models.database import connection, transaction

_WAITING: Final = """SELECT stripe_object_id FROM payments WHERE workspace_id = $1 AND purpose = 'AUTO_RECHARGE'
    AND status = 'ACTION_REQUIRED' AND applied_at IS NULL AND stripe_object_id IS NOT NULL"""
_DEFAULT: Final = """SELECT stripe_payment_method_id FROM payment_methods
    WHERE workspace_id = $1 AND is_default AND removed_at IS NULL"""
_LIVE_SUBSCRIPTION: Final = """SELECT stripe_subscription_id FROM subscriptions
    WHERE workspace_id = $1 AND ended_at IS NULL AND stripe_subscription_id IS NOT NULL"""


async def sync_methods(link: StripeLink, workspace_id: UUID) -> None:
    """Write here what Stripe holds for the workspace's customer now. Raises StripeAway, StripeRefused.

    What is held without a default gets one, the method that was saved last. Prepaid and gift cards are detached, and
    the workspace is told. Where another method becomes the default, a recharge that waits to be confirmed is given up.
    A customer that was deleted there is forgotten, and holds nothing.
    """
    customer = await known_customer(link, workspace_id)
    if customer is None:
        return
    fetch_number = await next_fetch(link)
    of = await link.stripe.call(lambda v1: v1.customers.retrieve_async(customer))
    if flag(of, "deleted"):
        await note_deleted(link, workspace_id, customer)
        return
    wanted = id_of(of, "invoice_settings", "default_payment_method")
    found = await link.stripe.pages(lambda v1: v1.customers.payment_methods.list_async(customer, {"limit": 100}))
    refused = [method for method in found if _is_prepaid(method)]
    kept = [method for method in found if not _is_prepaid(method)]
    for method in refused:
        await _refuse(link, workspace_id, method)
    newest = max(kept, key=lambda method: number(method, "created") or 0, default=None)
    default = wanted if any(required_id(method) == wanted for method in kept) else None
    if default is None and newest is not None:
        default = required_id(newest)
        await set_default_at_stripe(link, workspace_id, customer, default)
    await _cancel_recharge(link, workspace_id, default)
    await write_methods(
        link.database, workspace_id, [_held(link, method) for method in kept], default, fetch_number=fetch_number
    )


async def make_default(link: StripeLink, method: PaymentMethodView) -> None:
    """Charge this method from now on, renewals included. Raises StripeAway, StripeRefused."""
    customer = await known_customer(link, method.workspace_id)
    if customer is not None:
        await set_default_at_stripe(link, method.workspace_id, customer, method.object_id)
    await sync_methods(link, method.workspace_id)


async def remove_method(link: StripeLink, method: PaymentMethodView) -> None:
    """Detach it; one that is gone already is as good. Raises StripeAway."""
    await _detach(link, method.object_id)
    await sync_methods(link, method.workspace_id)


async def set_default_at_stripe(link: StripeLink, workspace_id: UUID, customer: str, object_id: str) -> None:
    """For invoices of the customer, and for the subscription, which else keeps the method of its checkout."""
    await link.stripe.call(
        lambda v1: v1.customers.update_async(customer, {"invoice_settings": {"default_payment_method": object_id}})
    )
    async with connection(link.database) as conn:
        subscription: str | None = await conn.fetchval(_LIVE_SUBSCRIPTION, workspace_id)
    if subscription is not None:
        try:
            await link.stripe.call(
                lambda v1: v1.subscriptions.update_async(subscription, {"default_payment_method": object_id})
            )
        except StripeRefused:  # over at Stripe: there is nothing to renew
            return


async def _refuse(link: StripeLink, workspace_id: UUID, method: StripeJson) -> None:
    object_id = required_id(method)
    await _detach(link, object_id)
    async with transaction(link.database) as conn:
        facts = {"reason": "prepaid", "last4": text(method, "card", "last4")}
        await emit(conn, EventKind.PAYMENT_METHOD_REFUSED, workspace_id, facts, dedupe_key=object_id)


async def _cancel_recharge(link: StripeLink, workspace_id: UUID, default: str | None) -> None:
    """Before the new default is written, so that a repeat still finds what to cancel; what is paid meanwhile is applied."""
    async with connection(link.database) as conn:
        before: str | None = await conn.fetchval(_DEFAULT, workspace_id)
        rows = [] if default in {None, before} else await conn.fetch(_WAITING, workspace_id)
    for row in rows:
        await _cancel(link, row["stripe_object_id"])


async def _cancel(link: StripeLink, intent_id: str) -> None:
    try:
        await link.stripe.call(lambda v1: v1.payment_intents.cancel_async(intent_id))
    except StripeRefused:  # it is paid or over already
        return


async def _detach(link: StripeLink, object_id: str) -> None:
    try:
        await link.stripe.call(lambda v1: v1.payment_methods.detach_async(object_id))
    except StripeRefused:  # it is attached to nobody
        return


def _is_prepaid(method: StripeJson) -> bool:
    return text(method, "card", "funding") == "prepaid"


def _held(link: StripeLink, method: StripeJson) -> HeldMethod:
    kind = text(method, "type") or "card"
    details = part(method, kind)
    fingerprint = text(details, "fingerprint")
    return HeldMethod(
        object_id=required_id(method),
        kind=kind,
        brand=text(details, "brand"),
        last4=text(details, "last4"),
        exp_month=number(details, "exp_month"),
        exp_year=number(details, "exp_year"),
        fingerprint_digest=None if fingerprint is None else fingerprint_digest(link.secret_key, fingerprint),
    )
