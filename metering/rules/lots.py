"""The postings of grants: give, expire, freeze, thaw, take back, transfer, adjust."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from kit.money import MAX_MICRO
from metering.errors import AmountRefused, InsufficientCredits, UnknownGrant, UnknownWallet
from metering.operations import (
    Adjust,
    Clawback,
    Expire,
    Freeze,
    Grant,
    Refund,
    Reinstate,
    ReverseTransfer,
    Thaw,
    TransferOut,
)
from metering.rules.burn import is_lapsed, is_live
from metering.rules.moves import Reference, lapse, refresh_live, restore, take_free, taken_of, write_entry
from metering.rules.state import Lot, State, Wallet
from metering.views import Outcome, Posted, Rejected

_STRENGTH: Final[dict[str | None, int]] = {None: 0, "NO_ACTIVE_SUBSCRIPTION": 1, "DISPUTE": 2, "WORKSPACE_DELETED": 3}
_OWN_LIMIT: Final = MAX_MICRO // 4
"""No wallet may come near the end of bigint: sums of a few wallets must fit too."""


def grant(state: State, op: Grant) -> Outcome:
    """Give credits, once per source."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(op.wallet_id))
    known = state.sources.get((op.source_kind, op.source_id)) or state.lots.get(op.grant_id)
    if known is not None:
        if known.wallet_id != op.wallet_id:
            return Rejected(UnknownGrant(op.grant_id))
        return Posted(wallet.figures(), changed=False, total_micro=known.amount, grants=((known.id, known.amount),))
    if not 0 < op.amount_micro <= _OWN_LIMIT - wallet.balance:
        return Rejected(AmountRefused("a grant is more than zero micro-credits and within the wallet's bounds"))
    if op.expires_at is not None and op.expires_at <= op.effective_at:
        return Rejected(AmountRefused("a grant expires after it becomes effective"))
    lot = _new_lot(state, op)
    reference = (op.source_kind, op.source_id)
    write_entry(state, wallet, lot, "GRANT", op.amount_micro, "ISSUED", reference, op.description)
    restore(state, wallet, lot)
    return _moved(wallet, op.amount_micro, op.amount_micro, ((lot, op.amount_micro),))


def _new_lot(state: State, op: Grant) -> Lot:
    lot = Lot(
        op.grant_id,
        op.wallet_id,
        op.kind,
        op.burn_rank,
        op.amount_micro,
        op.amount_micro,
        0,
        effective_at=op.effective_at,
        expires_at=op.expires_at,
        frozen_reason=op.frozen_reason,
        requires_active_plan=op.requires_active_plan,
        transferable=op.transferable,
        source_kind=op.source_kind,
        source_id=op.source_id,
        created_at=state.now,
        subscription_id=op.subscription_id,
        payment_id=op.payment_id,
        description=op.description,
    )
    state.add_lot(lot)
    return lot


def expire(state: State, op: Expire) -> Outcome:
    """Sweep the free part of a lapsed grant, frozen or not."""
    found = _find(state, op.wallet_id, op.grant_id)
    if isinstance(found, Rejected):
        return found
    wallet, lot = found
    free = lot.free
    if not is_lapsed(lot, state.now) or not free:
        return Posted(wallet.figures(), changed=False)
    lapse(state, wallet, lot, free)
    return _moved(wallet, free, free, ((lot, free),))


def freeze(state: State, op: Freeze) -> Outcome:
    """Make grants unspendable; what their holds keep stays spendable by its calls."""
    found = _chosen(state, op.wallet_id, op.grant_ids)
    if isinstance(found, Rejected):
        return found
    wallet, lots = found
    if op.grant_ids is None and op.reason == "NO_ACTIVE_SUBSCRIPTION":
        lots = [lot for lot in lots if lot.requires_active_plan]
    changed = [lot for lot in lots if _STRENGTH[lot.frozen_reason] < _STRENGTH[op.reason]]
    return _set_reason(state, wallet, changed, op.reason)


def thaw(state: State, op: Thaw) -> Outcome:
    """End a freeze of this reason."""
    found = _chosen(state, op.wallet_id, op.grant_ids)
    if isinstance(found, Rejected):
        return found
    wallet, lots = found
    return _set_reason(state, wallet, [lot for lot in lots if lot.frozen_reason == op.reason], None)


