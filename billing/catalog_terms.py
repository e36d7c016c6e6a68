"""The terms of a catalog as frozen values: as a file states them and, in the same form, as they are applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from billing.catalog_settings import CatalogSettings
from billing.rules.entitlements import Entitlements, ModelAccess
from billing.views import ModelLimits, RouteView
from kit.json_values import JsonObject
from metering.rules.conditions import Conditions
from models.enums import GrantCadence, Meter, Modality, PricePeriod


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """What a plan costs for a period and which credits come with it."""

    code: str
    amount_usd_micro: int
    period: PricePeriod
    trial_days: int = 0
    credits_micro: int | None = None
    cadence: GrantCadence | None = None
    rollover: bool = False
    rollover_cap_micro: int | None = None


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """A plan. `workspace_id`: for this workspace alone (D10)."""

    code: str
    name: str
    description: str | None
    rank: int
    public: bool
    workspace_id: UUID | None
    entitlements: Entitlements
    access: ModelAccess
    prices: tuple[PriceTerms, ...]


@dataclass(frozen=True, slots=True)
class PackTerms:
    """Credits bought once."""

    code: str
    name: str
    credits_micro: int
    price_usd_micro: int
    expires_after_months: int | None
    requires_active_plan: bool


@dataclass(frozen=True, slots=True)
class MeterPriceTerms:
    """`credits_micro` for each `per` units of a meter, where a request says `when`; nothing there: the ordinary price."""

    meter: Meter
    credits_micro: int
    per: int
    when: Conditions = ()


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """A model, where it is served and what it costs. `chain`: made of others instead, as it is written (B14)."""

    slug: str
    name: str
    modality: Modality
    tier: str
    description: str | None
    context_tokens: int | None
    max_output_tokens: int | None
    enabled: bool
    routes: tuple[RouteView, ...]
    limits: ModelLimits
    prices: tuple[MeterPriceTerms, ...]
    chain: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class PromoTerms:
    """A promo campaign; its code is named, never written. Either `credits_micro` or `bonus_percent` is set."""

    name: str
    code_env: str | None
    code_digest: bytes | None
    credits_micro: int | None
    bonus_percent: int | None
    grant_expires_after_days: int | None
    starts_at: datetime | None
    ends_at: datetime | None
    total_limit: int | None
    per_workspace_limit: int
    paused: bool


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A catalog file that has been read and is well formed; `billing.catalog_check` says whether it makes sense."""

    file_name: str
    source: str
    digest: str
    name: str
    credits_per_usd: Decimal
    default_plan: str
    plans: Mapping[str, PlanTerms]
    packs: Mapping[str, PackTerms]
    models: Mapping[str, ModelTerms]
    promos: Mapping[str, PromoTerms]
    settings: CatalogSettings


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """The live version of a plan. `taken_codes`: of every price it ever had, retired ones included."""

    id: UUID
    version: int
    is_default: bool
    terms: PlanTerms
    taken_codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class StoredPack:
    """The live version of a pack."""

    id: UUID
    version: int
    terms: PackTerms


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A live model of the catalog."""

    id: UUID
    terms: ModelTerms


@dataclass(frozen=True, slots=True)
class StoredPromo:
    """A promo campaign, live or retired."""

    id: UUID
    name: str
    code_digest: bytes
    credits_micro: int | None
    bonus_percent: int | None
    grant_expires_after_days: int | None
    starts_at: datetime | None
    ends_at: datetime | None
    total_limit: int | None
    per_workspace_limit: int
    paused: bool
    redeemed_count: int
    retired: bool


@dataclass(frozen=True, slots=True)
class Renewing:
    """How many live subscriptions renew onto a price; those on a lifetime price or about to end are not counted."""

    plan_code: str
    price_code: str
    subscriptions: int


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """What is applied, and who stands on it. `number` 0: nothing is applied yet.

    `assigned`: how many workspaces have a plan as their own default, by its code. `foreign_slugs`: of models that
    workspaces published. `workspace_ids`: those that exist among the ones the file names.
    """

    number: int
    name: str
    digest: str
    credits_per_usd: Decimal
    settings: CatalogSettings
    plans: Mapping[str, StoredPlan]
    packs: Mapping[str, StoredPack]
    models: Mapping[str, StoredModel]
    promos: tuple[StoredPromo, ...]
    renewing: tuple[Renewing, ...]
    assigned: Mapping[str, int]
    foreign_slugs: frozenset[str]
    workspace_ids: frozenset[UUID]
    has_credits: bool
