"""What a call used and what it costs, of whatever kind it is: a model of the catalog, a published one, a chain."""

from dataclasses import replace

from gateway.admission import Admitted
from gateway.routed import Routed
from gateway.rules.truth import STATUS, End, Ground, Seen, Verdict, verdict
from gateway.terms import ChainedCall
from kit.records import record
from metering.operations import UsageFacts
from metering.rules.uses import USES, uses_json
from providers.input_parts import parts_within


@record
class Metered:
    """A call's end by the truth table; `usage` as it is recorded, None where the hold is released whole.

    `cost_micro`: in micro-credits at the prices of the submit.
    """

    told: Verdict
    usage: UsageFacts | None
    cost_micro: int


def metered(admitted: Admitted, end: End, seen: Seen, routed: Routed) -> Metered:
    """What becomes of this call's hold.

    A publisher's own provider is not believed beyond the call's bound: the buyer pays no more than was estimated.
    """
    if admitted.chain is not None:
        told, cost = _of_chain(admitted.chain, end, seen)
        usage = told.usage
    else:
        told = verdict(end, seen, admitted.shape, admitted.bound, routed.provider)
        usage = told.usage
        if usage is not None and admitted.payee is not None:
            usage = within(usage, admitted.bound)
            told = replace(told, usage=usage)
        cost = 0 if usage is None else admitted.rates.cost_micro(usage, admitted.discount_percent)
        if usage is not None and admitted.payee is not None:
            uses = uses_json([admitted.payee.use(cost, usage)])
            usage = replace(usage, details={**(usage.details or {}), USES: uses})
    return Metered(told, None if usage is None else recorded(admitted, usage, routed), cost)


def within(usage: UsageFacts, bound: UsageFacts) -> UsageFacts:
    """The usage, no number of it above the bound's, those that the truth table takes to be without a price included."""
    input_tokens = min(usage.input_tokens, bound.input_tokens)
    cached, written, written_long = parts_within(
        input_tokens, usage.cached_input_tokens, usage.cache_write_input_tokens, usage.long_cache_write_input_tokens
    )
    return replace(
        usage,
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        output_tokens=min(usage.output_tokens, bound.output_tokens),
        reasoning_tokens=min(usage.reasoning_tokens, bound.output_tokens),
        requests=min(usage.requests, bound.requests),
        images=min(usage.images, bound.images),
        seconds=min(usage.seconds, bound.seconds),
        characters=min(usage.characters, bound.characters),
        cache_write_input_tokens=written,
        long_cache_write_input_tokens=written_long,
    )


def recorded(admitted: Admitted, usage: UsageFacts, routed: Routed) -> UsageFacts:
    """The usage as it is recorded: with the route of a call that was not answered at its first try; a test key's says so."""
    route = routed.told()
    if route is None and not admitted.caller.test:
        return usage
    test: dict[str, object] = {"test": True} if admitted.caller.test else {}
    return replace(usage, details={**(usage.details or {}), **(route or {}), **test})


def _of_chain(chain: ChainedCall, end: End, seen: Seen) -> tuple[Verdict, int]:
    """A chain that came to no good end is charged for the steps that did, each by the truth table."""
    usage, cost = chain.so_far(end, seen)
    if end is not End.FINISHED and not cost and not usage.requests:
        return Verdict(STATUS[end], Ground.NOTHING, None), 0
    return Verdict(STATUS[end], Ground.COUNTED if usage.estimated else Ground.REPORTED, usage), cost
