"""What metering answers: outcomes of postings and read views, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kit.records import record

Charges = tuple[tuple[UUID, int], ...]
"""(grant id, micro-credits) in the order in which the grants were used."""


@record
class WalletFigures:
    """The ledger's figures right after a posting. `available_micro`: free credits of live grants.

    Exact where the wallet has at most 64 live grants; with more it may include credits that are frozen or lapsed.
    """

    wallet_id: UUID
    balance_micro: int
    held_micro: int
    available_micro: int


class HoldRefusal(StrEnum):
    """Why a hold was refused."""

    INSUFFICIENT = "INSUFFICIENT"
    HELD = "HELD"
    SPEND_LIMIT = "SPEND_LIMIT"


@dataclass(frozen=True, slots=True)
class SpendLimitView:
    """A limit of credits per calendar period (UTC), with what counts against it now."""

    id: UUID
    workspace_id: UUID
    subject_kind: str
    subject_id: UUID
    period: str
    limit_micro: int
    spent_micro: int
    held_micro: int


@record
class HoldPlaced:
    """The hold stands. `duplicate`: it stood already, placed by this same request."""

    call_id: UUID
    allocation: Charges
    available_micro: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class HoldRefused:
    """Nothing was held. HELD: it would have fitted without the holds that stand. `limit` for SPEND_LIMIT."""

    call_id: UUID
    reason: HoldRefusal
    needed_micro: int
    available_micro: int
    held_micro: int
    limit: SpendLimitView | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """The idempotency key was used before; nothing was done. `answer` where `completed`."""

    call_id: UUID | None
    input_matches: bool
    completed: bool
    answer: Mapping[str, object] | None


@record
class Settled:
    """The call's charge: `charged_micro` is what the wallet paid for it in all, `shortfall_micro` what it could not pay."""

    call_id: UUID
    charged_micro: int
    shortfall_micro: int
    charges: Charges
    wallet: WalletFigures
    duplicate: bool = False
    presumed: bool = False
    earned_micro: int = 0


@record
class Released:
    """The call ended without a charge."""

    call_id: UUID
    released_micro: int
    wallet: WalletFigures
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Posted:
    """Another posting was done; `changed` False: it had been done before, or there was nothing to do.

    `amount_micro` is what moved this time, `total_micro` what the reference moved in all, `grants` between which.
    """

    wallet: WalletFigures
    changed: bool = True
    amount_micro: int = 0
    total_micro: int = 0
    grants: Charges = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The operation cannot be done as asked: `error` says why (a metering.errors.PostingRejected)."""

    error: Exception


Outcome = HoldPlaced | HoldRefused | Repeat | Settled | Released | Posted | Rejected


@dataclass(frozen=True, slots=True)
class WalletView:
    """A wallet at an instant. `balance_micro`: everything not yet spent or expired, held included, frozen not."""

    id: UUID
    workspace_id: UUID
    balance_micro: int
    held_micro: int
    available_micro: int
    frozen_micro: int
    transferable_micro: int


@dataclass(frozen=True, slots=True)
class GrantView:
    """A lot of credits."""

    id: UUID
    wallet_id: UUID
    kind: str
    amount_micro: int
    remaining_micro: int
    held_micro: int
    effective_at: datetime
    expires_at: datetime | None
    frozen_reason: str | None
    requires_active_plan: bool
    transferable: bool
    source_kind: str
    source_id: str
    description: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EntryView:
    """A movement of a wallet's credits."""

    id: UUID
    wallet_id: UUID
    grant_id: UUID
    kind: str
    amount_micro: int
    balance_after_micro: int
    call_id: UUID | None
    description: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UsageView:
    """What a call used and was charged, its corrections included. `cached`: an earlier call's answer was given."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    requests: int
    images: int
    seconds: int
    characters: int
    cache_write_input_tokens: int
    long_cache_write_input_tokens: int
    cost_micro: int
    charged_micro: int
    estimated: bool
    provider: str
    cached: bool
    charges: Charges


@dataclass(frozen=True, slots=True)
class CallView:
    """A model call: running (only its hold exists), queued or ended."""

    id: UUID
    workspace_id: UUID
    model_slug: str
    status: str
    user_id: UUID | None
    api_key_id: UUID | None
    request_id: str
    idempotency_key: str | None
    error_code: str | None
    error_message: str | None
    created_at: datetime
    completed_at: datetime | None
    usage: UsageView | None
