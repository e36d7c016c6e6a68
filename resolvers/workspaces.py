"""Workspaces: reading, making, changing and deleting them."""

from collections.abc import Sequence
from uuid import UUID

from accounts import workspaces as rooms
from accounts.invalidation import Change, ChangeKind
from accounts.rules.roles import Action, Role
from accounts.views import WorkspaceView
from accounts.workspace_deletion import delete_workspace
from billing.views import PlanView
from kit.errors import NotFound
from kit.ids import UnknownIdError, decode_id
from kit.pages import Page
from metering.limiter import BucketState
from metering.views import WalletView
from resolvers.access import authenticated, own_workspace, require, signed_in, unseen, workspace_for
from resolvers.context import RequestContext
from resolvers.pages import page_request


async def workspace(context: RequestContext, *, id_text: str | None, slug: str | None) -> WorkspaceView | None:
    """By id, by slug, or with neither the API key's own; None for what the viewer may not know of."""
    principal = authenticated(context)
    if id_text is not None:
        try:
            workspace_id = decode_id("ws", id_text)
        except UnknownIdError:
            return None
    elif slug is not None:
        found = await rooms.workspace_by_slug(context.services.database, slug, viewer_id=principal.user_id)
        if found is None:
            return None
        workspace_id = found.id
    elif principal.workspace_id is not None:
        workspace_id = principal.workspace_id
    else:
        return None
    try:
        return await seen(context, workspace_id)
    except NotFound:
        return None


async def seen(context: RequestContext, workspace_id: UUID) -> WorkspaceView:
    """A workspace that the viewer may read; NotFound, Forbidden."""
    await require(context, Action.WORKSPACE_READ, workspace_id)
    found = await context.loaders.workspaces.load(workspace_id)
    if found is None:
        raise unseen()
    return found


async def of_viewer(
    context: RequestContext, *, first: int | None, after: str | None, roles: Sequence[Role] | None
) -> Page[WorkspaceView]:
    """The workspaces a person belongs to; an API key's is its own."""
    request = page_request(first, after)
    principal = authenticated(context)
    if principal.user_id is not None:
        page = await rooms.workspaces_of_user(context.services.database, principal.user_id, request, roles=roles)
        context.roles.update({view.id: view.viewer_role for view in page.items if view.viewer_role is not None})
        return page
    if roles is not None or request.after is not None:
        return Page((), (), has_next=False)
    own = await seen(context, own_workspace(context))
    return Page((own,), ("own",), has_next=False)


async def plan(context: RequestContext, workspace: WorkspaceView) -> PlanView | None:
    """The plan that holds now."""
    await require(context, Action.PLAN_READ, workspace.id)
    return await context.loaders.plans.load(workspace.id)


async def free_credits_refused(context: RequestContext, workspace: WorkspaceView) -> str | None:
    """Why it gets no free credits; None where it may have them."""
    await require(context, Action.PLAN_READ, workspace.id)
    return await context.loaders.free_credit_refusals.load(workspace.id)


async def wallet(context: RequestContext, workspace: WorkspaceView) -> WalletView | None:
    """The workspace's wallet as it stands now."""
    await require(context, Action.WALLET_READ, workspace.id)
    return await context.loaders.wallets.load(workspace.wallet_id)


async def rate_limit(context: RequestContext, workspace_id: UUID) -> BucketState:
    """What is left of the limit that the viewer meets first in this workspace; takes nothing."""
    await require(context, Action.RATE_LIMIT_READ, workspace_id)
    facts = await context.services.workspaces.facts(workspace_id)
    return await context.services.throttle.peek(context.principal, facts)


async def own_rate_limit(context: RequestContext) -> BucketState | None:
    """The same for an API key's own workspace; None for everyone else, who has none of their own."""
    workspace_id = context.principal.workspace_id
    return None if workspace_id is None else await rate_limit(context, workspace_id)


async def create(context: RequestContext, *, name: str) -> WorkspaceView:
    """A workspace owned by the signed-in person. TooMany, InvalidInput."""
    user_id = signed_in(context)
    judge = context.services.accounts.free_credits
    return await rooms.create_workspace(context.services.database, context.actor, user_id, name, judge=judge)


async def update(
    context: RequestContext, *, workspace_id: str, name: str | None, slug: str | None, store_outputs: bool | None
) -> WorkspaceView:
    """Change what is given. SlugTaken, InvalidInput."""
    key = await workspace_for(context, Action.WORKSPACE_UPDATE, workspace_id)
    changed = await rooms.update_workspace(
        context.services.database, context.actor, key, name=name, slug=slug, store_outputs=store_outputs
    )
    if store_outputs is not None:  # the gateways' facts say whether outputs are stored
        await context.services.accounts.invalidations.publish(Change(ChangeKind.WORKSPACE, key))
    return changed


async def delete(context: RequestContext, *, workspace_id: str) -> str:
    """Gone for everyone; its id. MoneyInFlight says what stands in the way."""
    key = await workspace_for(context, Action.WORKSPACE_DELETE, workspace_id)
    await delete_workspace(context.services.accounts, context.services.ledger, context.actor, key)
    return workspace_id
