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
from gateway.metrics import COUNTED_PUBLISHED
from gateway.outputs import NO_TIME, REPEAT_LIFE, RETRY_LIFE
from gateway.rules.account_state import check_account_state
from gateway.rules.audio import check_priced, speech_shape, transcription_shape
from gateway.rules.dearer import check_dearer
from gateway.rules.estimate import bound_usage, fitted_output, likely_input_tokens
from gateway.rules.messages import input_shape, messages_shape
from gateway.rules.request_rates import request_rates
from gateway.rules.requests import RequestShape, read_shape
from gateway.rules.responses import responses_shape
from gateway.rules.spelling import check_spelling
from gateway.rules.text_tokens import spared_bytes
from gateway.rules.tools import check_tools
from gateway.terms import CallTerms, ChainedCall, Payee
from gateway.tokenizers import INSTALLED
from gateway.tracing import NO_TRACE, CallTrace
from gateway.views import Caller, CallRequest
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.records import record
from metering.idempotency import require_key
from metering.operations import IdempotencyClaim, UsageFacts
from metering.rules.price_list import NO_PRICES
from metering.rules.rating import Rates
from models.enums import Modality
from providers.base import JsonObject, Operation
from providers.errors import NotInThisForm
from providers.over_chat import OTHER_FORMS, as_chat

_MODALITIES: Final = {
    Operation.CHAT: Modality.TEXT,
    Operation.MESSAGES: Modality.TEXT,
    Operation.RESPONSES: Modality.TEXT,
    Operation.EMBEDDING: Modality.EMBEDDING,
    Operation.IMAGE: Modality.IMAGE,
    Operation.SPEECH: Modality.AUDIO,
    Operation.TRANSCRIPTION: Modality.AUDIO,
    Operation.VIDEO: Modality.VIDEO,
}
_LIMIT_NAMES: Final = {
    Operation.CHAT: ("max_tokens", "max_completion_tokens"),
    Operation.MESSAGES: ("max_tokens",),
    Operation.RESPONSES: ("max_output_tokens",),
}
"""What the forms of a chat call the limit of the output; the first is set where the request sets none."""
_JOBS: Final = frozenset({Operation.IMAGE, Operation.VIDEO})
_JOBS_ONLY: Final = frozenset({Operation.VIDEO})


@record
class Admitted:
    """A call that may run: its model and terms as of `created_at`, and the bound that is to be held.

    `rates`: what its own request costs, of the model's price list; everything that is charged for it is counted by them.
    `payee`: the publisher of its model. `chain`: it runs through steps, which count what they use themselves.
    """

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
    payee: Payee | None = None
    chain: ChainedCall | None = None

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

    @property
    def wants_cache(self) -> bool:
        """An earlier answer will do: the call says so, or its key where the call says nothing."""
        cache = self.request.cache
        return self.caller.cache_answers if cache is None else cache

    @property
    def may_be_cached(self) -> bool:
        """An earlier answer will do, and the catalog alone decides what that is: no publisher, no chain."""
        return self.wants_cache and self.payee is None and self.chain is None

    @property
    def counted_as(self) -> str:
        """Its model in /metrics: those of publishers, who may be many, count as one."""
        return self.model.slug if self.payee is None else COUNTED_PUBLISHED


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
    check_operation(model, request.operation)
    if request.way == "job" and request.operation not in _JOBS:
        raise InvalidInput(f"startCall makes images and videos; call {model.slug} with callModel", field=["model"])
    if request.way == "call" and request.operation in _JOBS_ONLY:
        raise InvalidInput(f"{model.slug} takes minutes: call it with startCall", field=["model"])
    # A call with a test key has no prices: it holds and costs nothing, and its usage is recorded all the same.
    prices = NO_PRICES if caller.test else model.price_list
    terms = CallTerms(model, prices, snapshot.discount_percent(caller.plan, model))
    return admitted_as(caller, request, terms, request.body, at, trace, spendable_micro=spendable_micro)


def check_operation(model: ModelView, operation: Operation) -> None:
    """InvalidInput where the model is for something else."""
    if model.modality is not _MODALITIES[operation]:
        raise InvalidInput(f"{model.slug} is a model for {model.modality}, not for this operation", field=["model"])
    check_priced(operation, model)


