"""What the signed-in person sees and changes of their own account."""

from dataclasses import dataclass
from uuid import UUID

from accounts import acceptance, sessions, sign_in, two_factor, users
from accounts.errors import IdentityRefused
from accounts.mail import preferences
from accounts.mail.kinds import MailKind
from accounts.views import MemberView, SessionTokens, SessionView, UserView
from resolvers.access import key_of, signed_in, unseen
from resolvers.context import RequestContext


@dataclass(frozen=True, slots=True)
class Joined:
    """Someone without an account accepted an invitation: their session, and what they became."""

    tokens: SessionTokens
    member: MemberView


async def sign_in_with_token(context: RequestContext, *, token: str, code: str | None) -> SessionTokens:
    """A session for the configured issuer's identity token. IdentityRefused where no issuer is configured."""
    services = context.services
    if services.identity is None:
        raise IdentityRefused("Signing in with an identity provider is not set up here.")
    return await sign_in.sign_in_with_token(services.accounts, services.identity, context.actor, token, code)


async def request_password_reset(context: RequestContext, *, email: str) -> None:
    """Sends a link, if the address has an account. InvalidInput, RateLimited."""
    await users.request_password_reset(context.services.accounts, context.actor, email)


async def reset_password(context: RequestContext, *, token: str, password: str) -> None:
    """Sets the password with the mailed token; all sessions end. TokenRefused, InvalidInput."""
    await users.complete_password_reset(context.services.accounts, context.actor, token, password)


async def join(context: RequestContext, *, token: str, password: str, name: str) -> Joined:
    """Accepts an invitation as someone without an account. NotFoundHere, AccountExists, InvitationExpired."""
    accounts = context.services.accounts
    tokens, member = await acceptance.accept_as_new(accounts, context.actor, token, password, name)
    return Joined(tokens, member)


async def change_password(context: RequestContext, *, current: str, new: str) -> None:
    """Sets another password; all other sessions end. PasswordRefused, InvalidInput."""
    user_id = signed_in(context)
    await users.change_password(
        context.services.accounts,
        context.actor,
        user_id,
        current,
        new,
        session_id=context.principal.session_id,
    )


async def rename(context: RequestContext, *, name: str) -> UserView:
    """Gives the viewer another name. InvalidInput."""
    return await users.rename_user(context.services.accounts, context.actor, signed_in(context), name)


async def live_sessions(context: RequestContext) -> tuple[SessionView, ...]:
    """The viewer's sessions, the latest used first; none for an API key."""
    user_id = context.principal.user_id
    return () if user_id is None else await sessions.sessions_of_user(context.services.accounts, user_id)


async def revoke_session(context: RequestContext, *, session_id: str) -> str:
    """Ends one of the viewer's sessions; its id. NotFoundHere for someone else's."""
    user_id = signed_in(context)
    await sessions.sign_out(context.services.accounts, context.actor, user_id, key_of(context, "ses", session_id))
    return session_id


async def sign_out_everywhere(context: RequestContext, *, keep_this: bool) -> int:
    """Ends all sessions, but this one where it is to stay; how many."""
    keep = context.principal.session_id if keep_this else None
    user_id = signed_in(context)
    return await sessions.sign_out_everywhere(context.services.accounts, context.actor, user_id, keep=keep)


async def enrol_two_factor(context: RequestContext) -> str:
    """The address that an authenticator app reads. TwoFactorState."""
    return (await two_factor.enrol(context.services.accounts, context.actor, signed_in(context))).uri


async def confirm_two_factor(context: RequestContext, *, code: str) -> tuple[str, ...]:
    """Turns it on; the recovery codes. TwoFactorRefused, TwoFactorState."""
    return await two_factor.confirm(context.services.accounts, context.actor, signed_in(context), code)


async def turn_off_two_factor(context: RequestContext, *, code: str) -> None:
    """Turns it off. TwoFactorRefused, TwoFactorState."""
    await two_factor.turn_off(context.services.accounts, context.actor, signed_in(context), code)


async def mail_preferences(context: RequestContext) -> dict[MailKind, bool]:
    """Which mails the viewer gets; none for an API key."""
    if context.principal.user_id is None:
        return {}
    return await preferences.wanted_kinds(context.services.database, await _address(context, context.principal.user_id))


async def set_mail_preference(context: RequestContext, *, kind: MailKind, wanted: bool) -> dict[MailKind, bool]:
    """Turns a kind of mail on or off; what holds now. InvalidInput for the kind that cannot be turned off."""
    address = await _address(context, signed_in(context))
    await preferences.set_wanted(context.services.database, address, kind, wanted=wanted)
    return await preferences.wanted_kinds(context.services.database, address)


async def _address(context: RequestContext, user_id: UUID) -> str:
    user = await context.loaders.users.load(user_id)
    if user is None:
        raise unseen()
    return user.email
