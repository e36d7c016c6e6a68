"""Redeems promo codes (B2): exactly as often as their campaign allows, whoever tries at the same time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from asyncpg import Record

from billing.errors import (
    PromoAlreadyRedeemed,
    PromoExhausted,
    PromoExpired,
    PromoInvalid,
    UnknownWorkspace,
)
from billing.grants import post_all
from billing.rules.promo import Campaign, PromoAnswer, grant_expires_at, judge
from billing.rules.promo_code import code_digest, normal_code
from billing.services import Billing, Note, unnoted
from billing.subscription_rows import lock_wallet
from kit import clock
from kit.ids import uuid7
from metering.idempotency import run_once
from metering.operations import Grant
from models.enums import GrantKind
from models.pool import PoolConnection

REDEEM: Final = "redeem_promo_code"
_CAMPAIGN: Final = "SELECT * FROM promo_campaigns WHERE code_digest = $1"
_USES: Final = "SELECT count(*) FROM promo_redemptions WHERE campaign_id = $1 AND workspace_id = $2"
# The count and its limit are decided by the row itself: whoever comes second sees what the first has committed.
_TAKE: Final = """UPDATE promo_campaigns SET redeemed_count = redeemed_count + 1
    WHERE id = $1 AND (total_limit IS NULL OR redeemed_count < total_limit) AND NOT paused AND retired_at IS NULL
    RETURNING redeemed_count"""
_INSERT: Final = """INSERT INTO promo_redemptions (id, campaign_id, workspace_id, number, redeemed_by, grant_id, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)"""


@dataclass(frozen=True, slots=True)
class Redemption:
    """What a code brought: credits at once, or a percentage on top of the next top-up (then there is no grant yet)."""

    campaign: str
    amount_micro: int
    grant_id: UUID | None
    bonus_percent: int | None


async def redeem(
    billing: Billing,
    workspace_id: UUID,
    code: str,
    *,
    redeemed_by: UUID | None,
    idempotency_key: str,
    note: Note = unnoted,
) -> Redemption:
    """Redeem a code for a workspace, once for a key.

    Raises PromoInvalid, PromoExpired, PromoExhausted, PromoAlreadyRedeemed, UnknownWorkspace, IdempotencyKeyReused, and
    RateLimited: attempts are counted for the workspace and for who makes them, so that codes cannot be guessed.
    """
    await billing.attempts.take(f"promo:workspace:{workspace_id}")
    if redeemed_by is not None:
        await billing.attempts.take(f"promo:user:{redeemed_by}")
    if not normal_code(code):
        raise PromoInvalid
    digest = code_digest(code, billing.secret_key)

    async def effect(conn: PoolConnection) -> dict[str, object]:
        redeemed = await _redeem(conn, billing, workspace_id, digest, redeemed_by)
        await note(conn, "promo.redeem", "workspace", workspace_id, {"campaign": str(redeemed["campaign"])})
        return redeemed

    answer = await run_once(billing.database, workspace_id, idempotency_key, REDEEM, digest, effect)
    return Redemption(
        campaign=str(answer["campaign"]),
        amount_micro=int(str(answer["amount_micro"])),
        grant_id=UUID(str(answer["grant_id"])) if answer["grant_id"] else None,
        bonus_percent=int(str(answer["bonus_percent"])) if answer["bonus_percent"] else None,
    )


async def _redeem(
    conn: PoolConnection, billing: Billing, workspace_id: UUID, digest: bytes, redeemed_by: UUID | None
) -> dict[str, object]:
    wallet_id = await lock_wallet(conn, workspace_id)
    if wallet_id is None:
        raise UnknownWorkspace
    now = clock.now()
    row = await conn.fetchrow(_CAMPAIGN, digest)
    uses: int = 0 if row is None else await conn.fetchval(_USES, row["id"], workspace_id)
    _require_redeemable(row, uses, now)
    assert row is not None
    if await conn.fetchval(_TAKE, row["id"]) is None:
        raise PromoExhausted
    redemption_id = uuid7()
    grant_id = None
    if row["credits_micro"] is not None:
        grant_id = uuid7()
        await post_all(conn, billing, [_grant(billing, row, wallet_id, redemption_id, grant_id, now)], now)
    await conn.execute(_INSERT, redemption_id, row["id"], workspace_id, uses + 1, redeemed_by, grant_id, now)
    return {
        "campaign": row["name"],
        "amount_micro": row["credits_micro"] or 0,
        "grant_id": None if grant_id is None else str(grant_id),
        "bonus_percent": row["bonus_percent"],
    }


def _grant(billing: Billing, row: Record, wallet_id: UUID, redemption_id: UUID, grant_id: UUID, now: datetime) -> Grant:
    return Grant(
        grant_id=grant_id,
        wallet_id=wallet_id,
        kind="PROMO",
        amount_micro=row["credits_micro"],
        effective_at=now,
        expires_at=grant_expires_at(now, row["grant_expires_after_days"]),
        source_kind="PROMO",
        source_id=str(redemption_id),
        description=row["name"],
        burn_rank=billing.catalog.current.burn_ranks[GrantKind.PROMO],
    )


def _require_redeemable(row: Record | None, uses: int, now: datetime) -> None:
    answer = judge(None if row is None else _campaign(row), uses, now)
    match answer:
        case PromoAnswer.REDEEMED:
            return
        case PromoAnswer.INVALID:
            raise PromoInvalid
        case PromoAnswer.EXPIRED:
            assert row is not None
            raise PromoExpired(row["ends_at"])
        case PromoAnswer.EXHAUSTED:
            raise PromoExhausted
        case PromoAnswer.ALREADY_REDEEMED:
            raise PromoAlreadyRedeemed(uses)
        case _:
            assert_never(answer)


def _campaign(row: Record) -> Campaign:
    return Campaign(
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        total_limit=row["total_limit"],
        per_workspace_limit=row["per_workspace_limit"],
        redeemed_count=row["redeemed_count"],
        paused=row["paused"],
        retired=row["retired_at"] is not None,
    )
