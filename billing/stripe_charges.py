"""Charges saved payment methods, and reads from payment intents and invoices how a payment stands."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from billing.payment_port import ActionNeeded, Charge, Charged, ChargeResult, Declined, Pending
from billing.rules.auto_recharge import NEVER_SENT
from billing.rules.stripe_values import cents_of, flag, id_of, instant, our_id, part, required_id, text
from billing.stripe_client import ChargeParams, StripeAway, StripeDeclined, StripeJson, StripeRefused
from billing.stripe_closing import close_others
from billing.stripe_customers import GONE, customer_of, customers_of, was_deleted
from billing.stripe_link import StripeLink
from kit import clock
from models.database import connection
from models.enums import PaymentPurpose

_METHOD: Final = """SELECT stripe_payment_method_id, kind FROM payment_methods
    WHERE workspace_id = $1 AND is_default AND removed_at IS NULL"""
_OPENED: Final = "SELECT created_at FROM payments WHERE id = $1"
KEY_LIFE: Final = timedelta(hours=20)
"""Stripe forgets a key after a day; a request this old is not sent again, it is looked up."""

_SEARCH_BACK: Final = timedelta(minutes=10)
"""Clocks differ: an intent is looked for from so long before its payment was written down."""

NO_METHOD: Final = "no_payment_method"
"""The failure code of a charge for which no saved method is left, as where the customer was deleted at Stripe."""

PREPAID: Final = "prepaid_not_accepted"
"""The failure code of a payment that was made with a prepaid or gift card, and given back (D8)."""


async def charge(link: StripeLink, order: Charge) -> ChargeResult:
    """Charge the default method under the order's key; a lost answer is Pending, for the same request to tell."""
    async with connection(link.database) as conn:
        method = await conn.fetchrow(_METHOD, order.workspace_id)
    if method is None:  # removed since: what the key has done already still counts
        return await _already(link, order, NO_METHOD)
    customer: str | None = None
    try:
        if await is_old(link, order.payment_id):
            return await _already(link, order, NEVER_SENT)
        customer = await customer_of(link, order.workspace_id)
        if order.purpose is PaymentPurpose.SUBSCRIPTION:
            await close_others(link, order.workspace_id, order.payment_id)
        intent = await _create(link, order, customer, method["stripe_payment_method_id"], method["kind"])
    except StripeDeclined as declined:
        return await _declined(link, order, declined)
    except StripeRefused as refused:
        return await _refused(link, order, customer, refused)
    except StripeAway:
        return Pending()
    return result_of(intent)


async def is_old(link: StripeLink, payment_id: UUID) -> bool:
    """Whether a payment was begun so long ago that its key may mean nothing to Stripe any more."""
    async with connection(link.database) as conn:
        opened = await conn.fetchval(_OPENED, payment_id)
    return opened is not None and clock.now() >= opened + KEY_LIFE


def result_of(intent: StripeJson) -> ChargeResult:
    """How a payment intent stands."""
    object_id = required_id(intent)
    match text(intent, "status"):
        case "succeeded":
            paid_at = instant(intent, "latest_charge", "created") or clock.now()
            return Charged(paid_at, object_id)
        case "requires_action":
            url = text(intent, "next_action", "redirect_to_url", "url")
            return Pending(object_id) if url is None else ActionNeeded(url, object_id, id_of(intent, "payment_method"))
        case "requires_payment_method" | "canceled":
            return Declined(failure_of(intent), object_id, id_of(intent, "last_payment_error", "payment_method"))
        case _:
            return Pending(object_id)


def failure_of(intent: StripeJson) -> str:
    """Why the last try of a payment intent failed, as exactly as Stripe says it."""
    error = part(intent, "last_payment_error")
    if text(error, "code") == "authentication_required":
        return "authentication_required"
    return (
        text(error, "decline_code") or text(error, "code") or text(intent, "cancellation_reason") or "payment_not_made"
    )


def is_prepaid(intent: StripeJson) -> bool:
    """Whether its charge was made with a prepaid or gift card (D8); its `latest_charge` is expanded."""
    return text(intent, "latest_charge", "payment_method_details", "card", "funding") == "prepaid"


async def read_intent(link: StripeLink, intent_id: str) -> StripeJson:
    """A payment intent as it is now, with its charge. Raises StripeAway, StripeRefused."""
    return await link.stripe.call(
        lambda v1: v1.payment_intents.retrieve_async(intent_id, {"expand": ["latest_charge"]})
    )


