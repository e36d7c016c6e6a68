"""What a workspace publishes, and what it earns by it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from accounts.audit import Noting
from accounts.invalidation import Change, ChangeKind
from accounts.rules.roles import Action
from accounts.views import WorkspaceView
from billing.published import Published
from billing.rules.publishing import PublishedTerms
from billing.views import ModelView
from kit.pages import Page
from metering.publishers import EarningsBucketView, EarningsReportView, earnings_report
from metering.reports import UsageQuery
from metering.rules.intervals import UsageInterval
from resolvers.access import key_of, looked_up, permitted, require, unseen, workspace_for
from resolvers.catalog import snapshot_of
from resolvers.context import RequestContext
from resolvers.pages import page_request

DEFAULT_BUCKETS = 100


@dataclass(frozen=True, slots=True)
class KeyGiven:
    """A provider's key as an update gives it; `keep`: it was left out."""

    key: str | None
    keep: bool


async def of_workspace(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[Published]:
    """A page of what the workspace publishes, the oldest first."""
    await require(context, Action.WORKSPACE_READ, workspace_id)
    return await context.services.publishing.models.page_of_workspace(workspace_id, page_request(first, after))


async def public(
    context: RequestContext, *, first: int | None, after: str | None, modality: str | None
) -> Page[ModelView]:
    """A page of what workspaces publish for everybody, the newest first."""
    page = await context.services.publishing.models.page_of_public(page_request(first, after), modality)
    return Page(tuple(found.model for found in page.items), page.cursors, page.has_next, page.has_previous)


async def published(context: RequestContext, model_id: UUID) -> Published:
    """A published model as its own workspace sees it."""
    found = await context.services.publishing.models.get(model_id)
    if found is None:
        raise unseen()
    await require(context, Action.WORKSPACE_READ, found.workspace_id, seen_with=Action.WORKSPACE_READ)
    return found


async def model_by_slug(context: RequestContext, slug: str) -> ModelView | None:
    """The model of this name: the catalog's, a public one, or one that a workspace of the viewer publishes."""
    model = snapshot_of(context).models_by_slug.get(slug)
    if model is not None:
        return model
    found = await context.services.publishing.models.find(slug)
    return found.model if found is not None and await _shown(context, found) else None


async def model(context: RequestContext, model_id: UUID) -> ModelView:
    """A model by id, likewise."""
    model = snapshot_of(context).models_by_id.get(model_id)
    if model is not None:
        return model
    found = await context.services.publishing.models.get(model_id)
    if found is None or not await _shown(context, found):
        raise unseen()
    return found.model


async def publish(
    context: RequestContext, *, workspace_id: str, terms: PublishedTerms, api_key: str | None
) -> Published:
    """Publish a model; raises what billing.publishing does."""
    key = await workspace_for(context, Action.MODELS_PUBLISH, workspace_id)
    made = await context.services.publishing.publish(Noting(context.actor, key), key, terms, api_key)
    await _tell(context, key)
    return made


async def update(
    context: RequestContext, *, model_id: str, change: Callable[[PublishedTerms], PublishedTerms], api_key: KeyGiven
) -> Published:
    """Change a model; raises what billing.publishing does."""
    found = await _writable(context, model_id)
    note = Noting(context.actor, found.workspace_id)
    changed = await context.services.publishing.update(note, found.model.id, change, api_key.key, keep_key=api_key.keep)
    await _tell(context, found.workspace_id)
    return changed


async def unpublish(context: RequestContext, *, model_id: str) -> str:
    """Take a model back; its id."""
    found = await _writable(context, model_id)
    await context.services.publishing.unpublish(Noting(context.actor, found.workspace_id), found.model.id)
    await _tell(context, found.workspace_id)
    return model_id


async def earnings(
    context: RequestContext,
    workspace: WorkspaceView,
    *,
    begin: datetime,
    end: datetime,
    interval: UsageInterval,
    time_zone: str | None,
    model_id: str | None,
) -> EarningsReportView:
    """What the workspace's published models were used for and earned. InvalidInput for a range that is none or too much."""
    await require(context, Action.WALLET_READ, workspace.id)
    query = UsageQuery(begin, end, interval, frozenset(), time_zone or workspace.time_zone)
    only = None if model_id is None else key_of(context, "pub", model_id)
    return await earnings_report(context.services.database, workspace.wallet_id, query, only)


def buckets(report: EarningsReportView, *, first: int | None, after: str | None) -> Page[EarningsBucketView]:
    """A page of a report."""
    return report.page(page_request(first, after, DEFAULT_BUCKETS))


async def _shown(context: RequestContext, found: Published) -> bool:
    return found.visible_to([]) or await permitted(context, Action.WORKSPACE_READ, found.workspace_id)


async def _writable(context: RequestContext, model_id: str) -> Published:
    with looked_up("published_model_id"):
        found = await context.services.publishing.models.get(key_of(context, "pub", model_id))
        if found is None:
            raise unseen()
        await require(context, Action.MODELS_PUBLISH, found.workspace_id, seen_with=Action.WORKSPACE_READ)
    return found


async def _tell(context: RequestContext, workspace_id: UUID) -> None:
    """Other processes forget what they know of the workspace's models."""
    await context.services.accounts.invalidations.publish(Change(ChangeKind.WORKSPACE, workspace_id))
