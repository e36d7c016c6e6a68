"""Traces of model calls by OpenTelemetry, sent over OTLP/HTTP where an endpoint is set; see docs/operators.md.

The names are those of the GenAI semantic conventions. No attribute holds a word of a prompt or an output: what callers
and providers send gives numbers and flags only.
"""

import asyncio
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from typing import Final, Self
from uuid import UUID

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.asgi import Scope
from gateway.tracing import GEN_AI_OPERATIONS, CallTrace, JobFacts, JobPart, Step
from gateway.views import Caller, CallRequest
from kit.errors import Refusal, RequestFailure
from kit.ids import encode_id
from metering.operations import UsageFacts
from providers.base import JsonObject, Operation, Usage
from providers.errors import ProviderError
from providers.transport import Headers

TRACES_PATH: Final = "/v1/traces"
EXPORT_TIMEOUT_S: Final = 5
"""How long one export may take; what cannot be sent is dropped, calls are not touched by it."""

_OUTPUT_TYPES: Final = {Operation.IMAGE: "image", Operation.VIDEO: "video"}
_NUMBERS: Final = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "n": "gen_ai.request.choice.count",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
_Attributes = dict[str, str | int | float | bool]
_HEADERS: Final = (b"traceparent", b"tracestate")
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class OtelTracing:
    """Serves Tracing, and gives every request its parent."""

    def __init__(self, endpoint: str, service_name: str) -> None:
        """`endpoint` as OTEL_EXPORTER_OTLP_ENDPOINT; sampling, batching and headers are the SDK's own variables."""
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service_name}), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + TRACES_PATH, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tollgate")

    async def aclose(self) -> None:
        """Send what waits, within EXPORT_TIMEOUT_S."""
        await asyncio.to_thread(self._provider.force_flush, EXPORT_TIMEOUT_S * 1000)
        await asyncio.to_thread(self._provider.shutdown)

    @staticmethod
    def attach(scope: Scope) -> None:
        """What this task and its children begin from now on belongs to the trace in the request's headers."""
        given = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
        if given:
            otel_context.attach(_PROPAGATOR.extract(given))

    def begin(self, caller: Caller, request: CallRequest) -> CallTrace:
        """See Tracing."""
        operation = GEN_AI_OPERATIONS[request.operation]
        shared = _asked(operation, request)
        span = self._tracer.start_span(operation, kind=SpanKind.SERVER, attributes=shared)
        _identify(span, caller.request_id, caller.workspace_id)
        return OtelCallTrace(self._tracer, span, operation, shared)

    def resume(self, part: JobPart, facts: JobFacts) -> CallTrace:
        """See Tracing. A span of a consumer, as what it goes on with was handed over by way of the database."""
        operation = GEN_AI_OPERATIONS[facts.operation]
        shared = _kind_of(operation, facts.operation)
        parent = _PROPAGATOR.extract(dict(facts.carried), otel_context.Context())
        span = self._tracer.start_span(f"tollgate.job.{part}", parent, kind=SpanKind.CONSUMER, attributes=shared)
        _identify(span, facts.request_id, facts.workspace_id)
        trace_ = OtelCallTrace(self._tracer, span, operation, shared)
        trace_.of_call(facts.call_id, facts.model)
        return trace_


