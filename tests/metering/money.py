"""Builders for tests of the ledger: wallets, grants and operations with short arguments."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from kit.ids import uuid7
from metering.operations import BURN_ORDER, Grant, IdempotencyClaim, PlaceHold, Settle, UsageFacts

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def open_wallet(conn: asyncpg.Connection) -> tuple[UUID, UUID]:
    """(wallet id, workspace id)"""
    wallet_id, workspace_id = uuid7(), uuid7()
    await conn.execute(
        "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'w', $2, now(), now())",
        workspace_id,
        f"w-{workspace_id.hex}",
    )
    await conn.execute(
        "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, now())", wallet_id, workspace_id
    )
    return wallet_id, workspace_id


def grant(wallet_id: UUID, amount: int, kind: str = "TOP_UP", *, at: datetime = START, **rest) -> Grant:
    return Grant(
        **{
            "grant_id": uuid7(),
            "wallet_id": wallet_id,
            "kind": kind,
            "amount_micro": amount,
            "effective_at": at,
            "expires_at": None,
            "source_kind": "TEST",
            "source_id": str(uuid7()),
            "description": "test",
            "burn_rank": BURN_ORDER.index(kind),
            **rest,
        }
    )


def hold(
    wallet: tuple[UUID, UUID], amount: int, *, expires_at: datetime = START + 24 * 365 * HOUR, **rest
) -> PlaceHold:
    return PlaceHold(
        **{
            "call_id": uuid7(),
            "wallet_id": wallet[0],
            "workspace_id": wallet[1],
            "amount_micro": amount,
            "model_slug": "sandbox-small",
            "user_id": None,
            "api_key_id": None,
            "request_id": "req-1",
            "expires_at": expires_at,
            "terms": {},
            **rest,
        }
    )


def settle(wallet: tuple[UUID, UUID], call_id: UUID, cost: int, **rest) -> Settle:
    return Settle(
        **{
            "call_id": call_id,
            "wallet_id": wallet[0],
            "workspace_id": wallet[1],
            "cost_micro": cost,
            "usage": UsageFacts(input_tokens=10, output_tokens=20, requests=1, provider="sandbox"),
            **rest,
        }
    )


def claim(key: str, digest: bytes = b"d") -> IdempotencyClaim:
    return IdempotencyClaim(key, "test", digest)


@asynccontextmanager
async def wallet_locked(pg: asyncpg.Connection, wallet: tuple[UUID, UUID]):
    """What is submitted meanwhile waits for the wallet and gathers."""
    block = pg.transaction()
    await block.start()
    await pg.execute("SELECT FROM wallets WHERE id = $1 FOR UPDATE", wallet[0])
    yield
    await block.rollback()


async def waiting_for_lock(url: str, backends: int = 1) -> None:
    """Until so many backends wait for a lock."""
    conn = await asyncpg.connect(url)
    try:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(30):
            while await conn.fetchval(waiting) < backends:
                await asyncio.sleep(0.005)
    finally:
        await conn.close()
