"""A catalog, a workspace with credits and a key, for tests that start the gateway as a process."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from accounts.rules import key_form
from billing.catalog import load_snapshot
from billing.catalog_apply import apply
from billing.catalog_file import read_catalog
from kit.ids import uuid7
from metering.ledger import Ledger
from metering.operations import Grant
from models.database import Database

ROOT = Path(__file__).resolve().parent.parent
CATALOG = ROOT / "catalogs" / "pay-as-you-go.toml"


@dataclass(frozen=True)
class Seeded:
    workspace_id: UUID
    wallet_id: UUID
    api_key: str
    api_key_id: UUID


async def apply_catalog(database: Database, path: Path = CATALOG) -> None:
    await apply(database, read_catalog(path), now=datetime.now(UTC))


async def seed_workspace(database: Database, credits_micro: int, name: str = "acme") -> Seeded:
    """A workspace with one TOP_UP grant and one key of every scope; needs an applied catalog."""
    at = datetime.now(UTC)
    workspace_id, wallet_id, key_id = uuid7(), uuid7(), uuid7()
    secret = key_form.compose("live", uuid7().bytes + uuid7().bytes + uuid7().bytes)
    await database.pool.execute(
        "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)",
        workspace_id, name, f"{name}-{workspace_id.hex[-8:]}", at,
    )  # fmt: skip
    await database.pool.execute(
        "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, $3)", wallet_id, workspace_id, at
    )
    await database.pool.execute(
        "INSERT INTO api_keys (id, workspace_id, name, environment, prefix, digest, scopes, created_at)"
        " VALUES ($1, $2, 'test', 'live', $3, $4, $5, $6)",
        key_id, workspace_id, secret[:12], key_form.digest_of(secret),
        ["CALLS_WRITE", "CALLS_READ", "USAGE_READ", "WALLET_READ", "WORKSPACE_READ", "WORKSPACE_WRITE", "BILLING_WRITE"],
        at,
    )  # fmt: skip
    if credits_micro:
        await grant(database, wallet_id, credits_micro)
    return Seeded(workspace_id, wallet_id, secret, key_id)


async def grant(database: Database, wallet_id: UUID, amount_micro: int, kind: str = "TOP_UP") -> UUID:
    """One more grant without an end."""
    snapshot = await load_snapshot(database)
    ledger = await Ledger.open(database)
    grant_id = uuid7()
    try:
        await ledger.submit(
            Grant(
                grant_id=grant_id,
                wallet_id=wallet_id,
                kind=kind,
                amount_micro=amount_micro,
                effective_at=datetime.now(UTC),
                expires_at=None,
                source_kind="TEST",
                source_id=str(grant_id),
                description="for a test",
                burn_rank=snapshot.burn_ranks[kind],
            )
        )
    finally:
        await ledger.close()
    return grant_id
