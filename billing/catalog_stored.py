"""Loads the catalog that is applied, in the same terms in which a file states it."""

from dataclasses import asdict
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg

from billing.catalog_settings import CatalogSettings, settings_of
from billing.catalog_terms import (
    MeterPriceTerms,
    ModelTerms,
    PackTerms,
    PlanTerms,
    PriceTerms,
    Renewing,
    StoredCatalog,
    StoredModel,
    StoredPack,
    StoredPlan,
    StoredPromo,
)
from billing.rules.entitlements import STANDARD_TIER, access_of, entitlements_of
from billing.views import ModelLimits, RouteView
from metering.rules.conditions import conditions_of
from models.enums import GrantCadence, Meter, Modality, PricePeriod
from models.pool import PoolConnection

Row = asyncpg.Record
JsonObject = dict[str, Any]  # Any: a jsonb object that this room has written

_RENEWING: Final = """
    SELECT p.code AS plan_code, r.code AS price_code, count(*) AS subscriptions
    FROM subscriptions s
    JOIN prices r ON r.id = coalesce(s.scheduled_price_id, s.price_id)
    JOIN plans p ON p.id = r.plan_id
    WHERE s.ended_at IS NULL AND NOT s.cancel_at_period_end AND r.period <> 'LIFETIME'
    GROUP BY p.code, r.code ORDER BY p.code, r.code"""


async def load_stored(connection: PoolConnection, named_workspaces: frozenset[UUID]) -> StoredCatalog:
    """Everything a file is compared with."""
    version = await connection.fetchrow("SELECT * FROM catalog_versions ORDER BY number DESC LIMIT 1")
    slugs = await connection.fetch("SELECT slug FROM models WHERE retired_at IS NULL AND workspace_id IS NOT NULL")
    renewing = await connection.fetch(_RENEWING)
    assigned = await connection.fetch(
        "SELECT p.code, count(*) AS workspaces FROM workspaces w JOIN plans p ON p.id = w.default_plan_id"
        " WHERE w.deleted_at IS NULL GROUP BY p.code"
    )
    workspaces = await connection.fetch(
        "SELECT id FROM workspaces WHERE id = ANY($1) AND deleted_at IS NULL", list(named_workspaces)
    )
    has_credits = await connection.fetchval("SELECT EXISTS (SELECT FROM credit_grants WHERE remaining_micro > 0)")
    return StoredCatalog(
        number=version["number"] if version else 0,
        name=version["name"] if version else "",
        digest=version["digest"] if version else "",
        credits_per_usd=version["credits_per_usd"] if version else Decimal(0),
        settings=settings_of(version["settings"]) if version else CatalogSettings(),
        plans=await _plans(connection),
        packs=await _packs(connection),
        models=await _models(connection),
        promos=await _promos(connection),
        renewing=tuple(Renewing(row["plan_code"], row["price_code"], row["subscriptions"]) for row in renewing),
        assigned={row["code"]: row["workspaces"] for row in assigned},
        foreign_slugs=frozenset(row["slug"] for row in slugs),
        workspace_ids=frozenset(row["id"] for row in workspaces),
        has_credits=bool(has_credits),
    )


async def _plans(connection: PoolConnection) -> dict[str, StoredPlan]:
    prices: dict[UUID, list[Row]] = {}
    for row in await connection.fetch(
        "SELECT r.* FROM prices r JOIN plans p ON p.id = r.plan_id WHERE p.retired_at IS NULL ORDER BY r.id"
    ):
        prices.setdefault(row["plan_id"], []).append(row)
    plans: dict[str, StoredPlan] = {}
    for row in await connection.fetch("SELECT * FROM plans WHERE retired_at IS NULL ORDER BY rank, code"):
        own = prices.get(row["id"], [])
        terms = PlanTerms(
            code=row["code"],
            name=row["name"],
            description=row["description"],
            rank=row["rank"],
            public=row["is_public"],
            workspace_id=row["workspace_id"],
            entitlements=entitlements_of(row["entitlements"]),
            access=access_of(row["entitlements"]),
            prices=tuple(_price(price) for price in own if price["retired_at"] is None),
        )
        codes = frozenset(price["code"] for price in own)
        plans[terms.code] = StoredPlan(row["id"], row["version"], row["is_default"], terms, codes)
    return plans


