"""The providers of publishers: called with their own key at their own address, and never into our network.

Every name is resolved and checked when a connection is opened, and the connection goes to the addresses checked: a name
that leads elsewhere tomorrow leads nowhere.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import aiohttp

from billing.egress import checked_connector
from billing.published import ROUTE_PREFIX, Published
from billing.rules.egress import Network, literal_address, may_reach
from kit.sealing import Sealer, row_context
from providers.aiohttp_transport import AiohttpTransport
from providers.base import Provider, Timeouts
from providers.errors import UpstreamUnavailable
from providers.openai_compatible import OpenAICompatibleProvider
from providers.registry import CallPolicy
from providers.transport import HttpAnswer, HttpRequest

MAX_KEPT: Final = 2_000
MAX_CONNECTIONS: Final = 1_024
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
TIMEOUTS: Final = Timeouts(first_byte_s=60.0, idle_s=30.0, total_s=300.0)
"""A publisher's provider gets less time than the operator's own: a hold lasts as long."""
POLICY: Final = CallPolicy(timeouts=TIMEOUTS, circuit_failures=0)
"""It has no circuit: it serves one model, which no other provider could take over."""


class CheckedTransport:
    """Serves HttpTransport to public addresses, and to those the operator allows."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        """`allowed`: TOLLGATE_EGRESS_ALLOW."""
        self._allowed = tuple(allowed)
        self._transport = AiohttpTransport(connector=self._connector)

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """See HttpTransport."""
        literal = literal_address(request.endpoint.host)  # which the connector does not resolve
        if literal is not None and not may_reach(literal, self._allowed):
            raise UpstreamUnavailable("the provider's address may not be reached")
        return await self._transport.send(replace(request, max_answer_bytes=MAX_ANSWER_BYTES))

    async def aclose(self) -> None:
        """See HttpTransport."""
        await self._transport.aclose()

    def _connector(self) -> aiohttp.BaseConnector:
        return checked_connector(self._allowed, limit=MAX_CONNECTIONS, per_host=64)


@dataclass(slots=True)
class _Kept:
    """An adapter, made of a model as it was changed last at `updated_at`; see Published for its `epoch`."""

    epoch: int
    updated_at: datetime
    provider: Provider


class Publishers:
    """Makes and keeps the adapters of publishers' providers, by model."""

    def __init__(self, sealer: Sealer, allowed: Sequence[Network]) -> None:
        """One per process."""
        self._sealer = sealer
        self._transport = CheckedTransport(allowed)
        self._kept: OrderedDict[UUID, _Kept] = OrderedDict()

    def prepare(self, published: Published) -> None:
        """Have the model's provider at hand for `get`, with its key as it is now; nothing for a chain.

        One that was being read when it changed does not take the place of what was read after that.
        """
        model_id = published.model.id
        kept = self._kept.get(model_id)
        if published.base_url is None or (kept is not None and published.epoch < kept.epoch):
            return
        if kept is not None and kept.updated_at == published.updated_at:
            kept.epoch = published.epoch
            return
        context = row_context("published_models", "api_key_encrypted", model_id)
        key = self._sealer.open(published.sealed_key, context).decode("ascii") if published.sealed_key else None
        provider = OpenAICompatibleProvider(
            published.slug, base_url=published.base_url, api_key=key, transport=self._transport, timeouts=TIMEOUTS
        )
        self._kept[model_id] = _Kept(published.epoch, published.updated_at, provider)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def get(self, name: str) -> Provider | None:
        """The provider that a published model's route names; None for any other name."""
        if not name.startswith(ROUTE_PREFIX):
            return None
        kept = self._kept.get(UUID(hex=name.removeprefix(ROUTE_PREFIX)))
        return None if kept is None else kept.provider

    async def aclose(self) -> None:
        """Close every connection; calls in flight fail."""
        await self._transport.aclose()
