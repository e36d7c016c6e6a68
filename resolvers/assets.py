"""Assets: who may see and delete what calls made (A11), and how much room a workspace's take."""

from dataclasses import dataclass
from uuid import UUID

from accounts.rules.roles import Action
from gateway.asset_rows import AssetRow, StorageView
from gateway.assets import kept_ids
from gateway.payloads import AssetsOutputView, AssetView, OutputView, output_of
from kit.json_values import JsonObject
from kit.pages import Page
from resolvers.access import key_of, looked_up, permitted, require, signed_in, unseen
from resolvers.context import RequestContext
from resolvers.pages import page_request


@dataclass(frozen=True, slots=True)
class RoomView:
    """A workspace's storage. `limit_bytes` None: its plan sets none."""

    used: StorageView
    limit_bytes: int | None


async def asset(context: RequestContext, key: UUID) -> AssetView:
    """An asset that the viewer made, wherever they belong now (C9), or of a workspace whose content they may read."""
    return context.services.assets.view(await _seen(context, key))


async def of_workspace(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[AssetView]:
    """What the viewer's calls made in it, or all of it for those who may read all content; the newest first."""
    await require(context, Action.CALLS_READ, workspace_id)
    everything = await permitted(context, Action.CONTENT_READ_ALL, workspace_id)
    page = await context.loaders.pages.assets.load(workspace_id, page_request(first, after), everything)
    return _shown(context, page)


async def of_viewer(context: RequestContext, *, first: int | None, after: str | None) -> Page[AssetView]:
    """What the viewer's calls made in any workspace, those included that they have left (C9); the newest first."""
    page = await context.loaders.pages.own_assets.load(signed_in(context), page_request(first, after), None)
    return _shown(context, page)


async def storage(context: RequestContext, workspace_id: UUID) -> RoomView:
    """What the workspace's assets take, of what its plan allows."""
    await require(context, Action.USAGE_READ, workspace_id)
    used = await context.loaders.storage.load(workspace_id)
    plan = await context.loaders.plans.load(workspace_id)
    return RoomView(used or StorageView(), None if plan is None else plan.entitlements.storage_bytes)


async def delete(context: RequestContext, *, asset_id: str) -> str:
    """Delete an asset: whoever made it, and the workspace's admins. Its room is free at once."""
    with looked_up("asset_id"):
        key = key_of(context, "asset", asset_id)
        row = await _seen(context, key)
        if not _mine(context, row):
            await require(context, Action.ASSETS_DELETE, row.workspace_id, seen_with=Action.CONTENT_READ_ALL)
        if not await context.services.assets.delete(key):
            raise unseen()
    return asset_id


async def shown_output(context: RequestContext, call_id: UUID, body: JsonObject) -> OutputView:
    """A call's output: as its provider gave it, or the assets that are left of it."""
    ids = kept_ids(body)
    if ids is None:
        return output_of(call_id, body)
    rows = [await context.loaders.assets.load(key) for key in ids]
    return AssetsOutputView(tuple(context.services.assets.view(row) for row in rows if row is not None))


async def _seen(context: RequestContext, key: UUID) -> AssetRow:
    row = await context.loaders.assets.load(key)
    if row is None:
        raise unseen()
    if not _mine(context, row):
        await require(context, Action.CONTENT_READ_ALL, row.workspace_id, seen_with=Action.CONTENT_READ_ALL)
    return row


def _mine(context: RequestContext, row: AssetRow) -> bool:
    principal = context.principal
    return (row.owner_id is not None and row.owner_id == principal.user_id) or (
        row.api_key_id is not None and row.api_key_id == principal.api_key_id
    )


def _shown(context: RequestContext, page: Page[AssetRow]) -> Page[AssetView]:
    assets = context.services.assets
    return Page(tuple(assets.view(row) for row in page.items), page.cursors, page.has_next, page.has_previous)
