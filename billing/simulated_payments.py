"""A simulated payment provider for `tollgate simulate`: takes every payment until it is told to decline them all."""

# ruff: noqa: ARG002  no page and no card is behind it

from datetime import datetime
from uuid import UUID

from billing.payment_port import Charge, Charged, ChargeResult, Checkout, Declined, NoPayments, PriceChange
from kit import clock
from models.enums import PaymentPurpose

DECLINE_CODE = "card_declined"


class SimulatedPayments(NoPayments):
    """Moves no money. `decline_from`: the instant from which every charge is declined; None for never."""

    def __init__(self, decline_from: datetime | None = None) -> None:
        """One for a simulated workspace."""
        self._decline_from = decline_from
        self.waiting: Checkout | None = None
        """The checkout that was opened last, which the simulated customer still has to pay."""

    @property
    def configured(self) -> bool:
        """Always."""
        return True

    def answer(self, purpose: PaymentPurpose) -> ChargeResult:
        """What any charge is answered now, the renewals that a provider makes by itself included."""
        now = clock.now()
        if self._decline_from is not None and now >= self._decline_from:
            return Declined(DECLINE_CODE)
        return Charged(now)

    async def open_checkout(self, order: Checkout) -> str:
        """A page that does not exist; the simulation pays in its place."""
        self.waiting = order
        return f"https://simulated.invalid/{order.key}"

    async def charge(self, order: Charge) -> ChargeResult:
        """At once."""
        return self.answer(order.purpose)

    async def change_price(self, order: PriceChange) -> ChargeResult:
        """At once."""
        return self.answer(PaymentPurpose.PLAN_CHANGE)

    async def schedule_price(self, subscription_id: UUID, price_id: UUID | None) -> None:
        """Renewals are asked of the catalog when they come."""

    async def set_cancel(self, subscription_id: UUID, *, cancel: bool, at_once: bool = False) -> None:
        """The simulation looks at the subscription itself before it renews it."""