def _price(row: Row) -> PriceTerms:
    return PriceTerms(
        code=row["code"],
        amount_usd_micro=row["amount_usd_micro"],
        period=PricePeriod(row["period"]),
        trial_days=row["trial_days"],
        credits_micro=row["credits_micro"],
        cadence=None if row["cadence"] is None else GrantCadence(row["cadence"]),
        rollover=row["rollover"],
        rollover_cap_micro=row["rollover_cap_micro"],
    )


async def _packs(connection: PoolConnection) -> dict[str, StoredPack]:
    return {
        row["code"]: StoredPack(
            row["id"],
            row["version"],
            PackTerms(
                code=row["code"],
                name=row["name"],
                credits_micro=row["credits_micro"],
                price_usd_micro=row["price_usd_micro"],
                expires_after_months=row["expires_after_months"],
                requires_active_plan=row["requires_active_plan"],
            ),
        )
        for row in await connection.fetch("SELECT * FROM credit_packs WHERE retired_at IS NULL ORDER BY id")
    }


async def _models(connection: PoolConnection) -> dict[str, StoredModel]:
    prices: dict[UUID, list[MeterPriceTerms]] = {}
    for row in await connection.fetch("SELECT * FROM model_prices WHERE retired_at IS NULL ORDER BY id"):
        terms = MeterPriceTerms(Meter(row["meter"]), row["credits_micro"], row["per"], conditions_of(row["conditions"]))
        prices.setdefault(row["model_id"], []).append(terms)
    rows = await connection.fetch(
        "SELECT * FROM models WHERE retired_at IS NULL AND workspace_id IS NULL ORDER BY slug"
    )
    return {
        row["slug"]: StoredModel(
            row["id"],
            ModelTerms(
                slug=row["slug"],
                name=row["name"],
                modality=Modality(row["modality"]),
                tier=tier_of(row["limits"]),
                description=row["description"],
                context_tokens=row["context_tokens"],
                max_output_tokens=row["max_output_tokens"],
                enabled=row["enabled"],
                routes=routes_of(row["routes"]),
                limits=limits_of(row["limits"]),
                prices=tuple(prices.get(row["id"], ())),
                chain=row["limits"].get("chain"),
            ),
        )
        for row in rows
    }


async def _promos(connection: PoolConnection) -> tuple[StoredPromo, ...]:
    return tuple(
        StoredPromo(
            id=row["id"],
            name=row["name"],
            code_digest=row["code_digest"],
            credits_micro=row["credits_micro"],
            bonus_percent=row["bonus_percent"],
            grant_expires_after_days=row["grant_expires_after_days"],
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            total_limit=row["total_limit"],
            per_workspace_limit=row["per_workspace_limit"],
            paused=row["paused"],
            redeemed_count=row["redeemed_count"],
            retired=row["retired_at"] is not None,
        )
        for row in await connection.fetch("SELECT * FROM promo_campaigns ORDER BY created_at, id")
    )


def limits_json(terms: ModelTerms) -> JsonObject:
    """The form in which a model's row keeps its limits, its tier and what it is made of."""
    made_of = {} if terms.chain is None else {"chain": terms.chain}
    return {**asdict(terms.limits), "tier": terms.tier, **made_of}


def tier_of(row: JsonObject) -> str:
    """The tier in a model's row."""
    return str(row.get("tier", STANDARD_TIER))


def limits_of(row: JsonObject) -> ModelLimits:
    """The limits in a model's row."""
    return ModelLimits(
        bytes_per_token=row.get("bytes_per_token") or 1,
        tokenizer=row.get("tokenizer"),
        image_input_tokens=row.get("image_input_tokens"),
        max_images=row.get("max_images"),
        max_seconds=row.get("max_seconds"),
        max_characters=row.get("max_characters"),
        requests_per_hour=row.get("requests_per_hour"),
        cache_percent=row.get("cache_percent") or 0,
        job_deadline_s=row.get("job_deadline_s"),
        asset_bytes=row.get("asset_bytes"),
    )


def routes_of(rows: list[JsonObject]) -> tuple[RouteView, ...]:
    """The routes in a model's row."""
    return tuple(
        RouteView(
            provider=row["provider"],
            upstream_model=row["upstream_model"],
            weight=row.get("weight", 1),
            order=row.get("order", 0),
            responses_only=row.get("responses_only", False),
        )
        for row in rows
    )