def _set_reason(state: State, wallet: Wallet, lots: Iterable[Lot], reason: str | None) -> Outcome:
    changed: list[tuple[Lot, int]] = []
    for lot in lots:
        lot.frozen_reason = reason
        lot.touched = wallet.touched = True
        refresh_live(wallet, lot, is_live(lot, state.now))
        changed.append((lot, lot.remaining))
    return Posted(
        wallet.figures(),
        changed=bool(changed),
        amount_micro=sum(part for _, part in changed),
        grants=tuple((lot.id, part) for lot, part in changed),
    )


def refund(state: State, op: Refund) -> Outcome:
    """Take back what is left of a grant, up to the amount in all."""
    return _take_back(state, op, "REFUND", "REFUNDED")


def clawback(state: State, op: Clawback) -> Outcome:
    """Take back what is left of a grant because of a dispute, up to the amount in all, reversibly."""
    return _take_back(state, op, "CLAWBACK", "CLAWED_BACK")


def _take_back(state: State, op: Refund | Clawback, kind: str, counter: str) -> Outcome:
    found = _find(state, op.wallet_id, op.grant_id)
    if isinstance(found, Rejected):
        return found
    if op.amount_micro < 0:
        return Rejected(AmountRefused("an amount to take back is not negative"))
    wallet, lot = found
    reference = (kind, op.reference)
    taken = taken_of(state, reference, lot)
    target = max(0, op.amount_micro - (taken.out - taken.back))
    parts = take_free(wallet, (lot,), target)
    amount = sum(part for _, part in parts)
    if amount:
        lot.remaining -= amount
        if kind == "REFUND":
            lot.refunded += amount
        else:
            lot.clawed_back += amount
        taken.out += amount
        write_entry(state, wallet, lot, kind, -amount, counter, reference, op.description)
    return _moved(wallet, amount, taken.out - taken.back, parts)


def reinstate(state: State, op: Reinstate) -> Outcome:
    """Undo a clawback: give back to each grant what its reference took."""
    return _give_back(state, op.wallet_id, ("CLAWBACK", op.reference), "CLAWBACK", "CLAWED_BACK", op.description)


def reverse_transfer(state: State, op: ReverseTransfer) -> Outcome:
    """Undo a transfer, or a part of it: give back to each grant what it gave."""
    reference = ("TRANSFER", op.reference)
    most = None
    if op.amount_micro is not None:
        most = op.amount_micro - sum(taken.back for taken in state.references.get(reference, {}).values())
    return _give_back(state, op.wallet_id, reference, "TRANSFER_OUT", "PAID_OUT", op.description, most=most)


def _give_back(
    state: State,
    wallet_id: UUID,
    reference: Reference,
    kind: str,
    counter: str,
    description: str,
    *,
    most: int | None = None,
) -> Outcome:
    wallet = state.wallets.get(wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(wallet_id))
    moved: list[tuple[Lot, int]] = []
    rest = MAX_MICRO if most is None else max(0, most)
    for grant_id, taken in reversed(state.references.get(reference, {}).items()):
        lot = state.lots[grant_id]
        amount = min(taken.out - taken.back, rest)
        if lot.wallet_id != wallet_id or not amount:
            continue
        rest -= amount
        lot.remaining += amount
        if kind == "CLAWBACK":
            lot.reinstated += amount
        else:
            lot.transferred -= amount
        taken.back += amount
        if lot.live:
            wallet.available += amount
        write_entry(state, wallet, lot, kind, amount, counter, reference, description)
        restore(state, wallet, lot)
        moved.append((lot, amount))
    total = sum(part for _, part in moved)
    return _moved(wallet, total, total, moved)


