"""What one of Stripe's objects, fetched anew, means for us: absolute state is written, so order and repeats do not matter."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import UUID

from billing.disputes import close_dispute, dispute_payment
from billing.payment_port import Declined
from billing.payments import DECIDED, fail_payment, settle_charge
from billing.refunds import refund_failed, refund_payment, seen_at
from billing.rules.stripe_values import id_of, our_id, text, usd_micro
from billing.services import Billing
from billing.stripe_changes import invoice_of_intent
from billing.stripe_charges import PREPAID, give_back, is_prepaid, read_intent, result_of
from billing.stripe_client import StripeAway, StripeJson, StripeRefused
from billing.stripe_customers import workspace_of
from billing.stripe_invoices import invoice_changed, payment_of_invoice
from billing.stripe_link import StripeLink, next_fetch
from billing.stripe_methods import sync_methods
from billing.stripe_refunds import FAILED
from billing.stripe_subscriptions import session_of_subscription, subscription_changed
from billing.stripe_transfers import account_changed, payout_changed, transfer_changed
from models.database import connection

OPEN: Final = frozenset({"needs_response", "under_review"})
"""States in which the bank has taken the money for now; inquiries ("warning_…") have not, nor what was prevented."""

_OF_INTENT: Final = "SELECT id FROM payments WHERE stripe_object_id = $1"
_SETTLED: Final = "SELECT true FROM payments WHERE id = $1 AND (applied_at IS NOT NULL OR status = ANY ($2))"
_OF_PAGE: Final = "SELECT id FROM payments WHERE stripe_checkout_id = $1"
_WITHOUT_PAGE: Final = "SELECT id FROM payments WHERE id = $1 AND stripe_checkout_id IS NULL"
_PAGE: Final = "SELECT stripe_checkout_id FROM payments WHERE id = $1"
logger = logging.getLogger(__name__)


async def object_changed(billing: Billing, link: StripeLink, object_id: str, kind: str, account: str | None) -> None:
    """Fetch an object and do what follows from it. Objects of others, and of kinds that mean nothing here, do nothing.

    `kind` is the object's type, `account` the connected account it belongs to. Raises StripeAway; StripeRefused where
    Stripe does not know the object.
    """
    if account is not None:
        await _of_account(billing, link, object_id, kind, account)
        return
    work = _WORK.get(kind)
    if work is not None:
        await work(billing, link, object_id)


async def session_changed(billing: Billing, link: StripeLink, session_id: str) -> None:
    """A hosted page: paid, given up, or still open."""
    session = await link.stripe.call(lambda v1: v1.checkout.sessions.retrieve_async(session_id))
    mode, status, paid = text(session, "mode"), text(session, "status"), text(session, "payment_status")
    if mode == "setup":
        await _sync_customer(link, session)
        return
    payment_id = await _payment_of_page(link, session_id, session)
    if status == "expired" and payment_id is not None:
        await fail_payment(billing, payment_id, "checkout_expired")
    elif status == "complete" and mode == "subscription":
        await _sync_customer(link, session)  # a trial's free credits depend on whose card it is
        await session_of_subscription(billing, link, session)
    elif status == "complete" and paid == "paid":
        intent_id = id_of(session, "payment_intent")
        if intent_id is not None:
            await intent_changed(billing, link, intent_id)
        await _sync_customer(link, session)


async def intent_changed(billing: Billing, link: StripeLink, intent_id: str) -> None:
    """A payment that is none of an invoice's: settled as a charge's answer would be (D8 included)."""
    intent = await read_intent(link, intent_id)
    payment_id = our_id(intent, "payment_id")
    if payment_id is None or not await _is_ours(link, payment_id):
        return
    if text(intent, "status") == "succeeded" and is_prepaid(intent):
        await give_back(link, payment_id, intent)
        await fail_payment(billing, payment_id, PREPAID, object_id=intent_id, is_last_word=True)
        return
    if text(intent, "status") == "requires_payment_method" and text(intent, "last_payment_error", "code") is None:
        return  # a page is open and nothing was tried
    result = result_of(intent)
    if isinstance(result, Declined) and await _page_is_open(link, payment_id):
        return  # another card may be tried there; the page's own end decides
    await settle_charge(billing, payment_id, result)


async def charge_changed(billing: Billing, link: StripeLink, charge_id: str) -> None:
    """So much of a charge has gone back in all (D5)."""
    found = await link.stripe.call(lambda v1: v1.charges.retrieve_async(charge_id))
    refunded = usd_micro(found, "amount_refunded") or 0
    payment_id = await _settled_payment_of(billing, link, found) if refunded else None
    if payment_id is not None:
        await refund_payment(billing, payment_id, refunded)


async def refund_changed(billing: Billing, link: StripeLink, refund_id: str) -> None:
    """The refund's charge has the sum; a refund that failed makes it smaller."""
    found = await link.stripe.call(lambda v1: v1.refunds.retrieve_async(refund_id))
    charge_id = id_of(found, "charge")
    if charge_id is None:
        return
    if text(found, "status") in FAILED:
        await _refund_failed(billing, link, charge_id)
    else:
        await charge_changed(billing, link, charge_id)


