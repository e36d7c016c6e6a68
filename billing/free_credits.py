"""Decides which workspaces get free credits: of a sign-up, of a trial, of a plan that costs nothing.

A new workspace is judged once, in the transaction that makes it, by the address range and the mail domain it comes from;
a payment method is judged when credits are given. Whoever is refused has the plan and the trial all the same, without
credits, and is told why when the first ones are withheld.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from billing.catalog import Snapshot
from billing.catalog_settings import SignUpTerms
from billing.event_kinds import EventKind
from billing.events import emit
from billing.rules.free_credits import address_range, counted_domain, origin_digest
from billing.services import Billing
from kit import clock
from kit.errors import NotFound
from kit.ids import uuid7
from kit.money import format_micro
from metering.operations import Grant
from metering.views import Rejected
from models.database import Database, connection
from models.enums import FreeCreditsRefusal, GrantKind, PricePeriod
from models.pool import PoolConnection

SIGN_UP_SOURCE: Final = "SIGN_UP"
KEPT: Final = timedelta(days=2)
"""How long the digest of an address range or a domain is kept."""

_USUAL: Final = SignUpTerms()
# The row is locked by whoever raises it until their transaction ends: of any number at once exactly the limit get one.
_TAKE: Final = """INSERT INTO free_credit_counts AS c (day, kind, digest, taken) VALUES ($1, $2, $3, 1)
    ON CONFLICT (day, kind, digest) DO UPDATE SET taken = c.taken + 1 WHERE c.taken < $4 RETURNING true"""
_GIVE_BACK: Final = "UPDATE free_credit_counts SET taken = taken - 1 WHERE day = $1 AND kind = $2 AND digest = $3"
_JUDGE: Final = """INSERT INTO free_credit_verdicts (workspace_id, allowed, refusal, decided_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (workspace_id) DO UPDATE SET allowed = excluded.allowed, refusal = excluded.refusal,
    decided_at = excluded.decided_at"""
_READ: Final = "SELECT allowed, refusal, by_operator, given_at IS NOT NULL AS given FROM free_credit_verdicts WHERE workspace_id = $1"
_GIVEN: Final = """INSERT INTO free_credit_verdicts (workspace_id, allowed, decided_at, given_at) VALUES ($1, true, $2, $2)
    ON CONFLICT (workspace_id) DO UPDATE SET given_at = coalesce(free_credit_verdicts.given_at, excluded.given_at)"""
_FINGERPRINTS: Final = """SELECT DISTINCT fingerprint_digest FROM payment_methods
    WHERE workspace_id = $1 AND fingerprint_digest IS NOT NULL ORDER BY fingerprint_digest"""
_HAD: Final = "SELECT true FROM credit_grants WHERE source_kind = $1 AND source_id = $2"
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 5))"
_OTHERS: Final = """SELECT count(DISTINCT m.workspace_id) FROM payment_methods m
    JOIN free_credit_verdicts v ON v.workspace_id = m.workspace_id AND v.given_at IS NOT NULL
    WHERE m.fingerprint_digest = $2 AND m.workspace_id <> $1"""
_REFUSALS: Final = (
    "SELECT workspace_id, refusal FROM free_credit_verdicts WHERE workspace_id = ANY ($1) AND NOT allowed"
)
_LIST: Final = """SELECT v.workspace_id, w.slug, v.refusal, v.decided_at FROM free_credit_verdicts v
    JOIN workspaces w ON w.id = v.workspace_id AND w.deleted_at IS NULL
    WHERE NOT v.allowed ORDER BY v.decided_at DESC, v.workspace_id LIMIT $1"""
_ALLOW: Final = """UPDATE free_credit_verdicts SET allowed = true, refusal = NULL, by_operator = true, decided_at = $2
    WHERE workspace_id = $1 AND NOT allowed RETURNING true"""
_PURGE: Final = """DELETE FROM free_credit_counts WHERE (day, kind, digest) IN
    (SELECT day, kind, digest FROM free_credit_counts WHERE day < $1 ORDER BY day LIMIT $2)"""


@dataclass(frozen=True, slots=True)
class Refused:
    """A workspace that gets no free credits, for the operator."""

    workspace_id: UUID
    slug: str
    refusal: FreeCreditsRefusal
    decided_at: datetime


class FreeCredits:
    """Judges new workspaces; accounts calls it where one is made."""

    def __init__(self, billing: Billing) -> None:
        """The digests are keyed with billing's secret key."""
        self._billing = billing

    async def judge(
        self,
        conn: PoolConnection,
        workspace_id: UUID,
        wallet_id: UUID,
        owner_id: UUID,
        *,
        address: str | None,
        email_key: str,
        first: bool,
    ) -> None:
        """Note in the transaction that makes the workspace whether it may have free credits, and give those of a sign-up.

        `first`: it is the person's first one. Nothing is noted while the catalog gives no free credits.
        """
        snapshot = self._billing.catalog.current
        if not gives_free_credits(snapshot):
            return
        terms = snapshot.settings.sign_up or _USUAL
        now = clock.now()
        refusal = await self._count(conn, terms, now.date(), address, email_key)
        await conn.execute(_JUDGE, workspace_id, refusal is None, refusal, now)
        if not first or terms.credits_micro is None:
            return
        if refusal is not None:
            await _tell(conn, workspace_id, refusal)
            return
        await _give_of_sign_up(conn, self._billing, terms, workspace_id, wallet_id, owner_id, now)

    async def _count(
        self, conn: PoolConnection, terms: SignUpTerms, day: date, address: str | None, email_key: str
    ) -> FreeCreditsRefusal | None:
        """Take a place of each origin, always in this order; none where one of them is full."""
        key = self._billing.secret_key
        origins = (
            (FreeCreditsRefusal.ADDRESS_RANGE, address_range(address), terms.per_address_range_a_day),
            (FreeCreditsRefusal.MAIL_DOMAIN, counted_domain(email_key, terms.public_domains), terms.per_domain_a_day),
        )
        taken: list[tuple[FreeCreditsRefusal, bytes]] = []
        for kind, text, limit in origins:
            if text is None:
                continue
            digest = origin_digest(key, kind, text)
            if limit == 0 or not await conn.fetchval(_TAKE, day, kind, digest, limit):
                for other, given_back in taken:
                    await conn.execute(_GIVE_BACK, day, other, given_back)
                return kind
            taken.append((kind, digest))
        return None


async def may_have_free_credits(
    conn: PoolConnection, billing: Billing, workspace_id: UUID, now: datetime, *, trial: bool
) -> bool:
    """Whether credits of a free price or of a trial may be given; notes that they are. The wallet is locked.

    A payment method that other workspaces have had free credits with counts here: a trial each time, a free plan's
    credits before the first ones. Of several workspaces at once that show one method, one comes after the other.
    """
    row = await conn.fetchrow(_READ, workspace_id)
    if row is not None and not row["allowed"]:
        await _tell(conn, workspace_id, FreeCreditsRefusal(row["refusal"]))
        return False
    if row is not None and (row["by_operator"] or (row["given"] and not trial)):
        return True
    terms = billing.catalog.current.settings.sign_up or _USUAL
    for found in await conn.fetch(_FINGERPRINTS, workspace_id):
        await conn.execute(_ONE_AT_A_TIME, found["fingerprint_digest"])
        others: int = await conn.fetchval(_OTHERS, workspace_id, found["fingerprint_digest"])
        if others >= terms.per_payment_fingerprint:
            refusal = FreeCreditsRefusal.PAYMENT_FINGERPRINT
            await conn.execute(_JUDGE, workspace_id, False, refusal, now)
            await _tell(conn, workspace_id, refusal)
            return False
    await conn.execute(_GIVEN, workspace_id, now)
    return True


async def free_credit_refusals(database: Database, workspace_ids: Sequence[UUID]) -> dict[UUID, FreeCreditsRefusal]:
    """Why these workspaces get no free credits; those that may have them are left out."""
    async with connection(database) as conn:
        rows = await conn.fetch(_REFUSALS, workspace_ids)
    return {row["workspace_id"]: FreeCreditsRefusal(row["refusal"]) for row in rows}


async def refused_workspaces(database: Database, limit: int) -> tuple[Refused, ...]:
    """The live workspaces that were refused, the latest first."""
    async with connection(database) as conn:
        rows = await conn.fetch(_LIST, limit)
    return tuple(
        Refused(row["workspace_id"], row["slug"], FreeCreditsRefusal(row["refusal"]), row["decided_at"]) for row in rows
    )


async def allow_free_credits(conn: PoolConnection, workspace_id: UUID, now: datetime) -> None:
    """Let a refused workspace have free credits from its next cycle on, whatever its origin; NotFound where none was."""
    if not await conn.fetchval(_ALLOW, workspace_id, now):
        raise NotFound("this workspace was not refused free credits")


async def forget_origins(database: Database, *, limit: int) -> int:
    """Remove digests of origins whose day is long over; how many."""
    async with connection(database) as conn:
        status = await conn.execute(_PURGE, (clock.now() - KEPT).date(), limit)
    return int(status.rpartition(" ")[2])


def gives_free_credits(snapshot: Snapshot) -> bool:
    """Whether the catalog gives any: with a sign-up, with a price that costs nothing, or in a trial."""
    terms = snapshot.settings.sign_up
    return (terms is not None and terms.credits_micro is not None) or any(
        price.credits is not None and (price.period is PricePeriod.FREE or price.trial_days)
        for plan in snapshot.plans
        for price in plan.prices
    )


async def _give_of_sign_up(
    conn: PoolConnection,
    billing: Billing,
    terms: SignUpTerms,
    workspace_id: UUID,
    wallet_id: UUID,
    owner_id: UUID,
    now: datetime,
) -> None:
    """Once a person: the owner's id is the grant's key, and whoever opens an account holds the person's lock."""
    if await conn.fetchval(_HAD, SIGN_UP_SOURCE, str(owner_id)):
        return
    assert terms.credits_micro is not None, "asked before"
    days = terms.expires_after_days
    grant = Grant(
        grant_id=uuid7(),
        wallet_id=wallet_id,
        kind="BONUS",
        amount_micro=terms.credits_micro,
        effective_at=now,
        expires_at=None if days is None else now + timedelta(days=days),
        source_kind=SIGN_UP_SOURCE,
        source_id=str(owner_id),
        description=f"Welcome: {format_micro(terms.credits_micro)} credits to begin with",
        burn_rank=billing.catalog.current.burn_ranks[GrantKind.BONUS],
    )
    (outcome,) = await billing.ledger.post(conn, [grant], now=now)
    if isinstance(outcome, Rejected):
        raise outcome.error
    await conn.execute(_GIVEN, workspace_id, now)


async def _tell(conn: PoolConnection, workspace_id: UUID, refusal: FreeCreditsRefusal) -> None:
    """Once a workspace and reason, with the first credits that are withheld."""
    facts = {"reason": refusal.value}
    await emit(conn, EventKind.FREE_CREDITS_REFUSED, workspace_id, facts, dedupe_key=f"{workspace_id}:{refusal}")
