"""Turns rows of the catalog's tables into views."""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from uuid import UUID

import asyncpg

from billing.catalog_stored import limits_of, routes_of, tier_of
from billing.rules.chains import Chain, parse_chain
from billing.rules.entitlements import entitlements_of
from billing.views import CreditPolicyView, MeterPriceView, ModelView, PackView, PlanView, PriceView
from kit.json_values import JsonObject
from metering.rules.conditions import conditions_of
from metering.rules.price_list import ListedPrice, PriceList
from metering.rules.rating import MeterPrice
from models.enums import GrantCadence, Meter, Modality, PricePeriod

Row = asyncpg.Record


def plan_views(plans: Iterable[Row], prices: Iterable[Row], plan_models: Iterable[Row]) -> tuple[PlanView, ...]:
    """Plans in the order of their rows. A retired version keeps the prices that were live when it was retired."""
    prices_of: dict[UUID, list[Row]] = {}
    for row in prices:
        prices_of.setdefault(row["plan_id"], []).append(row)
    models_of: dict[UUID, dict[UUID, int]] = {}
    for row in plan_models:
        models_of.setdefault(row["plan_id"], {})[row["model_id"]] = row["discount_percent"]
    return tuple(
        PlanView(
            id=row["id"],
            code=row["code"],
            version=row["version"],
            name=row["name"],
            description=row["description"],
            rank=row["rank"],
            is_default=row["is_default"],
            is_public=row["is_public"],
            workspace_id=row["workspace_id"],
            retired=row["retired_at"] is not None,
            entitlements=entitlements_of(row["entitlements"]),
            prices=tuple(
                price_view(price)
                for price in prices_of.get(row["id"], ())
                if price["retired_at"] is None or price["retired_at"] == row["retired_at"]
            ),
            models=MappingProxyType(models_of.get(row["id"], {})),
            stripe_product_id=row["stripe_product_id"],
        )
        for row in plans
    )


def price_view(row: Row) -> PriceView:
    """One price."""
    policy = None
    if row["credits_micro"] is not None:
        cadence = GrantCadence(row["cadence"])
        policy = CreditPolicyView(row["credits_micro"], cadence, row["rollover"], row["rollover_cap_micro"])
    return PriceView(
        id=row["id"],
        plan_id=row["plan_id"],
        code=row["code"],
        amount_usd_micro=row["amount_usd_micro"],
        period=PricePeriod(row["period"]),
        trial_days=row["trial_days"],
        credits=policy,
        stripe_price_id=row["stripe_price_id"],
        retired=row["retired_at"] is not None,
    )


def model_views(
    models: Iterable[Row],
    prices: Iterable[Row],
    plans: Sequence[PlanView],
    cache_when_asked: frozenset[str] = frozenset(),
) -> tuple[ModelView, ...]:
    """Models in the order of their rows, each with the live plans that give it.

    `cache_when_asked`: the providers that write to a cache only what a request says.
    """
    prices_of: dict[UUID, list[MeterPriceView]] = {}
    for row in prices:
        when = conditions_of(row["conditions"])
        view = MeterPriceView(row["id"], Meter(row["meter"]), row["credits_micro"], row["per"], when)
        prices_of.setdefault(row["model_id"], []).append(view)
    return tuple(
        ModelView(
            id=row["id"],
            slug=row["slug"],
            name=row["name"],
            modality=Modality(row["modality"]),
            tier=tier_of(row["limits"]),
            description=row["description"],
            context_tokens=row["context_tokens"],
            max_output_tokens=row["max_output_tokens"],
            prices=tuple(prices_of.get(row["id"], ())),
            price_list=PriceList(
                ListedPrice(MeterPrice(price.meter.value, price.credits_micro, price.per), price.when)
                for price in prices_of.get(row["id"], ())
            ),
            routes=routes_of(row["routes"]),
            limits=limits_of(row["limits"]),
            plan_ids=tuple(plan.id for plan in plans if not plan.retired and row["id"] in plan.models),
            enabled=row["enabled"],
            chain=chain_of(row["limits"].get("chain")),
            caches_when_asked=_served_by(row["routes"], cache_when_asked),
        )
        for row in models
    )


def _served_by(routes: Sequence[JsonObject], providers: frozenset[str]) -> bool:
    return bool(routes) and all(route["provider"] in providers for route in routes)


def chain_of(stored: object) -> Chain | None:
    """A chain that was checked when it was stored."""
    return None if stored is None else parse_chain(stored)


def pack_views(rows: Iterable[Row]) -> tuple[PackView, ...]:
    """Packs in the order of their rows."""
    return tuple(
        PackView(
            id=row["id"],
            code=row["code"],
            name=row["name"],
            credits_micro=row["credits_micro"],
            price_usd_micro=row["price_usd_micro"],
            expires_after_months=row["expires_after_months"],
            requires_active_plan=row["requires_active_plan"],
            stripe_price_id=row["stripe_price_id"],
            retired=row["retired_at"] is not None,
        )
        for row in rows
    )
