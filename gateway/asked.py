"""What the router has to know of what it is to place: a call that is answered now, or a job that is handed over."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from billing.views import RouteView
from gateway.rules.requests import RequestShape
from gateway.tracing import CallTrace
from gateway.views import CallRequest
from kit.records import record
from metering.operations import UsageFacts


class Requester(Protocol):
    """Who asks."""

    @property
    def request_id(self) -> str:
        """Travels to the provider."""
        ...


class Routes(Protocol):
    """Where a model is served."""

    @property
    def routes(self) -> Sequence[RouteView]:
        """At least one."""
        ...


class Asked(Protocol):
    """A call; gateway.admission.Admitted serves it."""

    @property
    def call_id(self) -> UUID:
        """Of its record."""
        ...

    @property
    def caller(self) -> Requester:
        """Who asks."""
        ...

    @property
    def request(self) -> CallRequest:
        """What is asked."""
        ...

    @property
    def model(self) -> Routes:
        """Where it may go."""
        ...

    @property
    def shape(self) -> RequestShape:
        """What was counted of the request."""
        ...

    @property
    def bound(self) -> UsageFacts:
        """The most that it can use."""
        ...

    @property
    def trace(self) -> CallTrace:
        """Told of every provider that is asked."""
        ...


@record
class JobRequester:
    """Serves Requester."""

    request_id: str


@record
class JobRoutes:
    """Serves Routes, in the order in which they were drawn."""

    routes: tuple[RouteView, ...]


@record
class JobAsked:
    """Serves Asked."""

    call_id: UUID
    caller: JobRequester
    request: CallRequest
    model: JobRoutes
    shape: RequestShape
    bound: UsageFacts
    trace: CallTrace
