"""What billing asks of a payment provider; each request can be sent again under its own key and charges once."""

# ruff: noqa: ARG002  an installation without a provider answers every request alike

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from billing.errors import PaymentsNotConfigured
from models.enums import PaymentPurpose


@dataclass(frozen=True, slots=True)
class Checkout:
    """A page on which a customer pays, or gives a card for a trial. `payment_id` None: a trial, nothing is paid now.

    `key` is the idempotency key; the return addresses are the caller's own and may be missing.
    """

    key: str
    workspace_id: UUID
    purpose: PaymentPurpose
    payment_id: UUID | None
    amount_usd_micro: int
    subscription_id: UUID | None = None
    price_id: UUID | None = None
    pack_id: UUID | None = None
    trial_days: int = 0
    success_url: str | None = None
    cancel_url: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge of the workspace's default payment method. `off_session`: nobody is there to confirm it."""

    key: str
    workspace_id: UUID
    purpose: PaymentPurpose
    payment_id: UUID
    amount_usd_micro: int
    off_session: bool
    return_url: str | None = None


@dataclass(frozen=True, slots=True)
class PriceChange:
    """An upgrade now. `at` is the instant of the proration; amount and credits are of one fraction.

    `payment_id` None: nothing is to be paid, as in a trial; the provider only learns of the price.
    """

    key: str
    workspace_id: UUID
    payment_id: UUID | None
    subscription_id: UUID
    price_id: UUID
    amount_usd_micro: int
    at: datetime


@dataclass(frozen=True, slots=True)
class TaxId:
    """A tax id such as a VAT number. `kind` is the provider's word ("eu_vat"), `status` how far it is verified."""

    id: str
    kind: str
    value: str
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """The money is there."""

    paid_at: datetime
    object_id: str | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """It was refused. `failure_code`: the provider's, the most exact one it gave (a decline code before a general one).

    `method_id`: the provider's id of the saved method that was tried, where it says.
    """

    failure_code: str
    object_id: str | None = None
    method_id: str | None = None


@dataclass(frozen=True, slots=True)
class ActionNeeded:
    """The customer has to confirm it on a hosted page. `method_id`: the saved method that is charged, where it is said."""

    url: str
    object_id: str | None = None
    method_id: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """Not known yet: it is being processed, or the network failed. The same request with the same key tells."""

    object_id: str | None = None


ChargeResult = Charged | Declined | ActionNeeded | Pending


