"""The postings of a call's life: hold, checkpoint, settlement, release and reaping."""

from typing import Final

from kit.money import MAX_MICRO
from metering.errors import AmountRefused, CallEnded, CallIdTaken, UnknownCall, UnknownWallet
from metering.operations import IDEMPOTENCY_LIFE, Checkpoint, PlaceHold, Reap, Release, Settle
from metering.rules.charging import charge, charge_free, finish, settled_view, write_end
from metering.rules.late import correct_presumed, settle_released
from metering.rules.moves import consume, put_back, reserve
from metering.rules.state import EndedCall, Hold, Key, Limit, State, Wallet
from metering.views import (
    HoldPlaced,
    HoldRefusal,
    HoldRefused,
    Outcome,
    Posted,
    Rejected,
    Released,
    Repeat,
)

INTERRUPTED_CODE: Final = "UPSTREAM_ERROR"
INTERRUPTED: Final = "the call was interrupted"


def place_hold(state: State, op: PlaceHold) -> Outcome:
    """Reserve a call's upper bound, once per call id and once per idempotency key."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None or wallet.workspace_id != op.workspace_id:
        return Rejected(UnknownWallet(op.wallet_id))
    known = _known_hold(state, op, wallet)
    if known is not None:
        return known
    if not 0 <= op.amount_micro <= MAX_MICRO:
        return Rejected(AmountRefused("a hold is zero or more micro-credits"))
    limits = _limits_of(state, op)
    refusal = _hold_refusal(wallet, limits, op)
    if refusal is not None:
        return refusal
    parts = reserve(wallet, op.amount_micro)
    wallet.touched = True
    for limit in limits:
        limit.held += op.amount_micro
        limit.touched = True
    claim = op.idempotency
    hold = Hold(
        op.call_id,
        op.wallet_id,
        op.workspace_id,
        op.amount_micro,
        parts,
        op.model_slug,
        op.modality,
        op.user_id,
        op.api_key_id,
        op.request_id,
        None if claim is None else claim.key,
        op.owner,
        op.payee_wallet_id,
        op.payee_share_percent,
        state.now,
        op.expires_at,
        limits,
        terms=op.terms,
        is_new=True,
    )
    state.holds[op.call_id] = hold
    if claim is not None:
        key = Key(op.call_id, claim.operation, claim.input_digest, False, None, state.now + IDEMPOTENCY_LIFE)
        state.keys[op.workspace_id, claim.key] = state.changes.keys[op.workspace_id, claim.key] = key
    return HoldPlaced(op.call_id, hold.allocation(), wallet.figures().available_micro)


def _known_hold(state: State, op: PlaceHold, wallet: Wallet) -> Outcome | None:
    claim = op.idempotency
    if claim is not None:
        key = state.keys.get((op.workspace_id, claim.key))
        if key is not None and key.expires_at > state.now and key.call_id != op.call_id:
            matches = key.input_digest == claim.input_digest and key.operation == claim.operation
            return Repeat(key.call_id, matches, key.completed, key.answer if matches else None)
    hold = state.holds.get(op.call_id)
    if hold is not None:
        if hold.owner != op.owner:
            return Rejected(CallIdTaken(op.call_id))
        return HoldPlaced(op.call_id, hold.allocation(), wallet.figures().available_micro, duplicate=True)
    if op.call_id in state.ended:
        return Rejected(CallEnded(op.call_id))
    return None


def _limits_of(state: State, op: PlaceHold) -> list[Limit]:
    found = state.limits.get(op.workspace_id)
    if not found:
        return []
    return [limit for limit in found if limit.concerns(op.user_id, op.api_key_id)]


def _hold_refusal(wallet: Wallet, limits: list[Limit], op: PlaceHold) -> HoldRefused | None:
    needed = op.amount_micro
    if needed > wallet.available:
        held = sum(lot.held for lot in wallet.lots if lot.live)
        reason = HoldRefusal.HELD if needed <= wallet.available + held else HoldRefusal.INSUFFICIENT
        return HoldRefused(op.call_id, reason, needed, wallet.available, wallet.held)
    for limit in limits:
        if limit.spent + limit.held + needed > limit.limit:
            return HoldRefused(op.call_id, HoldRefusal.SPEND_LIMIT, needed, wallet.available, wallet.held, limit.view())
    return None


def checkpoint(state: State, op: Checkpoint) -> Outcome:
    """Note a running call's cost and renew its hold; the cost never goes back."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(op.wallet_id))
    hold = state.holds.get(op.call_id)
    if hold is None or hold.wallet_id != op.wallet_id:
        return Posted(wallet.figures(), changed=False)
    if not 0 <= op.cost_micro <= MAX_MICRO:
        return Rejected(AmountRefused("a cost is zero or more micro-credits"))
    hold.touched = True
    hold.expires_at = max(hold.expires_at, op.expires_at)
    if op.usage is not None and op.cost_micro >= hold.checkpoint_micro:
        hold.checkpoint_micro = op.cost_micro
        hold.checkpoint = op.usage
    return Posted(wallet.figures(), amount_micro=hold.checkpoint_micro)


