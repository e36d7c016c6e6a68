"""In which order a wallet's grants are spent, and which of them can be spent at an instant."""

from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

_NEVER: Final = datetime.max.replace(tzinfo=UTC)

BurnKey = tuple[int, datetime, datetime, UUID]


class Spendable(Protocol):
    """What the order and the eligibility of a grant depend on."""

    @property
    def id(self) -> UUID:
        """Decides between grants made at one instant."""
        ...

    @property
    def burn_rank(self) -> int:
        """The place of its kind in the catalog's order, lowest first."""
        ...

    @property
    def effective_at(self) -> datetime:
        """Not spendable before."""
        ...

    @property
    def expires_at(self) -> datetime | None:
        """Not spendable from this instant on."""
        ...

    @property
    def frozen_reason(self) -> str | None:
        """Not spendable while set."""
        ...

    @property
    def created_at(self) -> datetime:
        """The oldest goes first."""
        ...


def burn_key(grant: Spendable) -> BurnKey:
    """Sorts grants into burn order: rank, then earliest expiry with never-expiring last, then the oldest."""
    return (grant.burn_rank, grant.expires_at or _NEVER, grant.created_at, grant.id)


def is_lapsed(grant: Spendable, now: datetime) -> bool:
    """Whether it has expired; true from the instant of its expiry on."""
    return grant.expires_at is not None and grant.expires_at <= now


def is_live(grant: Spendable, now: datetime) -> bool:
    """Whether its free part can be spent at this instant."""
    return grant.frozen_reason is None and grant.effective_at <= now and not is_lapsed(grant, now)
