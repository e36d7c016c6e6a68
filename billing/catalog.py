"""The catalog in force, held in memory for every request."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID

from billing.catalog_access import PLANS_IN_USE
from billing.catalog_rows import model_views, pack_views, plan_views, price_view
from billing.catalog_settings import CatalogSettings, ProviderKind, ProviderSpec, Renewal, settings_of
from billing.errors import CatalogMissing
from billing.views import ModelView, PackView, PlanView, PriceView
from models.database import Database, connection
from models.enums import GrantKind
from models.pool import PoolConnection


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One catalog version as it is sold; immutable, every look-up a dictionary's.

    `plans`, `models` and `packs` are what is on offer, in order; the `…_by_id` maps know retired versions as well.
    """

    number: int
    name: str
    digest: str
    credits_per_usd: Decimal
    settings: CatalogSettings
    default_plan: PlanView
    plans: tuple[PlanView, ...]
    plans_by_code: Mapping[str, PlanView]
    plans_by_id: Mapping[UUID, PlanView]
    prices_by_id: Mapping[UUID, PriceView]
    models: tuple[ModelView, ...]
    models_by_slug: Mapping[str, ModelView]
    models_by_id: Mapping[UUID, ModelView]
    packs: tuple[PackView, ...]
    packs_by_code: Mapping[str, PackView]
    packs_by_id: Mapping[UUID, PackView]
    burn_ranks: Mapping[GrantKind, int]

    @property
    def providers(self) -> tuple[ProviderSpec, ...]:
        """Where models are served."""
        return self.settings.providers

    @property
    def burn_order(self) -> tuple[GrantKind, ...]:
        """The order in which kinds of grants are used up; `burn_ranks` has the place of each."""
        return self.settings.burn_order

    def plans_on_offer(self) -> tuple[PlanView, ...]:
        """The plans that everybody may see, by rank."""
        return tuple(plan for plan in self.plans if plan.is_public)

    def plans_seen_by(self, workspace_id: UUID) -> tuple[PlanView, ...]:
        """The plans on offer to a workspace: the public ones and its own (D10)."""
        return tuple(plan for plan in self.plans if plan.is_public or plan.workspace_id == workspace_id)

    def allowed(self, plan: PlanView, model: ModelView) -> bool:
        """Whether the plan gives the model (C4)."""
        return model.id in plan.models

    def discount_percent(self, plan: PlanView, model: ModelView) -> int:
        """What the plan takes off the model's prices (B10)."""
        return plan.models.get(model.id, 0)

    def renewal_of(self, price: PriceView) -> PriceView | None:
        """The price onto which a subscription renews: the live one of the same codes, or what the catalog says of it.

        None: the subscription ends with its period. A retired price with no word about it, which `apply` prevents,
        renews onto itself, so that nobody loses a plan by an oversight.
        """
        plan = self.plans_by_id[price.plan_id]
        live = _live_price(self.plans_by_code.get(plan.code), price.code)
        if live is not None:
            return live
        retirement = self.settings.retired_prices.get(f"{plan.code}.{price.code}")
        if retirement is not None and retirement.renewal is Renewal.SUCCESSOR:
            plan_code, _, price_code = (retirement.successor or "").partition(".")
            return _live_price(self.plans_by_code.get(plan_code), price_code) or price
        retirement = retirement or self.settings.retired_plans.get(plan.code)
        if retirement is not None and retirement.renewal is Renewal.SUCCESSOR:
            return _live_price(self.plans_by_code.get(retirement.successor or ""), price.code) or price
        return None if retirement is not None and retirement.renewal is Renewal.END else price


def _live_price(plan: PlanView | None, code: str) -> PriceView | None:
    if plan is None:
        return None
    return next((price for price in plan.prices if price.code == code and not price.retired), None)


async def load_snapshot(database: Database) -> Snapshot:
    """The catalog in force; CatalogMissing where none was applied."""
    async with connection(database) as checked, checked.transaction(isolation="repeatable_read", readonly=True):
        return await _load(checked)


async def _load(checked: PoolConnection) -> Snapshot:
    version = await checked.fetchrow("SELECT * FROM catalog_versions ORDER BY number DESC LIMIT 1")
    if version is None:
        raise CatalogMissing
    settings = settings_of(version["settings"])
    prices = await checked.fetch("SELECT * FROM prices ORDER BY id")
    plans = plan_views(
        await checked.fetch("SELECT * FROM plans ORDER BY rank, code, version"),
        prices,
        await checked.fetch(f"SELECT * FROM plan_models WHERE plan_id IN (SELECT id FROM ({PLANS_IN_USE}) used)"),  # noqa: S608  (a constant)
    )
    default_plan = next((plan for plan in plans if plan.is_default and not plan.retired), None)
    if default_plan is None:
        raise CatalogMissing
    models = model_views(
        await checked.fetch("SELECT * FROM models WHERE retired_at IS NULL AND workspace_id IS NULL ORDER BY slug"),
        await checked.fetch(
            "SELECT * FROM model_prices WHERE retired_at IS NULL"
            " AND model_id IN (SELECT id FROM models WHERE retired_at IS NULL AND workspace_id IS NULL) ORDER BY id"
        ),
        plans,
        frozenset(spec.name for spec in settings.providers if spec.kind is ProviderKind.ANTHROPIC),
    )
    packs = pack_views(await checked.fetch("SELECT * FROM credit_packs ORDER BY price_usd_micro, id"))
    live = tuple(plan for plan in plans if not plan.retired)
    live_packs = tuple(pack for pack in packs if not pack.retired)
    return Snapshot(
        number=version["number"],
        name=version["name"],
        digest=version["digest"],
        credits_per_usd=version["credits_per_usd"].normalize(),
        settings=settings,
        default_plan=default_plan,
        plans=live,
        plans_by_code={plan.code: plan for plan in live},
        plans_by_id={plan.id: plan for plan in plans},
        prices_by_id={row["id"]: price_view(row) for row in prices},
        models=models,
        models_by_slug={model.slug: model for model in models},
        models_by_id={model.id: model for model in models},
        packs=live_packs,
        packs_by_code={pack.code: pack for pack in live_packs},
        packs_by_id={pack.id: pack for pack in packs},
        burn_ranks={kind: rank for rank, kind in enumerate(settings.burn_order)},
    )


class CatalogHolder:
    """Holds this process's snapshot, and takes the next one when another process has applied a catalog."""

    def __init__(self, database: Database) -> None:
        """Call `reload` once before `current`."""
        self._database: Final = database
        self._snapshot: Snapshot | None = None
        self._loading: Final = asyncio.Lock()

    @property
    def current(self) -> Snapshot:
        """The snapshot; CatalogMissing where none is loaded."""
        if self._snapshot is None:
            raise CatalogMissing
        return self._snapshot

    async def reload(self) -> Snapshot:
        """Load the catalog in force; the old snapshot stays where that fails."""
        async with self._loading:
            self._snapshot = await load_snapshot(self._database)
        return self._snapshot

    async def refresh_if_changed(self) -> bool:
        """Load anew where another version is in force by now: one index look-up else. Returns whether it did."""
        async with connection(self._database) as checked:
            number = await checked.fetchval("SELECT max(number) FROM catalog_versions")
        if number is None or (self._snapshot is not None and self._snapshot.number == number):
            return False
        await self.reload()
        return True
