"""Everything that can be called by name: the catalog's models, published ones, and chains of either, with their terms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from billing.catalog import CatalogHolder, Snapshot
from billing.published import MayOffer, Published, PublishedModels, Withheld
from billing.rules.chains import MAX_DEPTH, MAX_STEPS
from billing.views import ModelView
from gateway.admission import Admitted, admit, admitted_as, check_operation, find_model
from gateway.callers import WorkspaceFacts, Workspaces
from gateway.chains import ChainRun
from gateway.errors import (
    ApiNotInPlan,
    ChainRefused,
    ChainsNotInPlan,
    ModelDisabled,
    ModelNotAllowed,
    ModelNotForTestKeys,
    ModelNotFound,
    PublisherPlanTooSmall,
)
from gateway.publishers import Publishers
from gateway.routing import Router
from gateway.rules.chain_plan import PlannedChain, PlannedStep, chain_bound
from gateway.rules.inputs import history_of, input_values, last_text, with_input
from gateway.terms import CallTerms, Payee
from gateway.tracing import NO_TRACE, CallTrace, Step, Tracing
from gateway.views import Caller, CallRequest, Gate
from kit.errors import InvalidInput, NotFound, Refusal
from kit.json_values import JsonObject, is_list
from metering.rules.price_list import NO_PRICES, PriceList
from providers.base import Operation
from providers.errors import NotInThisForm
from providers.over_chat import OTHER_FORMS, as_chat


@dataclass(slots=True)
class _Walk:
    """How far the steps of a chain have been followed. `most_tokens`: what its answer may have, where the caller says.

    `owner_id`: the workspace that publishes the chain, whose private models its steps may be; None for the catalog's.
    """

    caller: Caller
    owner_id: UUID | None
    path: tuple[str, ...]
    most_tokens: int | None
    steps: int = 0


class Offers:
    """Admits calls. One per process."""

    def __init__(
        self,
        catalog: CatalogHolder,
        published: PublishedModels,
        workspaces: Workspaces,
        publishers: Publishers,
        router: Router,
    ) -> None:
        """`workspaces` knows a publisher's wallet and plan; `router` asks the models of chains' steps."""
        self._router = router
        self._catalog = catalog
        self._published = published
        self._workspaces = workspaces
        self._publishers = publishers

    async def admit_traced(
        self,
        tracing: Tracing,
        caller: Caller,
        request: CallRequest,
        at: datetime,
        *,
        spendable_micro: int | None = None,
        gate: Gate | None = None,
    ) -> Admitted:
        """As `admit`, and the call's trace begins; whoever runs the call enters it. `gate` is awaited at the end."""
        trace = tracing.begin(caller, request)
        try:
            with trace.step(Step.ADMISSION):
                admitted = await self.admit(caller, request, at, trace, spendable_micro=spendable_micro)
            if gate is not None:
                await gate.passed()
        except BaseException as error:
            trace.__exit__(type(error), error, None)
            raise
        trace.admitted(admitted.call_id, admitted.model.slug)
        return admitted

    async def admit(
        self,
        caller: Caller,
        request: CallRequest,
        at: datetime,
        trace: CallTrace = NO_TRACE,
        *,
        spendable_micro: int | None = None,
    ) -> Admitted:
        """The call's terms, see gateway.admission.admit and what that raises, for published models and chains too.

        A chain's steps have limits of their own: `spendable_micro` lowers nothing of it.
        """
        snapshot = self._catalog.current
        model = snapshot.models_by_slug.get(request.model)
        if model is not None and model.chain is None:
            return admit(snapshot, caller, request, at, trace, spendable_micro=spendable_micro)
        terms, owner_id = await self._asked(snapshot, caller, request.model)
        check_operation(terms.model, request.operation)
        if terms.model.chain is None:
            body = with_input(request.operation, request.body, terms.input_schema, terms.prompt)
            return admitted_as(caller, request, terms, body, at, trace, spendable_micro=spendable_micro)
        spoken = _spoken(request)
        walk = _Walk(caller, owner_id, (terms.model.slug,), _asked_tokens(spoken))
        planned = await self._planned(snapshot, terms, walk)
        return self._chained(caller, request, spoken, planned, at, trace)

    async def model(self, workspace_id: UUID, slug: str) -> ModelView | None:
        """The model that is called by this name, where it exists for a caller's workspace."""
        model = self._catalog.current.models_by_slug.get(slug)
        if model is not None:
            return model
        found = await self._published.find(slug)
        return found.model if found is not None and found.visible_to([workspace_id]) else None

    def can_answer(self, model: ModelView) -> bool:
        """See gateway.routing.Router.can_ask."""
        return self._router.can_ask(model)

    async def own(self, workspace: WorkspaceFacts) -> Sequence[ModelView]:
        """The first hundred models that a workspace publishes itself, those among them that are served now."""
        may = MayOffer.of(self._catalog.current, workspace.plan)
        return [found.model for found in await self._published.own(workspace.workspace_id) if not found.withheld(may)]

    async def by_key(self, workspace_id: UUID, slug: str) -> ModelView | None:
        """The published model of this name, where a key of a workspace could call it now."""
        found = await self._published.find(slug)
        if found is None or not found.visible_to([workspace_id]):
            return None
        publisher = await self._publisher(found)
        served = found.withheld(MayOffer.of(self._catalog.current, publisher.plan)) is None
        return found.model if served and publisher.plan.entitlements.api_access else None

    async def not_served(self, found: Published) -> Refusal | None:
        """What everybody who calls this published model is told now; None where it is served."""
        snapshot, publisher = self._catalog.current, await self._publisher(found)
        may = MayOffer.of(snapshot, publisher.plan)
        return _withheld(found, may, charging=snapshot.settings.publishing is not None)

    async def _asked(self, snapshot: Snapshot, caller: Caller, slug: str) -> tuple[CallTerms, UUID | None]:
        """The terms of what the caller named itself, and the workspace that publishes it."""
        if slug in snapshot.models_by_slug:
            model = find_model(snapshot, caller, slug)
            _check_chains(caller, model)
            return CallTerms(model, _prices(caller, model), snapshot.discount_percent(caller.plan, model)), None
        found = await self._published.find(slug)
        if found is None or not found.visible_to([caller.workspace_id]):
            raise ModelNotFound(slug)
        if caller.allowed_models is not None and slug not in caller.allowed_models:
            raise ModelNotAllowed(slug)
        publisher = await self._publisher(found)
        if caller.api_key_id is not None:
            if not caller.plan.entitlements.api_access:
                raise ApiNotInPlan(caller.plan.name)
            if not publisher.plan.entitlements.api_access:
                raise PublisherPlanTooSmall(slug, "an API for its models (B13)")
        return self._terms(snapshot, caller, found, publisher), found.workspace_id

    async def _publisher(self, found: Published) -> WorkspaceFacts:
        try:
            return await self._workspaces.facts(found.workspace_id)
        except NotFound as error:  # deleted within the last seconds
            raise ModelNotFound(found.slug) from error

    def _terms(self, snapshot: Snapshot, caller: Caller, found: Published, publisher: WorkspaceFacts) -> CallTerms:
        """On which terms a caller uses a published model: no discount of a plan touches its publisher's prices.

        Its own workspace pays no price, so that credits cannot go in a circle and come out as earnings.
        """
        publishing = snapshot.settings.publishing
        refusal = _withheld(found, MayOffer.of(snapshot, publisher.plan), charging=publishing is not None)
        if refusal is not None:
            raise refusal
        if caller.test and found.model.chain is None:
            raise ModelNotForTestKeys(found.slug)
        self._publishers.prepare(found)
        own = found.workspace_id == caller.workspace_id
        share = 0 if own or not found.is_priced or publishing is None else publishing.share_percent
        return CallTerms(
            model=found.model,
            price_list=NO_PRICES if own else _prices(caller, found.model),
            discount_percent=0,
            payee=Payee(found.model.id, publisher.wallet_id, found.slug, share),
            input_schema=found.input_schema,
            prompt=found.prompt,
        )

    def _chained(
        self,
        caller: Caller,
        request: CallRequest,
        body: JsonObject,
        planned: PlannedChain,
        at: datetime,
        trace: CallTrace,
    ) -> Admitted:
        """The call of a chain, with the sum of its steps' bounds; `body` is what is asked, of a chat in OpenAI's form."""
        if body.get("n") not in (None, 1):
            raise InvalidInput("a chain gives one answer", field=["n"])
        values, history = input_values(body, planned.terms.input_schema), history_of(body)
        bound, most = chain_bound(planned, values, history)
        spoken = request.body
        if request.operation not in OTHER_FORMS:
            spoken = {**body, "prompt": last_text(body) or "input"}
            if request.operation is not Operation.IMAGE and not (
                is_list(body.get("messages")) and body.get("messages")
            ):
                spoken["messages"] = [{"role": "user", "content": ""}]
        admitted = admitted_as(caller, request, planned.terms, spoken, at, trace, bound=(bound, most))
        return replace(admitted, chain=ChainRun(admitted, planned, values, history, self._router))

    async def _planned(self, snapshot: Snapshot, terms: CallTerms, walk: _Walk) -> PlannedChain:
        """The chain with the models of its steps, found anew at each call. ChainRefused where it cannot be followed."""
        chain = terms.model.chain
        assert chain is not None, "asked for a chain"
        slug = walk.path[-1]
        if len(walk.path) > MAX_DEPTH:
            raise ChainRefused(slug, f"chains lead through chains more than {MAX_DEPTH} deep")
        steps: dict[str, PlannedStep] = {}
        for step in chain.steps:
            walk.steps += 1
            if walk.steps > MAX_STEPS:
                raise ChainRefused(slug, f"it runs through more than {MAX_STEPS} steps in all")
            if step.model in walk.path:
                raise ChainRefused(slug, "it leads back to itself")
            found, owner_id = await self._of_step(snapshot, walk, step.model)
            most_tokens = walk.most_tokens if step.name in chain.outputs else None
            inner = None
            if found.model.chain is not None:
                below = _Walk(walk.caller, owner_id, (*walk.path, step.model), most_tokens, walk.steps)
                inner = await self._planned(snapshot, found, below)
                walk.steps = below.steps
            steps[step.name] = PlannedStep(step, found, inner, most_tokens)
        return PlannedChain(chain, terms, steps)

    async def _of_step(self, snapshot: Snapshot, walk: _Walk, slug: str) -> tuple[CallTerms, UUID | None]:
        """As `_asked`, within a chain: a key's list names the chain, and its owner's private models may be steps.

        Its caller's may not: the chain's publisher chose the steps, and its other steps are told what they answer.
        """
        caller = replace(walk.caller, allowed_models=None)
        if slug in snapshot.models_by_slug:
            model = find_model(snapshot, caller, slug)
            return CallTerms(model, _prices(caller, model), snapshot.discount_percent(caller.plan, model)), None
        found = await self._published.find(slug)
        if found is None or not found.visible_to([] if walk.owner_id is None else [walk.owner_id]):
            raise ModelNotFound(slug)
        return self._terms(snapshot, caller, found, await self._publisher(found)), found.workspace_id


