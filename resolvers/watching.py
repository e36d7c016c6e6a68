"""What can be watched: a wallet, or a call, shown at once and again whenever it has changed.

The right to see it is asked for again before each event, and at once when a role or the workspace changes; a credential
that ends is the edge's to notice.
"""

from collections.abc import AsyncGenerator
from uuid import UUID

from accounts.rules.roles import Action
from metering.views import CallView, WalletView
from resolvers.access import key_of, require, unseen, workspace_for
from resolvers.context import RequestContext


async def wallet_changed(context: RequestContext, workspace_id: str) -> AsyncGenerator[WalletView]:
    """The workspace's wallet now, then after each change; of changes in quick succession only the newest is shown."""
    key = await workspace_for(context, Action.WALLET_READ, workspace_id)
    wallet_id = (await context.services.workspaces.facts(key)).wallet_id
    live = context.services.live
    shown: WalletView | None = None
    async with live.watch(wallet_id, key) as watch:
        while True:
            context.renew()
            await require(context, Action.WALLET_READ, key)
            found = await live.wallets.load(wallet_id)
            if found is None:
                raise unseen()
            if found != shown:
                yield (shown := found)
            await watch.changed()


async def call_updated(context: RequestContext, call_id: str) -> AsyncGenerator[CallView]:
    """The call now, then after each change, until it has ended."""
    key = key_of(context, "call", call_id)
    live = context.services.live
    shown = await _seen(context, key)
    workspace_id = shown.workspace_id
    async with live.watch(key, workspace_id) as watch:
        found = await _seen(context, key)  # it may have ended before the watch began
        yield (shown := found)
        while shown.completed_at is None:
            await watch.changed()
            context.renew()
            found = await _seen(context, key)
            if found != shown:
                yield (shown := found)


async def _seen(context: RequestContext, key: UUID) -> CallView:
    found = await context.services.live.calls.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.CALLS_READ, found.workspace_id, seen_with=Action.CALLS_READ)
    return found
