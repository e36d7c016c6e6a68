"""The payment port, filled by Stripe."""

# ruff: noqa: ARG002  Stripe is told how a subscription stands as a whole

import logging
from collections.abc import Awaitable, Sequence
from uuid import UUID

from billing.errors import UnknownPaymentMethod
from billing.payment_methods import live_method
from billing.payment_port import Charge, ChargeResult, Checkout, PriceChange, TaxId
from billing.stripe_changes import change_price, preview_change
from billing.stripe_charges import charge
from billing.stripe_checkout import open_checkout, open_portal, open_setup
from billing.stripe_client import StripeAway, StripeRefused
from billing.stripe_link import StripeLink
from billing.stripe_methods import make_default, remove_method, sync_methods
from billing.stripe_refunds import refund_up_to
from billing.stripe_tax_ids import add_tax_id, remove_tax_id, tax_ids_of
from billing.stripe_tell import tell_subscription
from billing.stripe_transfers import open_onboarding, payouts_ready

logger = logging.getLogger(__name__)


class StripePayments:
    """See billing.payment_port.Payments. What is wrong with a request of ours is logged, and no secret of it told."""

    def __init__(self, link: StripeLink) -> None:
        """The account to charge on."""
        self._link = link

    @property
    def configured(self) -> bool:
        """Always."""
        return True

    async def open_checkout(self, order: Checkout) -> str:
        """The address of the page; Unavailable where Stripe is away or cannot make one."""
        try:
            return await open_checkout(self._link, order)
        except StripeRefused as refused:
            logger.exception("Stripe makes no page for %s", order.key)
            raise StripeAway.refusing(refused) from refused

    async def charge(self, order: Charge) -> ChargeResult:
        """Charge the default payment method."""
        return await charge(self._link, order)

    async def change_price(self, order: PriceChange) -> ChargeResult:
        """Move the subscription to a higher price now and charge the difference."""
        return await change_price(self._link, order)

    async def preview_price(self, order: PriceChange) -> int:
        """What `change_price` would charge for the same order; Unavailable where Stripe is away."""
        try:
            return await preview_change(self._link, order)
        except StripeRefused as refused:
            logger.exception("Stripe previews no change for %s", order.key)
            raise StripeAway.refusing(refused) from refused

    async def schedule_price(self, subscription_id: UUID, price_id: UUID | None) -> None:
        """Told by how the subscription stands; where Stripe is away the worker tells it later."""
        await self._tell(subscription_id)

    async def set_cancel(self, subscription_id: UUID, *, cancel: bool, at_once: bool = False) -> None:
        """As `schedule_price`."""
        await self._tell(subscription_id)

    async def open_setup(self, workspace_id: UUID, return_url: str) -> str:
        """The page on which a payment method is saved (B7)."""
        return await _page("setup", open_setup(self._link, workspace_id, return_url))

    async def open_portal(self, workspace_id: UUID, return_url: str) -> str:
        """Stripe's pages on invoices, methods and tax ids (D7)."""
        return await _page("portal", open_portal(self._link, workspace_id, return_url))

    async def make_default(self, method_id: UUID) -> None:
        """Charge this method from now on; one that is gone at Stripe is gone here."""
        method = await live_method(self._link.database, method_id)
        try:
            await make_default(self._link, method)
        except StripeRefused as refused:
            await sync_methods(self._link, method.workspace_id)
            raise UnknownPaymentMethod from refused

    async def remove_method(self, method_id: UUID) -> None:
        """Detach it."""
        await remove_method(self._link, await live_method(self._link.database, method_id))

    async def tax_ids(self, workspace_id: UUID) -> Sequence[TaxId]:
        """As Stripe has them now; none before there is a customer."""
        return await tax_ids_of(self._link, workspace_id)

    async def add_tax_id(self, workspace_id: UUID, kind: str, value: str) -> TaxId:
        """Keep one more on the customer; it stands on invoices from now on."""
        return await add_tax_id(self._link, workspace_id, kind, value)

    async def remove_tax_id(self, workspace_id: UUID, tax_id: str) -> None:
        """Forget one."""
        await remove_tax_id(self._link, workspace_id, tax_id)

    async def refund(self, payment_id: UUID, total_usd_micro: int, reason: str) -> int:
        """By a refund, and for what an invoice was written by a credit note, which corrects the invoice."""
        return await refund_up_to(self._link, payment_id, total_usd_micro, reason)

    async def open_payout_setup(self, workspace_id: UUID, return_url: str) -> str:
        """Stripe's onboarding of the account that transfers go to."""
        return await _page("onboarding", open_onboarding(self._link, workspace_id, return_url))

    async def payouts_ready(self, workspace_id: UUID) -> bool:
        """As Stripe said last, asked again where it said no."""
        return await payouts_ready(self._link, workspace_id)

    async def _tell(self, subscription_id: UUID) -> None:
        try:
            await tell_subscription(self._link, subscription_id)
        except StripeAway as away:
            logger.warning("subscription %s is told later: %s", subscription_id, away.problem)


async def _page(name: str, opening: Awaitable[str]) -> str:
    try:
        return await opening
    except StripeRefused as refused:
        logger.exception("Stripe makes no %s page", name)
        raise StripeAway.refusing(refused) from refused
