"""What can be done about plans, payments and credits."""

from typing import Annotated

import strawberry

from resolvers import billing
from schema.cost import Cost
from schema.errors import answered
from schema.inputs.billing import (
    AddCreditsInput,
    BuyCreditPackInput,
    CancelSubscriptionInput,
    ChangePlanInput,
    RedeemPromoCodeInput,
    ResumeSubscriptionInput,
    SubscribeInput,
    UpdateAutoRechargeInput,
)
from schema.inputs.values import changed, given
from schema.node import Info
from schema.types.billing_payloads import (
    AddCreditsPayload,
    RedeemPromoCodePayload,
    SubscriptionPayload,
    WalletPayload,
)

MUTATION = Cost(weight="10")


@strawberry.type
class BillingMutation:
    """A part of Mutation."""

    @strawberry.mutation(
        description="Subscribes a workspace to a price: a free one at once, others when they are paid",
        directives=[MUTATION],
    )
    async def subscribe(
        self,
        info: Info,
        input: Annotated[SubscribeInput, strawberry.argument(description="The price")],  # noqa: A002
    ) -> SubscriptionPayload | None:
        """The price."""
        return await answered(
            info.context,
            SubscriptionPayload,
            billing.subscribe(
                info.context,
                workspace_id=input.workspace_id,
                price_id=input.price_id,
                idempotency_key=input.idempotency_key,
                success_url=given(input.success_url),
                cancel_url=given(input.cancel_url),
                saved_method=input.saved_method,
            ),
        )

    @strawberry.mutation(
        description="Changes the price of a subscription: up at once for the difference, down at the end of the period",
        directives=[MUTATION],
    )
    async def change_plan(
        self,
        info: Info,
        input: Annotated[ChangePlanInput, strawberry.argument(description="The other price")],  # noqa: A002
    ) -> SubscriptionPayload | None:
        """The other price."""
        return await answered(
            info.context,
            SubscriptionPayload,
            billing.change_plan(
                info.context,
                workspace_id=input.workspace_id,
                price_id=input.price_id,
                idempotency_key=input.idempotency_key,
                prorated_at=given(input.prorated_at),
                success_url=given(input.success_url),
                cancel_url=given(input.cancel_url),
                saved_method=input.saved_method,
            ),
        )

    @strawberry.mutation(description="Ends a subscription with the period that is paid", directives=[MUTATION])
    async def cancel_subscription(
        self,
        info: Info,
        input: Annotated[CancelSubscriptionInput, strawberry.argument(description="Which subscription")],  # noqa: A002
    ) -> SubscriptionPayload | None:
        """Which subscription."""
        return await answered(
            info.context,
            SubscriptionPayload,
            billing.cancel(info.context, workspace_id=input.workspace_id, idempotency_key=input.idempotency_key),
        )

    @strawberry.mutation(description="Takes a cancellation back, until the period ends", directives=[MUTATION])
    async def resume_subscription(
        self,
        info: Info,
        input: Annotated[ResumeSubscriptionInput, strawberry.argument(description="Which subscription")],  # noqa: A002
    ) -> SubscriptionPayload | None:
        """Which subscription."""
        return await answered(
            info.context,
            SubscriptionPayload,
            billing.resume(info.context, workspace_id=input.workspace_id, idempotency_key=input.idempotency_key),
        )

    @strawberry.mutation(description="Redeems a promo code", directives=[MUTATION])
    async def redeem_promo_code(
        self,
        info: Info,
        input: Annotated[RedeemPromoCodeInput, strawberry.argument(description="The code")],  # noqa: A002
    ) -> RedeemPromoCodePayload | None:
        """The code."""
        return await answered(
            info.context,
            RedeemPromoCodePayload,
            billing.redeem(
                info.context, workspace_id=input.workspace_id, code=input.code, idempotency_key=input.idempotency_key
            ),
        )

    @strawberry.mutation(
        description="Buys credits by amount, with the saved payment method or on a hosted page", directives=[MUTATION]
    )
    async def add_credits(
        self,
        info: Info,
        input: Annotated[AddCreditsInput, strawberry.argument(description="The amount")],  # noqa: A002
    ) -> AddCreditsPayload | None:
        """The amount."""
        return await answered(
            info.context,
            AddCreditsPayload,
            billing.add_credits(
                info.context,
                workspace_id=input.workspace_id,
                amount=input.amount,
                idempotency_key=input.idempotency_key,
                return_url=given(input.return_url),
                checkout=input.checkout,
            ),
        )

    @strawberry.mutation(
        description="Buys a credit pack, with the saved payment method or on a hosted page", directives=[MUTATION]
    )
    async def buy_credit_pack(
        self,
        info: Info,
        input: Annotated[BuyCreditPackInput, strawberry.argument(description="The pack")],  # noqa: A002
    ) -> AddCreditsPayload | None:
        """The pack."""
        return await answered(
            info.context,
            AddCreditsPayload,
            billing.buy_pack(
                info.context,
                workspace_id=input.workspace_id,
                pack_code=input.pack_code,
                idempotency_key=input.idempotency_key,
                return_url=given(input.return_url),
                checkout=input.checkout,
            ),
        )

    @strawberry.mutation(
        description="Turns automatic recharge on or off, and says when it buys how much", directives=[MUTATION]
    )
    async def update_auto_recharge(
        self,
        info: Info,
        input: Annotated[UpdateAutoRechargeInput, strawberry.argument(description="The settings")],  # noqa: A002
    ) -> WalletPayload | None:
        """The settings."""
        return await answered(
            info.context,
            WalletPayload,
            billing.update_recharge(
                info.context,
                workspace_id=input.workspace_id,
                enabled=input.enabled,
                threshold=changed(input.threshold),
                amount=changed(input.amount),
                monthly_limit=changed(input.monthly_limit),
            ),
        )
