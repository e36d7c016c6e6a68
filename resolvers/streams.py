"""Streamed model calls: pieces as they come, then one last event after the settlement."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from gateway.callers import WorkspaceFacts, caller_of
from gateway.deltas import Assembly, DeltaView, deltas_of
from gateway.errors import UpstreamFailed
from gateway.payloads import ChatPayload, CustomPayload, output_of
from gateway.streaming import CallStream
from gateway.views import Caller, CallRequest, StreamedEnd, StreamedEvent, StreamedFailure
from kit.errors import InvalidInput, Refusal
from providers.base import Operation
from resolvers.calls import CallAnswer, CallAsk, admitted, placed, record_of, request_of, take_request
from resolvers.context import RequestContext


@dataclass(frozen=True, slots=True)
class StreamDelta:
    """A piece of the output."""

    call_id: UUID
    delta: DeltaView


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The stream ended badly; `call_id` None where there was no call."""

    call_id: UUID | None
    refusal: Refusal


StreamEvent = StreamDelta | CallAnswer | StreamFailed


async def stream_model(context: RequestContext, ask: CallAsk) -> AsyncGenerator[StreamEvent]:
    """The events of one call; takes one request. Leaving ends the provider's call, and what came until then is settled."""
    facts = await admitted(context, ask.workspace_id)
    await take_request(context, facts, ask)
    try:
        caller = caller_of(context.principal, facts, context.request_id)
        stream = await context.services.streams.open(caller, await _streamed(context, caller, ask))
    except Refusal as refusal:
        call_id = refusal.call_id if isinstance(refusal, UpstreamFailed) else None
        yield StreamFailed(call_id, placed(ask, refusal))
        return
    ended = False
    try:
        async for event in _events(context, facts, stream):
            ended = not isinstance(event, StreamDelta)
            yield event
    finally:
        if not ended:
            stream.leave()


async def _events(context: RequestContext, facts: WorkspaceFacts, stream: CallStream) -> AsyncGenerator[StreamEvent]:
    whole = Assembly()
    async for event in stream:
        match event:
            case StreamedEvent():
                whole.add(event.parsed)
                for delta in deltas_of(event.parsed):
                    yield StreamDelta(event.call_id, delta)
            case StreamedEnd():
                result = event.result
                for delta in deltas_of(result.body) if result.body is not None else []:
                    yield StreamDelta(result.call_id, delta)
                output = whole.output() if result.body is None else output_of(result.call_id, result.body)
                kept = None if result.repeated and result.body is None else output
                context.renew()
                yield CallAnswer(record_of(context, facts, result), kept, facts.wallet_id, facts.workspace_id)
            case StreamedFailure():
                context.renew()
                yield StreamFailed(event.call_id, event.refusal)


async def _streamed(context: RequestContext, caller: Caller, ask: CallAsk) -> CallRequest:
    if not isinstance(ask.payload, ChatPayload | CustomPayload):
        raise InvalidInput("only chats can be streamed", field=["payload"])
    request = await request_of(context, caller, ask)
    if request.operation is not Operation.CHAT:
        raise InvalidInput("only chats can be streamed", field=["model"])
    return CallRequest(
        request.model,
        request.operation,
        {**request.body, "stream": True},
        request.idempotency_key,
        request.max_credits_micro,
    )