async def _refund_failed(billing: Billing, link: StripeLink, charge_id: str) -> None:
    payment_id = await _payment_of_charge(link, await link.stripe.call(lambda v1: v1.charges.retrieve_async(charge_id)))
    if payment_id is None:
        return
    seen = await seen_at(billing, payment_id)
    found = await link.stripe.call(lambda v1: v1.charges.retrieve_async(charge_id))
    if not await refund_failed(billing, payment_id, usd_micro(found, "amount_refunded") or 0, seen=seen):
        raise StripeAway(f"payment {payment_id} changed while its charge was asked for")


async def dispute_changed(billing: Billing, link: StripeLink, dispute_id: str) -> None:
    """Opened, won or lost (D5)."""
    fetch_number = await next_fetch(link)
    found = await link.stripe.call(lambda v1: v1.disputes.retrieve_async(dispute_id))
    charge_id = id_of(found, "charge")
    if charge_id is None:
        return
    charged = await link.stripe.call(lambda v1: v1.charges.retrieve_async(charge_id))
    payment_id = await _settled_payment_of(billing, link, charged)
    if payment_id is None:
        return
    status, amount = text(found, "status"), _disputed_usd_micro(found, charged)
    if status in OPEN:
        await dispute_payment(billing, payment_id, dispute_id, amount, fetch_number=fetch_number)
    elif status in {"won", "lost"}:
        won = status == "won"
        await close_dispute(
            billing, payment_id, dispute_id, disputed_usd_micro=amount, won=won, fetch_number=fetch_number
        )


def _disputed_usd_micro(dispute: StripeJson, charged: StripeJson) -> int:
    """Of the charge's own currency. In the cardholder's it is no sum of ours: then the charge counts as disputed whole."""
    same = text(dispute, "currency") == text(charged, "currency")
    return usd_micro(dispute if same else charged, "amount") or 0


async def method_changed(link: StripeLink, method_id: str) -> None:
    """Saved, renewed by its bank, or removed: the customer's methods are read as a whole."""
    found = await link.stripe.call(lambda v1: v1.payment_methods.retrieve_async(method_id))
    customer = id_of(found, "customer")
    workspace_id = await workspace_of(link, customer)
    if workspace_id is None:
        async with connection(link.database) as conn:
            workspace_id = await conn.fetchval(
                "SELECT workspace_id FROM payment_methods WHERE stripe_payment_method_id = $1", method_id
            )
    if workspace_id is not None:
        await sync_methods(link, workspace_id)


async def setup_changed(link: StripeLink, setup_id: str) -> None:
    """A method was saved, or not."""
    await _sync_customer(link, await link.stripe.call(lambda v1: v1.setup_intents.retrieve_async(setup_id)))


async def customer_changed(link: StripeLink, customer_id: str) -> None:
    """Another default method, perhaps, chosen in the portal; or it was deleted."""
    workspace_id = await workspace_of(link, customer_id)
    if workspace_id is not None:
        await sync_methods(link, workspace_id)


