"""What an API key may be given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from accounts.rules.names import clean_name
from accounts.rules.networks import parse_networks
from accounts.rules.roles import ApiScope
from kit.errors import InvalidInput
from kit.money import MAX_MICRO

MAX_MODELS: Final = 200
MAX_MODEL_LENGTH: Final = 200
MAX_REQUESTS_PER_HOUR: Final = 1_000_000_000
MAX_OVERLAP: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a key may do; None in an optional field: no such limit.

    `cache_answers`: its calls may be given the answers of equal earlier ones of the workspace, where they do not say.
    """

    name: str
    scopes: tuple[ApiScope, ...]
    models: tuple[str, ...] | None = None
    addresses: tuple[str, ...] | None = None
    requests_per_hour: int | None = None
    monthly_limit_micro: int | None = None
    expires_at: datetime | None = None
    cache_answers: bool = False


def checked(terms: KeyTerms, now: datetime) -> KeyTerms:
    """The terms in their stored form; InvalidInput names the field that is wrong."""
    if not terms.scopes:
        raise InvalidInput("Give the key at least one scope.", field=["scopes"])
    if terms.requests_per_hour is not None and not 1 <= terms.requests_per_hour <= MAX_REQUESTS_PER_HOUR:
        raise InvalidInput(f"requestsPerHour must be from 1 to {MAX_REQUESTS_PER_HOUR}.", field=["requestsPerHour"])
    if terms.monthly_limit_micro is not None and not 0 <= terms.monthly_limit_micro <= MAX_MICRO:
        raise InvalidInput("monthlyCreditLimit must not be below zero.", field=["monthlyCreditLimit"])
    if terms.expires_at is not None and terms.expires_at <= now:
        raise InvalidInput("expiresAt must lie in the future.", field=["expiresAt"])
    return KeyTerms(
        name=clean_name(terms.name),
        scopes=tuple(sorted(set(terms.scopes))),
        models=None if terms.models is None else _models(terms.models),
        addresses=None if terms.addresses is None else parse_networks(terms.addresses),
        requests_per_hour=terms.requests_per_hour,
        monthly_limit_micro=terms.monthly_limit_micro,
        expires_at=terms.expires_at,
        cache_answers=terms.cache_answers,
    )


def check_overlap(overlap_s: int) -> timedelta:
    """How long a rotated key stays good beside the new one; InvalidInput beyond MAX_OVERLAP."""
    if not 0 <= overlap_s <= MAX_OVERLAP.total_seconds():
        raise InvalidInput(
            f"overlapSeconds must be from 0 to {int(MAX_OVERLAP.total_seconds())}.", field=["overlapSeconds"]
        )
    return timedelta(seconds=overlap_s)


def _models(slugs: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(slugs) <= MAX_MODELS:
        raise InvalidInput(f"Give 1 to {MAX_MODELS} models, or leave the list out.", field=["models"])
    for slug in slugs:
        if not 1 <= len(slug) <= MAX_MODEL_LENGTH or not slug.isascii() or not slug.isprintable():
            raise InvalidInput("A model's slug must be short printable ASCII text.", field=["models"])
    return tuple(dict.fromkeys(slugs))
