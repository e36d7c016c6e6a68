"""Whether a call may run, what it can cost at most, and on which terms it will be rated."""

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

import orjson

from billing.catalog import Snapshot
from billing.catalog_settings import ProviderKind
from billing.views import ModelView, RouteView
from gateway.errors import (
    ApiNotInPlan,
    CallTooDear,
    ModelDisabled,
    ModelNotAllowed,
    ModelNotForTestKeys,
    ModelNotFound,
    ModelNotInPlan,
)
from gateway.outputs import NO_TIME, REPEAT_LIFE, RETRY_LIFE
from gateway.rules.estimate import bound_usage, fitted_output
from gateway.rules.requests import RequestShape, read_shape
from gateway.tracing import NO_TRACE, CallTrace, Step, Tracing
from gateway.views import Caller, CallRequest
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.records import record
from metering.idempotency import require_key
from metering.operations import IdempotencyClaim, UsageFacts
from metering.rules.rating import NO_RATES, Rates
from models.enums import Modality
from providers.base import Operation

_MODALITIES: Final = {
    Operation.CHAT: Modality.TEXT,
    Operation.EMBEDDING: Modality.EMBEDDING,
    Operation.IMAGE: Modality.IMAGE,
    Operation.VIDEO: Modality.VIDEO,
}
_LIMIT_NAMES: Final = ("max_completion_tokens", "max_tokens")
_JOBS: Final = frozenset({Operation.IMAGE, Operation.VIDEO})
_JOBS_ONLY: Final = frozenset({Operation.VIDEO})


@record
class Admitted:
    """A call that may run: its model and terms as of `created_at`, and the bound that is to be held."""

    call_id: UUID
    caller: Caller
    request: CallRequest
    model: ModelView
    shape: RequestShape
    bound: UsageFacts
    bound_micro: int
    rates: Rates
    discount_percent: int
    created_at: datetime
    claim: IdempotencyClaim | None
    trace: CallTrace = NO_TRACE

    @property
    def keeps_output(self) -> bool:
        """Its output is kept, for repeats or because the workspace stores outputs."""
        return self.repeat_life > NO_TIME or self.caller.stored_days is not None

    @property
    def repeat_life(self) -> timedelta:
        """How long a repeat may ask for its output."""
        if self.request.repeat_for is not None:
            return self.request.repeat_for
        if self.claim is not None:
            return REPEAT_LIFE
        return NO_TIME if self.request.call_id is None else RETRY_LIFE


def admit_traced(
    tracing: Tracing,
    snapshot: Snapshot,
    caller: Caller,
    request: CallRequest,
    at: datetime,
    *,
    spendable_micro: int | None = None,
) -> Admitted:
    """As `admit`, and the call's trace begins; whoever runs the call enters it."""
    trace = tracing.begin(caller, request)
    try:
        with trace.step(Step.ADMISSION):
            admitted = admit(snapshot, caller, request, at, trace, spendable_micro=spendable_micro)
    except BaseException as error:
        trace.__exit__(type(error), error, None)
        raise
    trace.admitted(admitted.call_id, admitted.model.slug)
    return admitted