def _withheld(found: Published, may: MayOffer, *, charging: bool) -> Refusal | None:
    """`charging`: whether the catalog lets anybody charge for a model."""
    match found.withheld(may):
        case None:
            return None
        case Withheld.PRICED if charging:
            return PublisherPlanTooSmall(found.slug, "charging for its models (B12)")
        case Withheld.CHAIN:
            return PublisherPlanTooSmall(found.slug, "chained models (B14)")
        case Withheld.DISABLED | Withheld.PRICED:
            return ModelDisabled(found.slug)


def _prices(caller: Caller, model: ModelView) -> PriceList:
    return NO_PRICES if caller.test else model.price_list


def _check_chains(caller: Caller, model: ModelView) -> None:
    if model.chain is not None and not caller.plan.entitlements.chained_models:
        raise ChainsNotInPlan(model.slug, caller.plan.name)


def _spoken(request: CallRequest) -> JsonObject:
    """What is asked, of a chat in OpenAI's form, in which a chain's steps are made. InvalidInput for what that cannot say."""
    if request.operation not in OTHER_FORMS:
        return request.body
    try:
        return as_chat(request.operation, request.body, request.model)
    except NotInThisForm as error:
        raise InvalidInput(error.message) from error


def _asked_tokens(body: JsonObject) -> int | None:
    """The most that the answer may have, as the caller says; what is no such number is refused with the request's shape."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
