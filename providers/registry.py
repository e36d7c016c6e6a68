"""The providers of a catalog, ready to be called by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from providers.base import Provider, ProviderAnswer, ProviderRequest, ProviderStream, Timeouts
from providers.errors import ProviderNotConfigured
from providers.http_client import KeepAliveTransport
from providers.openai_compatible import OpenAICompatibleProvider
from providers.prediction_terms import PredictionTerms
from providers.sandbox import SandboxProvider
from providers.transport import EndpointError, Headers, HttpTransport


class ProviderKind(StrEnum):
    """Which adapter speaks to a provider."""

    SANDBOX = "sandbox"
    OPENAI_COMPATIBLE = "openai_compatible"
    PREDICTION = "prediction"


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider as the catalog defines it; secrets are only named.

    `base_url_env` names a variable that replaces `base_url` where it is set. `api_key_env` names the variable with
    the key; None for a provider that wants none. `headers` are sent with every call. `prediction`: how a provider of
    predictions is spoken to, by providers.job_registry.
    """

    name: str
    kind: ProviderKind
    base_url: str | None = None
    base_url_env: str | None = None
    api_key_env: str | None = None
    headers: Headers = field(default=(), repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    prediction: PredictionTerms | None = None

    def address(self, env: Mapping[str, str]) -> str | None:
        """Where it answers."""
        return (env.get(self.base_url_env, "").strip() if self.base_url_env else "") or self.base_url


class UnconfiguredProvider:
    """Serves Provider by saying what is missing; the others of the catalog work all the same."""

    def __init__(self, name: str, reason: str, *, wanting: bool = True) -> None:
        """`reason` is a sentence for the operator and holds no secret; not `wanting`: nothing of the operator's lacks."""
        self.name = name
        self.reason = reason
        self.wanting = wanting

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """Raises ProviderNotConfigured."""
        del request
        raise ProviderNotConfigured(self.reason)

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """Raises ProviderNotConfigured."""
        del request
        raise ProviderNotConfigured(self.reason)

    async def aclose(self) -> None:
        """Nothing is open."""


class Registry:
    """All providers by name, over one pool of connections that it owns."""

    def __init__(self, providers: Mapping[str, Provider], transport: HttpTransport) -> None:
        """See from_specs."""
        self._providers = dict(providers)
        self._transport = transport

    @classmethod
    def from_specs(
        cls, specs: Sequence[ProviderSpec], env: Mapping[str, str], transport: HttpTransport | None = None
    ) -> "Registry":
        """Never raises for a provider that lacks its key or address: such a one raises when it is called."""
        pool = transport or KeepAliveTransport()
        return cls({spec.name: _provider_of(spec, env, pool) for spec in specs}, pool)

    def get(self, name: str) -> Provider:
        """The provider of this name. Raises ProviderNotConfigured where the catalog has none."""
        provider = self._providers.get(name)
        if provider is None:
            raise ProviderNotConfigured(f"the catalog has no provider named {name!r}")
        return provider

    def unconfigured(self) -> dict[str, str]:
        """What is missing, by the name of the provider: to be told at start."""
        return {
            name: provider.reason
            for name, provider in self._providers.items()
            if isinstance(provider, UnconfiguredProvider) and provider.wanting
        }

    async def aclose(self) -> None:
        """Close every provider and the pool."""
        for provider in self._providers.values():
            await provider.aclose()
        await self._transport.aclose()


def _provider_of(spec: ProviderSpec, env: Mapping[str, str], transport: HttpTransport) -> Provider:
    match spec.kind:
        case ProviderKind.SANDBOX if not spec.address(env):
            return SandboxProvider(spec.name, timeouts=spec.timeouts)
        case ProviderKind.SANDBOX:
            return _openai_compatible(spec, env, transport)
        case ProviderKind.OPENAI_COMPATIBLE:
            return _openai_compatible(spec, env, transport)
        case ProviderKind.PREDICTION:
            return UnconfiguredProvider(spec.name, f"provider {spec.name!r} takes jobs only (startCall)", wanting=False)
        case _:
            assert_never(spec.kind)


def _openai_compatible(spec: ProviderSpec, env: Mapping[str, str], transport: HttpTransport) -> Provider:
    base_url = spec.address(env)
    if not base_url:
        wanted = f"the environment variable {spec.base_url_env}" if spec.base_url_env else "a base_url in the catalog"
        return UnconfiguredProvider(spec.name, f"provider {spec.name!r} needs {wanted}")
    api_key = None
    if spec.api_key_env is not None:
        api_key = env.get(spec.api_key_env, "").strip()
        if not api_key:
            return UnconfiguredProvider(
                spec.name, f"provider {spec.name!r} needs the environment variable {spec.api_key_env}"
            )
    try:
        return OpenAICompatibleProvider(
            spec.name,
            base_url=base_url,
            api_key=api_key,
            transport=transport,
            headers=spec.headers,
            timeouts=spec.timeouts,
        )
    except EndpointError as error:
        return UnconfiguredProvider(spec.name, f"provider {spec.name!r} cannot be used: {error}")
