"""Where a call has been: its tries at providers, and the stream that one of them has begun."""

from dataclasses import dataclass

from gateway.failures import Outcome
from kit.records import record
from providers.base import ProviderStream, StreamChunk


@record
class Try:
    """One try at a provider."""

    provider: str
    outcome: Outcome


@dataclass(slots=True)
class Routed:
    """Where a call has been: its tries, the last of them the one that answered."""

    tries: list[Try]

    @property
    def provider(self) -> str:
        """The name of the provider tried last."""
        return self.tries[-1].provider if self.tries else ""

    def told(self) -> dict[str, object] | None:
        """For the usage event's details: None where the first try was answered, which the event's provider says."""
        if len(self.tries) <= 1:
            return None
        return {"route": [[each.provider, each.outcome] for each in self.tries]}


@record
class BegunStream:
    """A stream that has produced something, or ended: the chunks read so far, and where the others come from."""

    head: list[StreamChunk]
    rest: ProviderStream