class Payments(Protocol):
    """A payment provider. No method raises for a decline or a lost connection: these are results.

    None of them is called within a transaction. What the provider tells later comes in through billing.payments.
    """

    @property
    def configured(self) -> bool:
        """Whether payments can be taken at all."""
        ...

    async def open_checkout(self, order: Checkout) -> str:
        """The address of the page; Unavailable where the provider is away."""
        ...

    async def charge(self, order: Charge) -> ChargeResult:
        """Charge the default payment method."""
        ...

    async def change_price(self, order: PriceChange) -> ChargeResult:
        """Move the subscription to a higher price now and charge the difference; a decline leaves it as it was."""
        ...

    async def schedule_price(self, subscription_id: UUID, price_id: UUID | None) -> None:
        """Let the next renewal be of this price; None takes the wish back. Unavailable where the provider is away."""
        ...

    async def set_cancel(self, subscription_id: UUID, *, cancel: bool, at_once: bool = False) -> None:
        """Let it end with its period, `at_once` now, or let it go on; a scheduled price is forgotten when it ends.

        Unavailable where the provider is away.
        """
        ...

    async def preview_price(self, order: PriceChange) -> int:
        """What `change_price` would charge for the same order, in micro-dollars; Unavailable where it is away."""
        ...

    async def open_setup(self, workspace_id: UUID, return_url: str) -> str:
        """The address of the page on which a payment method is saved; Unavailable where the provider is away."""
        ...

    async def open_portal(self, workspace_id: UUID, return_url: str) -> str:
        """The address of the provider's own pages on invoices, methods and tax ids; Unavailable where it is away."""
        ...

    async def make_default(self, method_id: UUID) -> None:
        """Charge this saved method from now on. UnknownPaymentMethod; Unavailable where the provider is away."""
        ...

    async def remove_method(self, method_id: UUID) -> None:
        """Forget a saved method. UnknownPaymentMethod; Unavailable where the provider is away."""
        ...

    async def tax_ids(self, workspace_id: UUID) -> Sequence[TaxId]:
        """The tax ids that stand on the workspace's invoices (D7); Unavailable where the provider is away."""
        ...

    async def add_tax_id(self, workspace_id: UUID, kind: str, value: str) -> TaxId:
        """Keep one more. InvalidInput where the provider knows no such id; Unavailable where it is away."""
        ...

    async def remove_tax_id(self, workspace_id: UUID, tax_id: str) -> None:
        """Forget one; one that is not there is as good. Unavailable where the provider is away."""
        ...

    async def refund(self, payment_id: UUID, total_usd_micro: int, reason: str) -> int:
        """Give money of a payment back, so much in all; what has gone back then. The credits are billing.refunds'.

        PaymentRefused where the provider cannot; Unavailable where it is away.
        """
        ...

    async def open_payout_setup(self, workspace_id: UUID, return_url: str) -> str:
        """The address of the page on which a bank account is given (B6); Unavailable where the provider is away."""
        ...

    async def payouts_ready(self, workspace_id: UUID) -> bool:
        """Whether a bank account is set up and may be paid to; Unavailable where the provider is away."""
        ...


class NoPayments:
    """The port of an installation without a payment provider: free plans and promo codes work, payments do not."""

    @property
    def configured(self) -> bool:
        """Never."""
        return False

    async def open_checkout(self, order: Checkout) -> str:
        """Refused."""
        raise PaymentsNotConfigured

    async def charge(self, order: Charge) -> ChargeResult:
        """Refused."""
        raise PaymentsNotConfigured

    async def change_price(self, order: PriceChange) -> ChargeResult:
        """Refused."""
        raise PaymentsNotConfigured

    async def schedule_price(self, subscription_id: UUID, price_id: UUID | None) -> None:
        """There is nobody to tell."""

    async def set_cancel(self, subscription_id: UUID, *, cancel: bool, at_once: bool = False) -> None:
        """There is nobody to tell."""

    async def preview_price(self, order: PriceChange) -> int:
        """Refused."""
        raise PaymentsNotConfigured

    async def open_setup(self, workspace_id: UUID, return_url: str) -> str:
        """Refused."""
        raise PaymentsNotConfigured

    async def open_portal(self, workspace_id: UUID, return_url: str) -> str:
        """Refused."""
        raise PaymentsNotConfigured

    async def make_default(self, method_id: UUID) -> None:
        """Refused."""
        raise PaymentsNotConfigured

    async def remove_method(self, method_id: UUID) -> None:
        """Refused."""
        raise PaymentsNotConfigured

    async def tax_ids(self, workspace_id: UUID) -> Sequence[TaxId]:
        """There are none."""
        return ()

    async def add_tax_id(self, workspace_id: UUID, kind: str, value: str) -> TaxId:
        """Refused."""
        raise PaymentsNotConfigured

    async def remove_tax_id(self, workspace_id: UUID, tax_id: str) -> None:
        """Refused."""
        raise PaymentsNotConfigured

    async def refund(self, payment_id: UUID, total_usd_micro: int, reason: str) -> int:
        """Refused."""
        raise PaymentsNotConfigured

    async def open_payout_setup(self, workspace_id: UUID, return_url: str) -> str:
        """Refused."""
        raise PaymentsNotConfigured

    async def payouts_ready(self, workspace_id: UUID) -> bool:
        """Never."""
        return False
