"""A chain with its models found: what each step asks, and the most that the whole can cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from billing.rules.chains import Chain, ChainStep
from billing.rules.templates import Template, text_of, value_at
from gateway.rules.estimate import bound_usage
from gateway.rules.inputs import with_input
from gateway.rules.request_rates import request_rates
from gateway.rules.requests import RequestShape, read_shape
from gateway.terms import CallTerms
from kit.json_values import JsonObject
from kit.records import record
from metering.operations import UsageFacts
from metering.rules.rating import Rates
from models.enums import Modality
from providers.base import Operation

OUTPUT_BYTES_PER_TOKEN: Final = 8
"""What a step's output hands on: so many bytes for each token it may have, the rest is cut. So the bound holds."""
MAX_HANDED_ON_BYTES: Final = 256 * 1024

Render = Callable[[Template], str]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step with the model it calls; `inner` where that is a chain itself. `most_tokens`: what the caller allows it."""

    step: ChainStep
    terms: CallTerms
    inner: "PlannedChain | None"
    most_tokens: int | None = None

    @property
    def max_tokens(self) -> int:
        """The most that it generates."""
        bounds = (self.step.max_tokens, self.terms.model.max_output_tokens, self.most_tokens)
        return min(bound for bound in bounds if bound is not None)

    @property
    def handed_on_bytes(self) -> int:
        """The most that other steps see of its output."""
        if self.inner is not None:
            return max(self.inner.steps[name].handed_on_bytes for name in self.inner.chain.outputs)
        return min(self.max_tokens * OUTPUT_BYTES_PER_TOKEN, MAX_HANDED_ON_BYTES)


@dataclass(frozen=True, slots=True)
class PlannedChain:
    """A chain with its models, in the order of its steps. `terms`: its own prices, on top of its steps'."""

    chain: Chain
    terms: CallTerms
    steps: Mapping[str, PlannedStep]

    @property
    def last(self) -> frozenset[str]:
        """The outputs that no other step needs: of these one runs, after all others."""
        needed = frozenset[str]().union(*(step.needs for step in self.chain.steps))
        return frozenset(self.chain.outputs) - needed


@record
class Asked:
    """One request to a model, with its own prices and its bound."""

    operation: Operation
    body: JsonObject
    shape: RequestShape
    rates: Rates
    bound: UsageFacts
    bound_micro: int


def asked_of(planned: PlannedStep, render: Render, history: Sequence[object]) -> Asked:
    """What a step asks its model; InvalidInput where that is nothing the model can be asked."""
    step, model = planned.step, planned.terms.model
    if model.modality is Modality.IMAGE:
        operation, body = Operation.IMAGE, _image_body(step, render)
    else:
        operation, body = Operation.CHAT, _chat_body(planned, render, history)
    body = with_input(operation, body, planned.terms.input_schema, planned.terms.prompt)
    shape = read_shape(operation, body)
    bound = bound_usage(operation, shape, model)
    # Its settings decide its prices, which stand in the chain itself, and the caller's messages; no text that a step may be
    # given does.
    rates = request_rates(model, planned.terms.price_list, body)
    return Asked(operation, body, shape, rates, bound, rates.highest_micro(bound, planned.terms.discount_percent))


def inner_input(step: ChainStep, render: Render) -> JsonObject:
    """The input of a chain that is a step."""
    text = render(step.prompt)
    return {"text": text, "prompt": text, **{name: render(template) for name, template in step.input.items()}}


def chain_bound(planned: PlannedChain, values: JsonObject, history: Sequence[object]) -> tuple[UsageFacts, int]:
    """The largest usage and cost of a chain: every step with the longest texts it can be given, and its own prices.

    No more than its `max_cost`, which ends it.
    """
    sizes = {name: step.handed_on_bytes for name, step in planned.steps.items()}
    longest = _longest(values, sizes)
    usage, cost = UsageFacts(estimated=True), 0
    for step in planned.steps.values():
        if step.inner is not None:
            inner_usage, inner_cost = chain_bound(
                step.inner, inner_input(step.step, longest), history if step.step.history else ()
            )
        else:
            asked = asked_of(step, longest, history)
            inner_usage, inner_cost = asked.bound, asked.bound_micro
        usage, cost = added(usage, inner_usage), cost + inner_cost
    cost += planned.terms.price_list.ordinary.highest_micro(replace(usage, requests=1))
    most = planned.chain.max_cost_micro
    return usage, cost if most is None else min(cost, most)


def added(first: UsageFacts, second: UsageFacts) -> UsageFacts:
    """Both together; estimated where either is."""
    counts = {name: getattr(first, name) + getattr(second, name) for name in _COUNTS}
    return replace(first, **counts, estimated=first.estimated or second.estimated)


_COUNTS: Final = tuple(
    each.name for each in fields(UsageFacts) if each.name not in {"estimated", "provider", "details"}
)


def cut(text: str, most_bytes: int) -> str:
    """A text of at most so many bytes, no character torn."""
    whole = text.encode("utf-8", "replace")
    return text if len(whole) <= most_bytes else whole[:most_bytes].decode("utf-8", "ignore")


def _longest(values: JsonObject, sizes: Mapping[str, int]) -> Render:
    def text_at(path: tuple[str, ...]) -> str:
        return "x" * sizes[path[1]] if path[0] == "steps" else text_of(value_at({"input": values}, path))

    return lambda template: template.render_with(text_at)


def _chat_body(planned: PlannedStep, render: Render, history: Sequence[object]) -> JsonObject:
    step = planned.step
    messages: list[object] = []
    if step.system is not None:
        messages.append({"role": "system", "content": render(step.system)})
    if step.history:
        messages += history
    prompt = render(step.prompt)
    if prompt or len(messages) == 0:
        messages.append({"role": "user", "content": prompt})
    body: JsonObject = {"messages": messages, "max_tokens": planned.max_tokens}
    if step.temperature is not None:
        body["temperature"] = step.temperature
    if step.response_format is not None:
        body["response_format"] = step.response_format
    if step.input:
        body["input"] = {name: render(template) for name, template in step.input.items()}
    return body


def _image_body(step: ChainStep, render: Render) -> JsonObject:
    body: JsonObject = {"prompt": render(step.prompt), "n": 1}
    if step.input:
        body["input"] = {name: render(template) for name, template in step.input.items()}
    return body