def reap(state: State, op: Reap) -> Outcome:
    """End a hold whose time is over: its last checkpoint is charged as presumed, or nothing."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(op.wallet_id))
    hold = state.holds.get(op.call_id)
    if hold is None or hold.wallet_id != op.wallet_id or hold.expires_at > state.now:
        return Posted(wallet.figures(), changed=False)
    if hold.checkpoint is None:
        release_op = Release(
            op.call_id, op.wallet_id, hold.workspace_id, error_code=INTERRUPTED_CODE, error_message=INTERRUPTED
        )
        return release(state, release_op)
    settle_op = Settle(
        op.call_id,
        op.wallet_id,
        hold.workspace_id,
        hold.checkpoint_micro,
        hold.checkpoint,
        "FAILED",
        INTERRUPTED_CODE,
        INTERRUPTED,
        hold.payee_wallet_id,
    )
    return _settle_hold(state, wallet, hold, settle_op, presumed=True)


def release(state: State, op: Release) -> Outcome:
    """End a call without a charge; its hold returns to the grants it came from."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(op.wallet_id))
    hold = state.holds.get(op.call_id)
    if hold is None or hold.wallet_id != op.wallet_id:
        ended = state.ended.get(op.call_id)
        if ended is None or ended.wallet_id != op.wallet_id:
            return Rejected(UnknownCall(op.call_id))
        if ended.cost is not None:
            return Rejected(CallEnded(op.call_id))
        return Released(op.call_id, 0, wallet.figures(), duplicate=True)
    _close(state, wallet, hold)
    for lot, part in hold.parts:
        lot.held -= part
        lot.touched = True
        put_back(state, wallet, lot, part)
    state.ended[op.call_id] = _ended(hold)
    write_end(state, hold, op.status, op.error_code, op.error_message, op.answer)
    return Released(op.call_id, hold.amount, wallet.figures())


def settle(state: State, op: Settle) -> Outcome:
    """End a call with its true cost, exactly once."""
    wallet = state.wallets.get(op.wallet_id)
    if wallet is None:
        return Rejected(UnknownWallet(op.wallet_id))
    if not 0 <= op.cost_micro <= MAX_MICRO:
        return Rejected(AmountRefused("a cost is zero or more micro-credits"))
    hold = state.holds.get(op.call_id)
    if hold is not None and hold.wallet_id == op.wallet_id:
        return _settle_hold(state, wallet, hold, op, presumed=False)
    ended = state.ended.get(op.call_id)
    if ended is None or ended.wallet_id != op.wallet_id:
        return Rejected(UnknownCall(op.call_id))
    ended.payee_wallet_id = op.payee_wallet_id
    ended.payee_share_percent = op.payee_share_percent
    if ended.cost is None:
        ended.modality = op.modality
        return settle_released(state, wallet, ended, op)
    if ended.presumed:
        return correct_presumed(state, wallet, ended, op)
    return settled_view(ended, wallet, duplicate=True)


def _settle_hold(state: State, wallet: Wallet, hold: Hold, op: Settle, *, presumed: bool) -> Outcome:
    _close(state, wallet, hold)
    ended = _ended(hold)
    rest = op.cost_micro
    charges = ended.charges
    for lot, part in hold.parts:
        used = min(part, rest)
        lot.held -= part
        lot.touched = True
        rest -= used
        if used:
            consume(lot, used)
            charges[lot] = used
    if rest:
        charge_free(wallet, charges, rest)
    charge(state, wallet, ended, charges, op)
    for lot, part in hold.parts:
        back = part - charges.get(lot, 0)
        if back > 0:
            put_back(state, wallet, lot, back)
    for limit in hold.limits:
        limit.spent += ended.charged
    finish(state, ended, hold, op, presumed=presumed)
    return settled_view(ended, wallet)


def _close(state: State, wallet: Wallet, hold: Hold) -> None:
    """Take a hold down: its amount is neither held nor available until its parts are spent or put back."""
    del state.holds[hold.call_id]
    if not hold.is_new:
        state.changes.closed_holds.append(hold.call_id)
    wallet.held -= hold.amount
    wallet.touched = True
    for limit in hold.limits:
        limit.held -= hold.amount
        limit.touched = True


def _ended(hold: Hold) -> EndedCall:
    return EndedCall(
        hold.call_id,
        hold.workspace_id,
        hold.wallet_id,
        hold.model_slug,
        hold.modality,
        hold.user_id,
        hold.api_key_id,
        hold.request_id,
        hold.idempotency_key,
        hold.created_at,
        payee_wallet_id=hold.payee_wallet_id,
        payee_share_percent=hold.payee_share_percent,
    )
