"""Frozen answers of the billing room: plans, prices, packs and models as they are sold."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.rules.chains import Chain
from billing.rules.entitlements import Entitlements
from metering.rules.conditions import Conditions
from metering.rules.price_list import PriceList
from models.enums import GrantCadence, Meter, Modality, PaymentPurpose, PaymentStatus, PricePeriod, SubscriptionStatus


@dataclass(frozen=True, slots=True)
class CreditPolicyView:
    """The credits that come with a price."""

    amount_micro: int
    cadence: GrantCadence
    rollover: bool
    rollover_cap_micro: int | None


@dataclass(frozen=True, slots=True)
class PriceView:
    """What a plan costs for a period. `retired`: kept for the subscriptions on it, not on offer."""

    id: UUID
    plan_id: UUID
    code: str
    amount_usd_micro: int
    period: PricePeriod
    trial_days: int
    credits: CreditPolicyView | None
    stripe_price_id: str | None
    retired: bool


@dataclass(frozen=True, slots=True)
class PlanView:
    """One version of a plan. `models` maps the id of each model it gives to the discount in percent.

    `prices` are those on offer, or for a retired version those it was sold at. `workspace_id`: a custom plan (D10).
    """

    id: UUID
    code: str
    version: int
    name: str
    description: str | None
    rank: int
    is_default: bool
    is_public: bool
    workspace_id: UUID | None
    retired: bool
    entitlements: Entitlements
    prices: tuple[PriceView, ...]
    models: Mapping[UUID, int]
    stripe_product_id: str | None = None


@dataclass(frozen=True, slots=True)
class PackView:
    """Credits bought once. `expires_after_months` None: never."""

    id: UUID
    code: str
    name: str
    credits_micro: int
    price_usd_micro: int
    expires_after_months: int | None
    requires_active_plan: bool
    stripe_price_id: str | None
    retired: bool


@dataclass(frozen=True, slots=True)
class MeterPriceView:
    """`credits_micro` for each `per` units of a meter, where a request says `when`; nothing there: the ordinary price."""

    id: UUID
    meter: Meter
    credits_micro: int
    per: int
    when: Conditions = ()


@dataclass(frozen=True, slots=True)
class RouteView:
    """One provider that serves a model. Lower `order` first; within one order by `weight`.

    `responses_only`: the model there speaks OpenAI's Responses API and no other form of a chat.
    """

    provider: str
    upstream_model: str
    weight: int
    order: int
    responses_only: bool = False


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Bounds of one call, for the estimate: what the catalog knows about the most that a call can use.

    `bytes_per_token`: a token covers at least so many bytes of text, so input of n bytes has at most n divided by it
    tokens. `tokenizer`: who counts them instead, where it is installed. `image_input_tokens`: the most tokens that one image in a message counts. `requests_per_hour`: how often
    one workspace may call the model. `cache_percent`: what an answer from the cache costs, in percent of the call's price.
    `job_deadline_s`: how long a job may take. `asset_bytes`: the most that one image, second of video or spoken character takes as a
    stored file.
    """

    bytes_per_token: int = 1
    tokenizer: str | None = None
    image_input_tokens: int | None = None
    max_images: int | None = None
    max_seconds: int | None = None
    max_characters: int | None = None
    requests_per_hour: int | None = None
    cache_percent: int = 0
    job_deadline_s: int | None = None
    asset_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PublisherView:
    """The workspace that publishes a model (B12)."""

    workspace_id: UUID
    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model that can be called. `price_list`: its prices as rating needs them. `plan_ids`: the live plans that give it, by rank.

    `chain`: it is made of others (B14). `publisher`: a workspace publishes it; None for the catalog's own.
    `caches_when_asked`: whoever serves it writes to a cache only what a request says; others may by themselves.
    """

    id: UUID
    slug: str
    name: str
    modality: Modality
    tier: str
    description: str | None
    context_tokens: int | None
    max_output_tokens: int | None
    prices: tuple[MeterPriceView, ...]
    price_list: PriceList
    routes: tuple[RouteView, ...]
    limits: ModelLimits
    plan_ids: tuple[UUID, ...]
    enabled: bool
    chain: Chain | None = None
    publisher: PublisherView | None = None
    caches_when_asked: bool = False


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """A workspace's subscription. `scheduled_price_id`: what it renews onto instead of its own price."""

    id: UUID
    workspace_id: UUID
    plan_id: UUID
    price_id: UUID
    scheduled_price_id: UUID | None
    status: SubscriptionStatus
    current_period_start: datetime
    current_period_end: datetime | None
    cancel_at_period_end: bool
    next_grant_at: datetime | None
    trial_ends_at: datetime | None
    grace_ends_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A payment. `action_url`: where the customer confirms it, if that is needed."""

    id: UUID
    workspace_id: UUID
    purpose: PaymentPurpose
    amount_usd_micro: int
    refunded_usd_micro: int
    status: PaymentStatus
    action_url: str | None
    failure_code: str | None
    created_at: datetime
