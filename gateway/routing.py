"""Which provider answers: the routes of a model in order, the next one only while nothing has been produced."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from billing.views import RouteView
from gateway.admission import Admitted
from providers.base import Provider, ProviderAnswer, ProviderRequest, ProviderStream
from providers.errors import ProviderError, UpstreamUnavailable
from providers.registry import Registry

logger = logging.getLogger(__name__)
T = TypeVar("T")


async def answer_of(providers: Registry, admitted: Admitted) -> tuple[str, ProviderAnswer]:
    """The provider's name and its whole answer. Raises the last ProviderError when no route answers."""
    if admitted.chain is not None:
        return await admitted.chain.answer(providers)
    return await _first(providers, admitted, lambda provider, request: provider.complete(request))


async def stream_of(providers: Registry, admitted: Admitted) -> tuple[str, ProviderStream]:
    """The provider's name and its accepted stream. Raises the last ProviderError when no route accepts."""
    if admitted.chain is not None:
        return await admitted.chain.stream(providers)
    return await _first(providers, admitted, lambda provider, request: provider.stream(request))


async def _first(
    providers: Registry, admitted: Admitted, ask: Callable[[Provider, ProviderRequest], Awaitable[T]]
) -> tuple[str, T]:
    routes = admitted.model.routes
    for number, route in enumerate(routes, start=1):
        try:
            return route.provider, await _ask_route(providers, admitted, route, ask)
        except ProviderError as error:
            if number == len(routes) or error.produced or not error.elsewhere:
                raise
            logger.warning("provider %s failed (%s); trying the next route", route.provider, error.message)
    raise AssertionError("a catalog model has at least one route")


async def _ask_route(
    providers: Registry, admitted: Admitted, route: RouteView, ask: Callable[[Provider, ProviderRequest], Awaitable[T]]
) -> T:
    provider = providers.get(route.provider)
    request = _request(admitted, route)
    try:
        return await ask(provider, request)
    except UpstreamUnavailable as error:
        # A kept connection may have been closed by the provider in the instant it was written to: once more, at once.
        if error.status is not None or not error.retryable:
            raise
        return await ask(provider, request)


def _request(admitted: Admitted, route: RouteView) -> ProviderRequest:
    return ProviderRequest(
        operation=admitted.request.operation,
        upstream_model=route.upstream_model,
        body=admitted.request.body,
        request_id=admitted.caller.request_id,
    )
