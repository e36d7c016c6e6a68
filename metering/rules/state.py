"""The money of a batch in memory: the rows that postings read and change, and what has to be written after them."""

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from metering.operations import GrantKind, Modality, SealedOutput, UsageFacts
from metering.rules.burn import burn_key, is_live
from metering.rules.uses import PublishedUse
from metering.views import Charges, SpendLimitView, WalletFigures


@dataclass(slots=True, eq=False)
class Lot:
    """A credit grant. `live`: its free part can be spent at the batch's instant.

    `reinstated` to `adjusted` count what this batch moves, whatever was moved before.
    """

    id: UUID
    wallet_id: UUID
    kind: GrantKind
    burn_rank: int
    amount: int
    remaining: int
    held: int
    effective_at: datetime
    expires_at: datetime | None
    frozen_reason: str | None
    requires_active_plan: bool
    transferable: bool
    source_kind: str
    source_id: str
    created_at: datetime
    subscription_id: UUID | None = None
    payment_id: UUID | None = None
    description: str = ""
    reinstated: int = 0
    spent: int = 0
    expired: int = 0
    clawed_back: int = 0
    refunded: int = 0
    transferred: int = 0
    adjusted: int = 0
    live: bool = False
    is_new: bool = False
    touched: bool = False

    @property
    def free(self) -> int:
        """What no hold stands on."""
        return self.remaining - self.held


@dataclass(slots=True, eq=False)
class Wallet:
    """A wallet with the lots that were loaded, in burn order. `complete`: all its live lots are among them."""

    id: UUID
    workspace_id: UUID
    balance: int
    held: int
    available: int = 0
    complete: bool = True
    lots: list[Lot] = field(default_factory=list[Lot])
    touched: bool = False

    def figures(self) -> WalletFigures:
        """What the wallet shows at this point of the batch."""
        available = self.available if self.complete else self.balance - self.held
        return WalletFigures(self.id, self.balance, self.held, available)


@dataclass(slots=True, eq=False)
class Limit:
    """A spend limit; `member_user_id` is the user behind a MEMBER subject."""

    id: UUID
    workspace_id: UUID
    subject_kind: str
    subject_id: UUID
    period: str
    limit: int
    period_start: datetime
    spent: int
    held: int
    member_user_id: UUID | None = None
    touched: bool = False

    def concerns(self, user_id: UUID | None, api_key_id: UUID | None) -> bool:
        """Whether a call of this user or key in the limit's workspace counts against it."""
        if self.subject_kind == "API_KEY":
            return self.subject_id == api_key_id
        if self.subject_kind == "MEMBER":
            return user_id is not None and self.member_user_id == user_id
        return True

    def roll(self, now: datetime) -> None:
        """Begin the running period where it has not begun: what was spent starts anew, what is held stays."""
        start = period_start(self.period, now)
        if self.period_start < start:
            self.period_start = start
            self.spent = 0
            self.touched = True

    def view(self) -> SpendLimitView:
        """Frozen."""
        return SpendLimitView(
            self.id,
            self.workspace_id,
            self.subject_kind,
            self.subject_id,
            self.period,
            self.limit,
            self.spent,
            self.held,
        )


def period_start(period: str, now: datetime) -> datetime:
    """The start of the calendar day or month (UTC) in which `now` is."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.replace(day=1) if period == "MONTH" else day


@dataclass(slots=True, eq=False)
class Hold:
    """Credits reserved for a call: `parts` are (lot, amount) in burn order."""

    call_id: UUID
    wallet_id: UUID
    workspace_id: UUID
    amount: int
    parts: list[tuple[Lot, int]]
    model_slug: str
    modality: Modality
    user_id: UUID | None
    api_key_id: UUID | None
    request_id: str
    idempotency_key: str | None
    owner: UUID
    payee_wallet_id: UUID | None
    payee_share_percent: int
    created_at: datetime
    expires_at: datetime
    limits: list[Limit]
    checkpoint_micro: int = 0
    checkpoint: UsageFacts | None = None
    terms: Mapping[str, object] | None = None
    is_new: bool = False
    touched: bool = False

    def allocation(self) -> Charges:
        """(grant id, amount) in burn order."""
        return tuple((lot.id, part) for lot, part in self.parts)


@dataclass(slots=True, eq=False)
class Key:
    """An idempotency key in use."""

    call_id: UUID | None
    operation: str
    input_digest: bytes
    completed: bool
    answer: Mapping[str, object] | None
    expires_at: datetime


@dataclass(slots=True, eq=False)
class EndedCall:
    """A call that has ended; with `cost` where it was settled. `charges` maps lots to what they paid, in order."""

    call_id: UUID
    workspace_id: UUID
    wallet_id: UUID
    model_slug: str
    modality: Modality
    user_id: UUID | None
    api_key_id: UUID | None
    request_id: str
    idempotency_key: str | None
    created_at: datetime
    cost: int | None = None
    charged: int = 0
    presumed: bool = False
    sequence: int = 0
    usage: UsageFacts | None = None
    charges: dict[Lot, int] = field(default_factory=dict[Lot, int])
    payee_wallet_id: UUID | None = None
    payee_share_percent: int = 0
    earned_by: dict[UUID, int] = field(default_factory=dict[UUID, int])

    @property
    def earned(self) -> int:
        """What all its publishers have earned of it."""
        return sum(self.earned_by.values())


@dataclass(slots=True, eq=False)
class Taken:
    """What a reference has moved out of a lot, and back."""

    out: int = 0
    back: int = 0


EntryRow = tuple[UUID, UUID | None, UUID | None, str, int, int | None, str, UUID | None, str, str, str]
"""id, wallet, grant, kind, amount, balance after, counter-account, call, reference kind, reference id, description."""


@dataclass(slots=True, eq=False)
class UsageRow:
    """A usage event to write: `call` says whose, `usage` how much."""

    call: "EndedCall | Hold"
    sequence: int
    usage: UsageFacts
    cost: int
    charged: int
    presumed: bool


@dataclass(slots=True, eq=False)
class CallRow:
    """A call's end to write."""

    call: "EndedCall | Hold"
    status: str
    error_code: str | None
    error_message: str | None


