"""Gives the credits of a paid pack or top-up, with the bonus and the promotion that come on top."""

from datetime import datetime
from typing import Final
from uuid import UUID

from billing.grants import is_active, post_all
from billing.payment_rows import Payment
from billing.rules.bought_credits import BoughtCredits, bonus_credits, pack_credits, top_up_credits
from billing.rules.promo import bonus_micro, grant_expires_at
from billing.services import Billing
from billing.subscription_rows import live_subscription
from kit import clock
from kit.ids import uuid7
from metering.operations import FrozenReason, Grant, GrantKind
from models import enums
from models.pool import PoolConnection

_WAITING: Final = """SELECT r.id, c.name, c.bonus_percent, c.grant_expires_after_days
    FROM promo_redemptions r JOIN promo_campaigns c ON c.id = r.campaign_id
    WHERE r.workspace_id = $1 AND r.grant_id IS NULL AND c.bonus_percent IS NOT NULL
    ORDER BY r.created_at, r.id LIMIT 1"""


async def give_pack(conn: PoolConnection, billing: Billing, payment: Payment, wallet_id: UUID, at: datetime) -> None:
    """The pack's credits, frozen where they need a plan and there is none (A9)."""
    pack = billing.catalog.current.packs_by_id.get(payment.pack_id) if payment.pack_id else None
    if pack is None:
        pack = (await billing.catalog.reload()).packs_by_id[_required(payment.pack_id)]
    grant = await _grant(conn, billing, payment, wallet_id, at, "PACK", pack_credits(pack, at), pack.name)
    await post_all(conn, billing, [grant], clock.now())


async def give_top_up(conn: PoolConnection, billing: Billing, payment: Payment, wallet_id: UUID, at: datetime) -> None:
    """The amount's credits; a bonus by its steps (D6); and the oldest promo bonus that waits for a top-up."""
    snapshot = billing.catalog.current
    terms, rate, amount = snapshot.settings.top_up, snapshot.credits_per_usd, payment.amount_usd_micro
    bought = top_up_credits(terms, amount, rate, at)
    grants = [await _grant(conn, billing, payment, wallet_id, at, "TOP_UP", bought, "Credits added")]
    bonus = bonus_credits(terms, amount, rate, at)
    if bonus is not None:
        grants.append(await _grant(conn, billing, payment, wallet_id, at, "BONUS", bonus, "Bonus on credits added"))
    waiting = await conn.fetchrow(_WAITING, payment.workspace_id)
    if waiting is not None:
        lot = BoughtCredits(
            max(1, bonus_micro(bought.amount_micro, waiting["bonus_percent"])),
            grant_expires_at(clock.now(), waiting["grant_expires_after_days"]),
            requires_active_plan=False,
            transferable=False,
        )
        promo = await _grant(conn, billing, payment, wallet_id, clock.now(), "PROMO", lot, waiting["name"])
        grants.append(promo)
    await post_all(conn, billing, grants, clock.now())
    if waiting is not None:
        await conn.execute(
            "UPDATE promo_redemptions SET grant_id = $2 WHERE id = $1", waiting["id"], grants[-1].grant_id
        )


async def has_plan(conn: PoolConnection, billing: Billing, workspace_id: UUID) -> bool:
    """Whether credits that need an active plan can be spent now (A9)."""
    live = await live_subscription(conn, billing, workspace_id)
    return live is not None and is_active(live.life, clock.now())


async def _grant(
    conn: PoolConnection,
    billing: Billing,
    payment: Payment,
    wallet_id: UUID,
    at: datetime,
    kind: GrantKind,
    lot: BoughtCredits,
    description: str,
) -> Grant:
    """One lot of the payment; (payment, kind) is its unique key, so a payment posted twice credits once."""
    frozen: FrozenReason | None = None
    if lot.requires_active_plan and not await has_plan(conn, billing, payment.workspace_id):
        frozen = "NO_ACTIVE_SUBSCRIPTION"
    return Grant(
        grant_id=uuid7(),
        wallet_id=wallet_id,
        kind=kind,
        amount_micro=lot.amount_micro,
        effective_at=at,
        expires_at=lot.expires_at,
        source_kind=f"PAYMENT_{kind}",
        source_id=str(payment.id),
        description=description,
        burn_rank=billing.catalog.current.burn_ranks[enums.GrantKind(kind)],
        requires_active_plan=lot.requires_active_plan,
        transferable=lot.transferable,
        payment_id=payment.id,
        frozen_reason=frozen,
    )


def _required(pack_id: UUID | None) -> UUID:
    assert pack_id is not None, "a pack's payment names the pack"
    return pack_id
