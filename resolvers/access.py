"""The only authorisation check: who may do what in which workspace.

What the viewer may not see does not exist for them: NotFound with one text, whether the id is foreign or made up.
Forbidden is for those who see it and may not do this.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from accounts.rules.roles import SCOPES, Action, Role, role_may, scopes_may
from accounts.views import Principal, PrincipalKind
from kit.errors import Forbidden, NotFound, Unauthenticated
from kit.ids import UnknownIdError, decode_id
from resolvers.context import RequestContext

_UNSEEN: Final = "There is nothing of this id that you can see."
_PEOPLE_ONLY: Final = "Only people can do this, no API key: sign in (signIn) and send the access token."


def unseen() -> NotFound:
    """The one answer for what is not there and for what the viewer may not see."""
    return NotFound(_UNSEEN)


def key_of(context: RequestContext, prefix: str, text: str) -> UUID:
    """The key in a global id that a caller gave; Unauthenticated for nobody, `unseen` for what is no such id."""
    authenticated(context)
    try:
        return decode_id(prefix, text)
    except UnknownIdError as error:
        raise unseen() from error


@contextmanager
def looked_up(field: str) -> Generator[None]:
    """Within it an id of the input is looked up: `unseen` names its field, whether the id is foreign or made up."""
    try:
        yield
    except NotFound as failure:
        raise NotFound(failure.message, field=[field]) from failure


def authenticated(context: RequestContext) -> Principal:
    """The principal; Unauthenticated for nobody."""
    if context.principal.is_anonymous:
        raise Unauthenticated("This needs a credential: Authorization: Bearer, then an API key or access token.")
    return context.principal


def signed_in(context: RequestContext) -> UUID:
    """The user's id; Unauthenticated for nobody, Forbidden for an API key."""
    user_id = authenticated(context).user_id
    if user_id is None:
        raise Forbidden(_PEOPLE_ONLY)
    return user_id


async def require(
    context: RequestContext, action: Action, workspace_id: UUID, *, seen_with: Action | None = None
) -> None:
    """Return where the principal may do the action in the workspace.

    Raises Unauthenticated for nobody, NotFound where the principal may not know of it: a stranger to the workspace, or
    one who lacks `seen_with`, the action that shows the object the id stands for; Forbidden otherwise.
    """
    principal = authenticated(context)
    if principal.kind is PrincipalKind.API_KEY:
        if principal.workspace_id != workspace_id:
            raise unseen()
        if seen_with is not None and not scopes_may(principal.scopes, seen_with):
            raise unseen()
        if not scopes_may(principal.scopes, action):
            needed = SCOPES[action]
            raise Forbidden(_PEOPLE_ONLY if needed is None else f"This API key lacks the scope {needed}.")
        return
    role = await role_in(context, workspace_id)
    if role is None or (seen_with is not None and not role_may(role, seen_with)):
        raise unseen()
    if not role_may(role, action):
        raise Forbidden(f"Your role in this workspace, {role}, does not allow {action}.")


async def workspace_for(context: RequestContext, action: Action, workspace_id: str) -> UUID:
    """The key of the input's `workspaceId`, where the principal may do the action there; raises what `require` does."""
    with looked_up("workspace_id"):
        key = key_of(context, "ws", workspace_id)
        await require(context, action, key)
    return key


async def permitted(context: RequestContext, action: Action, workspace_id: UUID) -> bool:
    """Whether the principal may do the action in the workspace."""
    principal = context.principal
    if principal.kind is PrincipalKind.API_KEY:
        return principal.workspace_id == workspace_id and scopes_may(principal.scopes, action)
    return role_may(await role_in(context, workspace_id), action)


async def role_in(context: RequestContext, workspace_id: UUID) -> Role | None:
    """The signed-in person's role in a live workspace; None for everyone else."""
    user_id = context.principal.user_id
    if user_id is None:
        return None
    read = context.roles.get(workspace_id)
    return read if read is not None else await context.services.principals.role_of(user_id, workspace_id)


def own_workspace(context: RequestContext) -> UUID:
    """The workspace of the API key; NotFound for a person, who has to name one."""
    workspace_id = authenticated(context).workspace_id
    if workspace_id is None:
        raise unseen()
    return workspace_id
