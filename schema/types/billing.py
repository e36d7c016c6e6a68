"""Subscriptions, payments and automatic recharge as the API shows them."""

from datetime import datetime
from typing import Self

import strawberry

from billing.auto_recharge import AutoRechargeView
from billing.views import PaymentView, SubscriptionView
from kit.ids import encode_id
from kit.money import usd_micro_text
from resolvers import billing
from schema.enums import AutoRechargeStatus, PaymentStatus, SubscriptionStatus
from schema.node import Info, Node
from schema.scalars import Usd
from schema.types.catalog import Plan, Price


@strawberry.type(description="A workspace's subscription to a plan")
class PlanSubscription(Node):
    """The contract's PlanSubscription."""

    view: strawberry.Private[SubscriptionView]
    status: SubscriptionStatus = strawberry.field(description="How it stands; see docs/subscriptions.md")
    current_period_start: datetime = strawberry.field(description="When the period that is paid began")
    current_period_end: datetime | None = strawberry.field(description="When it ends; null for a lifetime")
    cancel_at_period_end: bool = strawberry.field(description="Whether it ends with its period instead of renewing")
    next_grant_at: datetime | None = strawberry.field(description="When the next credits come; null for none")
    trial_ends_at: datetime | None = strawberry.field(description="When the trial ends; null where there was none")
    grace_ends_at: datetime | None = strawberry.field(
        description="Until when an unpaid renewal leaves the plan; null unless it is past due"
    )

    @strawberry.field(description="The plan, as it was sold")
    def plan(self, info: Info) -> Plan:
        """The plan version."""
        return Plan.of(billing.plan_of(info.context, self.view))

    @strawberry.field(description="The price, as it was sold")
    def price(self, info: Info) -> Price:
        """The price."""
        return Price.of(billing.price_of(info.context, self.view.price_id))

    @strawberry.field(description="The price onto which it renews; null for its own")
    def scheduled_price(self, info: Info) -> Price | None:
        """The price of a downgrade, or of another period."""
        wanted = self.view.scheduled_price_id
        return None if wanted is None else Price.of(billing.price_of(info.context, wanted))

    @classmethod
    def of(cls, view: SubscriptionView) -> Self:
        """The subscription."""
        return cls(
            id=strawberry.ID(encode_id("sub", view.id)),
            view=view,
            status=view.status,
            current_period_start=view.current_period_start,
            current_period_end=view.current_period_end,
            cancel_at_period_end=view.cancel_at_period_end,
            next_grant_at=view.next_grant_at,
            trial_ends_at=view.trial_ends_at,
            grace_ends_at=view.grace_ends_at,
        )


@strawberry.type(description="A payment, made or tried")
class Payment(Node):
    """The contract's Payment."""

    amount: Usd = strawberry.field(description="How much")
    refunded: Usd = strawberry.field(description="How much of it went back")
    status: PaymentStatus = strawberry.field(description="How it stands")
    failure_code: str | None = strawberry.field(description="Why it was declined, in the payment provider's word")
    created_at: datetime = strawberry.field(description="When it was begun")

    @classmethod
    def of(cls, view: PaymentView) -> Self:
        """The payment."""
        return cls(
            id=strawberry.ID(encode_id("pay", view.id)),
            amount=Usd(usd_micro_text(view.amount_usd_micro)),
            refunded=Usd(usd_micro_text(view.refunded_usd_micro)),
            status=view.status,
            failure_code=view.failure_code,
            created_at=view.created_at,
        )


def _usd(micro: int | None) -> Usd | None:
    return None if micro is None else Usd(usd_micro_text(micro))


@strawberry.type(description="Buying credits by itself when few are left")
class AutoRecharge:
    """The contract's AutoRecharge."""

    enabled: bool = strawberry.field(description="Whether it is on")
    threshold: Usd | None = strawberry.field(description="Below what balance it buys; 0: when nothing is left")
    amount: Usd | None = strawberry.field(description="What it buys: so much, or a multiple that closes the gap")
    monthly_limit: Usd | None = strawberry.field(
        description="The most that it may charge in a calendar month; null for the catalog's"
    )
    status: AutoRechargeStatus = strawberry.field(description="How it stands")
    suspended_reason: str | None = strawberry.field(
        description="Why it is suspended, until another payment method is set; null unless it is"
    )

    @classmethod
    def of(cls, view: AutoRechargeView) -> Self:
        """The settings, and how it stands with them."""
        return cls(
            enabled=view.enabled,
            threshold=_usd(view.threshold_usd_micro),
            amount=_usd(view.amount_usd_micro),
            monthly_limit=_usd(view.monthly_limit_usd_micro),
            status=view.state,
            suspended_reason=view.suspended_reason,
        )
