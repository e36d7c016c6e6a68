"""Credit grants as the API shows them."""

from datetime import datetime
from typing import Self

import strawberry

from kit.ids import encode_id
from metering.views import GrantView
from schema.enums import FrozenReason, GrantKind
from schema.node import Node
from schema.scalars import Credits


@strawberry.type(description="One lot of credits in a wallet")
class CreditGrant(Node):
    """The contract's CreditGrant."""

    kind: GrantKind = strawberry.field(description="Where the credits come from")
    amount: Credits = strawberry.field(description="How many came in")
    remaining: Credits = strawberry.field(description="How many are left, held ones included")
    effective_at: datetime = strawberry.field(description="From when they can be spent")
    expires_at: datetime | None = strawberry.field(description="Until when; null for ever")
    frozen_reason: FrozenReason | None = strawberry.field(
        description="Why they cannot be spent for now; null: they can"
    )
    description: str = strawberry.field(description="A line for people")

    @classmethod
    def of(cls, view: GrantView) -> Self:
        """The grant."""
        return cls(
            id=strawberry.ID(encode_id("grant", view.id)),
            kind=GrantKind(view.kind),
            amount=Credits(view.amount_micro),
            remaining=Credits(view.remaining_micro),
            effective_at=view.effective_at,
            expires_at=view.expires_at,
            frozen_reason=None if view.frozen_reason is None else FrozenReason(view.frozen_reason),
            description=view.description,
        )