class OtelCallTrace:
    """Serves CallTrace with one span for the call and one for each of its parts."""

    def __init__(self, tracer: trace.Tracer, span: Span, operation: str, shared: _Attributes) -> None:
        """`span` is the call's own; `shared` are the attributes of those of its providers too."""
        self._tracer = tracer
        self._operation = operation
        self._shared = shared
        self._span = span
        self._context = trace.set_span_in_context(span)
        self._provider: Span | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if self._provider is not None:
            _fail(self._provider, "interrupted")
            self.answered(None)
        if error is not None:
            _fail(self._span, _type_of(error))
        self._span.end()

    def step(self, step: Step) -> AbstractContextManager[object]:
        """See CallTrace."""
        return self._entered(f"tollgate.{step}")

    @contextmanager
    def _entered(self, name: str) -> Generator[None]:
        span = self._tracer.start_span(name, self._context)
        try:
            yield
        except BaseException as error:
            _fail(span, _type_of(error))
            raise
        finally:
            span.end()

    def admitted(self, call_id: UUID, model: str) -> None:
        """See CallTrace."""
        self._span.update_name(f"{self._operation} {model}")
        self.of_call(call_id, model)

    def of_call(self, call_id: UUID, model: str) -> None:
        """Which call it is."""
        self._span.set_attribute("gen_ai.request.model", model)
        self._span.set_attribute("tollgate.call.id", encode_id("call", call_id))

    def asks(self, provider: str, upstream_model: str) -> Headers:
        """See CallTrace."""
        attributes = {**self._shared, "gen_ai.provider.name": provider, "gen_ai.request.model": upstream_model}
        self._provider = self._tracer.start_span(
            f"{self._operation} {upstream_model}", self._context, kind=SpanKind.CLIENT, attributes=attributes
        )
        self._span.set_attribute("gen_ai.provider.name", provider)
        return _headers_of(trace.set_span_in_context(self._provider, self._context))

    def carried(self) -> Headers:
        """See CallTrace."""
        return _headers_of(self._context)

    def answered(self, usage: Usage | None) -> None:
        """See CallTrace."""
        span, self._provider = self._provider, None
        if span is None:
            return
        if usage is not None:
            _count(span, usage)
        span.end()

    def provider_failed(self, error: ProviderError) -> None:
        """See CallTrace."""
        if self._provider is not None:
            _fail(self._provider, type(error).__name__)
            status: object = getattr(error, "status", None)
            if isinstance(status, int):
                self._provider.set_attribute("http.response.status_code", status)
            self.answered(None)

    def beside(self) -> CallTrace:
        """See CallTrace."""
        part = copy(self)
        part._provider = None  # noqa: SLF001 -- its own
        return part

    def settled(self, usage: UsageFacts, charged_micro: int) -> None:
        """See CallTrace."""
        _count(self._span, usage)
        self._span.set_attribute("tollgate.usage.estimated", usage.estimated)
        self._span.set_attribute("tollgate.charged.micro_credits", charged_micro)

    def failed(self, refusal: Refusal) -> None:
        """See CallTrace."""
        _fail(self._span, refusal.code.value)


def _identify(span: Span, request_id: str, workspace_id: UUID) -> None:
    span.set_attribute("tollgate.request.id", request_id)
    span.set_attribute("tollgate.workspace.id", encode_id("ws", workspace_id))


def _headers_of(context: otel_context.Context) -> Headers:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    return tuple(carrier.items())


def _kind_of(name: str, operation: Operation) -> _Attributes:
    attributes: _Attributes = {"gen_ai.operation.name": name}
    if operation in _OUTPUT_TYPES:
        attributes["gen_ai.output.type"] = _OUTPUT_TYPES[operation]
    return attributes


def _asked(operation: str, request: CallRequest) -> _Attributes:
    body: JsonObject = request.body
    attributes = _kind_of(operation, request.operation)
    for name, attribute in _NUMBERS.items():
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
            attributes[attribute] = value
    if body.get("stream") is True:
        attributes["gen_ai.request.stream"] = True
    return attributes


def _count(span: Span, usage: Usage | UsageFacts) -> None:
    span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
    if usage.cached_input_tokens:
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens)
    if usage.cache_write_input_tokens:
        span.set_attribute("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_input_tokens)
    if usage.reasoning_tokens:
        span.set_attribute("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens)


def _type_of(error: BaseException) -> str:
    """A word of ours for the failure, never its message."""
    if isinstance(error, Refusal):
        return error.code.value
    return error.code if isinstance(error, RequestFailure) else type(error).__name__


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
