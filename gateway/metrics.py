"""What is counted about providers and calls for /metrics: by provider and model only, never by who called or what was said."""

import asyncio
from collections.abc import Callable
from typing import Final, get_args

from prometheus_client import Counter, Gauge, Histogram

from gateway.failures import Outcome
from gateway.rules.truth import Ground, Verdict
from kit.money import MICRO
from metering.operations import EndStatus

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

ATTEMPTS: Final = Counter(
    "tollgate_provider_attempts_total", "Tries at a provider, by how they ended.", ["provider", "outcome"]
)
SECONDS: Final = Histogram(
    "tollgate_provider_seconds",
    "From asking a provider to its answer, or to the first output of a stream.",
    ["provider"],
    buckets=_SECONDS,
)
CIRCUIT: Final = Gauge(
    "tollgate_provider_circuit", "Whether a provider is left alone: 0 no, 1 trials may pass, 2 yes.", ["provider"]
)
CIRCUIT_FAULTS: Final = Counter(
    "tollgate_provider_circuit_faults_total", "Times that circuits could not be shared through Redis."
)
CALLS: Final = Counter("tollgate_calls_total", "Model calls that ended, by how.", ["model", "status"])
TOKENS: Final = Counter("tollgate_call_tokens_total", "Tokens of settled calls.", ["model", "kind"])
CREDITS: Final = Counter("tollgate_call_credits_total", "Credits that settled calls cost.", ["model"])
CUT: Final = Counter("tollgate_usage_cut_total", "Usage reported above a call's bound, and cut.", ["provider", "model"])
ESTIMATED: Final = Counter(
    "tollgate_usage_estimated_total", "Calls whose usage was counted here.", ["provider", "model"]
)
IN_FLIGHT: Final = Gauge("tollgate_calls_in_flight", "Model calls that run in this process now.")
CONNECTIONS: Final = Gauge("tollgate_provider_connections", "Connections open to providers, idle ones included.")
TASKS: Final = Gauge("tollgate_tasks", "Tasks of the event loop.")


class _Answered:
    """A provider's children for the usual end, found once."""

    def __init__(self, provider: str) -> None:
        self.attempts = ATTEMPTS.labels(provider=provider, outcome=Outcome.ANSWERED)
        self.seconds = SECONDS.labels(provider=provider)


class _Model:
    """A model's children, found once: looking them up takes longer than counting."""

    def __init__(self, model: str) -> None:
        self.credits = CREDITS.labels(model=model)
        self.input = TOKENS.labels(model=model, kind="input")
        self.cached = TOKENS.labels(model=model, kind="cached_input")
        self.output = TOKENS.labels(model=model, kind="output")
        self.reasoning = TOKENS.labels(model=model, kind="reasoning")
        self.ended = {status: CALLS.labels(model=model, status=status) for status in get_args(EndStatus)}


_answered: Final[dict[str, _Answered]] = {}
_models: Final[dict[str, _Model]] = {}


def note_answer(provider: str, seconds: float) -> None:
    """A try was answered, or a stream gave its first output, after so long."""
    found = _answered.get(provider)
    if found is None:
        found = _answered[provider] = _Answered(provider)
    found.attempts.inc()
    found.seconds.observe(seconds)


def note_end(model: str, told: Verdict, cost_micro: int) -> None:
    """A call ended with this verdict, at this cost."""
    found = _models.get(model)
    if found is None:
        found = _models[model] = _Model(model)
    found.ended[told.status].inc()
    usage = told.usage
    if usage is None:
        return
    found.credits.inc(cost_micro / MICRO)
    found.input.inc(usage.input_tokens)
    found.output.inc(usage.output_tokens)
    if usage.cached_input_tokens:
        found.cached.inc(usage.cached_input_tokens)
    if usage.reasoning_tokens:
        found.reasoning.inc(usage.reasoning_tokens)
    if usage.estimated:
        ESTIMATED.labels(provider=usage.provider, model=model).inc()
        if told.ground is Ground.CUT:
            CUT.labels(provider=usage.provider, model=model).inc()


def watch_process(in_flight: Callable[[], int], connections: Callable[[], int]) -> None:
    """From now on /metrics tells how many calls run, how many connections stand and how many tasks this event loop has."""
    loop = asyncio.get_running_loop()
    IN_FLIGHT.set_function(in_flight)
    CONNECTIONS.set_function(connections)
    TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
