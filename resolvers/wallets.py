"""A wallet's grants and entries. The wallet was shown to who asks, so its parts may be."""

from datetime import datetime
from uuid import UUID

from accounts.rules.roles import Action
from kit.pages import Page
from metering.views import CallView, EntryView, GrantView, WalletView
from metering.wallets import ALL_ENTRIES, EntryFilter, balance_at
from resolvers.access import permitted
from resolvers.context import RequestContext
from resolvers.pages import page_request


async def grants(
    context: RequestContext, wallet: WalletView, *, first: int | None, after: str | None, live: bool | None
) -> Page[GrantView]:
    """The wallet's grants, the newest first; `live` leaves out what is used up or expired."""
    return await context.loaders.pages.grants.load(wallet.id, page_request(first, after), live is not False)


async def entries(
    context: RequestContext,
    wallet: WalletView,
    *,
    first: int | None,
    after: str | None,
    wanted: EntryFilter = ALL_ENTRIES,
) -> Page[EntryView]:
    """The wallet's movements, the newest first."""
    return await context.loaders.pages.entries.load(wallet.id, page_request(first, after), wanted)


async def balance_of(context: RequestContext, wallet: WalletView, at: datetime) -> int:
    """The ledger's balance as it stood at a past instant, in micro-credits."""
    return await balance_at(context.services.database, wallet.id, at)


async def grant(context: RequestContext, grant_id: UUID) -> GrantView | None:
    """A grant of a wallet that was shown."""
    return await context.loaders.grants.load(grant_id)


async def charged_grant(context: RequestContext, grant_id: UUID, workspace_id: UUID) -> GrantView | None:
    """The grant that paid for a call of the workspace; None for who may read the call and not the wallet."""
    if not await permitted(context, Action.WALLET_READ, workspace_id):
        return None
    return await context.loaders.grants.load(grant_id)


async def call_of_entry(context: RequestContext, entry: EntryView) -> CallView | None:
    """The call that an entry paid; None for who may read the wallet and not the calls."""
    if entry.call_id is None:
        return None
    call = await context.loaders.calls.load(entry.call_id)
    if call is None or not await permitted(context, Action.CALLS_READ, call.workspace_id):
        return None
    return call
