"""On which terms one model is called: its prices, its discount, and who is paid a share of them."""

from typing import Protocol
from uuid import UUID

from billing.rules.templates import Template
from billing.views import ModelView
from gateway.routed import BegunStream, Routed
from gateway.rules.truth import End, Seen
from kit.json_values import JsonObject
from kit.records import record
from metering.operations import UsageFacts
from metering.rules.price_list import PriceList
from metering.rules.uses import PublishedUse
from providers.base import ProviderAnswer


@record
class Payee:
    """The publisher of a model that is called: `share_percent` of what is charged for it is the wallet's."""

    model_id: UUID
    wallet_id: UUID
    slug: str
    share_percent: int

    def use(self, cost_micro: int, usage: UsageFacts) -> PublishedUse:
        """A use of the model, for the split of the charge and the publisher's analytics."""
        return PublishedUse(
            model_id=self.model_id,
            wallet_id=self.wallet_id,
            slug=self.slug,
            cost_micro=cost_micro,
            share_percent=self.share_percent,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
        )


@record
class CallTerms:
    """A model as one caller may call it now. `price_list`: of which each request has its own prices.

    `input_schema`, `prompt`: what it makes of an `input`, if it says.
    """

    model: ModelView
    price_list: PriceList
    discount_percent: int
    payee: Payee | None = None
    input_schema: JsonObject | None = None
    prompt: Template | None = None


class ChainedCall(Protocol):
    """A call that runs through a chain of models; gateway.chains has it."""

    async def answer(self, routed: Routed) -> ProviderAnswer:
        """Run the steps; the answer of the last, and where that came from. Raises ProviderError where a step fails."""
        ...

    async def stream(self, routed: Routed) -> BegunStream:
        """Run the steps before the last; the last one's stream from its first output on. Raises likewise."""
        ...

    def so_far(self, end: End, seen: Seen) -> tuple[UsageFacts, int]:
        """What all steps used and what they cost, had the call this end now; `seen` is of the last step's stream."""
        ...
