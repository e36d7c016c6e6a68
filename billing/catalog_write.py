"""Writes the steps of a catalog change: rows that were sold are retired and written anew, never changed."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from billing.catalog_settings import CatalogSettings, Renewal
from billing.catalog_stored import limits_json
from billing.catalog_terms import ModelTerms, PlanTerms, PriceTerms, StoredPlan
from billing.rules.catalog_difference import ModelStep, PackStep, PlanStep, PromoStep
from billing.rules.entitlements import entitlements_json
from kit.ids import uuid7
from metering.rules.conditions import conditions_json
from models.pool import PoolConnection


async def write_plans(
    connection: PoolConnection,
    steps: Sequence[PlanStep],
    default_plan: str,
    settings: CatalogSettings,
    now: datetime,
) -> None:
    """Plans with their prices, the default plan, and the workspaces that have a plan of their own."""
    await connection.execute("UPDATE plans SET is_default = false WHERE is_default AND code <> $1", default_plan)
    for step in steps:
        if step.terms is None:
            if step.stored is not None:
                await _retire_plan(connection, step.stored.id, now)
        elif step.new_version or step.stored is None:
            await _new_version(connection, step.terms, step.stored, now)
        else:
            await _change_in_place(connection, step, step.terms, step.stored, now)
    await connection.execute(
        "UPDATE plans SET is_default = true WHERE code = $1 AND retired_at IS NULL AND NOT is_default", default_plan
    )
    for code, retirement in settings.retired_plans.items():
        if retirement.renewal is not Renewal.KEEP:
            await _move_workspaces(connection, code, retirement.successor, now)


async def _retire_plan(connection: PoolConnection, plan_id: UUID, now: datetime) -> None:
    await connection.execute(
        "UPDATE prices SET retired_at = $2 WHERE plan_id = $1 AND retired_at IS NULL", plan_id, now
    )
    await connection.execute("UPDATE plans SET retired_at = $2, is_default = false WHERE id = $1", plan_id, now)


async def _new_version(connection: PoolConnection, terms: PlanTerms, before: StoredPlan | None, now: datetime) -> None:
    plan_id = uuid7()
    if before is not None:
        await _retire_plan(connection, before.id, now)
    await connection.execute(
        "INSERT INTO plans (id, code, version, name, description, rank, is_public, workspace_id, entitlements,"
        " stripe_product_id, created_at) SELECT $1, $2,"
        " coalesce((SELECT max(version) FROM plans WHERE code = $2), 0) + 1, $3, $4, $5, $6, $7, $8,"
        " (SELECT stripe_product_id FROM plans WHERE id = $9), $10",
        plan_id,
        terms.code,
        terms.name,
        terms.description,
        terms.rank,
        terms.public,
        terms.workspace_id,
        entitlements_json(terms.entitlements, terms.access),
        before.id if before else None,
        now,
    )
    await _insert_prices(connection, plan_id, terms.prices, now)
    if before is not None:
        await _keep_stripe_prices(connection, before, plan_id, terms)
        # Without a subscription there are no terms to run out: the workspaces move to the new version at once.
        await connection.execute(
            "UPDATE workspaces SET default_plan_id = $2, updated_at = $3 WHERE default_plan_id = $1",
            before.id,
            plan_id,
            now,
        )
    if terms.workspace_id is not None and not terms.prices:
        await connection.execute(
            "UPDATE workspaces SET default_plan_id = $2, updated_at = $3 WHERE id = $1",
            terms.workspace_id,
            plan_id,
            now,
        )


async def _keep_stripe_prices(connection: PoolConnection, before: StoredPlan, plan_id: UUID, terms: PlanTerms) -> None:
    """A price that stays the same keeps its counterpart at Stripe; a changed one gets another there."""
    same = [price.code for price in terms.prices if price in before.terms.prices]
    await connection.execute(
        "UPDATE prices new SET stripe_price_id = old.stripe_price_id FROM prices old"
        " WHERE new.plan_id = $1 AND old.plan_id = $2 AND old.code = new.code AND new.code = ANY($3)",
        plan_id,
        before.id,
        same,
    )


async def _change_in_place(
    connection: PoolConnection, step: PlanStep, terms: PlanTerms, before: StoredPlan, now: datetime
) -> None:
    await connection.execute(
        "UPDATE plans SET name = $2, description = $3, rank = $4, is_public = $5 WHERE id = $1",
        before.id,
        terms.name,
        terms.description,
        terms.rank,
        terms.public,
    )
    await connection.execute(
        "UPDATE prices SET retired_at = $3 WHERE plan_id = $1 AND code = ANY($2) AND retired_at IS NULL",
        before.id,
        list(step.removed),
        now,
    )
    await _insert_prices(connection, before.id, step.added, now)


async def _insert_prices(
    connection: PoolConnection, plan_id: UUID, prices: Sequence[PriceTerms], now: datetime
) -> None:
    await connection.executemany(
        "INSERT INTO prices (id, plan_id, code, amount_usd_micro, period, trial_days, credits_micro, cadence, rollover,"
        " rollover_cap_micro, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        [
            (
                uuid7(),
                plan_id,
                price.code,
                price.amount_usd_micro,
                price.period,
                price.trial_days,
                price.credits_micro,
                price.cadence,
                price.rollover,
                price.rollover_cap_micro,
                now,
            )
            for price in prices
        ],
    )


async def _move_workspaces(connection: PoolConnection, code: str, successor: str | None, now: datetime) -> None:
    """Workspaces that had a retired plan as their own get its successor, or none: then the catalog's default holds."""
    await connection.execute(
        "UPDATE workspaces SET updated_at = $3,"
        " default_plan_id = (SELECT id FROM plans WHERE code = $2 AND retired_at IS NULL)"
        " WHERE default_plan_id IN (SELECT id FROM plans WHERE code = $1)",
        code,
        successor,
        now,
    )


