"""What can be done about one's own account, invitations and limits of spending, beyond the contract."""

from typing import Annotated

import strawberry

from resolvers import members, spending, viewer
from schema.cost import Cost
from schema.errors import answered
from schema.inputs.account import (
    ChangePasswordInput,
    ConfirmTwoFactorInput,
    JoinWorkspaceInput,
    LeaveWorkspaceInput,
    RequestPasswordResetInput,
    ResendInvitationInput,
    ResetPasswordInput,
    RevokeSessionInput,
    SetMailPreferenceInput,
    SetSpendLimitInput,
    SignInWithTokenInput,
    SignOutEverywhereInput,
    TurnOffTwoFactorInput,
    UpdateViewerInput,
)
from schema.inputs.values import given
from schema.node import Info
from schema.types.account_payloads import (
    ConfirmTwoFactorPayload,
    DonePayload,
    EnrolTwoFactorPayload,
    JoinPayload,
    MailPreferencePayload,
    SignOutEverywherePayload,
    SpendLimitPayload,
    ViewerPayload,
)
from schema.types.payloads import DeletePayload, InvitationPayload, SessionPayload

MUTATION = Cost(weight="10")


@strawberry.type
class AccountMutation:
    """A part of Mutation."""

    @strawberry.mutation(
        description="Signs in with a token of the issuer that the operator configured", directives=[MUTATION]
    )
    async def sign_in_with_token(
        self,
        info: Info,
        input: Annotated[SignInWithTokenInput, strawberry.argument(description="The token")],  # noqa: A002
    ) -> SessionPayload | None:
        """Signs in with a token of the issuer that the operator configured."""
        return await answered(
            info.context,
            SessionPayload,
            viewer.sign_in_with_token(info.context, token=input.token, code=given(input.code)),
        )

    @strawberry.mutation(
        description="Sends a link for a new password; the answer is the same whether or not the address is known",
        directives=[MUTATION],
    )
    async def request_password_reset(
        self,
        info: Info,
        input: Annotated[RequestPasswordResetInput, strawberry.argument(description="Who forgot it")],  # noqa: A002
    ) -> DonePayload | None:
        """Sends a link for a new password; the answer is the same whether or not the address is known."""
        return await answered(info.context, DonePayload, viewer.request_password_reset(info.context, email=input.email))

    @strawberry.mutation(
        description="Sets a password with the token of the mail; all sessions end", directives=[MUTATION]
    )
    async def reset_password(
        self,
        info: Info,
        input: Annotated[ResetPasswordInput, strawberry.argument(description="The token and the password")],  # noqa: A002
    ) -> DonePayload | None:
        """Sets a password with the token of the mail; all sessions end."""
        return await answered(
            info.context, DonePayload, viewer.reset_password(info.context, token=input.token, password=input.password)
        )

    @strawberry.mutation(
        description="Accepts an invitation as someone without an account, which it opens", directives=[MUTATION]
    )
    async def join_workspace(
        self,
        info: Info,
        input: Annotated[JoinWorkspaceInput, strawberry.argument(description="The token and the account")],  # noqa: A002
    ) -> JoinPayload | None:
        """Accepts an invitation as someone without an account, which it opens."""
        return await answered(
            info.context,
            JoinPayload,
            viewer.join(info.context, token=input.token, password=input.password, name=input.name),
        )

    @strawberry.mutation(description="Sets another password; all other sessions end", directives=[MUTATION])
    async def change_password(
        self,
        info: Info,
        input: Annotated[ChangePasswordInput, strawberry.argument(description="Both passwords")],  # noqa: A002
    ) -> DonePayload | None:
        """Sets another password; all other sessions end."""
        return await answered(
            info.context,
            DonePayload,
            viewer.change_password(info.context, current=input.current_password, new=input.new_password),
        )

    @strawberry.mutation(description="Changes the viewer's account", directives=[MUTATION])
    async def update_viewer(
        self,
        info: Info,
        input: Annotated[UpdateViewerInput, strawberry.argument(description="What to change")],  # noqa: A002
    ) -> ViewerPayload | None:
        """Changes the viewer's account."""
        return await answered(info.context, ViewerPayload, viewer.rename(info.context, name=input.name))

    @strawberry.mutation(
        description="Ends one of the viewer's sessions everywhere within a second", directives=[MUTATION]
    )
    async def revoke_session(
        self,
        info: Info,
        input: Annotated[RevokeSessionInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Ends one of the viewer's sessions everywhere within a second."""
        return await answered(
            info.context, DeletePayload, viewer.revoke_session(info.context, session_id=input.session_id)
        )

    @strawberry.mutation(description="Ends the viewer's sessions everywhere within a second", directives=[MUTATION])
    async def sign_out_everywhere(
        self,
        info: Info,
        input: Annotated[SignOutEverywhereInput, strawberry.argument(description="Which ones")],  # noqa: A002
    ) -> SignOutEverywherePayload | None:
        """Ends the viewer's sessions everywhere within a second."""
        return await answered(
            info.context, SignOutEverywherePayload, viewer.sign_out_everywhere(info.context, keep_this=input.keep_this)
        )

    @strawberry.mutation(description="Begins two-factor sign-in; `confirmTwoFactor` turns it on", directives=[MUTATION])
    async def enrol_two_factor(self, info: Info) -> EnrolTwoFactorPayload | None:
        """Begins two-factor sign-in; `confirmTwoFactor` turns it on."""
        return await answered(info.context, EnrolTwoFactorPayload, viewer.enrol_two_factor(info.context))

    @strawberry.mutation(
        description="Turns two-factor sign-in on; its recovery codes are shown once", directives=[MUTATION]
    )
    async def confirm_two_factor(
        self,
        info: Info,
        input: Annotated[ConfirmTwoFactorInput, strawberry.argument(description="The first code")],  # noqa: A002
    ) -> ConfirmTwoFactorPayload | None:
        """Turns two-factor sign-in on; its recovery codes are shown once."""
        return await answered(
            info.context, ConfirmTwoFactorPayload, viewer.confirm_two_factor(info.context, code=input.code)
        )

    @strawberry.mutation(description="Turns two-factor sign-in off", directives=[MUTATION])
    async def turn_off_two_factor(
        self,
        info: Info,
        input: Annotated[TurnOffTwoFactorInput, strawberry.argument(description="A code")],  # noqa: A002
    ) -> DonePayload | None:
        """Turns two-factor sign-in off."""
        return await answered(info.context, DonePayload, viewer.turn_off_two_factor(info.context, code=input.code))

    @strawberry.mutation(description="Turns a kind of mail on or off for the viewer", directives=[MUTATION])
    async def set_mail_preference(
        self,
        info: Info,
        input: Annotated[SetMailPreferenceInput, strawberry.argument(description="Which mails")],  # noqa: A002
    ) -> MailPreferencePayload | None:
        """Turns a kind of mail on or off for the viewer."""
        return await answered(
            info.context,
            MailPreferencePayload,
            viewer.set_mail_preference(info.context, kind=input.kind, wanted=input.wanted),
        )

    @strawberry.mutation(description="Sends an open invitation again; its old link ends", directives=[MUTATION])
    async def resend_invitation(
        self,
        info: Info,
        input: Annotated[ResendInvitationInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> InvitationPayload | None:
        """Sends an open invitation again; its old link ends."""
        return await answered(
            info.context, InvitationPayload, members.resend_invitation(info.context, invitation_id=input.invitation_id)
        )

    @strawberry.mutation(description="Ends the viewer's own membership; the last owner stays", directives=[MUTATION])
    async def leave_workspace(
        self,
        info: Info,
        input: Annotated[LeaveWorkspaceInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DonePayload | None:
        """Ends the viewer's own membership; the last owner stays."""
        return await answered(info.context, DonePayload, members.leave(info.context, workspace_id=input.workspace_id))

    @strawberry.mutation(
        description="Limits what a member may spend in a month, or the workspace in a day", directives=[MUTATION]
    )
    async def set_spend_limit(
        self,
        info: Info,
        input: Annotated[SetSpendLimitInput, strawberry.argument(description="The limit")],  # noqa: A002
    ) -> SpendLimitPayload | None:
        """Limits what a member may spend in a month, or the workspace in a day."""
        return await answered(
            info.context,
            SpendLimitPayload,
            spending.set_limit(
                info.context, workspace_id=input.workspace_id, member_id=given(input.member_id), limit_micro=input.limit
            ),
        )
