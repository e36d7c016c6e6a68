"""The providers of a catalog, ready to be called by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final, assert_never

from providers.anthropic import AnthropicProvider
from providers.base import Provider, ProviderAnswer, ProviderRequest, ProviderStream, Timeouts
from providers.errors import ProviderNotConfigured
from providers.http_client import KeepAliveTransport
from providers.key_source import KeyMissing, api_key_of
from providers.openai_compatible import OpenAICompatibleProvider
from providers.prediction_terms import PredictionTerms
from providers.sandbox import SandboxProvider
from providers.transport import EndpointError, Headers, HttpTransport


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How calls to a provider are made: its times, how often a call is repeated there, and when it is left alone.

    `circuit_failures` failures within a minute, at least half of its calls, keep calls away for `circuit_cooldown_s`
    seconds at first; 0 never does.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: int = 2
    circuit_failures: int = 5
    circuit_cooldown_s: float = 5.0


USUAL_POLICY: Final = CallPolicy()
"""Of a provider that the catalog says nothing more of."""


class ProviderKind(StrEnum):
    """Which adapter speaks to a provider."""

    SANDBOX = "sandbox"
    OPENAI_COMPATIBLE = "openai_compatible"
    ANTHROPIC = "anthropic"
    PREDICTION = "prediction"


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider as the catalog defines it; secrets are only named.

    `base_url_env` names a variable that replaces `base_url` where it is set. `api_key_env` names the variable with
    the key, or with `_FILE` behind it the variable with the path of a file that holds it; None for a provider that
    wants none. `headers` are sent with every call. `responses`: it speaks OpenAI's Responses API, too.
    `max_tokens_only`: it knows a chat's limit by that name alone. `prediction`: how a provider of predictions is spoken to, by
    providers.job_registry.
    """

    name: str
    kind: ProviderKind
    base_url: str | None = None
    base_url_env: str | None = None
    api_key_env: str | None = None
    headers: Headers = field(default=(), repr=False)
    policy: CallPolicy = USUAL_POLICY
    responses: bool = False
    max_tokens_only: bool = False
    prediction: PredictionTerms | None = None

    def address(self, env: Mapping[str, str]) -> str | None:
        """Where it answers."""
        return (env.get(self.base_url_env, "").strip() if self.base_url_env else "") or self.base_url


_NOT_SET_UP: Final = "the provider of this model is not set up here; call another model, or ask the operator"
"""What callers are told: names of variables are for the operator."""


class UnconfiguredProvider:
    """Serves Provider by saying what is missing; the others of the catalog work all the same."""

    def __init__(self, name: str, reason: str, *, wanting: bool = True) -> None:
        """`reason` is a sentence for the operator and holds no secret; not `wanting`: nothing of the operator's lacks."""
        self.name = name
        self.reason = reason
        self.wanting = wanting
        self._told = _NOT_SET_UP if wanting else reason

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """Raises ProviderNotConfigured."""
        del request
        raise ProviderNotConfigured(self._told)

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """Raises ProviderNotConfigured."""
        del request
        raise ProviderNotConfigured(self._told)

    async def aclose(self) -> None:
        """Nothing is open."""


class Registry:
    """All providers by name, over one pool of connections that it owns."""

    def __init__(
        self, providers: Mapping[str, Provider], policies: Mapping[str, CallPolicy], transport: HttpTransport
    ) -> None:
        """See from_specs."""
        self._providers = dict(providers)
        self.policies: Final = dict(policies)
        """How calls are made, by the name of the provider."""
        self._transport = transport
        self.others: Callable[[str], Provider | None] = _none
        """Asked for a name that the catalog does not have: app.lifespan wires the providers of publishers to it."""
        self.others_policy = USUAL_POLICY
        """How these are called."""

    @classmethod
    def from_specs(
        cls, specs: Sequence[ProviderSpec], env: Mapping[str, str], transport: HttpTransport | None = None
    ) -> "Registry":
        """Never raises for a provider that lacks its key or address: such a one raises when it is called."""
        pool = transport or KeepAliveTransport()
        return cls(
            {spec.name: _provider_of(spec, env, pool) for spec in specs},
            {spec.name: spec.policy for spec in specs},
            pool,
        )

    def get(self, name: str) -> Provider:
        """The provider of this name. Raises ProviderNotConfigured where the catalog has none."""
        provider = self._providers.get(name) or self.others(name)
        if provider is None:
            raise ProviderNotConfigured(f"the catalog has no provider named {name!r}")
        return provider

    def policy(self, name: str) -> CallPolicy:
        """How the provider of this name is called."""
        return self.policies.get(name) or self.others_policy

    @property
    def open_connections(self) -> int:
        """Connections to all providers, idle ones included, as far as our own transport has them."""
        return self._transport.open_connections if isinstance(self._transport, KeepAliveTransport) else 0

    def lacks(self, name: str) -> bool:
        """The provider of this name cannot be asked until the operator has set it up."""
        provider = self._providers.get(name)
        return isinstance(provider, UnconfiguredProvider) and provider.wanting

    def unconfigured(self) -> dict[str, str]:
        """What is missing, by the name of the provider: to be told at start."""
        return {
            name: provider.reason
            for name, provider in self._providers.items()
            if isinstance(provider, UnconfiguredProvider) and self.lacks(name)
        }

    async def aclose(self) -> None:
        """Close every provider and the pool."""
        for provider in self._providers.values():
            await provider.aclose()
        await self._transport.aclose()


def _none(name: str) -> Provider | None:
    del name


def _provider_of(spec: ProviderSpec, env: Mapping[str, str], transport: HttpTransport) -> Provider:
    match spec.kind:
        case ProviderKind.SANDBOX if not spec.address(env):
            return SandboxProvider(spec.name, timeouts=spec.policy.timeouts, responses=spec.responses)
        case ProviderKind.SANDBOX | ProviderKind.OPENAI_COMPATIBLE:
            adapter = partial(OpenAICompatibleProvider, responses=spec.responses, max_tokens_only=spec.max_tokens_only)
            return _over_http(adapter, spec, env, transport)
        case ProviderKind.ANTHROPIC:
            return _over_http(AnthropicProvider, spec, env, transport)
        case ProviderKind.PREDICTION:
            return UnconfiguredProvider(spec.name, f"provider {spec.name!r} takes jobs only (startCall)", wanting=False)
        case _:
            assert_never(spec.kind)


def _over_http(
    adapter: Callable[..., Provider],
    spec: ProviderSpec,
    env: Mapping[str, str],
    transport: HttpTransport,
) -> Provider:
    base_url = spec.address(env)
    if not base_url:
        wanted = f"the environment variable {spec.base_url_env}" if spec.base_url_env else "a base_url in the catalog"
        return UnconfiguredProvider(spec.name, f"provider {spec.name!r} needs {wanted}")
    try:
        api_key = None if spec.api_key_env is None else api_key_of(spec.api_key_env, env)
    except KeyMissing as missing:
        return UnconfiguredProvider(spec.name, f"provider {spec.name!r} {missing}")
    try:
        return adapter(
            spec.name,
            base_url=base_url,
            api_key=api_key,
            transport=transport,
            headers=spec.headers,
            timeouts=spec.policy.timeouts,
        )
    except EndpointError as error:
        return UnconfiguredProvider(spec.name, f"provider {spec.name!r} cannot be used: {error}")