def admit(
    snapshot: Snapshot,
    caller: Caller,
    request: CallRequest,
    at: datetime,
    trace: CallTrace = NO_TRACE,
    *,
    spendable_micro: int | None = None,
) -> Admitted:
    """The call's terms; with `spendable_micro` its output limit is lowered to what that can pay, where it can pay any.

    Refusals: ModelNotFound, ModelDisabled, ModelNotInPlan, ModelNotAllowed, ModelNotForTestKeys,
    ApiNotInPlan (B13, C2), InvalidInput, CallTooDear.
    """
    model = find_model(snapshot, caller, request.model)
    if model.modality is not _MODALITIES[request.operation]:
        raise InvalidInput(f"{model.slug} is a model for {model.modality}, not for this operation", field=["model"])
    if request.way == "job" and request.operation not in _JOBS:
        raise InvalidInput(f"startCall makes images and videos; call {model.slug} with callModel", field=["model"])
    if request.way == "call" and request.operation in _JOBS_ONLY:
        raise InvalidInput(f"{model.slug} takes minutes: call it with startCall", field=["model"])
    shape = read_shape(request.operation, request.body)
    bound = bound_usage(request.operation, shape, model)
    discount = snapshot.discount_percent(caller.plan, model)
    # A call with a test key has no prices: it holds and costs nothing, and its usage is recorded all the same.
    rates = NO_RATES if caller.test else model.rates
    most = rates.highest_micro(bound, discount)
    claim = _claim(request, test=caller.test)
    if spendable_micro is not None and most > spendable_micro:
        request, bound = _fitted(request, bound, rates, discount, shape.choices, spendable_micro)
        most = rates.highest_micro(bound, discount)
    if request.max_credits_micro is not None and most > request.max_credits_micro:
        raise CallTooDear(most, request.max_credits_micro)
    return Admitted(
        call_id=request.call_id or uuid7(),
        caller=caller,
        request=request,
        model=model,
        shape=shape,
        bound=bound,
        bound_micro=most,
        rates=rates,
        discount_percent=discount,
        created_at=at,
        claim=claim,
        trace=trace,
    )


def _fitted(
    request: CallRequest, bound: UsageFacts, rates: Rates, discount: int, choices: int, limit_micro: int
) -> tuple[CallRequest, UsageFacts]:
    """The request with a lower output limit, under the name by which it set one; as it was where none is low enough."""
    if request.operation is not Operation.CHAT:
        return request, bound
    each = fitted_output(bound, rates, discount, choices, limit_micro)
    if each is None:
        return request, bound
    named = [name for name in _LIMIT_NAMES if request.body.get(name) is not None] or ["max_tokens"]
    body = {**request.body, **dict.fromkeys(named, each)}
    return replace(request, body=body), replace(bound, output_tokens=each * choices)


def find_model(snapshot: Snapshot, caller: Caller, slug: str) -> ModelView:
    """The model that the caller may call by this name; for a test key with its sandbox routes only."""
    model = snapshot.models_by_slug.get(slug)
    if model is None:
        raise ModelNotFound(slug)
    if caller.allowed_models is not None and slug not in caller.allowed_models:
        raise ModelNotAllowed(slug)
    if not model.enabled:
        raise ModelDisabled(slug)
    if caller.api_key_id is not None and not caller.plan.entitlements.api_access:
        raise ApiNotInPlan(caller.plan.name)
    if not snapshot.allowed(caller.plan, model):
        raise ModelNotInPlan(slug, caller.plan.name)
    return _for_test_keys(snapshot, model) if caller.test else model


def _for_test_keys(snapshot: Snapshot, model: ModelView) -> ModelView:
    """The model with the routes that a test key may use; ModelNotForTestKeys where it has none."""
    routes = sandbox_routes(snapshot, model)
    if not routes:
        raise ModelNotForTestKeys(model.slug)
    return replace(model, routes=routes)


def sandbox_routes(snapshot: Snapshot, model: ModelView) -> tuple[RouteView, ...]:
    """The routes of a model that lead to a sandbox provider."""
    sandboxes = {spec.name for spec in snapshot.providers if spec.kind is ProviderKind.SANDBOX}
    return tuple(route for route in model.routes if route.provider in sandboxes)


def _claim(request: CallRequest, *, test: bool) -> IdempotencyClaim | None:
    key = request.idempotency_key
    if key is None:
        return None
    require_key(key)
    # A test key's call is another call than a live key's, and repeats neither its answer nor its charge.
    whole = orjson.dumps([request.model, request.body, *(["test"] if test else [])], option=orjson.OPT_SORT_KEYS)
    return IdempotencyClaim(
        key=key, operation=f"{request.way}.{request.operation}", input_digest=sha256(whole).digest()
    )
