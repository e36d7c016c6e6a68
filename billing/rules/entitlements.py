"""What a plan allows: its entitlements, and which models it gives at what discount."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

ALL_MODELS: Final = "*"
STANDARD_TIER: Final = "standard"

Json = Mapping[str, Any]  # Any: a jsonb object that this module has written


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a plan allows. A limit of None is no limit.

    `compute_discount_percent` is the most that any of the plan's model discounts may be (B10).
    `request_burst` is the capacity of the token bucket that refills at `requests_per_hour`; None takes a whole hour's.
    """

    requests_per_hour: int
    support_level: str
    api_access: bool = False
    team_management: bool = False
    credit_packs: bool = False
    monetization: bool = False
    chained_models: bool = False
    branding: bool = False
    compute_discount_percent: int = 0
    storage_bytes: int | None = None
    asset_retention_days: int | None = None
    request_burst: int | None = None
    concurrent_calls: int | None = None
    members_limit: int | None = None
    api_keys_limit: int | None = None
    published_models_limit: int | None = None


_FLAGS: Final = frozenset(
    {"api_access", "team_management", "credit_packs", "monetization", "chained_models", "branding"}
)
FEATURE_NAMES: Final[Mapping[str, str]] = {
    "api_access": "API access",
    "team_management": "team management",
    "credit_packs": "credit packs",
    "monetization": "charging for published models",
    "chained_models": "chained models",
    "branding": "branding of public pages",
}
"""The yes-or-no entitlements and their words for people."""


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """Which models a plan gives, as written in the catalog.

    A pattern is "*", a modality ("IMAGE"), a modality's tier ("IMAGE:basic") or a model's slug. `discounts` pairs
    patterns with whole percents; the most specific pattern that fits a model counts.
    """

    patterns: tuple[str, ...]
    discounts: tuple[tuple[str, int], ...] = ()

    def allows(self, slug: str, modality: str, tier: str) -> bool:
        """Whether the plan gives this model."""
        return any(pattern in self.patterns for pattern in _patterns_of(slug, modality, tier))

    def discount_percent(self, slug: str, modality: str, tier: str) -> int:
        """What the plan takes off this model's prices, in percent."""
        percents = dict(self.discounts)
        for pattern in _patterns_of(slug, modality, tier):
            if pattern in percents:
                return percents[pattern]
        return 0


def _patterns_of(slug: str, modality: str, tier: str) -> tuple[str, str, str, str]:
    return slug, f"{modality}:{tier}", modality, ALL_MODELS


def entitlements_json(entitlements: Entitlements, access: ModelAccess) -> dict[str, object]:
    """The form in which a plan's row keeps both; `entitlements_of` and `access_of` read it back."""
    values: dict[str, object] = {field.name: getattr(entitlements, field.name) for field in fields(entitlements)}
    values["models"] = list(access.patterns)
    values["discounts"] = dict(access.discounts)
    return values


def entitlements_of(values: Json) -> Entitlements:
    """Entitlements from a plan's row; a key that the row does not know yet has its default."""

    def count(key: str) -> int | None:
        value = values.get(key)
        return value if isinstance(value, int) else None

    return Entitlements(
        requests_per_hour=count("requests_per_hour") or 0,
        support_level=str(values.get("support_level", "")),
        **{flag: values.get(flag) is True for flag in _FLAGS},
        compute_discount_percent=count("compute_discount_percent") or 0,
        storage_bytes=count("storage_bytes"),
        asset_retention_days=count("asset_retention_days"),
        request_burst=count("request_burst"),
        concurrent_calls=count("concurrent_calls"),
        members_limit=count("members_limit"),
        api_keys_limit=count("api_keys_limit"),
        published_models_limit=count("published_models_limit"),
    )


def access_of(values: Json) -> ModelAccess:
    """Model access from a plan's row."""
    return ModelAccess(
        patterns=tuple(values.get("models", ())), discounts=tuple(sorted(values.get("discounts", {}).items()))
    )
