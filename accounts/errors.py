"""Refusals of this room: one class per reason."""

from collections.abc import Sequence

from accounts.rules.roles import Role
from kit.errors import Code, Refusal


class SignInRefused(Refusal):
    """Wrong address or password, or an unverified address: one answer, so that none of them is told."""

    def __init__(self) -> None:
        """No facts: they would tell which it was."""
        super().__init__("The e-mail address or the password is wrong, or the address is not verified yet.")


class TwoFactorRequired(Refusal):
    """The password is right and the account asks for a second factor as well."""

    def __init__(self) -> None:
        """Told only after the password was right."""
        super().__init__("Give the six-digit code of your authenticator, or a recovery code.", field=["code"])


class TwoFactorRefused(Refusal):
    """The code is wrong, was used before, or its time is over."""

    def __init__(self) -> None:
        """The three are not told apart."""
        super().__init__("This code is wrong or was used already.", field=["code"])


class TwoFactorState(Refusal):
    """Two-factor sign-in is not in the state that this step needs."""

    code = Code.CONFLICT


class TokenRefused(Refusal):
    """A mailed token is unknown, used or expired."""

    def __init__(self) -> None:
        """The three are not told apart."""
        super().__init__("This link is not valid any more. Ask for a new one.", field=["token"])


class PasswordRefused(Refusal):
    """The current password is wrong."""

    def __init__(self) -> None:
        """Names the field."""
        super().__init__("The current password is wrong.", field=["currentPassword"])


class IdentityRefused(Refusal):
    """The identity provider's token is good, but does not lead to an account here."""

    code = Code.CONFLICT


class NotFoundHere(Refusal):
    """It does not exist, or the actor may not know that it does."""

    code = Code.NOT_FOUND

    def __init__(self, noun: str, *, field: Sequence[str] = ()) -> None:
        """`noun` as in "workspace"."""
        super().__init__(f"There is no such {noun}.", field=field)


class AlreadyMember(Refusal):
    """The invited address belongs to a member already."""

    code = Code.ALREADY_EXISTS

    def __init__(self) -> None:
        """Names the field."""
        super().__init__("This person is a member already.", field=["email"])


class AlreadyInvited(Refusal):
    """An invitation to this address is open."""

    code = Code.ALREADY_EXISTS

    def __init__(self) -> None:
        """Names the field."""
        super().__init__("An invitation to this address is open; revoke it first, or send it again.", field=["email"])


class AccountExists(Refusal):
    """The invited address has an account; told only to one who proved the mailbox."""

    code = Code.ALREADY_EXISTS

    def __init__(self) -> None:
        """Says what to do instead."""
        super().__init__("This address has an account. Sign in, then accept the invitation.", field=["token"])


class SlugTaken(Refusal):
    """Another live workspace has this slug."""

    code = Code.ALREADY_EXISTS

    def __init__(self, slug: str) -> None:
        """Shows the slug as it was understood."""
        super().__init__(f"The slug {slug!r} is taken.", field=["slug"])


class SlugInUse(Refusal):
    """The workspace's slug is part of the names of the models it publishes."""

    code = Code.CONFLICT

    def __init__(self, count: int) -> None:
        """`count` of its published models."""
        super().__init__(
            f"The slug is part of the names of {count} published models; unpublish them first.", field=["slug"]
        )


class InvitationExpired(Refusal):
    """The invitation's time is over, or it was revoked or used."""

    code = Code.INVITATION_EXPIRED

    def __init__(self) -> None:
        """Asks for a new one."""
        super().__init__("This invitation is not open any more. Ask for a new one.", field=["token"])


class LastOwner(Refusal):
    """A workspace keeps at least one owner."""

    code = Code.LAST_OWNER

    def __init__(self) -> None:
        """Says what to do first."""
        super().__init__("A workspace keeps at least one owner. Make someone else an owner first.")


class RoleRefused(Refusal):
    """The actor's own role does not reach that far."""

    code = Code.CONFLICT

    def __init__(self, acting: Role | None) -> None:
        """`acting` None: an API key."""
        who = "An API key" if acting is None else f"A member of role {acting}"
        super().__init__(f"{who} may not give or take this role.", field=["role"])


class NotInPlan(Refusal):
    """The workspace's plan does not include this."""

    code = Code.NOT_IN_PLAN

    def __init__(self, what: str) -> None:
        """`what` as in "Team management"."""
        super().__init__(f"{what} is not part of this workspace's plan.")


class MoneyInFlight(Refusal):
    """The workspace cannot be deleted while money moves."""

    code = Code.CONFLICT

    def __init__(self, reasons: Sequence[str]) -> None:
        """`reasons` as in "a call is running"."""
        super().__init__(f"The workspace cannot be deleted now: {', '.join(reasons)}.")


class TooMany(Refusal):
    """A list of this workspace or person has reached its bound."""

    code = Code.CONFLICT

    def __init__(self, what: str, limit: int) -> None:
        """`what` in the plural, as in "API keys"."""
        super().__init__(f"There are {limit} {what} already, which is the most. Remove one first.")


class KeyEnded(Refusal):
    """The API key is revoked, rotated or expired, so it cannot be changed."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """Says what to do instead."""
        super().__init__("This API key has ended. Create a new one.")
