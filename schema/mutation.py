"""What can be done."""

from typing import Annotated

import strawberry

from resolvers import calls
from schema.account_mutations import AccountMutation
from schema.billing_mutations import BillingMutation
from schema.cost import Cost
from schema.errors import answered
from schema.identity_mutations import IdentityMutation
from schema.inputs.calls import ModelCallInput
from schema.job_mutations import JobMutation
from schema.node import Info
from schema.payment_mutations import PaymentMutation
from schema.publishing_mutations import PublishingMutation
from schema.types.payloads import ModelCallPayload
from schema.webhook_mutations import WebhookMutation

CallInput = Annotated[ModelCallInput, strawberry.argument(description="The call")]


@strawberry.type(description="What can be done; the fields of one document run one after the other")
class Mutation(
    IdentityMutation,
    AccountMutation,
    WebhookMutation,
    BillingMutation,
    PaymentMutation,
    PublishingMutation,
    JobMutation,
):
    """The contract's Mutation."""

    @strawberry.mutation(
        description="Call a model and pay for it from the workspace's wallet", directives=[Cost(weight="10")]
    )
    async def call_model(self, info: Info, input: CallInput) -> ModelCallPayload | None:  # noqa: A002  the contract's name
        """A model call."""
        return await answered(info.context, ModelCallPayload, calls.call_model(info.context, input.ask()))
