"""The audit log of a workspace."""

from uuid import UUID

from accounts.rules.roles import Action
from accounts.views import AuditEventView
from kit.pages import Page
from resolvers.access import require
from resolvers.context import RequestContext
from resolvers.pages import page_request


async def of_workspace(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[AuditEventView]:
    """The events, the newest first."""
    await require(context, Action.AUDIT_READ, workspace_id)
    return await context.loaders.pages.audit.load(workspace_id, page_request(first, after), None)
