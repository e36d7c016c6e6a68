"""What may be asked of the ledger: every movement of credits, as frozen facts.

Amounts are micro-credits. An operation may be sent again after an unknown outcome: each is idempotent by its own id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, get_args
from uuid import UUID

from kit.ids import uuid7
from kit.records import record

GrantKind = Literal["CYCLE", "PROMO", "BONUS", "PACK", "TOP_UP", "ADJUSTMENT", "EARNINGS"]
FrozenReason = Literal["NO_ACTIVE_SUBSCRIPTION", "DISPUTE", "WORKSPACE_DELETED"]
EndStatus = Literal["SUCCEEDED", "FAILED", "CANCELED"]
Modality = Literal["TEXT", "EMBEDDING", "IMAGE", "VIDEO", "AUDIO"]

BURN_ORDER: Final[tuple[GrantKind, ...]] = get_args(GrantKind)
"""The kinds in the order in which they are spent, where the catalog does not reorder them: rank = position."""
IDEMPOTENCY_LIFE: Final = timedelta(days=7)


@record
class UsageFacts:
    """What a call used. Cached input is a part of the input, reasoning a part of the output.

    So is what the provider wrote to its cache a part of the input, none of it cached, and what it wrote there for the
    longer of its two lives a part of that.
    `estimated`: the provider did not say, and it was counted here. `provider` is the catalog's name of who answered.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 0
    images: int = 0
    seconds: int = 0
    characters: int = 0
    cache_write_input_tokens: int = 0
    long_cache_write_input_tokens: int = 0
    estimated: bool = False
    provider: str = ""
    details: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The caller's key of a request with the digest of its input; valid 7 days within its workspace."""

    key: str
    operation: str
    input_digest: bytes


@dataclass(frozen=True, slots=True)
class SealedOutput:
    """A call's output, encrypted, kept for repeats; `expires_at` None keeps it with the call.

    `repeat_until` is set where it is kept only because its workspace stores outputs: when it would go otherwise.
    """

    sealed: bytes
    key_version: int
    expires_at: datetime | None
    repeat_until: datetime | None = None


@record
class PlaceHold:
    """Reserve an upper bound of a call's cost; allocated to live grants in burn order. One hold per call id.

    `terms` is what rating needs later. `owner` tells a resent request from another one with the same call id.
    Answers HoldPlaced, HoldRefused or Repeat (the idempotency key was used before).
    """

    call_id: UUID
    wallet_id: UUID
    workspace_id: UUID
    amount_micro: int
    model_slug: str
    user_id: UUID | None
    api_key_id: UUID | None
    request_id: str
    expires_at: datetime
    terms: Mapping[str, object]
    modality: Modality = "TEXT"
    payee_wallet_id: UUID | None = None
    payee_share_percent: int = 0
    idempotency: IdempotencyClaim | None = None
    owner: UUID = field(default_factory=uuid7)


@record
class Settle:
    """End a call with its true cost: consumes the hold's allocation in order, returns the rest to its grants.

    `answer` completes the idempotency key of the hold. Payee, share and modality as at the hold: they count
    where the hold was reaped meanwhile. Answers Settled, for a call that was settled before too (`duplicate`).
    """

    call_id: UUID
    wallet_id: UUID
    workspace_id: UUID
    cost_micro: int
    usage: UsageFacts
    status: EndStatus = "SUCCEEDED"
    error_code: str | None = None
    error_message: str | None = None
    payee_wallet_id: UUID | None = None
    sealed_output: SealedOutput | None = None
    answer: dict[str, object] | None = None
    payee_share_percent: int = 0
    modality: Modality = "TEXT"


