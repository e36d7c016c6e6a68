"""One request's look-ups by id, each batched and remembered. They say nothing about who may see what they find."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from accounts.api_keys import keys_by_ids
from accounts.people import users_by_ids, workspaces_shared
from accounts.views import ApiKeyView, Principal, UserView, WorkspaceView
from accounts.workspaces import workspaces_by_ids
from billing.auto_recharge import AutoRechargeView, auto_recharges_of
from billing.free_credits import free_credit_refusals
from billing.invoices import InvoiceView, invoices_by_ids
from billing.payment_methods import PaymentMethodView, methods_by_ids, methods_of
from billing.payment_rows import payments_by_ids
from billing.plans import plans_of
from billing.subscription_rows import live_subscriptions, subscriptions_by_ids
from billing.transfers import TransferView, transfers_by_ids
from billing.views import PaymentView, PlanView, SubscriptionView
from gateway.asset_rows import AssetRow, StorageView, storage_of
from kit.clock import now
from kit.json_values import JsonObject
from metering.usage import calls_by_id
from metering.views import CallView, EntryView, GrantView, WalletView
from metering.wallets import entries_by_id, grants_by_id, wallets_by_id
from resolvers.batches import Batch
from resolvers.page_loaders import PageLoaders
from resolvers.services import ResolverServices


@dataclass(frozen=True, slots=True)
class KeptOutput:
    """A call's answer that is kept; `body` None where it is too much to be read with the others."""

    body: JsonObject | None


class Loaders:
    """Made anew for every operation and after every mutation; each look-up when it is first asked for."""

    def __init__(self, services: ResolverServices, principal: Principal) -> None:
        """`principal` is whose role a workspace is read with."""
        self._services = services
        self._principal = principal
        self._viewer_id = principal.user_id
        self._own_workspace_id = principal.workspace_id

    @cached_property
    def pages(self) -> PageLoaders:
        """Lists of a parent."""
        return PageLoaders(self._services, self._principal)

    @cached_property
    def workspaces(self) -> Batch[UUID, WorkspaceView]:
        """With the viewer's role."""
        return Batch(self._workspaces)

    @cached_property
    def plans(self) -> Batch[UUID, PlanView]:
        """By workspace: the plan that holds now."""
        return Batch(self._plans)

    @cached_property
    def live_subscriptions(self) -> Batch[UUID, SubscriptionView]:
        """By workspace: the one that has not ended."""
        return Batch(self._live_subscriptions)

    @cached_property
    def subscriptions(self) -> Batch[UUID, SubscriptionView]:
        """Ended ones included."""
        return Batch(self._subscriptions)

    @cached_property
    def payments(self) -> Batch[UUID, PaymentView]:
        """Failed ones included."""
        return Batch(self._payments)

    @cached_property
    def payment_methods(self) -> Batch[UUID, Sequence[PaymentMethodView]]:
        """By workspace: what is saved, the default one first."""
        return Batch(self._payment_methods)

    @cached_property
    def methods_by_id(self) -> Batch[UUID, PaymentMethodView]:
        """Those that are saved now."""
        return Batch(lambda ids: methods_by_ids(self._services.database, ids))

    @cached_property
    def invoices(self) -> Batch[UUID, InvoiceView]:
        """By id."""
        return Batch(lambda ids: invoices_by_ids(self._services.database, ids))

    @cached_property
    def transfers(self) -> Batch[UUID, TransferView]:
        """Failed ones included."""
        return Batch(lambda ids: transfers_by_ids(self._services.database, ids))

    @cached_property
    def auto_recharges(self) -> Batch[UUID, AutoRechargeView]:
        """By workspace, those that never set anything included."""
        return Batch(self._auto_recharges)

    @cached_property
    def free_credit_refusals(self) -> Batch[UUID, str]:
        """By workspace that gets no free credits: why."""
        return Batch(self._free_credit_refusals)

    @cached_property
    def users(self) -> Batch[UUID, UserView]:
        """Erased ones included."""
        return Batch(self._users)

    @cached_property
    def shared_workspaces(self) -> Batch[UUID, frozenset[UUID]]:
        """By user: the workspaces that they and the viewer are in."""
        return Batch(self._shared_workspaces)

    @cached_property
    def keys(self) -> Batch[UUID, ApiKeyView]:
        """Ended ones included."""
        return Batch(self._keys)

    @cached_property
    def wallets(self) -> Batch[UUID, WalletView]:
        """As they stand now."""
        return Batch(self._wallets)

    @cached_property
    def grants(self) -> Batch[UUID, GrantView]:
        """Used up ones included."""
        return Batch(self._grants)

    @cached_property
    def entries(self) -> Batch[UUID, EntryView]:
        """Of wallets."""
        return Batch(self._entries)

    @cached_property
    def calls(self) -> Batch[UUID, CallView]:
        """Running ones included."""
        return Batch(self._calls)

    @cached_property
    def outputs(self) -> Batch[UUID, KeptOutput]:
        """By call, while they are kept."""
        return Batch(self._outputs)

    @cached_property
    def assets(self) -> Batch[UUID, AssetRow]:
        """Those that are there."""
        return Batch(self._services.assets.by_ids)

    @cached_property
    def storage(self) -> Batch[UUID, StorageView]:
        """By workspace."""
        return Batch(lambda ids: storage_of(self._services.database, ids))

    def _workspaces(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, WorkspaceView]]:
        return workspaces_by_ids(self._services.database, ids, viewer_id=self._viewer_id)

    def _plans(self, workspace_ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, PlanView]]:
        return plans_of(self._services.database, self._services.catalog.current, workspace_ids, now())

    def _live_subscriptions(self, workspace_ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, SubscriptionView]]:
        return live_subscriptions(self._services.billing, workspace_ids)

    def _subscriptions(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, SubscriptionView]]:
        return subscriptions_by_ids(self._services.billing, ids)

    def _payments(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, PaymentView]]:
        return payments_by_ids(self._services.database, ids)

    def _payment_methods(self, workspace_ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, Sequence[PaymentMethodView]]]:
        return methods_of(self._services.database, workspace_ids)

    def _auto_recharges(self, workspace_ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, AutoRechargeView]]:
        return auto_recharges_of(self._services.billing, workspace_ids)

    def _free_credit_refusals(self, workspace_ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, str]]:
        return free_credit_refusals(self._services.database, workspace_ids)

    def _users(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, UserView]]:
        return users_by_ids(self._services.database, ids)

    def _keys(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, ApiKeyView]]:
        return keys_by_ids(self._services.accounts, ids)

    def _wallets(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, WalletView]]:
        return wallets_by_id(self._services.database, ids, now())

    def _grants(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, GrantView]]:
        return grants_by_id(self._services.database, ids)

    def _entries(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, EntryView]]:
        return entries_by_id(self._services.database, ids)

    def _calls(self, ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, CallView]]:
        return calls_by_id(self._services.database, ids)

    async def _outputs(self, call_ids: Sequence[UUID]) -> Mapping[UUID, KeptOutput]:
        found = await self._services.outputs.read_many(call_ids, now())
        return {call_id: KeptOutput(body) for call_id, body in found.items()}

    def _shared_workspaces(self, user_ids: Sequence[UUID]) -> Awaitable[Mapping[UUID, frozenset[UUID]]]:
        return workspaces_shared(
            self._services.database, user_ids, viewer_id=self._viewer_id, workspace_id=self._own_workspace_id
        )
