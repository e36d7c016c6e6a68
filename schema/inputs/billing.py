"""Inputs about plans, payments and credits."""

from datetime import datetime

import strawberry

from schema.scalars import Usd

_WORKSPACE = "Which workspace"
_KEY = "Your name for this request: sent again with it, it is done once"
_BACK = "Where the hosted page leads back to"
_SAVED = "Charge a lifetime price to the saved method at once; else it is paid on a hosted page"


@strawberry.input(description="A price to subscribe to")
class SubscribeInput:
    """The contract's SubscribeInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    price_id: strawberry.ID = strawberry.field(description="Which price of which plan; see `plans`")
    idempotency_key: str = strawberry.field(description=_KEY)
    success_url: str | None = strawberry.field(default=strawberry.UNSET, description=f"{_BACK} when it is paid")
    cancel_url: str | None = strawberry.field(default=strawberry.UNSET, description=f"{_BACK} when it is not")
    saved_method: bool = strawberry.field(default=False, description=_SAVED)


@strawberry.input(description="Another price for a subscription")
class ChangePlanInput:
    """The contract's ChangePlanInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    price_id: strawberry.ID = strawberry.field(
        description="A dearer one holds at once, any other from the next period; the present one takes that back"
    )
    idempotency_key: str = strawberry.field(description=_KEY)
    prorated_at: datetime | None = strawberry.field(
        default=strawberry.UNSET,
        description="The `proratedAt` of a `previewPlanChange` of the last ten minutes, to pay what it said",
    )
    success_url: str | None = strawberry.field(default=strawberry.UNSET, description=f"{_BACK} when it is paid")
    cancel_url: str | None = strawberry.field(default=strawberry.UNSET, description=f"{_BACK} when it is not")
    saved_method: bool = strawberry.field(default=False, description=_SAVED)


@strawberry.input(description="A subscription to end with its period")
class CancelSubscriptionInput:
    """The contract's CancelSubscriptionInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    idempotency_key: str = strawberry.field(description=_KEY)


@strawberry.input(description="A cancellation to take back")
class ResumeSubscriptionInput:
    """The contract's ResumeSubscriptionInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    idempotency_key: str = strawberry.field(description=_KEY)


@strawberry.input(description="A promo code to redeem")
class RedeemPromoCodeInput:
    """The contract's RedeemPromoCodeInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    code: str = strawberry.field(description="In upper or lower case, with or without blanks and dashes")
    idempotency_key: str = strawberry.field(description=_KEY)


@strawberry.input(description="Credits to buy by amount")
class AddCreditsInput:
    """The contract's AddCreditsInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    amount: Usd = strawberry.field(description="For how many dollars, whole cents")
    idempotency_key: str = strawberry.field(description=_KEY)
    return_url: str | None = strawberry.field(default=strawberry.UNSET, description=_BACK)
    checkout: bool = strawberry.field(
        default=False, description="Pay on a hosted page, whose address is `actionUrl`; else with the saved method"
    )


@strawberry.input(description="A credit pack to buy")
class BuyCreditPackInput:
    """The contract's BuyCreditPackInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    pack_code: str = strawberry.field(description="Which one; see `creditPacks`")
    idempotency_key: str = strawberry.field(description=_KEY)
    return_url: str | None = strawberry.field(default=strawberry.UNSET, description=_BACK)
    checkout: bool = strawberry.field(
        default=False, description="Pay on a hosted page, whose address is `actionUrl`; else with the saved method"
    )


@strawberry.input(description="How a wallet is filled by itself; what is left out stays, null clears")
class UpdateAutoRechargeInput:
    """The contract's UpdateAutoRechargeInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    enabled: bool = strawberry.field(description="On or off")
    threshold: Usd | None = strawberry.field(
        default=strawberry.UNSET, description="Below what balance it buys; 0: when nothing is left"
    )
    amount: Usd | None = strawberry.field(default=strawberry.UNSET, description="For how many dollars, whole cents")
    monthly_limit: Usd | None = strawberry.field(
        default=strawberry.UNSET, description="The most that it may charge in a calendar month; null for the catalog's"
    )
