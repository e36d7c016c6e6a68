"""Inputs about persons, workspaces, members and API keys."""

from datetime import datetime

import strawberry

from accounts.rules.key_terms import KeyTerms
from resolvers.api_keys import KeyChange
from schema.enums import ApiScope, Environment, Role
from schema.inputs.values import as_tuple, changed, changed_tuple, given
from schema.scalars import Credits


@strawberry.input(description="A new account")
class SignUpInput:
    """The contract's SignUpInput."""

    email: str = strawberry.field(description="The address that the mail goes to")
    password: str = strawberry.field(description="At least 10 characters")
    name: str = strawberry.field(description="What the person is called")


@strawberry.input(description="The token of a verification mail")
class VerifyEmailInput:
    """The contract's VerifyEmailInput."""

    token: str = strawberry.field(description="As it stands in the mail's link")


@strawberry.input(description="Who signs in")
class SignInInput:
    """The contract's SignInInput."""

    email: str = strawberry.field(description="The account's address")
    password: str = strawberry.field(description="Its password")
    code: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The authenticator's six digits or a recovery code, where two-factor is on",
    )


@strawberry.input(description="A session to go on with")
class RefreshSessionInput:
    """The contract's RefreshSessionInput."""

    refresh_token: str = strawberry.field(description="The last one given; each is good once")


@strawberry.input(description="A new workspace")
class CreateWorkspaceInput:
    """The contract's CreateWorkspaceInput."""

    name: str = strawberry.field(description="Its name for people; its slug is made from it")


@strawberry.input(description="What to change of a workspace; what is left out stays")
class UpdateWorkspaceInput:
    """The contract's UpdateWorkspaceInput."""

    workspace_id: strawberry.ID = strawberry.field(description="Which workspace")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Its new name")
    slug: str | None = strawberry.field(default=strawberry.UNSET, description="Its new name in addresses")
    store_outputs: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether outputs of calls are kept"
    )


@strawberry.input(description="A workspace to delete")
class DeleteWorkspaceInput:
    """The contract's DeleteWorkspaceInput."""

    workspace_id: strawberry.ID = strawberry.field(description="Which workspace")


@strawberry.input(description="Who is invited to a workspace")
class InviteMemberInput:
    """The contract's InviteMemberInput."""

    workspace_id: strawberry.ID = strawberry.field(description="To which workspace")
    email: str = strawberry.field(description="The address that the mail goes to")
    role: Role = strawberry.field(default=Role.MEMBER, description="The role that the person will have")


@strawberry.input(description="The token of an invitation's mail")
class AcceptInvitationInput:
    """The contract's AcceptInvitationInput."""

    token: str = strawberry.field(description="As it stands in the mail's link")


@strawberry.input(description="An invitation to end")
class RevokeInvitationInput:
    """The contract's RevokeInvitationInput."""

    invitation_id: strawberry.ID = strawberry.field(description="Which invitation")


@strawberry.input(description="A member's new role")
class UpdateMemberInput:
    """The contract's UpdateMemberInput."""

    member_id: strawberry.ID = strawberry.field(description="Which member")
    role: Role = strawberry.field(description="The new role")


@strawberry.input(description="A member to remove; oneself to leave")
class RemoveMemberInput:
    """The contract's RemoveMemberInput."""

    member_id: strawberry.ID = strawberry.field(description="Which member")


@strawberry.input(description="A new API key")
class CreateApiKeyInput:
    """The contract's CreateApiKeyInput."""

    workspace_id: strawberry.ID = strawberry.field(description="Of which workspace")
    name: str = strawberry.field(description="What to call it")
    scopes: list[ApiScope] = strawberry.field(description="What it may do: at least one")
    environment: Environment = strawberry.field(default=Environment.LIVE, description="Whether it spends credits")
    models: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Slugs of the models it may call; null for all of the plan"
    )
    addresses: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Networks such as 203.0.113.0/24 it may be used from; null for all"
    )
    requests_per_hour: int | None = strawberry.field(
        default=strawberry.UNSET, description="Its own limit, beside the workspace's"
    )
    monthly_credit_limit: Credits | None = strawberry.field(
        default=strawberry.UNSET, description="Credits it may spend in a calendar month"
    )
    expires_at: datetime | None = strawberry.field(default=strawberry.UNSET, description="When it ends by itself")
    cache_answers: bool = strawberry.field(
        default=False,
        description="Whether its whole calls may be given, and leave, answers for equal calls of the workspace, where the"
        " call does not say",
    )

    def terms(self) -> KeyTerms:
        """As the accounts room takes them."""
        return KeyTerms(
            name=self.name,
            scopes=tuple(self.scopes),
            models=as_tuple(self.models),
            addresses=as_tuple(self.addresses),
            requests_per_hour=given(self.requests_per_hour),
            monthly_limit_micro=given(self.monthly_credit_limit),
            expires_at=given(self.expires_at),
            cache_answers=self.cache_answers,
        )


@strawberry.input(description="What to change of an API key; what is left out stays, null clears")
class UpdateApiKeyInput:
    """The contract's UpdateApiKeyInput."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="What to call it")
    scopes: list[ApiScope] | None = strawberry.field(default=strawberry.UNSET, description="What it may do")
    models: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Slugs of the models it may call; null for all of the plan"
    )
    addresses: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Networks it may be used from; null for all"
    )
    requests_per_hour: int | None = strawberry.field(
        default=strawberry.UNSET, description="Its own limit, beside the workspace's"
    )
    monthly_credit_limit: Credits | None = strawberry.field(
        default=strawberry.UNSET, description="Credits it may spend in a calendar month"
    )
    expires_at: datetime | None = strawberry.field(default=strawberry.UNSET, description="When it ends by itself")
    cache_answers: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="Whether its whole calls may be given, and leave, answers for equal calls of the workspace, where the"
        " call does not say",
    )

    def change(self) -> KeyChange:
        """As resolvers take it."""
        return KeyChange(
            name=changed(self.name),
            scopes=changed_tuple(self.scopes),
            models=changed_tuple(self.models),
            addresses=changed_tuple(self.addresses),
            requests_per_hour=changed(self.requests_per_hour),
            monthly_limit_micro=changed(self.monthly_credit_limit),
            expires_at=changed(self.expires_at),
            cache_answers=changed(self.cache_answers),
        )


@strawberry.input(description="An API key whose secret is to be replaced")
class RotateApiKeyInput:
    """The contract's RotateApiKeyInput."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key")
    overlap_seconds: int | None = strawberry.field(default=0, description="How long the old secret still works")


@strawberry.input(description="An API key to end")
class RevokeApiKeyInput:
    """The contract's RevokeApiKeyInput."""

    api_key_id: strawberry.ID = strawberry.field(description="Which key")
