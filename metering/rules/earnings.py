"""The publisher's share of a charge: earnings collected in one lot per payee and day."""

from uuid import UUID

from metering.rules.moves import restore, take_free, write_entry
from metering.rules.state import EndedCall, Lot, State, Wallet

EARNINGS_SOURCE = "EARNINGS"


def earnings_source_id(wallet: Wallet, day: str) -> str:
    """Names a payee's lot of a day."""
    return f"{wallet.id}:{day}"


def pay_share(state: State, ended: EndedCall, amount: int) -> None:
    """Pay the payee of a call `amount` more, or take it back as far as it is free where the charge was corrected down."""
    if not amount or ended.payee_wallet_id is None:
        return
    payee = state.wallets.get(ended.payee_wallet_id)
    if payee is None:
        if ended.payee_wallet_id in state.asked:
            return  # there is no such wallet: the share stays with the platform
        raise MissingWalletError(ended.payee_wallet_id)
    if amount > 0:
        _earn(state, payee, ended, amount)
        ended.earned += amount
    else:
        ended.earned -= _take_back(state, payee, ended, -amount)


class MissingWalletError(LookupError):
    """The payee's wallet was not loaded: its id was missing from the operation. Nothing has been written yet."""

    def __init__(self, wallet_id: UUID) -> None:
        """Says which has to be loaded too."""
        super().__init__(str(wallet_id))
        self.wallet_id = wallet_id


def _earn(state: State, payee: Wallet, ended: EndedCall, amount: int) -> None:
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
        ended.model_slug,
        ended.call_id,
    )
    restore(state, payee, lot)


def _take_back(state: State, payee: Wallet, ended: EndedCall, amount: int) -> int:
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
            f"{ended.model_slug}: corrected",
            ended.call_id,
        )
    return taken