async def _page_is_open(link: StripeLink, payment_id: UUID) -> bool:
    async with connection(link.database) as conn:
        session_id: str | None = await conn.fetchval(_PAGE, payment_id)
    if session_id is None:
        return False
    session = await link.stripe.call(lambda v1: v1.checkout.sessions.retrieve_async(session_id))
    return text(session, "status") == "open"


async def _sync_customer(link: StripeLink, of: StripeJson) -> None:
    workspace_id = await workspace_of(link, id_of(of, "customer"))
    if workspace_id is not None:
        await sync_methods(link, workspace_id)


async def _payment_of_charge(link: StripeLink, charged: StripeJson) -> UUID | None:
    """The payment a charge was made for: one of ours by itself, or the invoice's that it pays."""
    intent_id = id_of(charged, "payment_intent")
    if intent_id is None:
        return None
    async with connection(link.database) as conn:
        payment_id: UUID | None = await conn.fetchval(_OF_INTENT, intent_id)
    if payment_id is not None:
        return payment_id
    return await payment_of_invoice(link, intent_id)


async def _settled_payment_of(billing: Billing, link: StripeLink, charged: StripeJson) -> UUID | None:
    """The same. News of a charge may come before those of what it pays: then that is settled first."""
    payment_id, intent_id = await _payment_of_charge(link, charged), id_of(charged, "payment_intent")
    if intent_id is None or await _is_settled(link, payment_id):
        return payment_id
    invoice_id = await invoice_of_intent(link, intent_id)
    if invoice_id is None:
        await intent_changed(billing, link, intent_id)
    else:
        await invoice_changed(billing, link, invoice_id)
    return await _payment_of_charge(link, charged)


async def _is_settled(link: StripeLink, payment_id: UUID | None) -> bool:
    async with connection(link.database) as conn:
        return bool(await conn.fetchval(_SETTLED, payment_id, DECIDED))


async def _payment_of_page(link: StripeLink, session_id: str, session: StripeJson) -> UUID | None:
    """The payment whose page it is; None where another page has taken its place."""
    async with connection(link.database) as conn:
        payment_id: UUID | None = await conn.fetchval(_OF_PAGE, session_id)
    if payment_id is not None:
        return payment_id
    async with connection(link.database) as conn:
        return await conn.fetchval(_WITHOUT_PAGE, our_id(session, "payment_id"))


async def _is_ours(link: StripeLink, payment_id: UUID) -> bool:
    async with connection(link.database) as conn:
        return bool(await conn.fetchval("SELECT true FROM payments WHERE id = $1", payment_id))


async def _of_account(billing: Billing, link: StripeLink, object_id: str, kind: str, account: str) -> None:
    if kind == "payout":
        await payout_changed(billing, link, object_id, account)
    elif kind == "account":
        await account_changed(link, account)


async def _account(_billing: Billing, link: StripeLink, account_id: str) -> None:
    await account_changed(link, account_id)


async def _method(_billing: Billing, link: StripeLink, method_id: str) -> None:
    await method_changed(link, method_id)


async def _setup(_billing: Billing, link: StripeLink, setup_id: str) -> None:
    await setup_changed(link, setup_id)


async def _customer(_billing: Billing, link: StripeLink, customer_id: str) -> None:
    await customer_changed(link, customer_id)


async def _schedule(billing: Billing, link: StripeLink, schedule_id: str) -> None:
    try:
        found = await link.stripe.call(lambda v1: v1.subscription_schedules.retrieve_async(schedule_id))
    except StripeRefused:
        return
    subscription = id_of(found, "subscription") or text(found, "released_subscription")
    if subscription is not None:
        await subscription_changed(billing, link, subscription)


_Work = Callable[[Billing, StripeLink, str], Awaitable[None]]
_WORK: Final[Mapping[str, _Work]] = {
    "checkout.session": session_changed,
    "payment_intent": intent_changed,
    "charge": charge_changed,
    "refund": refund_changed,
    "dispute": dispute_changed,
    "invoice": invoice_changed,
    "subscription": subscription_changed,
    "subscription_schedule": _schedule,
    "payment_method": _method,
    "setup_intent": _setup,
    "customer": _customer,
    "account": _account,
    "transfer": transfer_changed,
}
"""By the type of the object. An invoice payment, a credit note and a payout of our own change nothing by themselves."""
