"""Persons: who the viewer is, signing up, in and out."""

from uuid import UUID

from accounts import sessions, sign_in, users
from accounts.rules.roles import Action
from accounts.views import ApiKeyView, SessionTokens, UserView
from resolvers.access import authenticated, permitted, unseen
from resolvers.context import RequestContext


async def viewer_user(context: RequestContext) -> UserView | None:
    """The signed-in person; None for an API key."""
    user_id = context.principal.user_id
    return None if user_id is None else await context.loaders.users.load(user_id)


async def viewer_key(context: RequestContext) -> ApiKeyView | None:
    """The API key that asks; None for a person."""
    key_id = context.principal.api_key_id
    return None if key_id is None else await context.loaders.keys.load(key_id)


async def user(context: RequestContext, user_id: UUID) -> UserView:
    """Oneself, or a member of a workspace whose members the viewer may read; NotFound for everyone else."""
    if user_id != context.principal.user_id:
        shared = await context.loaders.shared_workspaces.load(user_id) or frozenset()
        if not any([await permitted(context, Action.MEMBERS_READ, workspace_id) for workspace_id in shared]):
            raise unseen()
    found = await context.loaders.users.load(user_id)
    if found is None:
        raise unseen()
    return found


async def sign_up(context: RequestContext, *, email: str, password: str, name: str) -> None:
    """Sends a mail to the address, known or not. InvalidInput, RateLimited."""
    await users.sign_up(context.services.accounts, context.actor, email, password, name)


async def verify_email(context: RequestContext, *, token: str) -> SessionTokens:
    """A session for the mailed token. TokenRefused."""
    return await users.verify_email(context.services.accounts, context.actor, token)


async def sign_in_with_password(
    context: RequestContext, *, email: str, password: str, code: str | None
) -> SessionTokens:
    """A session for the right password and second factor. SignInRefused, TwoFactorRequired, TwoFactorRefused."""
    return await sign_in.sign_in(context.services.accounts, context.actor, email, password, code)


async def refresh_session(context: RequestContext, *, refresh_token: str) -> SessionTokens:
    """New tokens for a refresh token not used before."""
    return await sessions.refresh(context.services.accounts, context.actor, refresh_token)


async def sign_out(context: RequestContext) -> None:
    """Ends the session that asks; nothing for an API key, which has none."""
    principal = authenticated(context)
    if principal.user_id is not None and principal.session_id is not None:
        await sessions.sign_out(context.services.accounts, context.actor, principal.user_id, principal.session_id)
