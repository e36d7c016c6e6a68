"""Recomputes kept sums from the facts they are sums of; never touches an entry, a usage event, a call or a hold.

| recomputed | from |
| --- | --- |
| wallets.balance_micro | the wallet's entries |
| wallets.held_micro, credit_grants.held_micro, spend_limits.held_micro | the holds |
| credit_grants: amount, remaining, reinstated, spent, expired, clawed_back, refunded, transferred, adjusted | the grant's entries, by kind |

Not derivable, so never changed: holds' allocations (facts), spend_limits.spent_micro (a limit may be younger than its
period), entries' balance_after_micro (entries are never updated), usage_rollups (rebuilt by the worker).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from metering.reconcile_checks import DERIVED_GRANTS, PARTS

_WALLETS_PER_PAGE: Final = 200
_PAGE: Final = "SELECT id FROM wallets WHERE id > $1 AND ($3::uuid IS NULL OR workspace_id = $3) ORDER BY id LIMIT $2"
_LOCK: Final = "SELECT id, workspace_id FROM wallets WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE"
_HELD_BY_GRANT: Final = """
SELECT p.grant_id, sum(p.amount) AS held_micro FROM holds h, unnest(h.grant_ids, h.grant_amounts_micro) AS p (grant_id, amount)
WHERE h.wallet_id = ANY ($1) GROUP BY p.grant_id
"""
_COLUMNS: Final = (*PARTS, "held_micro")
_GRANTS: Final = f"""
SELECT g.id, {", ".join(f"g.{name}" for name in _COLUMNS)},
    {", ".join(f"d.{name}" for name in PARTS)}, coalesce(h.held_micro, 0)
FROM credit_grants g JOIN ({DERIVED_GRANTS}) d ON d.grant_id = g.id LEFT JOIN ({_HELD_BY_GRANT}) h ON h.grant_id = g.id
WHERE g.wallet_id = ANY ($1) AND (g.held_micro <> coalesce(h.held_micro, 0)
    OR {" OR ".join(f"g.{name} IS DISTINCT FROM d.{name}" for name in PARTS)})
"""  # noqa: S608  constants of this module
_SET_GRANT: Final = f"""
UPDATE credit_grants SET {", ".join(f"{name} = ${number}" for number, name in enumerate(_COLUMNS, 2))} WHERE id = $1
"""  # noqa: S608
_WALLETS: Final = """
SELECT w.id, w.balance_micro, w.held_micro, coalesce(e.total, 0), coalesce(h.total, 0) FROM wallets w
LEFT JOIN (SELECT wallet_id, sum(amount_micro) AS total FROM ledger_entries WHERE wallet_id = ANY ($1) GROUP BY wallet_id) e
    ON e.wallet_id = w.id
LEFT JOIN (SELECT wallet_id, sum(amount_micro) AS total FROM holds WHERE wallet_id = ANY ($1) GROUP BY wallet_id) h
    ON h.wallet_id = w.id
WHERE w.id = ANY ($1) AND (w.balance_micro <> coalesce(e.total, 0) OR w.held_micro <> coalesce(h.total, 0))
"""
_SET_WALLET: Final = "UPDATE wallets SET balance_micro = $2, held_micro = $3, version = version + 1 WHERE id = $1"
_LIMITS: Final = """
SELECT l.id, l.held_micro, coalesce(sum(h.amount_micro), 0) FROM wallets w
JOIN spend_limits l ON l.workspace_id = w.workspace_id
LEFT JOIN holds h ON h.wallet_id = w.id AND l.id = ANY (h.limit_ids)
WHERE w.id = ANY ($1) GROUP BY l.id HAVING l.held_micro <> coalesce(sum(h.amount_micro), 0)
"""
_SET_LIMIT: Final = "UPDATE spend_limits SET held_micro = $2 WHERE id = $1"
_SUSPECTS: Final = f"""
SELECT id FROM ({_WALLETS}) AS wallet
UNION SELECT wallet_id FROM credit_grants WHERE id IN (SELECT id FROM ({_GRANTS}) AS grants)
UNION SELECT w.id FROM wallets w JOIN spend_limits l ON l.workspace_id = w.workspace_id
    WHERE l.id IN (SELECT id FROM ({_LIMITS}) AS limits)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Repaired:
    """A kept sum that was changed, or could not be (`refused` says why: what the facts say breaks a constraint)."""

    table: str
    id: UUID
    column: str
    before: int
    after: int
    refused: str | None = None


Told = Callable[[Repaired], None]


async def repair_caches(connection: asyncpg.Connection, *, workspace_id: UUID | None, told: Told | None) -> int:
    """Recompute what disagrees, one wallet a transaction under its lock, so that it runs beside traffic. How many changed."""
    last, changed = UUID(int=0), 0
    while True:
        page = [row[0] for row in await connection.fetch(_PAGE, last, _WALLETS_PER_PAGE, workspace_id)]
        if not page:
            return changed
        last = page[-1]
        # Between the look and the lock a wallet may have moved: what is changed is read again under the lock.
        for (wallet_id,) in await connection.fetch(f"SELECT id FROM ({_SUSPECTS.strip()}) AS s (id) ORDER BY id", page):  # noqa: S608
            for repaired in await _repair_wallet(connection, wallet_id):
                changed += repaired.refused is None
                if told is not None:
                    told(repaired)


async def _repair_wallet(connection: asyncpg.Connection, wallet_id: UUID) -> list[Repaired]:
    changes: list[Repaired] = []
    try:
        async with connection.transaction():
            one = [wallet_id]
            await connection.fetch(_LOCK, one)
            await _repair_grants(connection, one, changes)
            for row in await connection.fetch(_WALLETS, one):
                changes.extend(_changes("wallets", row[0], ("balance_micro", "held_micro"), row[1:3], row[3:5]))
                await connection.execute(_SET_WALLET, row[0], int(row[3]), int(row[4]))
            for limit_id, before, after in await connection.fetch(_LIMITS, one):
                changes.append(Repaired("spend_limits", limit_id, "held_micro", before, int(after)))
                await connection.execute(_SET_LIMIT, limit_id, int(after))
    except asyncpg.IntegrityConstraintViolationError as error:
        why = str(error)
        return [Repaired(each.table, each.id, each.column, each.before, each.after, why) for each in changes]
    return changes


async def _repair_grants(connection: asyncpg.Connection, one: list[UUID], changes: list[Repaired]) -> None:
    width = len(_COLUMNS)
    for row in await connection.fetch(_GRANTS, one):
        before = row[1 : 1 + width]
        after = [int(value or 0) for value in row[1 + width :]]
        changes.extend(_changes("credit_grants", row[0], _COLUMNS, before, after))
        await connection.execute(_SET_GRANT, row[0], *after)


def _changes(
    table: str, row_id: UUID, columns: tuple[str, ...], before: tuple[int, ...], after: list[int] | tuple[int, ...]
) -> list[Repaired]:
    return [
        Repaired(table, row_id, column, old, int(new))
        for column, old, new in zip(columns, before, after, strict=True)
        if old != int(new)
    ]
