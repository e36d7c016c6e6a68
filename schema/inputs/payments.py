"""Inputs about payment methods, tax ids, hosted pages and transfers."""

import strawberry

from schema.scalars import Credits

_WORKSPACE = "Which workspace"
_BACK = "Where the page leads back to"
_METHOD = "Which one; see `Workspace.paymentMethods`"


@strawberry.input(description="A payment method to be saved on a hosted page")
class CreatePaymentMethodSetupInput:
    """The contract's CreatePaymentMethodSetupInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    return_url: str = strawberry.field(description=_BACK)


@strawberry.input(description="The payment method to charge from now on")
class SetDefaultPaymentMethodInput:
    """The contract's SetDefaultPaymentMethodInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    payment_method_id: strawberry.ID = strawberry.field(description=_METHOD)


@strawberry.input(description="A payment method to forget")
class RemovePaymentMethodInput:
    """The contract's RemovePaymentMethodInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    payment_method_id: strawberry.ID = strawberry.field(description=_METHOD)


@strawberry.input(description="The payment provider's own pages on invoices, methods and tax ids")
class CreateBillingPortalSessionInput:
    """The contract's CreateBillingPortalSessionInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    return_url: str = strawberry.field(description=_BACK)


@strawberry.input(description="A bank account to be given on a hosted page, for transfers out")
class CreatePayoutSetupInput:
    """What createPayoutSetup is given."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    return_url: str = strawberry.field(description=_BACK)


@strawberry.input(description="Credits to pay out")
class RequestTransferInput:
    """The contract's RequestTransferInput."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    amount: Credits | None = strawberry.field(
        default=strawberry.UNSET, description="How many credits; all that may be paid out when left out"
    )
    idempotency_key: str = strawberry.field(
        description="Your name for this request: sent again with it, it is done once"
    )


@strawberry.input(description="A tax id to keep")
class AddTaxIdInput:
    """What addTaxId is given."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    kind: str = strawberry.field(description="Such as eu_vat; see the payment provider's list")
    value: str = strawberry.field(description="The number")


@strawberry.input(description="A tax id to forget")
class RemoveTaxIdInput:
    """What removeTaxId is given."""

    workspace_id: strawberry.ID = strawberry.field(description=_WORKSPACE)
    tax_id: strawberry.ID = strawberry.field(description="Which one; see `Workspace.taxIds`")
