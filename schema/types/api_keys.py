"""API keys as the API shows them."""

from datetime import datetime
from typing import Self

import strawberry

from accounts.views import ApiKeyView
from kit.ids import encode_id
from schema.enums import ApiScope, Environment
from schema.node import Node
from schema.scalars import Credits


@strawberry.type(description="A credential for programs; it belongs to one workspace")
class ApiKey(Node):
    """The contract's ApiKey."""

    name: str = strawberry.field(description="What its makers call it")
    prefix: str = strawberry.field(description="The first characters of the secret, enough to recognise it")
    environment: Environment = strawberry.field(description="Whether it spends credits")
    scopes: list[ApiScope] = strawberry.field(description="What it may do")
    models: list[str] | None = strawberry.field(description="The models it may call; null for all of the plan")
    addresses: list[str] | None = strawberry.field(description="The networks it may be used from; null for all")
    requests_per_hour: int | None = strawberry.field(description="Its own limit, beside the workspace's")
    monthly_credit_limit: Credits | None = strawberry.field(
        description="Credits this key may spend in a calendar month"
    )
    cache_answers: bool = strawberry.field(
        description="Whether its whole calls may be given, and leave, answers for equal calls of the workspace, where the"
        " call does not say"
    )
    expires_at: datetime | None = strawberry.field(description="When it ends by itself")
    last_used_at: datetime | None = strawberry.field(description="When it was last used, to about a minute")
    revoked_at: datetime | None = strawberry.field(description="When it was ended")
    created_at: datetime = strawberry.field(description="When it was made")

    @classmethod
    def of(cls, view: ApiKeyView) -> Self:
        """The key without its secret."""
        return cls(
            id=strawberry.ID(encode_id("key", view.id)),
            name=view.name,
            prefix=view.prefix,
            environment=view.environment,
            scopes=sorted(view.scopes),
            models=None if view.models is None else list(view.models),
            addresses=None if view.addresses is None else list(view.addresses),
            requests_per_hour=view.requests_per_hour,
            monthly_credit_limit=None if view.monthly_limit_micro is None else Credits(view.monthly_limit_micro),
            cache_answers=view.cache_answers,
            expires_at=view.expires_at,
            last_used_at=view.last_used_at,
            revoked_at=view.revoked_at,
            created_at=view.created_at,
        )
