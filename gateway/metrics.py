"""What is counted about providers and calls for /metrics: by provider and model only, never by who called or what was said.

What every call counts is kept in plain numbers and read when somebody asks: prometheus_client's own counters would take
ten microseconds of each call.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final, get_args

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from billing.published import ROUTE_PREFIX
from gateway.failures import Outcome
from gateway.rules.truth import Ground, Verdict
from gateway.tracing import GEN_AI_OPERATIONS
from kit.clock import now
from kit.money import MICRO
from metering.operations import EndStatus
from providers.base import Operation

COUNTED_PUBLISHED: Final = "published"
"""All models of publishers, and all their providers."""
SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the histogram of providers' times."""

DURATIONS_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Bounds of the GenAI semantic conventions."""

CIRCUIT: Final = Gauge(
    "tollgate_provider_circuit", "Whether a provider is left alone: 0 no, 1 trials may pass, 2 yes.", ["provider"]
)
CIRCUIT_FAULTS: Final = Counter(
    "tollgate_provider_circuit_faults_total", "Times that circuits could not be shared through Redis."
)
CUT: Final = Counter("tollgate_usage_cut_total", "Usage reported above a call's bound, and cut.", ["provider", "model"])
ESTIMATED: Final = Counter(
    "tollgate_usage_estimated_total", "Calls whose usage was counted here.", ["provider", "model"]
)
IN_FLIGHT: Final = Gauge("tollgate_calls_in_flight", "Model calls that run in this process now.")
CONNECTIONS: Final = Gauge("tollgate_provider_connections", "Connections open to providers, idle ones included.")
TASKS: Final = Gauge("tollgate_tasks", "Tasks of the event loop.")


class _Provider:
    """One provider's numbers."""

    __slots__ = ("attempts", "seconds", "within")

    def __init__(self) -> None:
        self.attempts = dict.fromkeys(Outcome, 0)
        self.within = [0] * (len(SECONDS) + 1)
        self.seconds = 0.0


class _Model:
    """One model's numbers."""

    __slots__ = ("cached", "cost_micro", "ended", "input", "output", "reasoning", "written")

    def __init__(self) -> None:
        self.ended: dict[EndStatus, int] = dict.fromkeys(get_args(EndStatus), 0)
        self.input = self.cached = self.written = self.output = self.reasoning = self.cost_micro = 0


class _Histogram:
    """Plain numbers of one."""

    __slots__ = ("bounds", "sum", "within")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.within = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        self.within[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """As one of the family's series."""
        totals = zip((*(repr(float(each)) for each in self.bounds), "+Inf"), accumulate(self.within), strict=True)
        family.add_metric(labels, [(bound, float(total)) for bound, total in totals], self.sum)


class _Kind:
    """The numbers of one kind of call: its operation, model and provider, in the words of the GenAI conventions."""

    __slots__ = ("durations", "input", "output")

    def __init__(self) -> None:
        self.durations: dict[EndStatus, _Histogram] = {}
        self.input, self.output = _Histogram(TOKENS), _Histogram(TOKENS)


_kinds: Final[dict[tuple[str, str, str], _Kind]] = {}
"""By the names that they have in /metrics: calls of several forms are one operation there, and all publishers one provider."""
_providers: Final[dict[str, _Provider]] = {}
_models: Final[dict[str, _Model]] = {}


def note_answer(provider: str, seconds: float) -> None:
    """A try was answered, or a stream gave its first output, after so long."""
    provider = _label(provider)
    found = _providers.get(provider) or _providers.setdefault(provider, _Provider())
    found.attempts[Outcome.ANSWERED] += 1
    found.within[bisect_left(SECONDS, seconds)] += 1
    found.seconds += seconds


def note_failure(provider: str, outcome: Outcome) -> None:
    """A try ended otherwise."""
    provider = _label(provider)
    found = _providers.get(provider) or _providers.setdefault(provider, _Provider())
    found.attempts[outcome] += 1


def note_end(model: str, operation: Operation, began_at: datetime, told: Verdict, cost_micro: int) -> None:
    """A call of this operation ended with this verdict, at this cost."""
    found = _models.get(model) or _models.setdefault(model, _Model())
    found.ended[told.status] += 1
    usage = told.usage
    key = GEN_AI_OPERATIONS[operation], model, "" if usage is None else _label(usage.provider)
    kind = _kinds.get(key) or _kinds.setdefault(key, _Kind())
    durations = kind.durations.get(told.status) or kind.durations.setdefault(told.status, _Histogram(DURATIONS_S))
    durations.note((now() - began_at).total_seconds())
    if usage is None:
        return
    kind.input.note(usage.input_tokens)
    kind.output.note(usage.output_tokens)
    found.cost_micro += cost_micro
    found.input += usage.input_tokens
    found.cached += usage.cached_input_tokens
    found.written += usage.cache_write_input_tokens
    found.output += usage.output_tokens
    found.reasoning += usage.reasoning_tokens
    if usage.estimated:
        provider = _label(usage.provider)
        ESTIMATED.labels(provider=provider, model=model).inc()
        if told.ground is Ground.CUT:
            CUT.labels(provider=provider, model=model).inc()


def _label(provider: str) -> str:
    """The providers of publishers, who may be many, count as one."""
    return COUNTED_PUBLISHED if provider.startswith(ROUTE_PREFIX) else provider


def watch_process(in_flight: Callable[[], int], connections: Callable[[], int]) -> None:
    """From now on /metrics tells how many calls run, how many connections stand and how many tasks this event loop has."""
    loop = asyncio.get_running_loop()
    IN_FLIGHT.set_function(in_flight)
    CONNECTIONS.set_function(connections)
    TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))


