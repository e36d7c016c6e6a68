"""Sets up what a simulation is played on, and reads afterwards what the ledger and the payments kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.catalog_apply import apply
from billing.catalog_terms import CatalogFile, PlanTerms, PriceTerms
from billing.rules.timeline import Moment, MomentKind
from kit.ids import uuid7
from kit.money import usd_micro_text
from models.database import Database, connection, transaction
from models.enums import PricePeriod

_WORKSPACE: Final = (
    "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'Simulated', $2, $3, $3)"
)
_WALLET: Final = "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, $3)"
# Uses are noted as they are made, call by call.
_ENTRIES: Final = """SELECT e.created_at, e.kind, g.kind AS grant_kind, g.expires_at, g.source_kind,
    sum(e.amount_micro)::bigint AS amount_micro
    FROM ledger_entries e JOIN credit_grants g ON g.id = e.grant_id
    WHERE e.wallet_id = $1 AND e.kind <> 'USAGE' GROUP BY e.created_at, e.kind, g.id ORDER BY e.created_at, g.id"""
_PAYMENTS: Final = """SELECT created_at, applied_at, purpose, amount_usd_micro, status, failure_code FROM payments
    WHERE workspace_id = $1 ORDER BY created_at, id"""
_WORDS_OF_SOURCES: Final = {"LEFTOVER": ", left over", "PLAN_CHANGE": ", upgrade"}


class StageError(ValueError):
    """The plan, price or pack named is not in the catalog; the message lists those that are."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The workspace that the simulation is about."""

    workspace_id: UUID
    wallet_id: UUID


def plan_named(file: CatalogFile, code: str) -> PlanTerms:
    """A plan of the file; StageError where there is none of this code."""
    plan = file.plans.get(code)
    if plan is None:
        raise StageError(f"there is no plan {code!r}; the catalog has {', '.join(file.plans)}")
    if not plan.prices and code != file.default_plan and plan.workspace_id is None:
        raise StageError(f"the plan {code!r} has no price, so that nobody can have it")
    return plan


def price_named(plan: PlanTerms, code: str | None) -> PriceTerms | None:
    """The plan's price of this code, or its first; None for a plan without prices. StageError for an unknown one."""
    if code is None:
        return plan.prices[0] if plan.prices else None
    found = next((price for price in plan.prices if price.code == code), None)
    if found is None:
        known = ", ".join(price.code for price in plan.prices) or "none"
        raise StageError(f"the plan {plan.code!r} has no price {code!r}; it has {known}")
    return found


def begins_by_itself(file: CatalogFile, plan: PlanTerms, price: PriceTerms | None) -> bool:
    """Whether the worker subscribes the workspace: a free price of the default plan (C1), or no price at all (D3)."""
    return price is None or (price.period is PricePeriod.FREE and plan.code == file.default_plan)


async def set_up(database: Database, file: CatalogFile, plan: PlanTerms, now: datetime) -> Stage:
    """The workspaces that the file names (D10), one more if need be, and the catalog; raises what `apply` raises."""
    named = {held.workspace_id for held in file.plans.values() if held.workspace_id is not None}
    workspace_id = plan.workspace_id or uuid7()
    wallets = {found: uuid7() for found in named | {workspace_id}}
    async with transaction(database) as conn:
        for made, wallet_id in wallets.items():
            await conn.execute(_WORKSPACE, made, f"simulated-{made.hex}", now)
            await conn.execute(_WALLET, wallet_id, made, now)
    await apply(database, file, now=now)
    return Stage(workspace_id, wallets[workspace_id])


async def kept_moments(database: Database, stage: Stage) -> list[Moment]:
    """Grants, expiries and what was taken back from the ledger; charges and declines from the payments."""
    async with connection(database) as conn:
        entries = await conn.fetch(_ENTRIES, stage.wallet_id)
        payments = await conn.fetch(_PAYMENTS, stage.workspace_id)
    moments = [
        Moment(
            row["created_at"],
            _kind_of(row["kind"]),
            _entry_words(row["grant_kind"], row["source_kind"], row["expires_at"], row["kind"]),
            credits_micro=row["amount_micro"],
        )
        for row in entries
    ]
    for row in payments:
        amount: int = row["amount_usd_micro"]
        if row["status"] == "FAILED":
            text = f"${usd_micro_text(amount)} {row['purpose']}: {row['failure_code']}"
            moments.append(Moment(row["created_at"], MomentKind.DECLINED, text))
        elif row["applied_at"] is not None:
            kind = MomentKind.RECHARGE if row["purpose"] == "AUTO_RECHARGE" else MomentKind.CHARGE
            moments.append(Moment(row["applied_at"], kind, row["purpose"], usd_micro=amount))
    return moments


def _kind_of(entry_kind: str) -> MomentKind:
    if entry_kind == "GRANT":
        return MomentKind.GRANT
    return MomentKind.EXPIRY if entry_kind == "EXPIRY" else MomentKind.TAKEN_BACK


def _entry_words(grant_kind: str, source_kind: str, expires_at: datetime | None, entry_kind: str) -> str:
    words = f"{grant_kind}{_WORDS_OF_SOURCES.get(source_kind, '')}"
    if entry_kind != "GRANT":
        return words
    return f"{words}, never expires" if expires_at is None else f"{words}, until {expires_at:%Y-%m-%d %H:%M}"


def require_packs(file: CatalogFile, packs: Sequence[str]) -> None:
    """StageError where one of these packs is not in the file."""
    for code in packs:
        if code not in file.packs:
            raise StageError(f"there is no pack {code!r}; the catalog has {', '.join(file.packs) or 'none'}")
