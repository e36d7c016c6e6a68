"""What can be asked."""

from typing import Annotated

import strawberry

from resolvers import calls, catalog, entities, nodes, payments, publishing, workspaces
from schema.cost import Cost, sized
from schema.enums import Modality
from schema.errors import answered
from schema.federation import AnyReference, Service, subgraph_sdl
from schema.inputs.calls import ModelCallInput
from schema.inputs.values import given
from schema.node import Info, Node
from schema.pagination import After, Connection, First, connection_of, listed
from schema.types.catalog import CreditPack, Model, Plan
from schema.types.estimates import CallEstimate
from schema.types.nodes import Entity, entity_of, node_of
from schema.types.payments import PlanChangePreviewPayload
from schema.types.plan_models import PlanModelsRow
from schema.types.workspaces import RateLimitStatus, Viewer, Workspace

NodeId = Annotated[strawberry.ID, strawberry.argument(description="A global id")]
NodeIds = Annotated[list[strawberry.ID], strawberry.argument(description="Global ids, at most 100")]
WorkspaceId = Annotated[strawberry.ID | None, strawberry.argument(description="Its global id; give this or `slug`")]
Slug = Annotated[str | None, strawberry.argument(description="Its slug; give this or `id`")]
ModelSlug = Annotated[str, strawberry.argument(description="The name by which it is called")]
OfModality = Annotated[Modality | None, strawberry.argument(description="Only models that make this")]
AvailableTo = Annotated[
    strawberry.ID | None, strawberry.argument(description="Only what this workspace's plan, or this plan, gives")
]
References = Annotated[
    list[AnyReference], strawberry.argument(description="What the router knows of them, at most 100")
]
OfWorkspace = Annotated[strawberry.ID, strawberry.argument(description="Which workspace")]
OfPrice = Annotated[strawberry.ID, strawberry.argument(description="The price to change to")]
CallInput = Annotated[ModelCallInput, strawberry.argument(description="The call")]


@strawberry.type(description="What can be asked")
class Query:
    """The contract's Query."""

    @strawberry.field(description="Who asks; null for nobody")
    def viewer(self, info: Info) -> Viewer | None:
        """The viewer."""
        return None if info.context.principal.is_anonymous else Viewer()

    @strawberry.field(description="Anything by its global id; null for what is not there or may not be seen")
    async def node(self, info: Info, id: NodeId) -> Node | None:  # noqa: A002  the contract's name
        """One node."""
        view = await nodes.node(info.context, id)
        return None if view is None else node_of(view)

    @strawberry.field(description="Several by their global ids, in their order", directives=[sized(100)])
    async def nodes(self, info: Info, ids: NodeIds) -> list[Node | None] | None:
        """Several nodes."""
        views = await nodes.nodes(info.context, ids)
        return [None if view is None else node_of(view) for view in views]

    @strawberry.field(
        description="What a plan change would cost and bring; nothing is changed", directives=[Cost(weight="10")]
    )
    async def preview_plan_change(
        self, info: Info, workspace_id: OfWorkspace, price_id: OfPrice
    ) -> PlanChangePreviewPayload | None:
        """A preview."""
        work = payments.preview_change(info.context, workspace_id=workspace_id, price_id=price_id)
        return await answered(info.context, PlanChangePreviewPayload, work)

    @strawberry.field(description="A workspace by id or slug; with neither, the API key's own")
    async def workspace(
        self,
        info: Info,
        id: WorkspaceId = strawberry.UNSET,  # noqa: A002  the contract's name
        slug: Slug = strawberry.UNSET,
    ) -> Workspace | None:
        """One workspace."""
        view = await workspaces.workspace(info.context, id_text=given(id), slug=given(slug))
        return None if view is None else Workspace.of(view)

    @strawberry.field(description="The public catalog; needs no sign-in", directives=[sized(10)])
    async def plans(self, info: Info) -> list[Plan] | None:
        """The plans on offer."""
        return [Plan.of(view) for view in await catalog.plans(info.context)]

    @strawberry.field(description="Credits that can be bought once, on top of a plan", directives=[sized(10)])
    async def credit_packs(self, info: Info) -> list[CreditPack] | None:
        """The packs on sale."""
        return [CreditPack.of(view) for view in await catalog.packs(info.context)]

    @listed("The models that can be called, by slug; needs no sign-in")
    async def models(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        modality: OfModality = strawberry.UNSET,
        available_to: AvailableTo = strawberry.UNSET,
    ) -> Connection[Model] | None:
        """A page of models."""
        page = await catalog.models(
            info.context, first=first, after=after, modality=given(modality), available_to=given(available_to)
        )
        return None if page is None else connection_of(page, Model.of)

    @listed("Which plan on offer gives which model, as one table: a row for each model; needs no sign-in")
    async def plan_models(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        modality: OfModality = strawberry.UNSET,
    ) -> Connection[PlanModelsRow] | None:
        """A page of rows."""
        page = await catalog.plan_models(info.context, first=first, after=after, modality=given(modality))
        return connection_of(page, PlanModelsRow.of)

    @listed("The models that workspaces publish for everybody, the newest first; needs no sign-in")
    async def published_models(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        modality: OfModality = strawberry.UNSET,
    ) -> Connection[Model] | None:
        """A page of models."""
        page = await publishing.public(info.context, first=first, after=given(after), modality=given(modality))
        return connection_of(page, Model.of)

    @strawberry.field(description="A model by its slug: the catalog's, or a published one as workspace-slug/model-slug")
    async def model(self, info: Info, slug: ModelSlug) -> Model | None:
        """One model."""
        view = await publishing.model_by_slug(info.context, slug)
        return None if view is None else Model.of(view)

    @strawberry.field(
        description="What a call would cost at most, and whether the workspace could pay for it; holds and charges nothing",
        directives=[Cost(weight="2")],
    )
    async def estimate_call(self, info: Info, input: CallInput) -> CallEstimate | None:  # noqa: A002  the contract's name
        """An estimate."""
        return CallEstimate.of(await calls.estimate(info.context, input.ask()))

    @strawberry.field(name="_service", description="This schema as a subgraph of Apollo Federation 2")
    def federation_service(self, info: Info) -> Service:
        """The subgraph."""
        return Service(sdl=subgraph_sdl(info.schema))

    @strawberry.field(
        name="_entities", description="Entities by reference, for a federated graph's router", directives=[sized(100)]
    )
    async def federation_entities(self, info: Info, representations: References) -> list[Entity | None]:
        """The entities that the viewer may see."""
        views = await entities.entities(info.context, representations)
        return [entity_of(view) for view in views]

    @strawberry.field(description="What is left of the API key's limit; null for who has none")
    async def rate_limit(self, info: Info) -> RateLimitStatus | None:
        """The state of the bucket."""
        view = await workspaces.own_rate_limit(info.context)
        return None if view is None else RateLimitStatus.of(view)
