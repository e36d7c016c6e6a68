"""Model calls: asking for one, what it would cost, and reading those that were made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from accounts.rules.roles import Action
from gateway.callers import WorkspaceFacts, caller_of
from gateway.errors import UpstreamFailed
from gateway.payloads import CallPayload, CustomPayload, OutputView, input_path, openai_form
from gateway.views import Caller, CallRequest, CallResult, Estimate
from kit.errors import BadRequest, InvalidInput, Refusal
from kit.pages import Page
from metering.usage import CallFilter
from metering.views import CallView, UsageView, WalletView
from providers.base import Operation
from resolvers.access import authenticated, permitted, require, workspace_for
from resolvers.assets import shown_output
from resolvers.context import RequestContext
from resolvers.pages import page_request

_MAKING_FILES: Final = frozenset({Operation.IMAGE, Operation.SPEECH})
"""What is answered whole with files, which are kept as assets."""


@dataclass(frozen=True, slots=True)
class CallAsk:
    """A call as its caller put it. `workspace_id` None: the API key's own. `cache` None: as the API key says."""

    model: str
    payload: CallPayload
    workspace_id: str | None = None
    idempotency_key: str | None = None
    max_credits_micro: int | None = None
    cache: bool | None = None


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """A call's record with its output where that is at hand; of a refused one the refusal, and the record if it has one."""

    call: CallView | None
    output: OutputView | None
    wallet_id: UUID | None
    workspace_id: UUID | None
    refusal: Refusal | None = None


async def call_model(context: RequestContext, ask: CallAsk) -> CallAnswer:
    """Call the model and pay for it; takes one request. A refusal is part of the answer."""
    facts = await admitted(context, ask.workspace_id)
    await take_request(context, facts, ask)
    try:
        caller = caller_of(context.principal, facts, context.request_id)
        request = await request_of(context, caller, ask)
        keeping = replace(request, keeps_assets=request.operation in _MAKING_FILES)
        result = await context.services.calls.call(caller, keeping)
    except Refusal as refusal:
        record = await _record_of(context, refusal)
        return CallAnswer(record, None, facts.wallet_id, facts.workspace_id, placed(ask, refusal))
    finally:
        context.renew()
    output = None if result.body is None else await shown_output(context, result.call_id, result.body)
    return CallAnswer(record_of(context, facts, result), output, facts.wallet_id, facts.workspace_id)


async def estimate(context: RequestContext, ask: CallAsk) -> Estimate:
    """What the call would cost at most; takes one request, holds and charges nothing. A refusal is part of the answer."""
    facts = await admitted(context, ask.workspace_id)
    await take_request(context, facts, ask)
    try:
        caller = caller_of(context.principal, facts, context.request_id)
        request = await request_of(context, caller, ask)
        way = "job" if request.operation is Operation.VIDEO else "call"
        return await context.services.calls.estimate(caller, replace(request, way=way))
    except Refusal as refusal:
        shown = placed(ask, refusal)
        return Estimate(0, 0, affordable=False, refusals=((shown.code, shown.message, shown.field),))


async def page_of_workspace(
    context: RequestContext,
    workspace_id: UUID,
    *,
    first: int | None,
    after: str | None,
    model: str | None,
    statuses: Sequence[str] | None = None,
    begin: datetime | None = None,
    end: datetime | None = None,
) -> Page[CallView]:
    """The workspace's calls, the newest first, of one model's slug, with one of the statuses, made in [begin, end)."""
    await require(context, Action.CALLS_READ, workspace_id)
    wanted = CallFilter(model, None if statuses is None else tuple(statuses), begin, end)
    page = page_request(first, after)
    if model is not None and "\0" in model:  # which no slug has, and no text in PostgreSQL
        return Page((), (), has_next=False)
    return await context.loaders.pages.calls.load(workspace_id, page, wanted)


async def output(context: RequestContext, call: CallView) -> OutputView | None:
    """The call's output while it is kept, for those who may read it (A11): its caller, and the workspace's admins."""
    principal = context.principal
    mine = (call.user_id is not None and call.user_id == principal.user_id) or (
        call.api_key_id is not None and call.api_key_id == principal.api_key_id
    )
    if not mine and not await permitted(context, Action.CONTENT_READ_ALL, call.workspace_id):
        return None
    kept = await context.loaders.outputs.load(call.id)
    if kept is None:
        return None
    if kept.body is None:
        raise BadRequest("these outputs are too large to be read at once; ask for fewer calls")
    return await shown_output(context, call.id, kept.body)


