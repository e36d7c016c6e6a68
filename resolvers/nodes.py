"""Anything with a global id, read by it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from accounts.invitations import invitations_by_ids
from accounts.members import members_by_ids
from accounts.rules.roles import Action
from accounts.views import ApiKeyView, InvitationView, MemberView, UserView, WorkspaceView
from billing.invoices import InvoiceView
from billing.payment_methods import PaymentMethodView
from billing.published import Published
from billing.transfers import TransferView
from billing.views import ModelView, PackView, PaymentView, PlanView, PriceView, SubscriptionView
from gateway.payloads import AssetView
from kit.errors import BadRequest, Forbidden, NotFound, Unauthenticated
from kit.ids import UnknownIdError, split_id
from kit.pages import MAX_PAGE_SIZE
from metering.views import CallView, EntryView, GrantView, WalletView
from resolvers import assets, billing, catalog, payments, people, publishing, workspaces
from resolvers.access import require, unseen
from resolvers.context import RequestContext

NodeView = (
    ApiKeyView
    | AssetView
    | CallView
    | EntryView
    | GrantView
    | InvitationView
    | InvoiceView
    | MemberView
    | ModelView
    | PackView
    | PaymentMethodView
    | PaymentView
    | PlanView
    | PriceView
    | Published
    | SubscriptionView
    | TransferView
    | UserView
    | WalletView
    | WorkspaceView
)


async def node(context: RequestContext, text: str) -> NodeView | None:
    """What the id stands for; None for what is not there and for what the viewer may not see."""
    try:
        prefix, key = split_id(text)
        return await _READERS[prefix](context, key) if prefix in _READERS else None
    except (UnknownIdError, NotFound, Forbidden, Unauthenticated):
        return None


async def member(context: RequestContext, key: UUID) -> MemberView:
    """A live member of a workspace whose members the viewer may read."""
    found = (await members_by_ids(context.services.database, [key])).get(key)
    if found is None:
        raise unseen()
    await require(context, Action.MEMBERS_READ, found.workspace_id, seen_with=Action.MEMBERS_READ)
    return found


async def invitation(context: RequestContext, key: UUID) -> InvitationView:
    """An open invitation to a workspace whose invitations the viewer may read."""
    found = (await invitations_by_ids(context.services.database, [key])).get(key)
    if found is None:
        raise unseen()
    await require(context, Action.INVITATIONS_READ, found.workspace_id, seen_with=Action.INVITATIONS_READ)
    return found


async def api_key(context: RequestContext, key: UUID) -> ApiKeyView:
    """An API key of a workspace whose keys the viewer may read; a key may always read itself."""
    found = await context.loaders.keys.load(key)
    if found is None:
        raise unseen()
    if context.principal.api_key_id != key:
        await require(context, Action.KEYS_READ, found.workspace_id, seen_with=Action.KEYS_READ)
    return found


async def call(context: RequestContext, key: UUID) -> CallView:
    """A call of a workspace whose calls the viewer may read."""
    found = await context.loaders.calls.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.CALLS_READ, found.workspace_id, seen_with=Action.CALLS_READ)
    return found


async def wallet(context: RequestContext, key: UUID) -> WalletView:
    """A wallet that the viewer may read."""
    found = await context.loaders.wallets.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.WALLET_READ, found.workspace_id, seen_with=Action.WALLET_READ)
    return found


async def grant(context: RequestContext, key: UUID) -> GrantView:
    """A grant of a wallet that the viewer may read."""
    found = await context.loaders.grants.load(key)
    if found is None:
        raise unseen()
    await wallet(context, found.wallet_id)
    return found


async def entry(context: RequestContext, key: UUID) -> EntryView:
    """An entry of a wallet that the viewer may read."""
    found = await context.loaders.entries.load(key)
    if found is None:
        raise unseen()
    await wallet(context, found.wallet_id)
    return found


_READERS: Final[Mapping[str, Callable[[RequestContext, UUID], Awaitable[NodeView]]]] = {
    "user": people.user,
    "ws": workspaces.seen,
    "mem": member,
    "inv": invitation,
    "key": api_key,
    "wal": wallet,
    "grant": grant,
    "entry": entry,
    "call": call,
    "asset": assets.asset,
    "plan": catalog.plan,
    "price": catalog.price,
    "pack": catalog.pack,
    "sub": billing.subscription,
    "pay": billing.payment,
    "pm": payments.method,
    "bill": payments.invoice,
    "xfer": payments.transfer,
    "model": publishing.model,
    "pub": publishing.published,
}


async def nodes(context: RequestContext, ids: Sequence[str]) -> list[NodeView | None]:
    """Several, read together; BadRequest for more than 100."""
    if len(ids) > MAX_PAGE_SIZE:
        raise BadRequest(f"nodes takes {MAX_PAGE_SIZE} ids at most, not {len(ids)}")
    return await asyncio.gather(*(node(context, text) for text in ids))
