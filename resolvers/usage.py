"""Usage reports of a workspace. The workspace was shown to who asks; its usage is authorised here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from accounts.rules.roles import Action
from accounts.views import ApiKeyView, UserView, WorkspaceView
from kit.pages import Page
from metering.reports import UsageBucketView, UsageDimension, UsageQuery, UsageReportView, usage_report
from metering.rules.intervals import UsageInterval
from resolvers.access import permitted, require
from resolvers.context import RequestContext
from resolvers.pages import page_request

DEFAULT_BUCKETS = 100


@dataclass(frozen=True, slots=True)
class WorkspaceReport:
    """A report and whose it is."""

    workspace_id: UUID
    report: UsageReportView


async def of_workspace(
    context: RequestContext,
    workspace: WorkspaceView,
    *,
    begin: datetime,
    end: datetime,
    interval: UsageInterval,
    group_by: Sequence[UsageDimension],
    time_zone: str | None,
) -> WorkspaceReport:
    """The report; `time_zone` None: the workspace's own. InvalidInput for a range that is none or too much of one."""
    await require(context, Action.USAGE_READ, workspace.id)
    query = UsageQuery(begin, end, interval, frozenset(group_by), time_zone or workspace.time_zone)
    return WorkspaceReport(workspace.id, await usage_report(context.services.database, workspace.id, query))


def buckets(report: WorkspaceReport, *, first: int | None, after: str | None) -> Page[UsageBucketView]:
    """A page of the report."""
    return report.report.page(page_request(first, after, DEFAULT_BUCKETS))


async def member(context: RequestContext, workspace_id: UUID, user_id: UUID | None) -> UserView | None:
    """Who used it; None for who may read the usage and not the members."""
    if user_id is None or not await permitted(context, Action.MEMBERS_READ, workspace_id):
        return None
    return await context.loaders.users.load(user_id)


async def api_key(context: RequestContext, workspace_id: UUID, key_id: UUID | None) -> ApiKeyView | None:
    """The key it was used with; None for who may read the usage and not the keys."""
    if key_id is None or not await permitted(context, Action.KEYS_READ, workspace_id):
        return None
    return await context.loaders.keys.load(key_id)
