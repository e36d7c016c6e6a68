"""What mutations answer."""

from datetime import datetime
from typing import Self

import strawberry

from accounts.views import ApiKeySecret, ApiKeyView, InvitationView, MemberView, SessionTokens, WorkspaceView
from kit.errors import Refusal
from resolvers import calls
from resolvers.calls import CallAnswer
from schema.errors import Payload, UserError
from schema.node import Info
from schema.types.api_keys import ApiKey
from schema.types.calls import ModelCall
from schema.types.people import Invitation, Member, User
from schema.types.wallets import Wallet
from schema.types.workspaces import Workspace


@strawberry.type(description="What signing up did; the same whether or not the address is known")
class SignUpPayload(Payload):
    """The contract's SignUpPayload."""

    @classmethod
    def of(cls, _: None) -> Self:
        """Done."""
        return cls()


@strawberry.type(description="A session: send the access token as `Authorization: Bearer`")
class SessionPayload(Payload):
    """The contract's SessionPayload."""

    user: User | None = strawberry.field(default=None, description="Who is signed in")
    access_token: str | None = strawberry.field(default=None, description="The credential of the next minutes")
    refresh_token: str | None = strawberry.field(default=None, description="Good once, for the next access token")
    expires_at: datetime | None = strawberry.field(default=None, description="When the access token ends")

    @classmethod
    def of(cls, view: SessionTokens) -> Self:
        """The session."""
        return cls(
            user=User.of(view.user),
            access_token=view.access_token,
            refresh_token=view.refresh_token,
            expires_at=view.expires_at,
        )


@strawberry.type(description="What signing out did")
class SignOutPayload(Payload):
    """The contract's SignOutPayload."""

    @classmethod
    def of(cls, _: None) -> Self:
        """Done."""
        return cls()


@strawberry.type(description="A workspace that was made or changed")
class WorkspacePayload(Payload):
    """The contract's WorkspacePayload."""

    workspace: Workspace | None = strawberry.field(default=None, description="The workspace as it is now")

    @classmethod
    def of(cls, view: WorkspaceView) -> Self:
        """Done."""
        return cls(workspace=Workspace.of(view))


@strawberry.type(description="What was deleted")
class DeletePayload(Payload):
    """The contract's DeletePayload."""

    deleted_id: strawberry.ID | None = strawberry.field(default=None, description="Its id")

    @classmethod
    def of(cls, view: str) -> Self:
        """Done."""
        return cls(deleted_id=strawberry.ID(view))


@strawberry.type(description="An invitation that was sent")
class InvitationPayload(Payload):
    """The contract's InvitationPayload."""

    invitation: Invitation | None = strawberry.field(default=None, description="The invitation")

    @classmethod
    def of(cls, view: InvitationView) -> Self:
        """Done."""
        return cls(invitation=Invitation.of(view))


@strawberry.type(description="A membership that began or changed")
class MemberPayload(Payload):
    """The contract's MemberPayload."""

    member: Member | None = strawberry.field(default=None, description="The membership as it is now")

    @classmethod
    def of(cls, view: MemberView) -> Self:
        """Done."""
        return cls(member=Member.of(view))


@strawberry.type(description="An API key that was changed")
class ApiKeyPayload(Payload):
    """The contract's ApiKeyPayload."""

    api_key: ApiKey | None = strawberry.field(default=None, description="The key as it is now")

    @classmethod
    def of(cls, view: ApiKeyView) -> Self:
        """Done."""
        return cls(api_key=ApiKey.of(view))


@strawberry.type(description="`secret` is shown here and never again")
class ApiKeySecretPayload(Payload):
    """The contract's ApiKeySecretPayload."""

    api_key: ApiKey | None = strawberry.field(default=None, description="The key")
    secret: str | None = strawberry.field(default=None, description="The credential: keep it now")

    @classmethod
    def of(cls, view: ApiKeySecret) -> Self:
        """Done."""
        return cls(api_key=ApiKey.of(view.key), secret=view.secret)


@strawberry.type(description="A model call and what it cost; a failed call has a record too")
class ModelCallPayload(Payload):
    """The contract's ModelCallPayload."""

    answer: strawberry.Private[CallAnswer | None] = None
    call: ModelCall | None = strawberry.field(default=None, description="The call")

    @strawberry.field(description="The wallet after it; null for those who may not read it")
    async def wallet(self, info: Info) -> Wallet | None:
        """The wallet, read when it is asked for."""
        if self.answer is None or self.answer.refusal is not None:
            return None
        view = await calls.wallet_after(info.context, self.answer)
        return None if view is None else Wallet.of(view)

    @classmethod
    def of(cls, view: CallAnswer) -> Self:
        """The call, or why there is none."""
        return cls(
            answer=view,
            call=None if view.call is None else ModelCall.of(view.call, view.output),
            user_errors=errors_of(view.refusal),
        )


def errors_of(refusal: Refusal | None) -> list[UserError]:
    """The userErrors that a refusal makes."""
    return [] if refusal is None else [UserError.of(refusal)]
