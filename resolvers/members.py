"""Members and invitations of a workspace."""

from uuid import UUID

from accounts import acceptance, invitations, members
from accounts.rules.roles import Action, Role
from accounts.views import InvitationView, MemberView
from kit.pages import Page
from resolvers import nodes
from resolvers.access import key_of, looked_up, require, signed_in, workspace_for
from resolvers.context import RequestContext
from resolvers.pages import page_request


async def of_workspace(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[MemberView]:
    """The members in order of joining."""
    await require(context, Action.MEMBERS_READ, workspace_id)
    return await context.loaders.pages.members.load(workspace_id, page_request(first, after), None)


async def invitations_of_workspace(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[InvitationView]:
    """The open invitations, the newest first."""
    await require(context, Action.INVITATIONS_READ, workspace_id)
    return await context.loaders.pages.invitations.load(workspace_id, page_request(first, after), None)


async def invite(context: RequestContext, *, workspace_id: str, email: str, role: Role) -> InvitationView:
    """Invite an address by mail."""
    key = await workspace_for(context, Action.MEMBERS_INVITE, workspace_id)
    return await invitations.invite(context.services.accounts, context.actor, key, email, role)


async def accept_invitation(context: RequestContext, *, token: str) -> MemberView:
    """The signed-in person becomes a member."""
    user_id = signed_in(context)
    return await acceptance.accept(context.services.accounts, context.actor, user_id, token)


async def revoke_invitation(context: RequestContext, *, invitation_id: str) -> str:
    """Ends an open invitation; its id."""
    found = await _invitation(context, invitation_id)
    await invitations.revoke(context.services.accounts, context.actor, found.workspace_id, found.id)
    return invitation_id


async def resend_invitation(context: RequestContext, *, invitation_id: str) -> InvitationView:
    """Sends an open invitation again. NotInPlan, RateLimited."""
    found = await _invitation(context, invitation_id)
    return await invitations.resend(context.services.accounts, context.actor, found.workspace_id, found.id)


async def leave(context: RequestContext, *, workspace_id: str) -> None:
    """Ends the viewer's own membership. LastOwner."""
    key = await workspace_for(context, Action.WORKSPACE_LEAVE, workspace_id)
    await members.leave(context.services.accounts, context.actor, key, signed_in(context))


async def update(context: RequestContext, *, member_id: str, role: Role) -> MemberView:
    """Gives a member another role."""
    with looked_up("member_id"):
        found = await nodes.member(context, key_of(context, "mem", member_id))
        await require(context, Action.MEMBERS_UPDATE, found.workspace_id, seen_with=Action.MEMBERS_READ)
    return await members.change_role(context.services.accounts, context.actor, found.workspace_id, found.id, role)


async def remove(context: RequestContext, *, member_id: str) -> str:
    """Ends a membership; its id. Removing oneself is leaving, which every member may."""
    with looked_up("member_id"):
        found = await nodes.member(context, key_of(context, "mem", member_id))
        is_self = context.principal.user_id == found.user.id
        action = Action.WORKSPACE_LEAVE if is_self else Action.MEMBERS_REMOVE
        await require(context, action, found.workspace_id, seen_with=Action.MEMBERS_READ)
    await members.remove_member(context.services.accounts, context.actor, found.workspace_id, found.id)
    return member_id


async def _invitation(context: RequestContext, invitation_id: str) -> InvitationView:
    with looked_up("invitation_id"):
        found = await nodes.invitation(context, key_of(context, "inv", invitation_id))
        await require(context, Action.MEMBERS_INVITE, found.workspace_id, seen_with=Action.INVITATIONS_READ)
    return found
