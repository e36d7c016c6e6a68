"""The bound of a chain holds, whatever its steps say; templates and conditions do what they say and nothing else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.chains import Chain, ChainError, parse_chain
from billing.rules.templates import MAX_RENDERED_CHARACTERS, TemplateError, parse_template
from billing.views import ModelLimits, ModelView
from gateway.rules.chain_plan import (
    OUTPUT_BYTES_PER_TOKEN,
    PlannedChain,
    PlannedStep,
    added,
    asked_of,
    chain_bound,
    cut,
    inner_input,
)
from gateway.terms import CallTerms
from kit.errors import InvalidInput
from metering.operations import UsageFacts
from metering.rules.conditions import conditions_of
from metering.rules.price_list import ListedPrice, PriceList
from metering.rules.rating import MeterPrice
from models.enums import Modality

PRICES = PriceList(
    ListedPrice(price)
    for price in (MeterPrice("INPUT_TOKENS", 3, 7), MeterPrice("OUTPUT_TOKENS", 11, 5), MeterPrice("REQUESTS", 13, 1))
)
RATES = PRICES.ordinary


def model(slug: str = "m", chain: Chain | None = None) -> ModelView:
    return ModelView(
        UUID(int=1), slug, slug, Modality.TEXT, "standard", None, None, None, (), PRICES, (), ModelLimits(), (), True, chain
    )  # fmt: skip


def planned(chain: Chain, inner: PlannedChain | None = None) -> PlannedChain:
    terms = CallTerms(model(), PRICES, 10)
    steps = {
        step.name: PlannedStep(step, terms, inner if inner is not None and step.model == "inner" else None)
        for step in chain.steps
    }
    return PlannedChain(chain, CallTerms(model("c", chain), PRICES, 0), steps)


texts = st.text(max_size=30)
pieces = st.lists(
    st.sampled_from(["{{ input.a }}", "{{ steps.one.content }}", "{{ steps.two.content }}", "{{ input.none }}", "é", "plain "]),
    max_size=6,
).map("".join)  # fmt: skip


@st.composite
def chains(draw, depth: int = 1) -> PlannedChain:
    inner = draw(chains(depth=depth - 1)) if depth else None
    without_two = pieces.map(lambda text: text.replace("steps.two", "steps.one"))
    of_one = pieces.map(lambda text: text.replace("steps.two", "input.x").replace("steps.one", "input.y"))
    named = st.sampled_from(["m", "inner"]) if inner is not None else st.just("m")
    steps = [
        {"name": "one", "model": draw(named), "prompt": draw(of_one) + "x", "max_tokens": draw(st.integers(1, 20)), "history": draw(st.booleans())},
        {"name": "two", "model": draw(named), "prompt": draw(without_two) + "{{ steps.one.content }}", "max_tokens": draw(st.integers(1, 20))},
        {"name": "three", "model": draw(named), "prompt": draw(pieces) + "{{ steps.two.content }}", "system": draw(pieces), "max_tokens": draw(st.integers(1, 20))},
    ]  # fmt: skip
    return planned(parse_chain({"steps": steps}), inner)


def run(draw, chain: PlannedChain, values: dict, history: list) -> tuple[UsageFacts, int, str]:
    """Play the chain with outputs as long as they may be, of any characters: usage, cost and answer."""
    usage, cost, outputs = UsageFacts(), 0, {}
    for name, step in chain.steps.items():
        seen = {"input": values, "steps": outputs}

        def render(template, seen=seen):
            return template.render(seen)

        if step.inner is not None:
            inner = run(draw, step.inner, inner_input(step.step, render), history if step.step.history else [])
            usage, cost = added(usage, inner[0]), cost + inner[1]
            content = inner[2]
        else:
            asked = asked_of(step, render, history)
            tokens = step.max_tokens
            one = UsageFacts(input_tokens=asked.bound.input_tokens, output_tokens=tokens, requests=1)
            usage, cost = added(usage, one), cost + RATES.cost_micro(one, step.terms.discount_percent)
            content = draw(st.text(min_size=0, max_size=400))
        outputs[name] = {"content": cut(content, step.handed_on_bytes), "json": None}
    fee = UsageFacts(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, requests=1)
    return usage, cost + RATES.cost_micro(fee), outputs["three"]["content"]


@given(chains(), st.dictionaries(st.sampled_from(["a", "text", "prompt"]), texts), texts, st.data())
def test_B14_no_run_of_a_chain_uses_or_costs_more_than_its_bound(chain, values, said, data) -> None:
    history = [{"role": "user", "content": said}]
    bound, most = chain_bound(chain, values, history)
    usage, cost, _ = run(data.draw, chain, values, history)
    assert cost <= most
    assert usage.input_tokens <= bound.input_tokens
    assert usage.output_tokens <= bound.output_tokens


@given(st.sampled_from([None, 0.5, 2]), st.booleans(), texts)
def test_B14_a_step_is_bound_by_the_prices_of_its_own_settings_whatever_it_says(temperature, as_json, said) -> None:
    hot = conditions_of({"temperature": ["2"]})
    formed = conditions_of({"response_format.type": ["json_object"]})
    prices = [
        ListedPrice(MeterPrice("REQUESTS", 10, 1)),
        ListedPrice(MeterPrice("REQUESTS", 20, 1), hot),
        ListedPrice(MeterPrice("REQUESTS", 15, 1), formed),
        ListedPrice(MeterPrice("REQUESTS", 40, 1), (*formed, *hot)),
    ]
    settings: dict = {} if temperature is None else {"temperature": temperature}
    if as_json:
        settings["response_format"] = {"type": "json_object"}
    one = {"name": "one", "model": "m", "prompt": "{{ input.a }}x", "max_tokens": 5}
    two = {"name": "two", "model": "m", "prompt": "{{ steps.one.content }}", "max_tokens": 5, **settings}
    chain = parse_chain({"steps": [one, two]})
    terms = CallTerms(model(), PriceList(prices), 0)
    steps = {step.name: PlannedStep(step, terms, None) for step in chain.steps}
    whole = PlannedChain(chain, CallTerms(model("c", chain), PriceList(()), 0), steps)
    cost = {(False, False): 10, (True, False): 20, (False, True): 15, (True, True): 40}[temperature == 2, as_json]
    assert chain_bound(whole, {"a": said}, [])[1] == 10 + cost
    values = {"input": {"a": said}, "steps": {"one": {"content": said}}}
    asked = asked_of(steps["two"], lambda template: template.render(values), [])
    assert asked.rates.cost_micro(UsageFacts(requests=1)) == asked.bound_micro == cost


@given(st.text(), st.integers(0, 50))
def test_a_text_is_cut_at_bytes_and_no_character_is_torn(text: str, most: int) -> None:
    short = cut(text, most)
    assert len(short.encode("utf-8", "replace")) <= most
    if len(text.encode("utf-8", "replace")) <= most:
        assert short == text
    else:
        assert text.encode("utf-8", "replace").decode("utf-8").startswith(short)


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=5), st.text(max_size=50)))
def test_a_template_is_refused_or_puts_in_texts_and_runs_nothing(text: str, values: dict) -> None:
    try:
        template = parse_template(text)
    except TemplateError:
        return
    rendered = template.render({"input": values})
    if "{{" not in text:
        assert rendered == text


def test_what_is_put_in_is_no_template_and_a_long_text_is_refused() -> None:
    template = parse_template("<{{ input.a }}{{ input.b.1.c }}{{ input.d }}>")
    values = {"input": {"a": "{{ input.secret }}", "b": [0, {"c": 7}], "d": {"x": [1]}, "secret": "s"}}
    assert template.render(values) == '<{{ input.secret }}7{"x":[1]}>'
    with pytest.raises(InvalidInput):
        template.render({"input": {"a": "x" * (MAX_RENDERED_CHARACTERS + 1)}})
    for bad in (
        "{{ os.environ }}",
        "{{ input }}",
        "{{ steps.a }}",
        "{{ input.a | upper }}",
        "{{input.a}",
        "}}",
        "{{ input.__class__() }}",
    ):
        with pytest.raises(TemplateError):
            parse_template(bad)


def test_a_step_hands_on_eight_bytes_a_token() -> None:
    chain = planned(parse_chain({"steps": [{"name": "one", "model": "m", "max_tokens": 5}]}))
    assert chain.steps["one"].handed_on_bytes == 5 * OUTPUT_BYTES_PER_TOKEN


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["steps", "name", "model", "prompt", "when", "output", "max_cost", "input", "x"]), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_json_is_a_chain_or_is_refused_in_words(given) -> None:
    try:
        chain = parse_chain(given)
    except ChainError:
        return
    assert chain.outputs
    assert {step.name for step in chain.steps} >= set(chain.outputs)
