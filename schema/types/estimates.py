"""Estimates of calls as the API shows them."""

from typing import Self

import strawberry

from gateway.views import Estimate
from kit.money import usd_text
from resolvers import catalog
from schema.errors import UserError
from schema.node import Info
from schema.scalars import Credits, Usd


@strawberry.type(description="What a call would cost at most, and whether the wallet could pay it now")
class CallEstimate:
    """The contract's CallEstimate."""

    view: strawberry.Private[Estimate]
    max_credits: Credits = strawberry.field(description="The most it can cost; this much would be held")
    affordable: bool = strawberry.field(description="Whether it would be admitted now")
    user_errors: list[UserError] = strawberry.field(description="What stands in its way")

    @strawberry.field(description="The most it can cost, in dollars")
    def max_usd(self, info: Info) -> Usd:
        """The bound at the catalog's rate."""
        return Usd(usd_text(self.view.bound_micro, catalog.credits_per_usd(info.context)))

    @classmethod
    def of(cls, view: Estimate) -> Self:
        """The estimate."""
        return cls(
            view=view,
            max_credits=Credits(view.bound_micro),
            affordable=view.affordable,
            user_errors=[
                UserError(code=code, message=message, field=list(field)) for code, message, field in view.refusals
            ],
        )
