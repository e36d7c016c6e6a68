"""Applies a catalog file: works out what it changes and writes it, in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.catalog_access import give_models
from billing.catalog_check import check, errors_of
from billing.catalog_settings import settings_json
from billing.catalog_stored import load_stored
from billing.catalog_terms import CatalogFile, StoredCatalog
from billing.catalog_write import write_models, write_packs, write_plans, write_promos
from billing.errors import CatalogErrors, CatalogRefused
from billing.rules.catalog_difference import ChangeLine, Difference, compare
from billing.rules.catalog_refusals import refusals
from billing.rules.promo_code import code_digest, normal_code
from kit.ids import uuid7
from models.database import Database, transaction
from models.pool import PoolConnection

_LOCK: Final = 0x746F_6C6C_6361_74  # "tollcat": one apply at a time, over all processes


@dataclass(frozen=True, slots=True)
class PromoCodes:
    """What turns the campaigns' variable names into digests: the environment, and the key of the digests."""

    secret_key: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """What applying a file changes or changed. `number` is the catalog version in force after it.

    `refusals`: why it may not be applied, for `plan_changes`; `apply` raises them.
    """

    number: int
    changed: bool
    lines: tuple[ChangeLine, ...]
    refusals: tuple[str, ...] = ()


_NO_CODES: Final = PromoCodes()


async def plan_changes(
    database: Database, file: CatalogFile, *, promo_codes: PromoCodes = _NO_CODES, may_revalue: bool = False
) -> CatalogChange:
    """What `apply` would do now. Nothing is written. Raises CatalogErrors where the file contradicts itself."""
    _require_sound(file)
    async with transaction(database) as connection:
        stored = await load_stored(connection, _named_workspaces(file))
    difference = compare(stored, file, _digests(file, promo_codes))
    return CatalogChange(
        number=stored.number if difference.is_empty else stored.number + 1,
        changed=not difference.is_empty,
        lines=difference.lines,
        refusals=refusals(stored, file, difference.promos, may_revalue=may_revalue),
    )


async def apply(
    database: Database,
    file: CatalogFile,
    *,
    now: datetime,
    promo_codes: PromoCodes = _NO_CODES,
    may_revalue: bool = False,
) -> CatalogChange:
    """Make the file the catalog in force; the same file a second time changes nothing.

    What is sold is versioned: running subscriptions stay on the rows they were sold. Raises CatalogErrors where the file
    contradicts itself, CatalogRefused where it would strand a subscriber or change what balances are worth.
    """
    _require_sound(file)
    async with transaction(database) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        # Nobody may subscribe to a price between the look at its subscribers and its retirement.
        await connection.execute("LOCK TABLE subscriptions IN SHARE MODE")
        stored = await load_stored(connection, _named_workspaces(file))
        difference = compare(stored, file, _digests(file, promo_codes))
        reasons = refusals(stored, file, difference.promos, may_revalue=may_revalue)
        if reasons:
            raise CatalogRefused(reasons)
        if difference.is_empty:
            return CatalogChange(stored.number, changed=False, lines=difference.lines)
        await _write(connection, stored, file, difference, now)
    return CatalogChange(stored.number + 1, changed=True, lines=difference.lines)


async def _write(
    connection: PoolConnection, stored: StoredCatalog, file: CatalogFile, difference: Difference, now: datetime
) -> None:
    await write_models(connection, difference.models, now)
    await write_plans(connection, difference.plans, difference.default_plan, file.settings, now)
    await write_packs(connection, difference.packs, now)
    await write_promos(connection, difference.promos, now)
    await give_models(connection)
    await connection.execute(
        "INSERT INTO catalog_versions (id, number, name, digest, source, credits_per_usd, settings, applied_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        uuid7(),
        stored.number + 1,
        file.name,
        file.digest,
        file.source,
        file.credits_per_usd,
        settings_json(file.settings),
        now,
    )


def _require_sound(file: CatalogFile) -> None:
    errors = errors_of(file, check(file))
    if errors:
        raise CatalogErrors(errors)


def _named_workspaces(file: CatalogFile) -> frozenset[UUID]:
    return frozenset(plan.workspace_id for plan in file.plans.values() if plan.workspace_id is not None)


def _digests(file: CatalogFile, promo_codes: PromoCodes) -> dict[str, bytes]:
    """Digests of the codes that can be read; without a secret key there are none."""
    if not promo_codes.secret_key:
        return {}
    digests: dict[str, bytes] = {}
    for promo in file.promos.values():
        code = promo_codes.environment.get(promo.code_env or "", "")
        if normal_code(code):
            digests[promo.name] = code_digest(code, promo_codes.secret_key)
    return digests