async def write_packs(connection: PoolConnection, steps: Sequence[PackStep], now: datetime) -> None:
    """Packs; only the name of one is changed in place."""
    for step in steps:
        before, terms = step.stored, step.terms
        if before is not None and terms is not None and not step.new_version:
            await connection.execute("UPDATE credit_packs SET name = $2 WHERE id = $1", before.id, terms.name)
            continue
        if before is not None:
            await connection.execute("UPDATE credit_packs SET retired_at = $2 WHERE id = $1", before.id, now)
        if terms is None:
            continue
        same_price = before is not None and before.terms.price_usd_micro == terms.price_usd_micro
        await connection.execute(
            "INSERT INTO credit_packs (id, code, version, name, credits_micro, price_usd_micro, expires_after_months,"
            " requires_active_plan, stripe_price_id, created_at) SELECT $1, $2,"
            " coalesce((SELECT max(version) FROM credit_packs WHERE code = $2), 0) + 1, $3, $4, $5, $6, $7,"
            " (SELECT stripe_price_id FROM credit_packs WHERE id = $8), $9",
            uuid7(),
            terms.code,
            terms.name,
            terms.credits_micro,
            terms.price_usd_micro,
            terms.expires_after_months,
            terms.requires_active_plan,
            before.id if before is not None and same_price else None,
            now,
        )


async def write_models(connection: PoolConnection, steps: Sequence[ModelStep], now: datetime) -> None:
    """Models and their prices. Calls in flight carry the prices they were admitted at."""
    ids = {step.slug: step.stored.id if step.stored else uuid7() for step in steps}
    retired = [step.stored.id for step in steps if step.terms is None and step.stored is not None]
    written = [(step, step.terms) for step in steps if step.terms is not None]
    await connection.execute("UPDATE models SET retired_at = $2, updated_at = $2 WHERE id = ANY($1)", retired, now)
    await connection.executemany(
        "INSERT INTO models (id, slug, name, modality, description, context_tokens, max_output_tokens, routes, limits,"
        " enabled, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name, modality = excluded.modality,"
        " description = excluded.description, context_tokens = excluded.context_tokens,"
        " max_output_tokens = excluded.max_output_tokens, routes = excluded.routes, limits = excluded.limits,"
        " enabled = excluded.enabled, updated_at = excluded.updated_at",
        [_model_row(ids[terms.slug], terms, now) for _, terms in written],
    )
    repriced = [(ids[step.slug], meter) for step, _ in written for meter in sorted(step.repriced)]
    await connection.execute(
        "UPDATE model_prices SET retired_at = $3 WHERE retired_at IS NULL"
        " AND (model_id = ANY($4) OR (model_id, meter) IN (SELECT * FROM unnest($1::uuid[], $2::text[])))",
        [model_id for model_id, _ in repriced],
        [meter for _, meter in repriced],
        now,
        retired,
    )
    await connection.executemany(
        "INSERT INTO model_prices (id, model_id, meter, credits_micro, per, conditions, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            (
                uuid7(),
                ids[terms.slug],
                price.meter,
                price.credits_micro,
                price.per,
                conditions_json(price.when),
                now,
            )
            for step, terms in written
            for price in terms.prices
            if price.meter in step.repriced
        ],
    )


def _model_row(model_id: UUID, terms: ModelTerms, now: datetime) -> tuple[object, ...]:
    return (
        model_id,
        terms.slug,
        terms.name,
        terms.modality,
        terms.description,
        terms.context_tokens,
        terms.max_output_tokens,
        [asdict(route) for route in terms.routes],
        limits_json(terms),
        terms.enabled,
        now,
    )


async def write_promos(connection: PoolConnection, steps: Sequence[PromoStep], now: datetime) -> None:
    """Promo campaigns; a row is written over, so that what was redeemed stays counted."""
    for step in steps:
        terms = step.terms
        if terms is None:
            if step.stored is not None:
                await connection.execute(
                    "UPDATE promo_campaigns SET retired_at = $2 WHERE id = $1", step.stored.id, now
                )
            continue
        await connection.execute(
            "INSERT INTO promo_campaigns (id, code_digest, name, credits_micro, bonus_percent, grant_expires_after_days,"
            " starts_at, ends_at, total_limit, per_workspace_limit, paused, created_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
            " ON CONFLICT (id) DO UPDATE SET code_digest = excluded.code_digest, credits_micro = excluded.credits_micro,"
            " bonus_percent = excluded.bonus_percent, grant_expires_after_days = excluded.grant_expires_after_days,"
            " starts_at = excluded.starts_at, ends_at = excluded.ends_at, total_limit = excluded.total_limit,"
            " per_workspace_limit = excluded.per_workspace_limit, paused = excluded.paused, retired_at = NULL",
            step.stored.id if step.stored else uuid7(),
            step.code_digest,
            step.name,
            terms.credits_micro,
            terms.bonus_percent,
            terms.grant_expires_after_days,
            terms.starts_at,
            terms.ends_at,
            terms.total_limit,
            terms.per_workspace_limit,
            terms.paused,
            now,
        )
