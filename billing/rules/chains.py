"""Chained models (B14): what a chain is made of, read from JSON or a catalog's TOML, and refused where it cannot run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from billing.rules.templates import Template, TemplateError, parse_template
from kit.json_values import JsonObject, has_nul, is_list, is_object
from kit.money import AmountError, parse_micro

MAX_STEPS: Final = 32
"""Steps of one chain, and of all chains that one call runs through."""
MAX_DEPTH: Final = 4
"""Chains within chains, the called one included."""
MAX_OUTPUT_TOKENS: Final = 200_000
DEFAULT_STEP_TOKENS: Final = 1_024
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_STEP_KEYS: Final = frozenset(
    {"name", "model", "system", "prompt", "history", "input", "max_tokens", "temperature", "response_format", "when"}
)
_CHAIN_KEYS: Final = frozenset({"steps", "output", "max_cost"})


class ChainError(ValueError):
    """The definition cannot be run; `field` is where, below the chain."""

    def __init__(self, message: str, *field: str) -> None:
        """`message` is a sentence for its author."""
        super().__init__(message)
        self.field = field


class Comparison(StrEnum):
    """How a condition compares; case and blanks around count for nothing."""

    IS = "is"
    IS_NOT = "is_not"
    CONTAINS = "contains"
    DOES_NOT_CONTAIN = "does_not_contain"


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a step runs: what `value` comes to, compared with `operand`."""

    value: Template
    test: Comparison
    operand: str

    def holds(self, values: Mapping[str, object]) -> bool:
        """Whether it does."""
        found, wanted = self.value.render(values).strip().casefold(), self.operand.strip().casefold()
        match self.test:
            case Comparison.IS:
                return found == wanted
            case Comparison.IS_NOT:
                return found != wanted
            case Comparison.CONTAINS:
                return wanted in found
            case Comparison.DOES_NOT_CONTAIN:
                return wanted not in found


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One call of a model. `history`: the caller's messages stand before the prompt. `input`: for a model that takes one."""

    name: str
    model: str
    prompt: Template
    system: Template | None
    history: bool
    input: Mapping[str, Template]
    max_tokens: int
    temperature: float | None
    response_format: JsonObject | None
    when: Condition | None

    @property
    def needs(self) -> frozenset[str]:
        """The steps that end before this one begins."""
        templates = [self.prompt, *self.input.values()]
        if self.system is not None:
            templates.append(self.system)
        if self.when is not None:
            templates.append(self.when.value)
        return frozenset[str]().union(*(template.steps for template in templates))


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps in an order in which each comes after what it needs. The answer is that of the first of `outputs` that ran.

    `max_cost_micro`: the most that one call may cost, whatever its steps could.
    """

    steps: tuple[ChainStep, ...]
    outputs: tuple[str, ...]
    max_cost_micro: int | None

    def step(self, name: str) -> ChainStep:
        """The step of this name."""
        return next(step for step in self.steps if step.name == name)


def parse_chain(given: object) -> Chain:
    """The chain; ChainError says what is wrong and where."""
    if not is_object(given):
        raise ChainError("a chain must be an object with steps")
    _only(given, _CHAIN_KEYS, ())
    listed = given.get("steps")
    if not is_list(listed) or not listed:
        raise ChainError("steps must be a list of at least one step", "steps")
    if len(listed) > MAX_STEPS:
        raise ChainError(f"a chain may have at most {MAX_STEPS} steps", "steps")
    steps = [_step(each, index) for index, each in enumerate(listed)]
    names = [step.name for step in steps]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ChainError(f"there are two steps named {name!r}", "steps", str(index), "name")
    outputs = _outputs(given.get("output", names[-1]), names)
    ordered = _ordered(steps)
    _all_used(ordered, outputs)
    return Chain(ordered, outputs, _max_cost(given.get("max_cost")))


def _step(given: object, index: int) -> ChainStep:
    at = ("steps", str(index))
    if not is_object(given):
        raise ChainError("a step must be an object with name, model and prompt", *at)
    _only(given, _STEP_KEYS, at)
    name, model = given.get("name"), given.get("model")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ChainError("name must be a lower-case word such as draft, at most 40 characters", *at, "name")
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        raise ChainError("model must be the slug of a model", *at, "model")
    history = given.get("history", False)
    if not isinstance(history, bool):
        raise ChainError("history must be true or false", *at, "history")
    inputs = given.get("input", {})
    if not is_object(inputs) or len(inputs) > MAX_STEPS:
        raise ChainError("input must be an object of templates", *at, "input")
    form = given.get("response_format")
    if form is not None and not is_object(form):
        raise ChainError("response_format must be an object", *at, "response_format")
    step = ChainStep(
        name=name,
        model=model,
        prompt=_template(given.get("prompt", ""), *at, "prompt"),
        system=None if given.get("system") is None else _template(given["system"], *at, "system"),
        history=history,
        input={key: _template(value, *at, "input", key) for key, value in inputs.items()},
        max_tokens=_tokens(given.get("max_tokens", DEFAULT_STEP_TOKENS), at),
        temperature=_temperature(given.get("temperature"), at),
        response_format=form,
        when=None if given.get("when") is None else _condition(given["when"], at),
    )
    if has_nul(given):
        raise ChainError("a text in a step may not have the character U+0000", *at)
    return step


def _tokens(value: object, at: tuple[str, ...]) -> int:
    if type(value) is not int or not 1 <= value <= MAX_OUTPUT_TOKENS:
        raise ChainError(f"max_tokens must be a whole number from 1 to {MAX_OUTPUT_TOKENS}", *at, "max_tokens")
    return value


def _temperature(value: object, at: tuple[str, ...]) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        raise ChainError("temperature must be a number from 0 to 2", *at, "temperature")
    return float(value)


def _condition(given: object, at: tuple[str, ...]) -> Condition:
    tests = [test for test in Comparison if is_object(given) and test in given]
    if not is_object(given) or len(tests) != 1 or set(given) != {"value", tests[0]}:
        raise ChainError(f"when must be an object with value and one of {', '.join(Comparison)}", *at, "when")
    operand = given[tests[0]]
    if not isinstance(operand, str) or len(operand) > 1_000:
        raise ChainError(f"{tests[0]} must be a text of at most 1000 characters", *at, "when", tests[0])
    return Condition(_template(given["value"], *at, "when", "value"), tests[0], operand)


def _template(value: object, *at: str) -> Template:
    if not isinstance(value, str):
        raise ChainError(f"{at[-1]} must be a text", *at)
    try:
        return parse_template(value)
    except TemplateError as error:
        raise ChainError(str(error), *at) from error


def _outputs(given: object, names: Sequence[str]) -> tuple[str, ...]:
    wanted = given if is_list(given) else [given]
    outputs = tuple(name for name in wanted if isinstance(name, str) and name in names)
    if not outputs or len(outputs) != len(wanted) or len(set(outputs)) != len(outputs):
        raise ChainError("output must be the name of a step, or a list of names", "output")
    return outputs


def _max_cost(given: object) -> int | None:
    if given is None:
        return None
    try:
        amount = parse_micro(given if isinstance(given, str) else "")
    except AmountError as error:
        raise ChainError(f"max_cost: {error}", "max_cost") from error
    if amount <= 0:
        raise ChainError("max_cost must be an amount of credits above zero", "max_cost")
    return amount


def _ordered(steps: Sequence[ChainStep]) -> tuple[ChainStep, ...]:
    """The steps, each after what it needs; ChainError for a circle and for a name that no step has."""
    names = {step.name for step in steps}
    for index, step in enumerate(steps):
        unknown = sorted(step.needs - names)
        if unknown:
            raise ChainError(f"there is no step named {unknown[0]!r}", "steps", str(index))
    ordered: list[ChainStep] = []
    waiting = list(steps)
    while waiting:
        done = {step.name for step in ordered}
        ready = [step for step in waiting if step.needs <= done]
        if not ready:
            circle = ", ".join(step.name for step in waiting)
            raise ChainError(f"these steps wait for each other: {circle}", "steps")
        ordered += ready
        waiting = [step for step in waiting if step not in ready]
    return tuple(ordered)


def _all_used(steps: Sequence[ChainStep], outputs: Sequence[str]) -> None:
    """A step that leads to no output would be paid for nothing."""
    used = set(outputs)
    for step in reversed(steps):
        if step.name not in used:
            raise ChainError(f"the step {step.name!r} leads to no output", "steps")
        used |= step.needs


def _only(given: JsonObject, known: frozenset[str], at: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise ChainError(f"{key[:40]!r} is not one of {', '.join(sorted(known))}", *at, key[:40])