@dataclass(slots=True, eq=False)
class UseRow:
    """A use of a published model to write."""

    call_id: UUID
    use: PublishedUse
    charged: int
    earned: int


@dataclass(slots=True, eq=False)
class Changes:
    """What has to be written besides the touched wallets, lots, limits and holds."""

    entries: list[EntryRow] = field(default_factory=list[EntryRow])
    usage: list[UsageRow] = field(default_factory=list[UsageRow])
    calls: dict[UUID, CallRow] = field(default_factory=dict[UUID, CallRow])
    closed_holds: list[UUID] = field(default_factory=list[UUID])
    outputs: dict[UUID, tuple[UUID, SealedOutput]] = field(default_factory=dict[UUID, tuple[UUID, SealedOutput]])
    uses: list[UseRow] = field(default_factory=list[UseRow])
    keys: dict[tuple[UUID, str], Key] = field(default_factory=dict[tuple[UUID, str], Key])
    answers: list[tuple[UUID, str, UUID, Mapping[str, object]]] = field(
        default_factory=list[tuple[UUID, str, UUID, Mapping[str, object]]]
    )


@dataclass(slots=True, eq=False)
class State:
    """All that a batch of operations may read and change, at the instant `now`.

    `new_id` makes ids that increase; `earnings_day` names the day whose EARNINGS lots were loaded;
    `asked` are the wallets that were looked for.
    """

    now: datetime
    new_id: Callable[[], UUID]
    earnings_day: str
    earnings_rank: int
    asked: frozenset[UUID] = frozenset()
    wallets: dict[UUID, Wallet] = field(default_factory=dict[UUID, Wallet])
    lots: dict[UUID, Lot] = field(default_factory=dict[UUID, Lot])
    holds: dict[UUID, Hold] = field(default_factory=dict[UUID, Hold])
    limits: dict[UUID, list[Limit]] = field(default_factory=dict[UUID, list[Limit]])
    keys: dict[tuple[UUID, str], Key] = field(default_factory=dict[tuple[UUID, str], Key])
    ended: dict[UUID, EndedCall] = field(default_factory=dict[UUID, EndedCall])
    sources: dict[tuple[str, str], Lot] = field(default_factory=dict[tuple[str, str], Lot])
    references: dict[tuple[str, str], dict[UUID, Taken]] = field(
        default_factory=dict[tuple[str, str], dict[UUID, Taken]]
    )
    changes: Changes = field(default_factory=Changes)

    def adopt(self, lots: Iterable[Lot]) -> None:
        """Take loaded lots in: by id, by source and in burn order of their wallets; the same lot once."""
        concerned: dict[UUID, Wallet] = {}
        for lot in lots:
            if lot.id in self.lots:
                continue
            self.lots[lot.id] = lot
            self.sources[lot.source_kind, lot.source_id] = lot
            wallet = self.wallets.get(lot.wallet_id)
            if wallet is None:
                continue
            wallet.lots.append(lot)
            concerned[wallet.id] = wallet
            if is_live(lot, self.now):
                lot.live = True
                wallet.available += lot.remaining - lot.held
        for wallet in concerned.values():
            wallet.lots.sort(key=burn_key)

    def adopt_limits(self, limits: Iterable[Limit]) -> None:
        """Take loaded limits in, each in its running period."""
        for limit in limits:
            limit.roll(self.now)
            self.limits.setdefault(limit.workspace_id, []).append(limit)

    def add_lot(self, lot: Lot) -> None:
        """Take a lot in that this batch makes."""
        wallet = self.wallets[lot.wallet_id]
        lot.is_new = True
        lot.live = is_live(lot, self.now)
        if lot.live:
            wallet.available += lot.remaining
        self.lots[lot.id] = lot
        self.sources[lot.source_kind, lot.source_id] = lot
        insort(wallet.lots, lot, key=burn_key)
