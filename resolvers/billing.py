"""Plans, payments and credits: what a workspace has, and what may be done about it."""

from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from accounts.audit import Noting
from accounts.rules.roles import Action
from accounts.views import WorkspaceView
from billing import auto_recharge, packs, promo, subscribing, subscriptions, top_ups
from billing.auto_recharge import AutoRechargeView
from billing.buying import Purchase
from billing.errors import UnknownPrice
from billing.promo import Redemption
from billing.subscribing import Subscribed
from billing.views import PaymentView, PlanView, PriceView, SubscriptionView
from kit.errors import InvalidInput
from kit.ids import UnknownIdError, decode_id
from kit.money import parse_micro
from kit.unchanged import Unchanged
from metering.idempotency import require_key
from metering.views import GrantView, WalletView
from resolvers.access import permitted, require, unseen, workspace_for
from resolvers.catalog import snapshot_of
from resolvers.context import RequestContext

MAX_URL_CHARACTERS: Final = 2_048


async def subscription_of(context: RequestContext, workspace: WorkspaceView) -> SubscriptionView | None:
    """The subscription that has not ended."""
    await require(context, Action.PLAN_READ, workspace.id)
    return await context.loaders.live_subscriptions.load(workspace.id)


async def subscription(context: RequestContext, key: UUID) -> SubscriptionView:
    """A subscription of a workspace whose plan the viewer may read."""
    found = await context.loaders.subscriptions.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.PLAN_READ, found.workspace_id, seen_with=Action.PLAN_READ)
    return found


async def payment(context: RequestContext, key: UUID) -> PaymentView:
    """A payment of a workspace whose money matters the viewer may read."""
    found = await context.loaders.payments.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.BILLING_READ, found.workspace_id, seen_with=Action.BILLING_READ)
    return found


def plan_of(context: RequestContext, subscription: SubscriptionView) -> PlanView:
    """The version of the plan that it was sold."""
    return snapshot_of(context).plans_by_id[subscription.plan_id]


def price_of(context: RequestContext, price_id: UUID) -> PriceView:
    """A price that a subscription that was shown is on, or renews onto."""
    return snapshot_of(context).prices_by_id[price_id]


async def recharge_of(context: RequestContext, wallet: WalletView) -> AutoRechargeView:
    """How the wallet that was shown is filled by itself."""
    found = await context.loaders.auto_recharges.load(wallet.workspace_id)
    if found is None:
        raise unseen()
    return found


async def wallet_after(context: RequestContext, workspace_id: UUID | None) -> WalletView | None:
    """The workspace's wallet after what was done, where the viewer may read it."""
    if workspace_id is None or not await permitted(context, Action.WALLET_READ, workspace_id):
        return None
    workspace = await context.loaders.workspaces.load(workspace_id)
    return None if workspace is None else await context.loaders.wallets.load(workspace.wallet_id)


async def grant_after(context: RequestContext, workspace_id: UUID | None, grant_id: UUID | None) -> GrantView | None:
    """The credits that it brought, where the viewer may read the wallet."""
    if workspace_id is None or grant_id is None or not await permitted(context, Action.WALLET_READ, workspace_id):
        return None
    return await context.loaders.grants.load(grant_id)


async def subscribe(
    context: RequestContext,
    *,
    workspace_id: str,
    price_id: str,
    idempotency_key: str,
    success_url: str | None,
    cancel_url: str | None,
    saved_method: bool,
) -> Subscribed:
    """Subscribe to a price. UnknownPrice, AlreadySubscribed, PaymentsNotConfigured, IdempotencyKeyReused.

    With the saved method PaymentMethodRequired, ChangeRefused, InvalidInput.
    """
    key = await _payer(context, workspace_id, idempotency_key)
    return await subscribing.subscribe(
        context.services.billing,
        key,
        price_key(price_id),
        idempotency_key=idempotency_key,
        success_url=checked_url(success_url, "success_url"),
        cancel_url=checked_url(cancel_url, "cancel_url"),
        saved_method=saved_method,
        note=Noting(context.actor, key),
    )


async def change_plan(
    context: RequestContext,
    *,
    workspace_id: str,
    price_id: str,
    idempotency_key: str,
    prorated_at: datetime | None,
    success_url: str | None,
    cancel_url: str | None,
    saved_method: bool,
) -> Subscribed:
    """Another price. UnknownPrice, NoSubscription, ChangeRefused, PaymentsNotConfigured, IdempotencyKeyReused.

    With the saved method PaymentMethodRequired, InvalidInput.
    """
    key = await _payer(context, workspace_id, idempotency_key)
    return await subscriptions.change_plan(
        context.services.billing,
        key,
        price_key(price_id),
        idempotency_key=idempotency_key,
        prorated_at=prorated_at,
        success_url=checked_url(success_url, "success_url"),
        cancel_url=checked_url(cancel_url, "cancel_url"),
        saved_method=saved_method,
        note=Noting(context.actor, key),
    )


