"""One request's pages of lists that belong to a parent, such as members of workspaces: all parents in one query."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar
from uuid import UUID

from accounts.api_keys import keys_of_workspaces
from accounts.audit import pages_of_workspaces
from accounts.invitations import invitations_of_workspaces
from accounts.members import members_of_workspaces
from accounts.views import ApiKeyView, AuditEventView, InvitationView, MemberView, Principal
from billing.invoices import InvoiceView, invoices_of_workspaces
from billing.transfers import TransferView, transfers_of_workspaces
from gateway.asset_rows import AssetRow, pages_of_owners
from gateway.asset_rows import pages_of_workspaces as pages_of_assets
from kit.clock import now
from kit.pages import Page, PageRequest
from metering.usage import CallFilter, calls_pages
from metering.views import CallView, EntryView, GrantView
from metering.wallets import EntryFilter, entries_pages, grants_pages
from resolvers.batches import Batch
from resolvers.services import ResolverServices

F = TypeVar("F", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Key(Generic[F]):
    parent_id: UUID
    request: PageRequest
    filters: F


class Pages(Generic[F, V]):
    """Pages of one kind of list. Parents whose page is asked for alike, filters included, are read together."""

    def __init__(self, read: Callable[[Sequence[UUID], PageRequest, F], Awaitable[Mapping[UUID, Page[V]]]]) -> None:
        """`read` answers the same page of each parent."""
        self._read = read
        self._batch: Batch[_Key[F], Page[V]] = Batch(self._read_all)

    async def load(self, parent_id: UUID, request: PageRequest, filters: F) -> Page[V]:
        """The parent's page."""
        page = await self._batch.load(_Key(parent_id, request, filters))
        assert page is not None, "every parent has a page, if an empty one"
        return page

    async def _read_all(self, keys: Sequence[_Key[F]]) -> Mapping[_Key[F], Page[V]]:
        alike: dict[tuple[PageRequest, F], list[_Key[F]]] = {}
        for key in keys:
            alike.setdefault((key.request, key.filters), []).append(key)
        found: dict[_Key[F], Page[V]] = {}
        for (request, filters), those in alike.items():
            pages = await self._read([key.parent_id for key in those], request, filters)
            found.update({key: pages[key.parent_id] for key in those})
        return found


class PageLoaders:
    """By parent: of a workspace, or of a wallet. Each is made when it is first asked for."""

    def __init__(self, services: ResolverServices, principal: Principal) -> None:
        """They read from these services, for this viewer."""
        self._principal = principal
        self._services = services
        self._database = services.database

    @cached_property
    def members(self) -> Pages[None, MemberView]:
        """Of a workspace."""
        return Pages(lambda ids, request, _: members_of_workspaces(self._database, ids, request))

    @cached_property
    def invitations(self) -> Pages[None, InvitationView]:
        """Of a workspace."""
        return Pages(lambda ids, request, _: invitations_of_workspaces(self._database, ids, request))

    @cached_property
    def keys(self) -> Pages[None, ApiKeyView]:
        """Of a workspace."""
        return Pages(lambda ids, request, _: keys_of_workspaces(self._services.accounts, ids, request))

    @cached_property
    def audit(self) -> Pages[None, AuditEventView]:
        """Of a workspace."""
        return Pages(lambda ids, request, _: pages_of_workspaces(self._database, ids, request))

    @cached_property
    def invoices(self) -> Pages[None, InvoiceView]:
        """Of a workspace."""
        return Pages(lambda ids, request, _: invoices_of_workspaces(self._database, ids, request))

    @cached_property
    def transfers(self) -> Pages[None, TransferView]:
        """Of a workspace."""
        return Pages(lambda ids, request, _: transfers_of_workspaces(self._database, ids, request))

    @cached_property
    def calls(self) -> Pages[CallFilter, CallView]:
        """Of a workspace."""
        return Pages(lambda ids, request, wanted: calls_pages(self._database, ids, request, wanted))

    @cached_property
    def assets(self) -> Pages[bool, AssetRow]:
        """Of a workspace; the filter: all of it, else what the viewer made."""
        viewer = self._principal
        return Pages(
            lambda ids, request, everything: pages_of_assets(
                self._database,
                ids,
                request,
                now(),
                everything=everything,
                owner_id=viewer.user_id,
                api_key_id=viewer.api_key_id,
            )
        )

    @cached_property
    def own_assets(self) -> Pages[None, AssetRow]:
        """Of a person."""
        return Pages(lambda ids, request, _: pages_of_owners(self._database, ids, request, now()))

    @cached_property
    def grants(self) -> Pages[bool, GrantView]:
        """Of a wallet; the filter leaves out what is used up or expired."""
        return Pages(lambda ids, request, live: grants_pages(self._database, ids, request, live=live, now=now()))

    @cached_property
    def entries(self) -> Pages[EntryFilter, EntryView]:
        """Of a wallet."""
        return Pages(lambda ids, request, wanted: entries_pages(self._database, ids, request, wanted))
