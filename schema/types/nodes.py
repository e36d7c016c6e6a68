"""The API's type for each kind of thing that has a global id."""

from typing import Annotated, assert_never

import strawberry

from accounts.views import ApiKeyView, InvitationView, MemberView, UserView, WorkspaceView
from billing.invoices import InvoiceView
from billing.payment_methods import PaymentMethodView
from billing.published import Published
from billing.transfers import TransferView
from billing.views import ModelView, PackView, PaymentView, PlanView, PriceView, SubscriptionView
from gateway.payloads import AssetView
from metering.views import CallView, EntryView, GrantView, WalletView
from resolvers.nodes import NodeView
from schema.node import Node
from schema.types.api_keys import ApiKey
from schema.types.billing import Payment, PlanSubscription
from schema.types.calls import Asset, ModelCall
from schema.types.catalog import CreditPack, Model, Plan, Price
from schema.types.grants import CreditGrant
from schema.types.payments import Invoice, PaymentMethod, Transfer
from schema.types.people import Invitation, Member, User
from schema.types.published import PublishedModel
from schema.types.wallets import LedgerEntry, Wallet
from schema.types.workspaces import Workspace


def node_of(view: NodeView) -> Node:
    """The view in its type."""
    match view:
        case ApiKeyView():
            return ApiKey.of(view)
        case AssetView():
            return Asset.of(view)
        case CallView():
            return ModelCall.of(view)
        case EntryView():
            return LedgerEntry.of(view)
        case GrantView():
            return CreditGrant.of(view)
        case InvitationView():
            return Invitation.of(view)
        case InvoiceView():
            return Invoice.of(view)
        case MemberView():
            return Member.of(view)
        case ModelView():
            return Model.of(view)
        case PackView():
            return CreditPack.of(view)
        case PaymentMethodView():
            return PaymentMethod.of(view)
        case PaymentView():
            return Payment.of(view)
        case PlanView():
            return Plan.of(view)
        case PriceView():
            return Price.of(view)
        case Published():
            return PublishedModel.of(view)
        case SubscriptionView():
            return PlanSubscription.of(view)
        case TransferView():
            return Transfer.of(view)
        case UserView():
            return User.of(view)
        case WalletView():
            return Wallet.of(view)
        case WorkspaceView():
            return Workspace.of(view)
        case _:
            assert_never(view)


Entity = Annotated[
    Workspace | Plan | Model | User,
    strawberry.union("_Entity", description="What a federated graph may refer to by id"),
]


def entity_of(view: NodeView | None) -> Workspace | Plan | Model | User | None:
    """The view in its type, where it is an entity's."""
    node = None if view is None else node_of(view)
    return node if isinstance(node, Workspace | Plan | Model | User) else None