@record
class Release:
    """End a call that costs nothing. `answer` None stores the status and error for repeats. Answers Released."""

    call_id: UUID
    wallet_id: UUID
    workspace_id: UUID
    status: Literal["FAILED", "CANCELED"] = "FAILED"
    error_code: str | None = None
    error_message: str | None = None
    answer: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A running call's cost so far and a later end of its hold; cost 0 without usage is a pure renewal.

    Answers Posted; `changed` False: the hold is gone (reaped or settled).
    """

    call_id: UUID
    wallet_id: UUID
    cost_micro: int
    usage: UsageFacts | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Reap:
    """End a lapsed hold: settles its last checkpoint as presumed, else releases it. `payees`: whom that would pay.

    Answers Settled or Released; Posted(changed=False) where it was renewed or ended meanwhile.
    """

    call_id: UUID
    wallet_id: UUID
    payee_wallet_id: UUID | None = None
    payees: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """Give credits. (source_kind, source_id) is unique: the second time answers Posted(changed=False) with the first id."""

    grant_id: UUID
    wallet_id: UUID
    kind: GrantKind
    amount_micro: int
    effective_at: datetime
    expires_at: datetime | None
    source_kind: str
    source_id: str
    description: str
    burn_rank: int
    requires_active_plan: bool = False
    transferable: bool = False
    subscription_id: UUID | None = None
    payment_id: UUID | None = None
    frozen_reason: FrozenReason | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """Sweep what is free of a lapsed grant; held parts stay spendable by their own calls. Answers Posted."""

    grant_id: UUID
    wallet_id: UUID


@dataclass(frozen=True, slots=True)
class Freeze:
    """Make grants unspendable; `grant_ids` None: all live ones (NO_ACTIVE_SUBSCRIPTION: those that require a plan).

    A grant frozen for a stronger reason keeps it: WORKSPACE_DELETED over DISPUTE over NO_ACTIVE_SUBSCRIPTION.
    """

    wallet_id: UUID
    reason: FrozenReason
    grant_ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class Thaw:
    """Make grants frozen for this reason spendable again; `grant_ids` None: all of the wallet's."""

    wallet_id: UUID
    reason: FrozenReason
    grant_ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """Take back up to `amount_micro` of what a grant has left, in all under this reference (absolute, so repeatable).

    Answers Posted; `amount_micro` there is what this time took, `total_micro` what the reference took in all.
    """

    reference: str
    wallet_id: UUID
    grant_id: UUID
    amount_micro: int
    description: str = "Refund"


@dataclass(frozen=True, slots=True)
class Clawback:
    """As Refund, for a dispute or reversed payment; undone by Reinstate. Netted: a larger amount takes the difference."""

    reference: str
    wallet_id: UUID
    grant_id: UUID
    amount_micro: int
    description: str = "Clawback"


@dataclass(frozen=True, slots=True)
class Reinstate:
    """Give back what the clawback of this reference took and has not given back. Answers Posted."""

    reference: str
    wallet_id: UUID
    description: str = "Clawback reversed"


@dataclass(frozen=True, slots=True)
class TransferOut:
    """Take exactly `amount_micro` from transferable grants in burn order, or be Rejected. Once per reference."""

    reference: str
    wallet_id: UUID
    amount_micro: int
    description: str = "Transfer"


@dataclass(frozen=True, slots=True)
class ReverseTransfer:
    """Give a transfer back to the grants it came from, those it took last first. Answers Posted.

    `amount_micro`: so much in all under this reference (absolute, so repeatable), None: all of it.
    """

    reference: str
    wallet_id: UUID
    amount_micro: int | None = None
    description: str = "Transfer reversed"


@dataclass(frozen=True, slots=True)
class Adjust:
    """An operator's correction: up is a grant of kind ADJUSTMENT, down takes what is free in burn order. Once per reference."""

    reference: str
    wallet_id: UUID
    amount_micro: int
    reason: str
    burn_rank: int = BURN_ORDER.index("ADJUSTMENT")
    expires_at: datetime | None = None


Operation = (
    PlaceHold
    | Settle
    | Release
    | Checkpoint
    | Reap
    | Grant
    | Expire
    | Freeze
    | Thaw
    | Refund
    | Clawback
    | Reinstate
    | TransferOut
    | ReverseTransfer
    | Adjust
)

OF_CALLS: Final = (PlaceHold, Settle, Release, Checkpoint, Reap)
"""Those about a call, which they name as `call_id`."""
