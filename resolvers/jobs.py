"""Jobs: calls that take minutes, begun and cancelled."""

from dataclasses import replace

from accounts.rules.roles import Action
from gateway.callers import caller_of
from kit.errors import Refusal
from resolvers.access import key_of, looked_up, require, unseen
from resolvers.calls import CallAnswer, CallAsk, admitted, placed, request_of, take_request
from resolvers.context import RequestContext


async def start_call(context: RequestContext, ask: CallAsk) -> CallAnswer:
    """Begin a job; takes one request. Answers at once, with the call as it stands. A refusal is part of the answer."""
    facts = await admitted(context, ask.workspace_id)
    await take_request(context, facts, ask)
    try:
        caller = caller_of(context.principal, facts, context.request_id)
        request = replace(await request_of(context, caller, ask), way="job")
        call_id = await context.services.jobs.start(caller, request)
    except Refusal as refusal:
        return CallAnswer(None, None, facts.wallet_id, facts.workspace_id, placed(ask, refusal))
    finally:
        context.renew()
    return CallAnswer(await context.loaders.calls.load(call_id), None, facts.wallet_id, facts.workspace_id)


async def cancel_call(context: RequestContext, *, call_id: str) -> CallAnswer:
    """Cancel a job: its caller, and the workspace's admins. Answers the call as it stands; one that has ended stays so."""
    with looked_up("call_id"):
        key = key_of(context, "call", call_id)
        found = await context.loaders.calls.load(key)
        if found is None:
            raise unseen()
        await require(context, Action.CALLS_READ, found.workspace_id, seen_with=Action.CALLS_READ)
    principal = context.principal
    mine = found.user_id is not None and found.user_id == principal.user_id
    if not mine:
        await require(context, Action.CALLS_CANCEL, found.workspace_id, seen_with=Action.CALLS_READ)
    facts = await context.services.workspaces.facts(found.workspace_id)
    try:
        await context.services.jobs.cancel(key)
    except Refusal as refusal:
        return CallAnswer(found, None, facts.wallet_id, facts.workspace_id, refusal)
    finally:
        context.renew()
    return CallAnswer(await context.loaders.calls.load(key), None, facts.wallet_id, facts.workspace_id)
