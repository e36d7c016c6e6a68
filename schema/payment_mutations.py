"""What can be done about payment methods, tax ids, hosted pages and transfers out."""

from typing import Annotated

import strawberry

from resolvers import payments
from schema.cost import Cost
from schema.errors import answered
from schema.inputs.payments import (
    AddTaxIdInput,
    CreateBillingPortalSessionInput,
    CreatePaymentMethodSetupInput,
    CreatePayoutSetupInput,
    RemovePaymentMethodInput,
    RemoveTaxIdInput,
    RequestTransferInput,
    SetDefaultPaymentMethodInput,
)
from schema.inputs.values import given
from schema.node import Info
from schema.types.payloads import DeletePayload
from schema.types.payments import HostedPagePayload, PaymentMethodPayload, TaxIdPayload, TransferPayload

MUTATION = Cost(weight="10")


@strawberry.type
class PaymentMutation:
    """A part of Mutation."""

    @strawberry.mutation(description="Opens the page on which a payment method is saved", directives=[MUTATION])
    async def create_payment_method_setup(
        self,
        info: Info,
        input: Annotated[CreatePaymentMethodSetupInput, strawberry.argument(description="For whom")],  # noqa: A002
    ) -> HostedPagePayload | None:
        """For whom."""
        work = payments.open_setup(info.context, workspace_id=input.workspace_id, return_url=input.return_url)
        return await answered(info.context, HostedPagePayload, work)

    @strawberry.mutation(description="Charges another payment method from now on", directives=[MUTATION])
    async def set_default_payment_method(
        self,
        info: Info,
        input: Annotated[SetDefaultPaymentMethodInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> PaymentMethodPayload | None:
        """Which one."""
        work = payments.make_default(info.context, workspace_id=input.workspace_id, method_id=input.payment_method_id)
        return await answered(info.context, PaymentMethodPayload, work)

    @strawberry.mutation(
        description="Forgets a payment method; without another one auto-recharge is turned off", directives=[MUTATION]
    )
    async def remove_payment_method(
        self,
        info: Info,
        input: Annotated[RemovePaymentMethodInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Which one."""
        work = payments.remove_method(info.context, workspace_id=input.workspace_id, method_id=input.payment_method_id)
        return await answered(info.context, DeletePayload, work)

    @strawberry.mutation(
        description="Opens the payment provider's own pages on invoices, methods and tax ids", directives=[MUTATION]
    )
    async def create_billing_portal_session(
        self,
        info: Info,
        input: Annotated[CreateBillingPortalSessionInput, strawberry.argument(description="For whom")],  # noqa: A002
    ) -> HostedPagePayload | None:
        """For whom."""
        work = payments.open_portal(info.context, workspace_id=input.workspace_id, return_url=input.return_url)
        return await answered(info.context, HostedPagePayload, work)

    @strawberry.mutation(
        description="Opens the page on which a bank account is given, which transfers out need", directives=[MUTATION]
    )
    async def create_payout_setup(
        self,
        info: Info,
        input: Annotated[CreatePayoutSetupInput, strawberry.argument(description="For whom")],  # noqa: A002
    ) -> HostedPagePayload | None:
        """For whom."""
        work = payments.open_payout_setup(info.context, workspace_id=input.workspace_id, return_url=input.return_url)
        return await answered(info.context, HostedPagePayload, work)

    @strawberry.mutation(
        description="Pay out part or all of the transferable balance to the bank account set up with the payment provider",
        directives=[MUTATION],
    )
    async def request_transfer(
        self,
        info: Info,
        input: Annotated[RequestTransferInput, strawberry.argument(description="How much")],  # noqa: A002
    ) -> TransferPayload | None:
        """How much."""
        work = payments.request_transfer(
            info.context,
            workspace_id=input.workspace_id,
            amount_micro=given(input.amount),
            idempotency_key=input.idempotency_key,
        )
        return await answered(info.context, TransferPayload, work)

    @strawberry.mutation(description="Keeps a tax id, which stands on invoices from now on", directives=[MUTATION])
    async def add_tax_id(
        self,
        info: Info,
        input: Annotated[AddTaxIdInput, strawberry.argument(description="The tax id")],  # noqa: A002
    ) -> TaxIdPayload | None:
        """The tax id."""
        work = payments.add_tax_id(info.context, workspace_id=input.workspace_id, kind=input.kind, value=input.value)
        return await answered(info.context, TaxIdPayload, work)

    @strawberry.mutation(description="Forgets a tax id", directives=[MUTATION])
    async def remove_tax_id(
        self,
        info: Info,
        input: Annotated[RemoveTaxIdInput, strawberry.argument(description="Which one")],  # noqa: A002
    ) -> DeletePayload | None:
        """Which one."""
        work = payments.remove_tax_id(info.context, workspace_id=input.workspace_id, tax_id=input.tax_id)
        return await answered(info.context, DeletePayload, work)