class _Numbers(Collector):
    """Turns the numbers into Prometheus' form."""

    def collect(self) -> Iterator[Metric]:
        """When /metrics is asked."""
        yield from _of_providers()
        yield from _of_models()
        yield from _of_kinds()


def _of_providers() -> Iterator[Metric]:
    attempts = CounterMetricFamily(
        "tollgate_provider_attempts", "Tries at a provider, by how they ended.", labels=["provider", "outcome"]
    )
    seconds = HistogramMetricFamily(
        "tollgate_provider_seconds",
        "From asking a provider to its answer, or to the first output of a stream.",
        labels=["provider"],
    )
    for name, found in _providers.items():
        for outcome, count in found.attempts.items():
            attempts.add_metric([name, outcome], count)
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), found.within, strict=True):
            total += count
            buckets.append((bound, total))
        seconds.add_metric([name], buckets, found.seconds)
    yield attempts
    yield seconds


def _of_models() -> Iterator[Metric]:
    calls = CounterMetricFamily("tollgate_calls", "Model calls that ended, by how.", labels=["model", "status"])
    tokens = CounterMetricFamily("tollgate_call_tokens", "Tokens of settled calls.", labels=["model", "kind"])
    cost = CounterMetricFamily("tollgate_call_credits", "Credits that settled calls cost.", labels=["model"])
    for name, found in _models.items():
        for status, count in found.ended.items():
            calls.add_metric([name, status], count)
        for kind, count in (
            ("input", found.input),
            ("cached_input", found.cached),
            ("cache_write_input", found.written),
            ("output", found.output),
            ("reasoning", found.reasoning),
        ):
            tokens.add_metric([name, kind], count)
        cost.add_metric([name], found.cost_micro / MICRO)
    yield calls
    yield tokens
    yield cost


def _of_kinds() -> Iterator[Metric]:
    of_call = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]
    durations = HistogramMetricFamily(
        "gen_ai_server_request_duration_seconds",
        "From a call's admission to its settlement; error_type is the status of one that did not succeed.",
        labels=[*of_call, "error_type"],
    )
    tokens = HistogramMetricFamily(
        "gen_ai_client_token_usage", "Tokens that a call used, input or output.", labels=[*of_call, "gen_ai_token_type"]
    )
    for (operation, model, provider), found in _kinds.items():
        labels = [operation, provider, model]
        for status, histogram in found.durations.items():
            histogram.add_to(durations, [*labels, "" if status == "SUCCEEDED" else status])
        found.input.add_to(tokens, [*labels, "input"])
        found.output.add_to(tokens, [*labels, "output"])
    yield durations
    yield tokens


REGISTRY.register(_Numbers())
