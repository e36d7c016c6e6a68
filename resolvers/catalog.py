"""What is on offer: plans, prices, packs and models, all from the catalog in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from accounts.rules.roles import Action
from billing.catalog import Snapshot
from billing.views import ModelView, PackView, PlanView, PriceView
from kit.errors import NotFound
from kit.ids import UnknownIdError, split_id
from kit.pages import Page
from resolvers.access import permitted, require, unseen
from resolvers.context import RequestContext
from resolvers.pages import page_of, page_request


@dataclass(frozen=True, slots=True)
class PlanModelsView:
    """A row of the table of plans and models: with each plan its discount in percent, None where it does not give it."""

    model: ModelView
    cells: tuple[tuple[PlanView, int | None], ...]


def snapshot_of(context: RequestContext) -> Snapshot:
    """The catalog in force."""
    return context.services.catalog.current


def credits_per_usd(context: RequestContext) -> Decimal:
    """The catalog's rate."""
    return snapshot_of(context).credits_per_usd


async def plans(context: RequestContext) -> Sequence[PlanView]:
    """The public plans by rank, and those made for the API key's own workspace (D10)."""
    own = context.principal.workspace_id
    if own is not None and await permitted(context, Action.PLAN_READ, own):
        return snapshot_of(context).plans_seen_by(own)
    return snapshot_of(context).plans_on_offer()


async def packs(context: RequestContext) -> Sequence[PackView]:
    """The credit packs on sale, the cheapest first."""
    return snapshot_of(context).packs


async def models(
    context: RequestContext, *, first: int | None, after: str | None, modality: str | None, available_to: str | None
) -> Page[ModelView] | None:
    """The models that can be called, by slug; `available_to` is a plan's id, or a workspace's for its present plan.

    None where the viewer may not see that one.
    """
    request = page_request(first, after)
    try:
        giving = None if available_to is None else await _plan_behind(context, available_to)
    except NotFound:
        return None
    offered = [
        model
        for model in snapshot_of(context).models
        if model.enabled
        and (modality is None or model.modality == modality)
        and (giving is None or model.id in giving.models)
    ]
    return page_of(offered, _slug, request)


async def plan_models(
    context: RequestContext, *, first: int | None, after: str | None, modality: str | None
) -> Page[PlanModelsView]:
    """Every model that can be called with every plan on offer to the viewer, by slug (C4); no query is made for it."""
    columns = await plans(context)
    rows = [
        PlanModelsView(model, tuple((plan, plan.models.get(model.id)) for plan in columns))
        for model in snapshot_of(context).models
        if model.enabled and (modality is None or model.modality == modality)
    ]
    return page_of(rows, lambda row: row.model.slug, page_request(first, after))


def models_of_plan(context: RequestContext, plan: PlanView, *, first: int | None, after: str | None) -> Page[ModelView]:
    """The models that a plan gives (C4)."""
    given = [model for model in snapshot_of(context).models if model.enabled and model.id in plan.models]
    return page_of(given, _slug, page_request(first, after))


def plans_of_model(context: RequestContext, model: ModelView) -> Sequence[PlanView]:
    """The public plans that give a model."""
    return [plan for plan in snapshot_of(context).plans_on_offer() if model.id in plan.models]


def plan_of_price(context: RequestContext, price: PriceView) -> PlanView:
    """The plan version that a price belongs to."""
    return snapshot_of(context).plans_by_id[price.plan_id]


async def plan(context: RequestContext, plan_id: UUID) -> PlanView:
    """A plan by id; NotFound unless it is public, or the viewer's workspace's own."""
    found = snapshot_of(context).plans_by_id.get(plan_id)
    if found is None:
        raise unseen()
    if found.workspace_id is not None:
        await require(context, Action.PLAN_READ, found.workspace_id, seen_with=Action.PLAN_READ)
    elif not found.is_public:
        raise unseen()
    return found


async def price(context: RequestContext, price_id: UUID) -> PriceView:
    """A price by id, where its plan may be seen."""
    found = snapshot_of(context).prices_by_id.get(price_id)
    if found is None or found.plan_id not in snapshot_of(context).plans_by_id:
        raise unseen()
    await plan(context, found.plan_id)
    return found


async def pack(context: RequestContext, pack_id: UUID) -> PackView:
    """A credit pack by id."""
    found = snapshot_of(context).packs_by_id.get(pack_id)
    if found is None:
        raise unseen()
    return found


async def _plan_behind(context: RequestContext, text: str) -> PlanView:
    try:
        prefix, key = split_id(text)
    except UnknownIdError as error:
        raise unseen() from error
    if prefix == "plan":
        return await plan(context, key)
    if prefix != "ws":
        raise unseen()
    await require(context, Action.PLAN_READ, key)
    found = await context.loaders.plans.load(key)
    if found is None:
        raise unseen()
    return found


def _slug(model: ModelView) -> str:
    return model.slug
