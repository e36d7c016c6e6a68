"""Inputs about one's own account, and what members may spend."""

import strawberry

from schema.enums import MailKind
from schema.scalars import Credits


@strawberry.input(description="An identity token of the issuer that the operator configured")
class SignInWithTokenInput:
    """OpenID Connect."""

    token: str = strawberry.field(description="The ID token, as the issuer signed it")
    code: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The authenticator's six digits or a recovery code, where two-factor is on",
    )


@strawberry.input(description="Who forgot the password")
class RequestPasswordResetInput:
    """Asks for a mail."""

    email: str = strawberry.field(description="The account's address")


@strawberry.input(description="A new password, with the mailed token")
class ResetPasswordInput:
    """Proves the mailbox."""

    token: str = strawberry.field(description="As it stands in the mail's link")
    password: str = strawberry.field(description="At least 10 characters")


@strawberry.input(description="A new password, with the one until now")
class ChangePasswordInput:
    """Proves the person."""

    current_password: str = strawberry.field(description="The password until now")
    new_password: str = strawberry.field(description="At least 10 characters")


@strawberry.input(description="What to change of the viewer's account")
class UpdateViewerInput:
    """The name, for now."""

    name: str = strawberry.field(description="What the person is called")


@strawberry.input(description="A session to end")
class RevokeSessionInput:
    """One of the viewer's."""

    session_id: strawberry.ID = strawberry.field(description="Which session")


@strawberry.input(description="Which sessions end")
class SignOutEverywhereInput:
    """All of the viewer's."""

    keep_this: bool = strawberry.field(default=False, description="Whether the session that asks goes on")


@strawberry.input(description="What the authenticator shows")
class ConfirmTwoFactorInput:
    """Its first code."""

    code: str = strawberry.field(description="Six digits")


@strawberry.input(description="What the authenticator shows, or a recovery code")
class TurnOffTwoFactorInput:
    """Proves that the person has it."""

    code: str = strawberry.field(description="Six digits, or a recovery code")


@strawberry.input(description="Whether the viewer wants a kind of mail")
class SetMailPreferenceInput:
    """One kind."""

    kind: MailKind = strawberry.field(description="Which mails")
    wanted: bool = strawberry.field(description="Whether to send them")


@strawberry.input(description="An invitation taken up by someone without an account")
class JoinWorkspaceInput:
    """Opens an account as well."""

    token: str = strawberry.field(description="As it stands in the mail's link")
    name: str = strawberry.field(description="What the person is called")
    password: str = strawberry.field(description="At least 10 characters")


@strawberry.input(description="An invitation to send again")
class ResendInvitationInput:
    """With a new token and a new time."""

    invitation_id: strawberry.ID = strawberry.field(description="Which invitation")


@strawberry.input(description="A workspace to leave")
class LeaveWorkspaceInput:
    """One's own membership ends."""

    workspace_id: strawberry.ID = strawberry.field(description="Which workspace")


@strawberry.input(description="What may be spent")
class SetSpendLimitInput:
    """Of a member in a month, or of the workspace in a day."""

    workspace_id: strawberry.ID = strawberry.field(description="In which workspace")
    member_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Whose calendar month is limited; without it the workspace's day"
    )
    limit: Credits | None = strawberry.field(description="The most, in credits; null lifts the limit")
