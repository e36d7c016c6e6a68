"""The room that a workspace's assets take, as the API shows it."""

from typing import Self

import strawberry

from resolvers.assets import RoomView
from schema.scalars import BigInt


@strawberry.type(description="The room that a workspace's assets take")
class WorkspaceStorage:
    """Beyond the contract."""

    used_bytes: BigInt = strawberry.field(description="What they take")
    reserved_bytes: BigInt = strawberry.field(description="What calls under way have set aside for what they make")
    limit_bytes: BigInt | None = strawberry.field(description="What the plan allows; null for no limit")

    @classmethod
    def of(cls, view: RoomView) -> Self:
        """The room."""
        return cls(
            used_bytes=BigInt(view.used.used_bytes),
            reserved_bytes=BigInt(view.used.reserved_bytes),
            limit_bytes=None if view.limit_bytes is None else BigInt(view.limit_bytes),
        )
