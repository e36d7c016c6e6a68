"""The publishers' shares of a charge: earnings collected in one lot per payee and day."""

from collections.abc import Sequence
from uuid import UUID

from metering.operations import UsageFacts
from metering.rules.moves import restore, take_free, write_entry
from metering.rules.state import EndedCall, Lot, State, UseRow, Wallet
from metering.rules.uses import charged_parts, uses_of

EARNINGS_SOURCE = "EARNINGS"


def earnings_source_id(wallet: Wallet, day: str) -> str:
    """Names a payee's lot of a day."""
    return f"{wallet.id}:{day}"


def pay_shares(state: State, ended: EndedCall, usage: UsageFacts) -> None:
    """Bring what each publisher has earned of a call to its share of what is charged for it now.

    More is paid; less is taken back as far as it is free. A payee whose wallet is gone earns nothing: the share stays
    with the platform.
    """
    rows = _rows_of(ended, usage)
    due = _due(ended, rows)
    missing = [wallet_id for wallet_id in due if wallet_id not in state.wallets and wallet_id not in state.asked]
    if missing:
        raise MissingWalletError(missing)
    for wallet_id, (amount, label) in sorted(due.items()):
        payee = state.wallets.get(wallet_id)
        difference = amount - ended.earned_by.get(wallet_id, 0)
        if payee is not None and difference > 0:
            _earn(state, payee, ended, difference, label)
        elif payee is not None and difference < 0:
            difference = -_take_back(state, payee, ended, -difference, label)
        else:
            difference = 0
        earned = ended.earned_by[wallet_id] = ended.earned_by.get(wallet_id, 0) + difference
        _tell(rows, wallet_id, earned)
    state.changes.uses.extend(rows)


def _rows_of(ended: EndedCall, usage: UsageFacts) -> list[UseRow]:
    uses = uses_of(usage)
    parts = charged_parts(uses, ended.cost or 0, ended.charged)
    return [UseRow(ended.call_id, use, part, use.earned_micro(part)) for use, part in zip(uses, parts, strict=True)]


def _due(ended: EndedCall, rows: Sequence[UseRow]) -> dict[UUID, tuple[int, str]]:
    """What each payee's wallet is to have earned, and what it is for."""
    percent = ended.payee_share_percent
    if not rows and ended.payee_wallet_id is not None and percent:
        return {ended.payee_wallet_id: (ended.charged * percent // 100, ended.model_slug)}
    due: dict[UUID, tuple[int, str]] = {}
    for row in rows:
        if row.use.share_percent:
            before, label = due.get(row.use.wallet_id, (0, row.use.slug))
            due[row.use.wallet_id] = (before + row.earned, label)
    return due


def _tell(rows: Sequence[UseRow], wallet_id: UUID, earned: int) -> None:
    """Let the rows say what the payee has in truth: a wallet may be gone, or earnings spent before a correction."""
    of_payee = [row for row in rows if row.use.wallet_id == wallet_id]
    rest = earned
    for row in of_payee:
        row.earned = min(row.earned, rest)
        rest -= row.earned
    if of_payee:
        of_payee[0].earned += rest


class MissingWalletError(LookupError):
    """Payees' wallets were not loaded: their ids were missing from the operation. Nothing has been written yet."""

    def __init__(self, wallet_ids: Sequence[UUID]) -> None:
        """Says which have to be loaded too."""
        super().__init__(", ".join(map(str, wallet_ids)))
        self.wallet_ids = wallet_ids


def _earn(state: State, payee: Wallet, ended: EndedCall, amount: int, label: str) -> None:
    source_id = earnings_source_id(payee, state.earnings_day)
    lot = state.sources.get((EARNINGS_SOURCE, source_id))
    if lot is None:
        lot = Lot(
            state.new_id(),
            payee.id,
            "EARNINGS",
            state.earnings_rank,
            amount,
            amount,
            0,
            effective_at=state.now,
            expires_at=None,
            frozen_reason=None,
            requires_active_plan=False,
            transferable=True,
            source_kind=EARNINGS_SOURCE,
            source_id=source_id,
            created_at=state.now,
            description="Earnings",
        )
        state.add_lot(lot)
    else:
        lot.amount += amount
        lot.remaining += amount
        if lot.live:
            payee.available += amount
    write_entry(
        state,
        payee,
        lot,
        "EARNING",
        amount,
        "EARNINGS",
        ("REQUEST", ended.request_id),
        label,
        ended.call_id,
    )
    restore(state, payee, lot)


def _take_back(state: State, payee: Wallet, ended: EndedCall, amount: int, label: str) -> int:
    """Earnings that were spent or paid out meanwhile stay: no wallet goes into debt."""
    taken = 0
    for lot, part in take_free(payee, [lot for lot in payee.lots if lot.kind == "EARNINGS"], amount):
        lot.remaining -= part
        lot.adjusted += part
        taken += part
        write_entry(
            state,
            payee,
            lot,
            "ADJUSTMENT",
            -part,
            "EARNINGS",
            ("REQUEST", ended.request_id),
            f"{label}: corrected",
            ended.call_id,
        )
    return taken