def admitted_as(
    caller: Caller,
    request: CallRequest,
    terms: CallTerms,
    body: JsonObject,
    at: datetime,
    trace: CallTrace = NO_TRACE,
    *,
    bound: tuple[UsageFacts, int] | None = None,
    spendable_micro: int | None = None,
) -> Admitted:
    """A call on these terms; `body` is what its provider is sent.

    `bound`: usage and cost, where they are known already; then `spendable_micro` (see `admit`) lowers nothing.
    """
    sent = request if body is request.body else replace(request, body=body)
    model = terms.model
    if not _asks_its_own(caller, terms):
        check_account_state(request.operation, body)
        check_spelling(body)
        check_tools(request.operation, body)
        check_dearer(request.operation, body, model.price_list.names)
    shape = _counted(_shape(sent), sent, model)
    prices = terms.price_list
    rates = request_rates(model, prices, body, _otherwise(sent) if prices.is_conditional else None)
    if bound is None:
        usage = bound_usage(request.operation, shape, model)
        most = rates.highest_micro(usage, terms.discount_percent)
        if spendable_micro is not None and most > spendable_micro:
            sent, usage = _fitted(sent, usage, rates, terms.discount_percent, shape.choices, spendable_micro)
            most = rates.highest_micro(usage, terms.discount_percent)
    else:
        usage, most = bound
    if request.max_credits_micro is not None and most > request.max_credits_micro:
        raise CallTooDear(most, request.max_credits_micro)
    return Admitted(
        call_id=request.call_id or uuid7(),
        caller=caller,
        request=sent,
        model=model,
        shape=shape,
        bound=usage,
        bound_micro=most,
        rates=rates,
        discount_percent=terms.discount_percent,
        created_at=at,
        claim=_claim(request, test=caller.test),
        trace=trace,
        payee=terms.payee,
    )


def _otherwise(request: CallRequest) -> JsonObject | None:
    """The request as the chat that it may be put into: its prices may name fields by their names there."""
    if request.operation not in OTHER_FORMS:
        return None
    try:
        return as_chat(request.operation, request.body, request.model)
    except NotInThisForm:
        return None


def _asks_its_own(caller: Caller, terms: CallTerms) -> bool:
    """Whether the provider that is asked is the caller's own, and its account with it."""
    return terms.payee is not None and terms.payee.wallet_id == caller.wallet_id and terms.model.chain is None


def _fitted(
    request: CallRequest, bound: UsageFacts, rates: Rates, discount: int, choices: int, limit_micro: int
) -> tuple[CallRequest, UsageFacts]:
    """The request with a lower output limit, under the name by which it set one; as it was where none is low enough."""
    names = _LIMIT_NAMES.get(request.operation)
    if names is None:
        return request, bound
    each = fitted_output(bound, rates, discount, choices, limit_micro)
    if each is None:
        return request, bound
    asked = {name: limit for name in names if isinstance(limit := request.body.get(name), int)}
    body = {**request.body, **{name: min(each, limit) for name, limit in (asked or {names[0]: each}).items()}}
    return replace(request, body=body), replace(bound, output_tokens=each * choices)


def _counted(shape: RequestShape, request: CallRequest, model: ModelView) -> RequestShape:
    """The shape with what the model's tokenizer says of its texts, where it names one that is installed."""
    name = model.limits.tokenizer
    count = None if name is None else INSTALLED.get(name)
    return shape if count is None else replace(shape, spared_bytes=spared_bytes(request.operation, request.body, count))


def _shape(request: CallRequest) -> RequestShape:
    match request.operation:
        case Operation.MESSAGES:
            return messages_shape(request.body)
        case Operation.RESPONSES:
            return responses_shape(request.body)
        case Operation.SPEECH:
            return speech_shape(request.body)
        case Operation.TRANSCRIPTION:
            return transcription_shape(request.body, request.upload)
        case _:
            return read_shape(request.operation, request.body)


def likely_input(snapshot: Snapshot, caller: Caller, slug: str, body: JsonObject) -> int:
    """About how many input tokens a message in Anthropic's form will count; the refusals of find_model, InvalidInput."""
    model = find_model(snapshot, caller, slug)
    if model.modality is not Modality.TEXT:
        raise InvalidInput(f"{model.slug} is a model for {model.modality}, not for this operation", field=["model"])
    return likely_input_tokens(input_shape(body), model)


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
    return _for_test_keys(snapshot, model) if caller.test and model.chain is None else model


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
    more = [*(["test"] if test else []), *request.vendor_headers]
    whole = orjson.dumps([request.model, request.body, *more], option=orjson.OPT_SORT_KEYS)
    return IdempotencyClaim(
        key=key, operation=f"{request.way}.{request.operation}", input_digest=sha256(whole).digest()
    )
