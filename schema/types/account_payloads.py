"""What mutations of one's own account, and of limits, answer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Self

import strawberry

from accounts.views import UserView
from metering.views import SpendLimitView
from resolvers.viewer import Joined
from schema.enums import MailKind
from schema.errors import Payload
from schema.types.account import MailPreference, SpendLimit
from schema.types.people import Member, User


@strawberry.type(description="That it was done, unless `userErrors` says otherwise")
class DonePayload(Payload):
    """Nothing else to tell."""

    @classmethod
    def of(cls, _: None) -> Self:
        """Done."""
        return cls()


@strawberry.type(description="The viewer's account as it is now")
class ViewerPayload(Payload):
    """The person."""

    user: User | None = strawberry.field(default=None, description="The person")

    @classmethod
    def of(cls, view: UserView) -> Self:
        """The person."""
        return cls(user=User.of(view))


@strawberry.type(description="Which sessions ended")
class SignOutEverywherePayload(Payload):
    """How many."""

    ended: int | None = strawberry.field(default=None, description="How many sessions ended")

    @classmethod
    def of(cls, view: int) -> Self:
        """How many."""
        return cls(ended=view)


@strawberry.type(description="What an authenticator app needs; it changes nothing until it is confirmed")
class EnrolTwoFactorPayload(Payload):
    """Shown once."""

    uri: str | None = strawberry.field(default=None, description="An otpauth:// address, to be shown as a QR code")

    @classmethod
    def of(cls, view: str) -> Self:
        """The address."""
        return cls(uri=view)


@strawberry.type(description="Two-factor sign-in is on: each recovery code stands in for the device once")
class ConfirmTwoFactorPayload(Payload):
    """Shown once."""

    recovery_codes: list[str] | None = strawberry.field(default=None, description="Keep them apart from the device")

    @classmethod
    def of(cls, view: tuple[str, ...]) -> Self:
        """The codes."""
        return cls(recovery_codes=list(view))


@strawberry.type(description="Which mails the viewer gets now")
class MailPreferencePayload(Payload):
    """All kinds that can be turned off."""

    mail_preferences: list[MailPreference] | None = strawberry.field(default=None, description="Each kind")

    @classmethod
    def of(cls, view: Mapping[MailKind, bool]) -> Self:
        """Each kind."""
        return cls(mail_preferences=[MailPreference(kind=kind, wanted=wanted) for kind, wanted in view.items()])


@strawberry.type(description="A new account that is a member at once, and its session")
class JoinPayload(Payload):
    """Both."""

    member: Member | None = strawberry.field(default=None, description="What the person became")
    access_token: str | None = strawberry.field(default=None, description="The credential of the next minutes")
    refresh_token: str | None = strawberry.field(default=None, description="Good once, for the next access token")
    expires_at: datetime | None = strawberry.field(default=None, description="When the access token ends")

    @classmethod
    def of(cls, view: Joined) -> Self:
        """Both."""
        return cls(
            member=Member.of(view.member),
            access_token=view.tokens.access_token,
            refresh_token=view.tokens.refresh_token,
            expires_at=view.tokens.expires_at,
        )


@strawberry.type(description="The limit as it is now")
class SpendLimitPayload(Payload):
    """Null where there is none."""

    spend_limit: SpendLimit | None = strawberry.field(default=None, description="The limit; null once it is lifted")

    @classmethod
    def of(cls, view: SpendLimitView | None) -> Self:
        """The limit."""
        return cls(spend_limit=None if view is None else SpendLimit.of(view))