async def wallet_after(context: RequestContext, answer: CallAnswer) -> WalletView | None:
    """The wallet that paid, where the caller may read it."""
    if answer.wallet_id is None or answer.workspace_id is None:
        return None
    if not await permitted(context, Action.WALLET_READ, answer.workspace_id):
        return None
    return await context.loaders.wallets.load(answer.wallet_id)


async def admitted(context: RequestContext, workspace_id: str | None) -> WorkspaceFacts:
    """The facts of the workspace in which the principal may call models. InvalidInput for a person who names none."""
    if workspace_id is not None:
        key = await workspace_for(context, Action.CALLS_MAKE, workspace_id)
    elif (key := authenticated(context).workspace_id) is not None:
        await require(context, Action.CALLS_MAKE, key)
    else:
        raise InvalidInput("workspaceId is needed for people: it says which workspace pays", field=["workspace_id"])
    return await context.services.workspaces.facts(key)


async def take_request(context: RequestContext, facts: WorkspaceFacts, ask: CallAsk) -> None:
    """One request of the workspace, the key and, where it has a limit of its own, the model. RateLimited."""
    model = context.services.catalog.current.models_by_slug.get(ask.model)
    await context.services.throttle.take(context.principal, facts, 1, model=model)


async def request_of(context: RequestContext, caller: Caller, ask: CallAsk) -> CallRequest:
    """The call in OpenAI's form; InvalidInput."""
    if ask.max_credits_micro is not None and ask.max_credits_micro < 0:
        raise InvalidInput("maxCredits must not be below zero", field=["maxCredits"])
    model = await context.services.calls.offers.model(caller.workspace_id, ask.model)
    operation, body = openai_form(ask.payload, None if model is None else model.modality)
    return CallRequest(ask.model, operation, body, ask.idempotency_key, ask.max_credits_micro, cache=ask.cache)


def record_of(context: RequestContext, facts: WorkspaceFacts, result: CallResult) -> CallView:
    """The record of a settled call."""
    usage = result.usage
    return CallView(
        id=result.call_id,
        workspace_id=facts.workspace_id,
        model_slug=result.model,
        status="SUCCEEDED",
        user_id=context.principal.user_id,
        api_key_id=context.principal.api_key_id,
        request_id=context.request_id,
        idempotency_key=None,
        error_code=None,
        error_message=None,
        created_at=result.created_at,
        completed_at=result.completed_at,
        usage=UsageView(
            input_tokens=usage.input_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            requests=usage.requests,
            images=usage.images,
            seconds=usage.seconds,
            characters=usage.characters,
            cache_write_input_tokens=usage.cache_write_input_tokens,
            long_cache_write_input_tokens=usage.long_cache_write_input_tokens,
            cost_micro=result.charged_micro,
            charged_micro=result.charged_micro,
            estimated=usage.estimated,
            provider=usage.provider,
            cached=result.cached is True,
            charges=tuple((charge.grant_id, charge.amount_micro) for charge in result.charges),
        ),
    )


def placed(ask: CallAsk, refusal: Refusal) -> Refusal:
    """The refusal with its field as a path in the GraphQL input."""
    if not isinstance(refusal, InvalidInput) or not refusal.field or refusal.field[0] == "payload":
        return refusal
    operation = _asked_operation(ask, refusal.field[0])
    return InvalidInput(refusal.message, field=input_path(ask.payload, operation, refusal.field))


def _asked_operation(ask: CallAsk, field: str) -> Operation:
    """What the payload asks for; of one in the provider's own form, what has such a field."""
    if isinstance(ask.payload, CustomPayload):
        return Operation.IMAGE if field == "prompt" else Operation.EMBEDDING if field == "input" else Operation.CHAT
    return openai_form(ask.payload, None)[0]


async def _record_of(context: RequestContext, refusal: Refusal) -> CallView | None:
    """The record of a call that failed after its hold: the gateway names it on the refusal."""
    if not isinstance(refusal, UpstreamFailed) or refusal.call_id is None:
        return None
    return await context.loaders.calls.load(refusal.call_id)