async def find_intent(link: StripeLink, workspace_id: UUID, payment_id: UUID) -> StripeJson | None:
    """The intent that was made for a payment of ours, where its answer was lost. Raises StripeAway, StripeRefused.

    It may have been made with a customer that was deleted since.
    """
    async with connection(link.database) as conn:
        opened = await conn.fetchval(_OPENED, payment_id)
    since = int((opened - _SEARCH_BACK).timestamp())
    for customer in await customers_of(link, workspace_id):
        for intent in await _intents_of(link, customer, since):
            if our_id(intent, "payment_id") == payment_id:
                return intent
    return None


async def give_back(link: StripeLink, payment_id: UUID | None, intent: StripeJson) -> None:
    """Refund a payment whole, once: nothing is given for it (D8); its `latest_charge` is expanded.

    Raises StripeAway, StripeRefused.
    """
    if flag(intent, "latest_charge", "refunded"):  # Stripe forgets the key after a day
        return
    intent_id = required_id(intent)
    await link.stripe.call(
        lambda v1: v1.refunds.create_async(
            {"payment_intent": intent_id, "metadata": {"payment_id": str(payment_id or "")}},
            {"idempotency_key": f"refund:{intent_id}:whole"},
        )
    )


async def _create(link: StripeLink, order: Charge, customer: str, method: str, kind: str) -> StripeJson:
    metadata = {"payment_id": str(order.payment_id), "workspace_id": str(order.workspace_id)}
    params: ChargeParams = {
        "amount": cents_of(order.amount_usd_micro),
        "currency": "usd",
        "customer": customer,
        "payment_method": method,
        "allowed_payment_method_types": [kind],
        "confirm": True,
        "metadata": metadata,
        "expand": ["latest_charge"],
    }
    if order.off_session:
        params["off_session"] = params["error_on_requires_action"] = True
    else:
        params["return_url"] = order.return_url or link.return_url
    return await link.stripe.call(lambda v1: v1.payment_intents.create_async(params, {"idempotency_key": order.key}))


async def _declined(link: StripeLink, order: Charge, declined: StripeDeclined) -> ChargeResult:
    """A decline; where the bank only wants the customer to confirm, the page on which they can."""
    intent_id = None if declined.intent is None else id_of(declined.intent, "id")
    method = id_of(declined.intent, "last_payment_error", "payment_method") or id_of(declined.method, "id")
    refused = Declined(declined.failure_code, intent_id, method)
    if declined.failure_code != "authentication_required" or intent_id is None:
        return refused
    try:
        intent = await link.stripe.call(
            lambda v1: v1.payment_intents.confirm_async(
                intent_id,
                {"return_url": order.return_url or link.return_url}
                if method is None
                else {"payment_method": method, "return_url": order.return_url or link.return_url},
                {"idempotency_key": f"{order.key}:confirm"},
            )
        )
    except (StripeDeclined, StripeRefused):
        return refused
    except StripeAway:
        return Pending(intent_id)
    result = result_of(intent)
    return result if isinstance(result, ActionNeeded | Charged) else refused


async def _intents_of(link: StripeLink, customer: str, since: int) -> list[StripeJson]:
    """None where Stripe lists nothing of a customer that was deleted: what was paid is told by its event then."""
    try:
        return await link.stripe.pages(
            lambda v1: v1.payment_intents.list_async(
                {"customer": customer, "created": {"gte": since}, "limit": 100, "expand": ["data.latest_charge"]}
            )
        )
    except StripeRefused as refused:
        if refused.code != GONE:
            raise
        return []


async def _refused(link: StripeLink, order: Charge, customer: str | None, refused: StripeRefused) -> ChargeResult:
    """Another method under the same key, or one that is gone; or the customer is, and every method with it."""
    try:
        gone = await was_deleted(link, order.workspace_id, customer, refused)
    except StripeAway:
        return Pending()
    return await _already(link, order, NO_METHOD if gone else refused.code)


async def _already(link: StripeLink, order: Charge, failure_code: str) -> ChargeResult:
    """What was made under the key before, if anything was."""
    try:
        intent = await find_intent(link, order.workspace_id, order.payment_id)
    except StripeAway:
        return Pending()
    return Declined(failure_code) if intent is None else result_of(intent)