def transfer_out(state: State, op: TransferOut) -> Outcome:
    """Take exactly the amount from transferable grants in burn order, once per reference."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(op.wallet_id))
    if not 0 < op.amount_micro <= MAX_MICRO:
        return Rejected(AmountRefused("a transfer is more than zero micro-credits"))
    reference = ("TRANSFER", op.reference)
    known = _known(state, wallet, reference)
    if known is not None:
        return known
    lots = [lot for lot in wallet.lots if lot.live and lot.transferable]
    free = sum(lot.free for lot in lots)
    if free < op.amount_micro:
        return Rejected(InsufficientCredits(op.amount_micro, free))
    parts = take_free(wallet, lots, op.amount_micro)
    for lot, part in parts:
        lot.remaining -= part
        lot.transferred += part
        taken_of(state, reference, lot).out += part
        write_entry(state, wallet, lot, "TRANSFER_OUT", -part, "PAID_OUT", reference, op.description)
    return _moved(wallet, op.amount_micro, op.amount_micro, parts)


def adjust(state: State, op: Adjust) -> Outcome:
    """Correct a wallet by hand, once per reference: up by a grant, down by what is free in burn order."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(op.wallet_id))
    reference = ("ADJUSTMENT", op.reference)
    known = _known(state, wallet, reference)
    if known is not None:
        return known
    if not op.amount_micro or not -MAX_MICRO <= op.amount_micro <= _OWN_LIMIT - wallet.balance:
        return Rejected(AmountRefused("an adjustment is not zero and within the wallet's bounds"))
    if op.amount_micro > 0:
        return _adjust_up(state, wallet, op, reference)
    parts = take_free(wallet, [lot for lot in wallet.lots if lot.live], -op.amount_micro)
    for lot, part in parts:
        lot.remaining -= part
        lot.adjusted += part
        taken_of(state, reference, lot).out += part
        write_entry(state, wallet, lot, "ADJUSTMENT", -part, "ADJUSTED", reference, op.reason)
    total = sum(part for _, part in parts)
    return _moved(wallet, total, total, parts)


def _adjust_up(state: State, wallet: Wallet, op: Adjust, reference: Reference) -> Outcome:
    if op.expires_at is not None and op.expires_at <= state.now:
        return Rejected(AmountRefused("a grant expires after it becomes effective"))
    if reference in state.sources:
        return Rejected(AmountRefused("this reference adjusted another wallet"))
    lot = _new_lot(
        state,
        Grant(
            state.new_id(),
            wallet.id,
            "ADJUSTMENT",
            op.amount_micro,
            state.now,
            op.expires_at,
            reference[0],
            reference[1],
            op.reason,
            op.burn_rank,
        ),
    )
    taken_of(state, reference, lot).back += op.amount_micro
    write_entry(state, wallet, lot, "ADJUSTMENT", op.amount_micro, "ADJUSTED", reference, op.reason)
    return _moved(wallet, op.amount_micro, op.amount_micro, ((lot, op.amount_micro),))


def _known(state: State, wallet: Wallet, reference: Reference) -> Outcome | None:
    """The first answer of a reference that was posted before."""
    taken = state.references.get(reference)
    if not taken:
        return None
    grants = tuple((grant_id, part.out or part.back) for grant_id, part in taken.items())
    return Posted(wallet.figures(), changed=False, total_micro=sum(part for _, part in grants), grants=grants)


def _find(state: State, wallet_id: UUID, grant_id: UUID) -> tuple[Wallet, Lot] | Rejected:
    wallet = state.wallets.get(wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(wallet_id))
    lot = state.lots.get(grant_id)
    if lot is None or lot.wallet_id != wallet_id:
        return Rejected(UnknownGrant(grant_id))
    return wallet, lot


def _chosen(state: State, wallet_id: UUID, grant_ids: tuple[UUID, ...] | None) -> tuple[Wallet, list[Lot]] | Rejected:
    wallet = state.wallets.get(wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(wallet_id))
    if grant_ids is None:
        return wallet, [lot for lot in wallet.lots if lot.remaining]
    lots: list[Lot] = []
    for grant_id in grant_ids:
        lot = state.lots.get(grant_id)
        if lot is None or lot.wallet_id != wallet_id:
            return Rejected(UnknownGrant(grant_id))
        lots.append(lot)
    return wallet, lots


def _moved(wallet: Wallet, amount: int, total: int, parts: Iterable[tuple[Lot, int]]) -> Posted:
    grants = tuple((lot.id, part) for lot, part in parts)
    return Posted(wallet.figures(), bool(amount), amount, total, grants)
