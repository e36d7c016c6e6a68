"""Settlements that come after their hold was reaped: of a released call, and of one charged as presumed."""

from metering.operations import Settle, UsageFacts
from metering.rules.charging import charge, charge_free, finish, settled_view, write_end
from metering.rules.earnings import pay_shares
from metering.rules.moves import consume, put_back, write_charge, write_shortfall
from metering.rules.state import EndedCall, Lot, State, UsageRow, Wallet
from metering.views import Outcome


def settle_released(state: State, wallet: Wallet, ended: EndedCall, op: Settle) -> Outcome:
    """The hold was reaped and released before the cost arrived: charge what is available."""
    wallet.touched = True  # also where it costs nothing: the end is written with its wallet
    charges: dict[Lot, int] = {}
    charge_free(wallet, charges, op.cost_micro)
    ended.charges = charges
    charge(state, wallet, ended, charges, op)
    _count_late(state, ended, ended.charged)
    finish(state, ended, ended, op, presumed=False)
    return settled_view(ended, wallet)


def correct_presumed(state: State, wallet: Wallet, ended: EndedCall, op: Settle) -> Outcome:
    """The hold was reaped at a presumed cost: move to the true one within what is free, by a correction."""
    wallet.touched = True  # also where nothing is left to correct: the end is written with its wallet
    presumed_cost = ended.cost or 0
    before = ended.charged
    delta = op.cost_micro - presumed_cost
    if delta > 0:
        more: dict[Lot, int] = {}
        charge_free(wallet, more, delta)
        for lot, used in more.items():
            write_charge(state, wallet, lot, used, ended.call_id, ended.request_id, ended.model_slug)
            ended.charges[lot] = ended.charges.get(lot, 0) + used
            ended.charged += used
    elif delta < 0:
        _give_back(state, wallet, ended, max(0, ended.charged - op.cost_micro))
    shortfall = (op.cost_micro - ended.charged) - (presumed_cost - before)
    if shortfall:
        write_shortfall(state, ended.call_id, ended.request_id, shortfall, f"{ended.model_slug}: corrected")
    ended.cost = op.cost_micro
    ended.presumed = False
    ended.sequence += 1
    _count_late(state, ended, ended.charged - before)
    pay_shares(state, ended, op.usage)
    correction = _difference(op.usage, ended.usage or UsageFacts())
    state.changes.usage.append(UsageRow(ended, ended.sequence, correction, delta, ended.charged - before, False))
    ended.usage = op.usage
    write_end(state, ended, op.status, op.error_code, op.error_message, op.answer)
    if op.sealed_output is not None:
        state.changes.outputs[op.call_id] = (op.workspace_id, op.sealed_output)
    return settled_view(ended, wallet)


def _give_back(state: State, wallet: Wallet, ended: EndedCall, amount: int) -> None:
    """Return an overcharge to the lots that paid last, first."""
    rest = amount
    for lot in reversed(list(ended.charges)):
        back = min(ended.charges[lot], rest)
        if not back:
            continue
        ended.charges[lot] -= back
        ended.charged -= back
        rest -= back
        consume(lot, -back)
        write_charge(state, wallet, lot, -back, ended.call_id, ended.request_id, f"{ended.model_slug}: corrected")
        put_back(state, wallet, lot, back)


def _count_late(state: State, ended: EndedCall, charged: int) -> None:
    """A late charge counts against the limits of its user, key and workspace too.

    What is given back of a call of an earlier period was counted there, and makes no room in this one.
    """
    for limit in state.limits.get(ended.workspace_id, ()):
        if limit.concerns(ended.user_id, ended.api_key_id) and (charged > 0 or ended.created_at >= limit.period_start):
            limit.spent = max(0, limit.spent + charged)
            limit.touched = True


def _difference(true: UsageFacts, presumed: UsageFacts) -> UsageFacts:
    return UsageFacts(
        true.input_tokens - presumed.input_tokens,
        true.cached_input_tokens - presumed.cached_input_tokens,
        true.output_tokens - presumed.output_tokens,
        true.reasoning_tokens - presumed.reasoning_tokens,
        true.requests - presumed.requests,
        true.images - presumed.images,
        true.seconds - presumed.seconds,
        true.characters - presumed.characters,
        true.cache_write_input_tokens - presumed.cache_write_input_tokens,
        true.long_cache_write_input_tokens - presumed.long_cache_write_input_tokens,
        true.estimated,
        true.provider,
        true.details,
    )
