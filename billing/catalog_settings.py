"""The catalog's terms that have no table of their own, and the JSON in which a catalog version keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol, TypeVar

from billing.catalog_predictions import prediction_of
from metering.rules.conditions import Condition, Conditions
from models.enums import GrantKind, Meter
from providers.prediction_terms import PredictionTerms


class _Record(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # Any: fields of every type


T = TypeVar("T", bound=_Record)

DEFAULT_BURN_ORDER: Final = (
    GrantKind.CYCLE,
    GrantKind.PROMO,
    GrantKind.BONUS,
    GrantKind.PACK,
    GrantKind.TOP_UP,
    GrantKind.ADJUSTMENT,
    GrantKind.EARNINGS,
)


class ProviderKind(StrEnum):
    """Which adapter speaks to a provider."""

    SANDBOX = "sandbox"
    OPENAI_COMPATIBLE = "openai_compatible"
    ANTHROPIC = "anthropic"
    PREDICTION = "prediction"


class Renewal(StrEnum):
    """What becomes of subscriptions on a retired plan or price when their period ends."""

    KEEP = "KEEP"
    END = "END"
    SUCCESSOR = "SUCCESSOR"


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """Where models are served. Keys and addresses that differ between sites are named by environment variable.

    `base_url` is the default where `base_url_env` names no variable or one that is not set. None: as usual.
    `responses`: it speaks OpenAI's Responses API, too. `max_tokens_only`: it knows the limit of a chat by that name alone. `prediction`: how a provider of that kind is spoken to.
    """

    name: str
    kind: ProviderKind
    base_url: str | None = None
    base_url_env: str | None = None
    api_key_env: str | None = None
    connect_timeout_s: int | None = None
    first_byte_timeout_s: int | None = None
    idle_timeout_s: int | None = None
    total_timeout_s: int | None = None
    retries: int | None = None
    circuit_failures: int | None = None
    circuit_cooldown_s: int | None = None
    sandbox_delay_ms: int = 0
    sandbox_chunk_delay_ms: int = 0
    responses: bool = False
    max_tokens_only: bool = False
    prediction: PredictionTerms | None = None


@dataclass(frozen=True, slots=True)
class BonusStep:
    """A top-up of at least so much gets so many percent on top (D6)."""

    from_usd_micro: int
    percent: int


@dataclass(frozen=True, slots=True)
class TopUpTerms:
    """Buying credits by amount. `transferable`: may be paid out again (B6). `bonus_paused`: no bonus for now (D6)."""

    min_usd_micro: int
    max_usd_micro: int
    expires_after_months: int | None = None
    requires_active_plan: bool = False
    transferable: bool = False
    bonus_paused: bool = False
    bonus_expires_after_months: int | None = None
    bonus: tuple[BonusStep, ...] = ()


@dataclass(frozen=True, slots=True)
class AutoRechargeTerms:
    """Bounds within which a workspace may set its auto-recharge (B4, D4)."""

    min_threshold_usd_micro: int
    max_threshold_usd_micro: int
    min_amount_usd_micro: int
    max_amount_usd_micro: int
    max_monthly_usd_micro: int


@dataclass(frozen=True, slots=True)
class TransferTerms:
    """Paying out a transferable balance (B6). Amounts from `review_from_usd_micro` on wait for an operator."""

    min_usd_micro: int
    max_usd_micro: int
    completes_within_hours: int = 72
    review_from_usd_micro: int | None = None


@dataclass(frozen=True, slots=True)
class PublishingTerms:
    """Charging for a published model's use: the publisher's share (B12)."""

    share_percent: int


@dataclass(frozen=True, slots=True)
class SignUpTerms:
    """Credits given once, with a person's first workspace, and how many new workspaces may have free credits at all.

    `credits_micro` None: nothing beyond what plans and trials give. `public_domains`: of mail providers, beside those
    known anyway, whose addresses are anybody's and not counted by domain.
    """

    credits_micro: int | None = None
    expires_after_days: int | None = None
    per_address_range_a_day: int = 20
    per_domain_a_day: int = 50
    per_payment_fingerprint: int = 1
    public_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeterCost:
    """What the provider takes for `per` units of a model's meter: for margins, no customer is ever charged by it.

    `when`: of the price it stands beside.
    """

    slug: str
    meter: Meter
    usd_micro: int
    per: int
    when: Conditions = ()


@dataclass(frozen=True, slots=True)
class Retirement:
    """What was sold once and is not any more: `successor` is a plan's code, or for a price "plan.price"."""

    renewal: Renewal
    successor: str | None = None


