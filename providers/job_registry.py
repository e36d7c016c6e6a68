"""The providers of a catalog as those of predictions, by name: each kind in its own way."""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import aiohttp

from providers.at_once import AtOnce
from providers.errors import ProviderNotConfigured
from providers.key_source import KeyMissing, api_key_of
from providers.prediction_http import HttpPredictionProvider
from providers.predictions import PredictionProvider
from providers.registry import ProviderKind, ProviderSpec, Registry
from providers.sandbox_jobs import SandboxJobs
from providers.sandbox_predictions import TERMS
from providers.transport import EndpointError

MAX_CONNECTIONS: Final = 200


class JobProviders:
    """One per process; `open` it within a running loop."""

    def __init__(self, session: aiohttp.ClientSession, found: Mapping[str, PredictionProvider | str]) -> None:
        """Use `open`."""
        self._session = session
        self._found = found

    @classmethod
    async def open(cls, specs: Sequence[ProviderSpec], env: Mapping[str, str], registry: Registry) -> Self:
        """Never raises for a provider that lacks its key or address: such a one raises when it is asked for.

        `registry` has the same providers, for those that answer at once.
        """
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )
        return cls(session, {spec.name: _provider_of(spec, env, registry, session) for spec in specs})

    def get(self, name: str) -> PredictionProvider:
        """The provider of this name. Raises ProviderNotConfigured where the catalog has none, or it lacks something."""
        found = self._found.get(name, f"the catalog has no provider named {name!r}")
        if isinstance(found, str):
            raise ProviderNotConfigured(found)
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()


def _provider_of(
    spec: ProviderSpec, env: Mapping[str, str], registry: Registry, session: aiohttp.ClientSession
) -> PredictionProvider | str:
    """The provider, or what it lacks."""
    address = spec.address(env)
    terms = spec.prediction
    if spec.kind is ProviderKind.SANDBOX:
        if not address:
            return SandboxJobs(spec.name)
        terms = terms or TERMS
    if terms is None:
        return AtOnce(registry.get(spec.name))
    if not address:
        return f"provider {spec.name!r} has no address"
    try:
        api_key = None if spec.api_key_env is None else api_key_of(spec.api_key_env, env)
    except KeyMissing as error:
        return f"provider {spec.name!r} {error}"
    try:
        return HttpPredictionProvider(
            spec.name,
            base_url=address,
            api_key=api_key,
            terms=terms,
            session=session,
            timeouts=spec.policy.timeouts,
            webhook_secret=_of_variable(env, terms.webhook_secret_env),
        )
    except EndpointError as error:
        return f"provider {spec.name!r} cannot be used: {error}"


def _of_variable(env: Mapping[str, str], name: str | None) -> str | None:
    return (env.get(name, "").strip() or None) if name is not None else None
