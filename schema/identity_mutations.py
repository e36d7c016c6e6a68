"""What can be done about persons, workspaces, members and API keys."""

from typing import Annotated

import strawberry

from resolvers import api_keys, members, people, workspaces
from schema.cost import Cost
from schema.errors import answered
from schema.inputs.identity import (
    AcceptInvitationInput,
    CreateApiKeyInput,
    CreateWorkspaceInput,
    DeleteWorkspaceInput,
    InviteMemberInput,
    RefreshSessionInput,
    RemoveMemberInput,
    RevokeApiKeyInput,
    RevokeInvitationInput,
    RotateApiKeyInput,
    SignInInput,
    SignUpInput,
    UpdateApiKeyInput,
    UpdateMemberInput,
    UpdateWorkspaceInput,
    VerifyEmailInput,
)
from schema.inputs.values import given
from schema.node import Info
from schema.types.payloads import (
    ApiKeyPayload,
    ApiKeySecretPayload,
    DeletePayload,
    InvitationPayload,
    MemberPayload,
    SessionPayload,
    SignOutPayload,
    SignUpPayload,
    WorkspacePayload,
)

MUTATION = Cost(weight="10")


@strawberry.type
class IdentityMutation:
    """A part of the contract's Mutation."""

    @strawberry.mutation(
        description="Sends a mail; the answer is the same whether or not the address is known", directives=[MUTATION]
    )
    async def sign_up(
        self,
        info: Info,
        input: Annotated[SignUpInput, strawberry.argument(description="Who signs up")],  # noqa: A002
    ) -> SignUpPayload | None:
        """Sends a mail; the answer is the same whether or not the address is known."""
        return await answered(
            info.context,
            SignUpPayload,
            people.sign_up(info.context, email=input.email, password=input.password, name=input.name),
        )

    @strawberry.mutation(
        description="Opens the account with the token of the mail, and signs in", directives=[MUTATION]
    )
    async def verify_email(
        self,
        info: Info,
        input: Annotated[VerifyEmailInput, strawberry.argument(description="The token")],  # noqa: A002
    ) -> SessionPayload | None:
        """Opens the account with the token of the mail, and signs in."""
        return await answered(info.context, SessionPayload, people.verify_email(info.context, token=input.token))

    @strawberry.mutation(description="Signs in with a password", directives=[MUTATION])
    async def sign_in(
        self,
        info: Info,
        input: Annotated[SignInInput, strawberry.argument(description="Who signs in")],  # noqa: A002
    ) -> SessionPayload | None:
        """Signs in with a password."""
        return await answered(
            info.context,
            SessionPayload,
            people.sign_in_with_password(
                info.context, email=input.email, password=input.password, code=given(input.code)
            ),
        )

    @strawberry.mutation(
        description="Goes on with a session; a refresh token used twice ends it", directives=[MUTATION]
    )
    async def refresh_session(
        self,
        info: Info,
        input: Annotated[RefreshSessionInput, strawberry.argument(description="The session")],  # noqa: A002
    ) -> SessionPayload | None:
        """Goes on with a session; a refresh token used twice ends it."""
        return await answered(
            info.context, SessionPayload, people.refresh_session(info.context, refresh_token=input.refresh_token)
        )

    @strawberry.mutation(description="Ends the session that asks", directives=[MUTATION])
    async def sign_out(self, info: Info) -> SignOutPayload | None:
        """Ends the session that asks."""
        return await answered(info.context, SignOutPayload, people.sign_out(info.context))

    @strawberry.mutation(description="Makes a workspace that the viewer owns", directives=[MUTATION])
    async def create_workspace(
        self,
        info: Info,
        input: Annotated[CreateWorkspaceInput, strawberry.argument(description="The workspace")],  # noqa: A002
    ) -> WorkspacePayload | None:
        """Makes a workspace that the viewer owns."""
        return await answered(info.context, WorkspacePayload, workspaces.create(info.context, name=input.name))

    @strawberry.mutation(description="Renames a workspace, or changes its settings", directives=[MUTATION])
    async def update_workspace(
        self,
        info: Info,
        input: Annotated[UpdateWorkspaceInput, strawberry.argument(description="What to change")],  # noqa: A002
    ) -> WorkspacePayload | None:
        """Renames a workspace, or changes its settings."""
        return await answered(
            info.context,
            WorkspacePayload,
            workspaces.update(
                info.context,
                workspace_id=input.workspace_id,
                name=given(input.name),
                slug=given(input.slug),
                store_outputs=given(input.store_outputs),
            ),
        )

    @strawberry.mutation(description="Deletes a workspace; refused while money moves in it", directives=[MUTATION])
    async def delete_workspace(
        self,
        info: Info,
        input: Annotated[DeleteWorkspaceInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Deletes a workspace; refused while money moves in it."""
        return await answered(
            info.context, DeletePayload, workspaces.delete(info.context, workspace_id=input.workspace_id)
        )

    @strawberry.mutation(
        description="Invites a person by mail; the plan must allow team management", directives=[MUTATION]
    )
    async def invite_member(
        self,
        info: Info,
        input: Annotated[InviteMemberInput, strawberry.argument(description="Whom to invite")],  # noqa: A002
    ) -> InvitationPayload | None:
        """Invites a person by mail; the plan must allow team management."""
        return await answered(
            info.context,
            InvitationPayload,
            members.invite(info.context, workspace_id=input.workspace_id, email=input.email, role=input.role),
        )

    @strawberry.mutation(description="Accepts an invitation as the signed-in person", directives=[MUTATION])
    async def accept_invitation(
        self,
        info: Info,
        input: Annotated[AcceptInvitationInput, strawberry.argument(description="The token")],  # noqa: A002
    ) -> MemberPayload | None:
        """Accepts an invitation as the signed-in person."""
        return await answered(info.context, MemberPayload, members.accept_invitation(info.context, token=input.token))

    @strawberry.mutation(description="Ends an open invitation", directives=[MUTATION])
    async def revoke_invitation(
        self,
        info: Info,
        input: Annotated[RevokeInvitationInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Ends an open invitation."""
        return await answered(
            info.context, DeletePayload, members.revoke_invitation(info.context, invitation_id=input.invitation_id)
        )

    @strawberry.mutation(description="Gives a member another role; there is always an owner", directives=[MUTATION])
    async def update_member(
        self,
        info: Info,
        input: Annotated[UpdateMemberInput, strawberry.argument(description="Who, and what to")],  # noqa: A002
    ) -> MemberPayload | None:
        """Gives a member another role; there is always an owner."""
        return await answered(
            info.context, MemberPayload, members.update(info.context, member_id=input.member_id, role=input.role)
        )

    @strawberry.mutation(description="Removes a member, or leaves; access ends at once", directives=[MUTATION])
    async def remove_member(
        self,
        info: Info,
        input: Annotated[RemoveMemberInput, strawberry.argument(description="Who")],  # noqa: A002
    ) -> DeletePayload | None:
        """Removes a member, or leaves; access ends at once."""
        return await answered(info.context, DeletePayload, members.remove(info.context, member_id=input.member_id))

    @strawberry.mutation(
        description="Makes an API key; its secret is in the answer and never shown again", directives=[MUTATION]
    )
    async def create_api_key(
        self,
        info: Info,
        input: Annotated[CreateApiKeyInput, strawberry.argument(description="The key")],  # noqa: A002
    ) -> ApiKeySecretPayload | None:
        """Makes an API key; its secret is in the answer and never shown again."""
        return await answered(
            info.context,
            ApiKeySecretPayload,
            api_keys.create(
                info.context,
                workspace_id=input.workspace_id,
                terms=input.terms(),
                environment=input.environment,
            ),
        )

    @strawberry.mutation(description="Changes what an API key may do", directives=[MUTATION])
    async def update_api_key(
        self,
        info: Info,
        input: Annotated[UpdateApiKeyInput, strawberry.argument(description="What to change")],  # noqa: A002
    ) -> ApiKeyPayload | None:
        """Changes what an API key may do."""
        return await answered(
            info.context,
            ApiKeyPayload,
            api_keys.update(info.context, api_key_id=input.api_key_id, change=input.change()),
        )

    @strawberry.mutation(
        description="Gives an API key a new secret; the old one ends after the overlap", directives=[MUTATION]
    )
    async def rotate_api_key(
        self,
        info: Info,
        input: Annotated[RotateApiKeyInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> ApiKeySecretPayload | None:
        """Gives an API key a new secret; the old one ends after the overlap."""
        return await answered(
            info.context,
            ApiKeySecretPayload,
            api_keys.rotate(info.context, api_key_id=input.api_key_id, overlap_s=input.overlap_seconds or 0),
        )

    @strawberry.mutation(description="Ends an API key everywhere within a second", directives=[MUTATION])
    async def revoke_api_key(
        self,
        info: Info,
        input: Annotated[RevokeApiKeyInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> ApiKeyPayload | None:
        """Ends an API key everywhere within a second."""
        return await answered(info.context, ApiKeyPayload, api_keys.revoke(info.context, api_key_id=input.api_key_id))