@dataclass(frozen=True, slots=True)
class CatalogSettings:
    """Everything of a catalog beside plans, packs, models and promo campaigns. None: the feature is not offered.

    `promo_names`: the campaigns this catalog declares; others in the table were made by an operator and are left alone.
    """

    burn_order: tuple[GrantKind, ...] = DEFAULT_BURN_ORDER
    providers: tuple[ProviderSpec, ...] = ()
    top_up: TopUpTerms | None = None
    auto_recharge: AutoRechargeTerms | None = None
    transfers: TransferTerms | None = None
    publishing: PublishingTerms | None = None
    sign_up: SignUpTerms | None = None
    retired_plans: Mapping[str, Retirement] = field(default_factory=dict[str, Retirement])
    retired_prices: Mapping[str, Retirement] = field(default_factory=dict[str, Retirement])
    promo_names: tuple[str, ...] = ()
    costs: tuple[MeterCost, ...] = ()


JsonObject = dict[str, Any]  # Any: what a jsonb column holds; this module is its only writer and reader


def settings_json(settings: CatalogSettings) -> JsonObject:
    """The form in which a catalog version's row keeps the settings."""
    return asdict(settings)


def settings_of(row: JsonObject) -> CatalogSettings:
    """The settings in a catalog version's row. A key that another release did not write has its default."""
    top_up: JsonObject | None = row.get("top_up")
    return CatalogSettings(
        burn_order=tuple(GrantKind(kind) for kind in row.get("burn_order", DEFAULT_BURN_ORDER)),
        providers=tuple(
            _of(
                ProviderSpec,
                provider,
                kind=ProviderKind(provider["kind"]),
                prediction=prediction_of(provider.get("prediction")),
            )
            for provider in row.get("providers", ())
        ),
        top_up=None
        if top_up is None
        else _of(TopUpTerms, top_up, bonus=tuple(_of(BonusStep, step) for step in top_up.get("bonus", ()))),
        auto_recharge=_optional(AutoRechargeTerms, row.get("auto_recharge")),
        transfers=_optional(TransferTerms, row.get("transfers")),
        publishing=_optional(PublishingTerms, row.get("publishing")),
        sign_up=_sign_up(row.get("sign_up")),
        retired_plans=_retirements(row.get("retired_plans", {})),
        retired_prices=_retirements(row.get("retired_prices", {})),
        promo_names=tuple(row.get("promo_names", ())),
        costs=tuple(
            _of(MeterCost, cost, meter=Meter(cost["meter"]), when=_conditions(cost.get("when", ())))
            for cost in row.get("costs", ())
        ),
    )


def _of(record: type[T], row: JsonObject, /, **instead: object) -> T:
    known = {item.name for item in fields(record)}
    values: JsonObject = {key: value for key, value in row.items() if key in known}
    return record(**(values | instead))


def _optional(kind: type[T], row: JsonObject | None) -> T | None:
    return None if row is None else _of(kind, row)


def _sign_up(row: JsonObject | None) -> SignUpTerms | None:
    """None stood for "no limit" in earlier releases; the defaults hold there now."""
    if row is None:
        return None
    given = {key: value for key, value in row.items() if value is not None}
    return _of(SignUpTerms, given, public_domains=tuple(row.get("public_domains", ())))


def _conditions(rows: Sequence[JsonObject]) -> Conditions:
    return tuple(Condition(row["field"], tuple(row["values"])) for row in rows)


def _retirements(rows: JsonObject) -> dict[str, Retirement]:
    return {code: Retirement(Renewal(row["renewal"]), row["successor"]) for code, row in rows.items()}
