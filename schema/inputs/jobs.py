"""Inputs about jobs and assets."""

import strawberry


@strawberry.input(description="Which call to cancel")
class CancelCallInput:
    """The contract's CancelCallInput."""

    call_id: strawberry.ID = strawberry.field(description="A call that `startCall` began")


@strawberry.input(description="Which asset to delete")
class DeleteAssetInput:
    """Beyond the contract."""

    asset_id: strawberry.ID = strawberry.field(description="The asset")
