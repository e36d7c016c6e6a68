"""Writes which models each plan in use gives, from the access that the plan's row states."""

from typing import Final
from uuid import UUID

from billing.catalog_stored import tier_of
from billing.rules.entitlements import access_of
from kit.ids import uuid7
from models.pool import PoolConnection

PLANS_IN_USE: Final = """
    SELECT p.* FROM plans p
    WHERE p.retired_at IS NULL
       OR EXISTS (SELECT FROM subscriptions s WHERE s.plan_id = p.id AND s.ended_at IS NULL)
       OR EXISTS (SELECT FROM workspaces w WHERE w.default_plan_id = p.id AND w.deleted_at IS NULL)"""
"""Live plans, and the retired versions that somebody still stands on: they get new models of their kind too."""


async def give_models(connection: PoolConnection) -> None:
    """Bring plan_models in line with the live models and the plans in use; what is right already is left alone.

    Versions that nobody stands on any more lose their rows.
    """
    models = await connection.fetch(
        "SELECT id, slug, modality, limits FROM models WHERE retired_at IS NULL AND workspace_id IS NULL ORDER BY slug"
    )
    plans = await connection.fetch(PLANS_IN_USE)
    wanted: dict[tuple[UUID, UUID], int] = {}
    for plan in plans:
        access = access_of(plan["entitlements"])
        for model in models:
            fits = (model["slug"], model["modality"], tier_of(model["limits"]))
            if access.allows(*fits):
                wanted[plan["id"], model["id"]] = access.discount_percent(*fits)
    found = {
        (row["plan_id"], row["model_id"]): row["discount_percent"]
        for row in await connection.fetch("SELECT plan_id, model_id, discount_percent FROM plan_models")
    }
    await _delete(connection, [pair for pair in found if pair not in wanted])
    await _upsert(connection, {pair: percent for pair, percent in wanted.items() if found.get(pair) != percent})


async def _delete(connection: PoolConnection, pairs: list[tuple[UUID, UUID]]) -> None:
    await connection.execute(
        "DELETE FROM plan_models WHERE (plan_id, model_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        [plan_id for plan_id, _ in pairs],
        [model_id for _, model_id in pairs],
    )


async def _upsert(connection: PoolConnection, percents: dict[tuple[UUID, UUID], int]) -> None:
    await connection.execute(
        "INSERT INTO plan_models (id, plan_id, model_id, discount_percent)"
        " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::smallint[])"
        " ON CONFLICT (plan_id, model_id) DO UPDATE SET discount_percent = excluded.discount_percent",
        [uuid7() for _ in percents],
        [plan_id for plan_id, _ in percents],
        [model_id for _, model_id in percents],
        list(percents.values()),
    )
