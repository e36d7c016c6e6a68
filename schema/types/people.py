"""Persons, members and invitations as the API shows them."""

from datetime import datetime
from typing import Self

import strawberry

from accounts.views import InvitationView, MemberView, UserView
from kit.ids import encode_id
from schema.enums import Role
from schema.federation import BY_ID
from schema.node import Node


@strawberry.type(description="A person with an account", directives=[BY_ID])
class User(Node):
    """The contract's User."""

    email: str = strawberry.field(description="The person's e-mail address")
    name: str = strawberry.field(description="What the person is called")
    created_at: datetime = strawberry.field(description="When the account was made")

    @classmethod
    def of(cls, view: UserView) -> Self:
        """The person as seen by those who may."""
        return cls(
            id=strawberry.ID(encode_id("user", view.id)), email=view.email, name=view.name, created_at=view.created_at
        )


@strawberry.type(description="A person's membership in a workspace")
class Member(Node):
    """The contract's Member."""

    user: User = strawberry.field(description="The person")
    role: Role = strawberry.field(description="What the person may do in the workspace")
    joined_at: datetime = strawberry.field(description="Since when")

    @classmethod
    def of(cls, view: MemberView) -> Self:
        """The membership."""
        return cls(
            id=strawberry.ID(encode_id("mem", view.id)),
            user=User.of(view.user),
            role=view.role,
            joined_at=view.joined_at,
        )


@strawberry.type(description="An open invitation to a workspace")
class Invitation(Node):
    """The contract's Invitation."""

    email: str = strawberry.field(description="Who is invited")
    role: Role = strawberry.field(description="The role that the person will have")
    expires_at: datetime = strawberry.field(description="Until when it can be accepted")
    invited_by: User | None = strawberry.field(description="Who invited; null for an API key or an erased account")

    @classmethod
    def of(cls, view: InvitationView) -> Self:
        """The invitation, without its token."""
        return cls(
            id=strawberry.ID(encode_id("inv", view.id)),
            email=view.email,
            role=view.role,
            expires_at=view.expires_at,
            invited_by=None if view.invited_by is None else User.of(view.invited_by),
        )
