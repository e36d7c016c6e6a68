"""What is killed on the way: one act each, sent again afterwards with the same key, as a client or a worker does."""

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from billing.auto_recharge import recharge_due
from billing.giving_back import give_back_unapplied
from billing.services import Billing
from billing.stripe_inbox import sweep, work_inbox
from billing.stripe_invoicing import write_invoices
from billing.stripe_link import StripeLink
from billing.stripe_reconcile import ask_for_payments
from billing.stripe_tell import tell_due
from billing.stripe_transfers import move_transfers
from billing.subscribing import subscribe
from billing.subscriptions import cancel, change_plan
from billing.top_ups import add_credits
from billing.transfers import request_transfer
from tests.billing.shop import MICRO

Act = Callable[[Billing, StripeLink, UUID, str], Awaitable[None]]


async def top_up(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await add_credits(billing, workspace_id, 25 * MICRO, idempotency_key=key)


async def page(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await add_credits(billing, workspace_id, 25 * MICRO, idempotency_key=key, checkout=True)


async def lifetime(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await subscribe(
        billing, workspace_id, _price(billing, "studio", "lifetime"), idempotency_key=key, saved_method=True
    )


async def lifetime_over(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    price = _price(billing, "studio", "lifetime")
    await change_plan(billing, workspace_id, price, idempotency_key=key, saved_method=True)
    await inbox(billing, link, workspace_id, key)


async def upgrade(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await change_plan(billing, workspace_id, _price(billing, "business", "monthly"), idempotency_key=key)


async def end(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await cancel(billing, workspace_id, idempotency_key=key)


async def recharge(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await recharge_due(billing)


async def inbox(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await sweep(link, force=True)
    await work_inbox(billing, link)
    await tell_due(link)
    await ask_for_payments(billing, link)


async def give_back(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await inbox(billing, link, workspace_id, key)
    await give_back_unapplied(billing)


async def invoice(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await write_invoices(billing, link)


async def anew(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    """The customer was deleted at Stripe, and nobody has told."""
    await page(billing, link, workspace_id, key)


async def transfer(billing: Billing, link: StripeLink, workspace_id: UUID, key: str) -> None:
    await request_transfer(billing, workspace_id, 40 * MICRO, requested_by=None, idempotency_key=key)
    await move_transfers(billing, link)


def _price(billing: Billing, plan: str, code: str) -> UUID:
    return next(price.id for price in billing.catalog.current.plans_by_code[plan].prices if price.code == code)


ACTS: Mapping[str, Act] = {
    "top_up": top_up,
    "page": page,
    "lifetime": lifetime,
    "lifetime_over": lifetime_over,
    "upgrade": upgrade,
    "end": end,
    "recharge": recharge,
    "inbox": inbox,
    "give_back": give_back,
    "invoice": invoice,
    "anew": anew,
    "transfer": transfer,
}
