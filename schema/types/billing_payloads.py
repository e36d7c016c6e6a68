"""What mutations about plans, payments and credits answer."""

from typing import Self
from uuid import UUID

import strawberry

from billing.buying import Purchase
from billing.errors import PaymentActionRequired, PaymentDeclined
from billing.promo import Redemption
from billing.subscribing import Subscribed
from billing.views import PaymentView
from kit.errors import Refusal
from models.enums import PaymentStatus
from resolvers import billing
from schema.errors import Payload, UserError
from schema.node import Info
from schema.types.billing import Payment, PlanSubscription
from schema.types.grants import CreditGrant
from schema.types.wallets import Wallet


def _errors_of(payment: PaymentView | None) -> list[UserError]:
    """What the customer has to do about a payment that was to be made at once."""
    refusal: Refusal | None = None
    if payment is not None and payment.status is PaymentStatus.FAILED:
        refusal = PaymentDeclined(payment.failure_code or "declined")
    elif payment is not None and payment.status is PaymentStatus.ACTION_REQUIRED:
        refusal = PaymentActionRequired()
    return [] if refusal is None else [UserError.of(refusal)]


@strawberry.type(description="A subscription that was begun or changed")
class SubscriptionPayload(Payload):
    """The contract's SubscriptionPayload."""

    subscription: PlanSubscription | None = strawberry.field(default=None, description="The subscription as it is now")
    checkout_url: str | None = strawberry.field(default=None, description="Set when payment happens on a hosted page")

    @classmethod
    def of(cls, view: Subscribed) -> Self:
        """Done; or waiting for the page; or declined, and as it was before."""
        errors = _errors_of(view.payment)
        return cls(
            subscription=None if errors else PlanSubscription.of(view.subscription),
            checkout_url=view.checkout_url,
            user_errors=errors,
        )


@strawberry.type(description="What a promo code brought")
class RedeemPromoCodePayload(Payload):
    """The contract's RedeemPromoCodePayload."""

    workspace_id: strawberry.Private[UUID | None] = None
    grant_id: strawberry.Private[UUID | None] = None
    bonus_percent: int | None = strawberry.field(
        default=None, description="Set where the code adds so many percent to the next credits bought by amount"
    )

    @strawberry.field(description="The credits that came at once; null for a code that adds to the next ones bought")
    async def grant(self, info: Info) -> CreditGrant | None:
        """The grant."""
        view = await billing.grant_after(info.context, self.workspace_id, self.grant_id)
        return None if view is None else CreditGrant.of(view)

    @strawberry.field(description="The wallet after it; null for those who may not read it")
    async def wallet(self, info: Info) -> Wallet | None:
        """The wallet."""
        view = await billing.wallet_after(info.context, self.workspace_id)
        return None if view is None else Wallet.of(view)

    @classmethod
    def of(cls, view: tuple[UUID, Redemption]) -> Self:
        """Done."""
        workspace_id, redemption = view
        return cls(workspace_id=workspace_id, grant_id=redemption.grant_id, bonus_percent=redemption.bonus_percent)


@strawberry.type(description="Credits that were bought")
class AddCreditsPayload(Payload):
    """The contract's AddCreditsPayload. `payment` stands there for a decline as well."""

    workspace_id: strawberry.Private[UUID | None] = None
    grant_id: strawberry.Private[UUID | None] = None
    payment: Payment | None = strawberry.field(default=None, description="The payment, declined ones included")
    action_url: str | None = strawberry.field(
        default=None, description="Set when the customer has to confirm on a hosted page"
    )

    @strawberry.field(description="The credits, once they are paid")
    async def grant(self, info: Info) -> CreditGrant | None:
        """The grant."""
        view = await billing.grant_after(info.context, self.workspace_id, self.grant_id)
        return None if view is None else CreditGrant.of(view)

    @strawberry.field(description="The wallet after it; null for those who may not read it")
    async def wallet(self, info: Info) -> Wallet | None:
        """The wallet."""
        view = await billing.wallet_after(info.context, self.workspace_id)
        return None if view is None else Wallet.of(view)

    @classmethod
    def of(cls, view: Purchase) -> Self:
        """Paid; or waiting for a confirmation; or declined."""
        errors = _errors_of(view.payment)
        return cls(
            workspace_id=None if errors else view.payment.workspace_id,
            grant_id=view.grant_id,
            payment=Payment.of(view.payment),
            action_url=view.payment.action_url,
            user_errors=errors,
        )


@strawberry.type(description="A wallet whose settings were changed")
class WalletPayload(Payload):
    """The contract's WalletPayload."""

    workspace_id: strawberry.Private[UUID | None] = None

    @strawberry.field(description="The wallet as it is now; null for those who may not read it")
    async def wallet(self, info: Info) -> Wallet | None:
        """The wallet."""
        view = await billing.wallet_after(info.context, self.workspace_id)
        return None if view is None else Wallet.of(view)

    @classmethod
    def of(cls, view: UUID) -> Self:
        """Done."""
        return cls(workspace_id=view)
