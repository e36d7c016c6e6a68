"""What a call used and what it costs, of whatever kind it is: a model of the catalog, a published one, a chain."""

from dataclasses import replace

from gateway.admission import Admitted
from gateway.rules.outcome import usage_facts
from metering.operations import UsageFacts
from metering.rules.uses import USES, uses_json
from providers.base import Usage


def metered(admitted: Admitted, reported: Usage | None, content_bytes: int, provider: str) -> tuple[UsageFacts, int]:
    """The usage as it is recorded, and its cost in micro-credits at the prices of the submit.

    A publisher's own provider is not believed beyond the call's bound: the buyer pays no more than was estimated.
    """
    if admitted.chain is not None:
        usage, cost = admitted.chain.so_far(reported, content_bytes)
        return _told(admitted, usage), cost
    usage = usage_facts(reported, admitted.shape, admitted.bound, content_bytes, provider)
    if admitted.payee is None:
        return _told(admitted, usage), admitted.rates.cost_micro(usage, admitted.discount_percent)
    usage = within(usage, admitted.bound)
    cost = admitted.rates.cost_micro(usage)
    uses = uses_json([admitted.payee.use(cost, usage)])
    return _told(admitted, replace(usage, details={**(usage.details or {}), USES: uses})), cost


def within(usage: UsageFacts, bound: UsageFacts) -> UsageFacts:
    """The usage, no number of it above the bound's."""
    return replace(
        usage,
        input_tokens=min(usage.input_tokens, bound.input_tokens),
        cached_input_tokens=min(usage.cached_input_tokens, bound.input_tokens),
        output_tokens=min(usage.output_tokens, bound.output_tokens),
        reasoning_tokens=min(usage.reasoning_tokens, bound.output_tokens),
        requests=min(usage.requests, bound.requests),
        images=min(usage.images, bound.images),
        seconds=min(usage.seconds, bound.seconds),
        characters=min(usage.characters, bound.characters),
    )


def _told(admitted: Admitted, usage: UsageFacts) -> UsageFacts:
    """The usage as it is recorded: a test key's says so."""
    return replace(usage, details={**(usage.details or {}), "test": True}) if admitted.caller.test else usage