async def cancel(context: RequestContext, *, workspace_id: str, idempotency_key: str) -> Subscribed:
    """End it with its period. NoSubscription, ChangeRefused, IdempotencyKeyReused."""
    key = await _payer(context, workspace_id, idempotency_key)
    view = await subscriptions.cancel(
        context.services.billing, key, idempotency_key=idempotency_key, note=Noting(context.actor, key)
    )
    return Subscribed(view, None)


async def resume(context: RequestContext, *, workspace_id: str, idempotency_key: str) -> Subscribed:
    """Take a cancellation back. NoSubscription, NothingToResume, IdempotencyKeyReused."""
    key = await _payer(context, workspace_id, idempotency_key)
    view = await subscriptions.resume(
        context.services.billing, key, idempotency_key=idempotency_key, note=Noting(context.actor, key)
    )
    return Subscribed(view, None)


async def redeem(
    context: RequestContext, *, workspace_id: str, code: str, idempotency_key: str
) -> tuple[UUID, Redemption]:
    """Redeem a promo code (B2). PromoInvalid, PromoExpired, PromoExhausted, PromoAlreadyRedeemed; RateLimited."""
    key = await _payer(context, workspace_id, idempotency_key)
    return key, await promo.redeem(
        context.services.billing,
        key,
        code,
        redeemed_by=context.principal.user_id,
        idempotency_key=idempotency_key,
        note=Noting(context.actor, key),
    )


async def add_credits(
    context: RequestContext,
    *,
    workspace_id: str,
    amount: str,
    idempotency_key: str,
    return_url: str | None,
    checkout: bool,
) -> Purchase:
    """Buy credits by amount (B5). TopUpsNotOffered, AmountOutOfBounds, PaymentMethodRequired, PaymentsNotConfigured."""
    key = await _payer(context, workspace_id, idempotency_key)
    return await top_ups.add_credits(
        context.services.billing,
        key,
        parse_micro(amount),
        idempotency_key=idempotency_key,
        return_url=checked_url(return_url, "return_url"),
        checkout=checkout,
        note=Noting(context.actor, key),
    )


async def buy_pack(
    context: RequestContext,
    *,
    workspace_id: str,
    pack_code: str,
    idempotency_key: str,
    return_url: str | None,
    checkout: bool,
) -> Purchase:
    """Buy a pack (A8, C3). UnknownPack, NotInPlan, PaymentMethodRequired, PaymentsNotConfigured."""
    key = await _payer(context, workspace_id, idempotency_key)
    return await packs.buy_pack(
        context.services.billing,
        key,
        pack_code,
        idempotency_key=idempotency_key,
        return_url=checked_url(return_url, "return_url"),
        checkout=checkout,
        note=Noting(context.actor, key),
    )


async def update_recharge(
    context: RequestContext,
    *,
    workspace_id: str,
    enabled: bool,
    threshold: str | Unchanged | None,
    amount: str | Unchanged | None,
    monthly_limit: str | Unchanged | None,
) -> UUID:
    """Turn automatic recharge on or off (B4, D4); the workspace's id. AutoRechargeNotOffered, AmountOutOfBounds."""
    key = await _paying(context, workspace_id)
    await auto_recharge.update_auto_recharge(
        context.services.billing,
        key,
        enabled=enabled,
        threshold_usd_micro=_micro(threshold),
        amount_usd_micro=_micro(amount),
        monthly_limit_usd_micro=_micro(monthly_limit),
        note=Noting(context.actor, key),
    )
    return key


async def _payer(context: RequestContext, workspace_id: str, idempotency_key: str) -> UUID:
    """As `_paying`, with a key under which it is done once; InvalidInput for what is no key."""
    key = await _paying(context, workspace_id)
    require_key(idempotency_key)
    return key


async def _paying(context: RequestContext, workspace_id: str) -> UUID:
    """The workspace, where the viewer may spend its money."""
    return await workspace_for(context, Action.BILLING_WRITE, workspace_id)


def price_key(text: str) -> UUID:
    """The price's key; UnknownPrice for what is no price's id."""
    try:
        return decode_id("price", text)
    except UnknownIdError as error:
        raise UnknownPrice from error


def _micro(usd: str | Unchanged | None) -> int | Unchanged | None:
    return parse_micro(usd) if isinstance(usd, str) else usd


def checked_url(url: str | None, field: str) -> str | None:
    """A page to come back to; InvalidInput unless it is an address of the web."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        good = False
    if not good or len(url) > MAX_URL_CHARACTERS:
        raise InvalidInput(
            f"give an address such as https://app.example.com/paid, at most {MAX_URL_CHARACTERS} characters",
            field=[field],
        )
    return url
