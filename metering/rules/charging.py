"""What every settlement does: charge lots, record what could not be paid, write the call's end."""

from metering.operations import EndStatus, Settle
from metering.rules.earnings import pay_shares
from metering.rules.moves import consume, take_free, write_charge, write_shortfall
from metering.rules.state import CallRow, EndedCall, Hold, Lot, State, UsageRow, Wallet
from metering.views import Settled


def settled_view(ended: EndedCall, wallet: Wallet, *, duplicate: bool = False) -> Settled:
    """The figures of a settled call, its corrections included."""
    return Settled(
        ended.call_id,
        ended.charged,
        (ended.cost or 0) - ended.charged,
        tuple((lot.id, amount) for lot, amount in ended.charges.items() if amount),
        wallet.figures(),
        duplicate,
        ended.presumed,
        ended.earned,
    )


def charge_free(wallet: Wallet, charges: dict[Lot, int], rest: int) -> None:
    """Charge above the hold: what is available, in burn order."""
    for lot, part in take_free(wallet, (lot for lot in wallet.lots if lot.live), rest):
        consume(lot, part)
        charges[lot] = charges.get(lot, 0) + part


def charge(state: State, wallet: Wallet, ended: EndedCall, charges: dict[Lot, int], op: Settle) -> None:
    """Write the entries of a first charge; what the wallet cannot pay is the platform's."""
    for lot, used in charges.items():
        write_charge(state, wallet, lot, used, ended.call_id, ended.request_id, ended.model_slug)
        ended.charged += used
    if ended.charged < op.cost_micro:
        missing = op.cost_micro - ended.charged
        write_shortfall(state, ended.call_id, ended.request_id, missing, ended.model_slug)
    ended.cost = op.cost_micro


def finish(state: State, ended: EndedCall, source: Hold | EndedCall, op: Settle, *, presumed: bool) -> None:
    """Write a settled call's usage event, its row and its answer, and pay its publishers; once per call."""
    ended.presumed = presumed
    ended.usage = op.usage
    pay_shares(state, ended, op.usage)
    state.changes.usage.append(UsageRow(source, 0, op.usage, op.cost_micro, ended.charged, presumed))
    state.ended[op.call_id] = ended
    write_end(state, source, op.status, op.error_code, op.error_message, op.answer)
    if op.sealed_output is not None:
        state.changes.outputs[op.call_id] = (op.workspace_id, op.sealed_output)


def write_end(
    state: State,
    call: Hold | EndedCall,
    status: EndStatus,
    error_code: str | None,
    error_message: str | None,
    answer: dict[str, object] | None,
) -> None:
    """The call's row, and the stored answer of its idempotency key."""
    state.changes.calls[call.call_id] = CallRow(call, status, error_code, error_message)
    if call.idempotency_key is None:
        return
    if answer is None:
        answer = {"status": status, "error_code": error_code, "error_message": error_message}
    state.changes.answers.append((call.workspace_id, call.idempotency_key, call.call_id, answer))
    key = state.keys.get((call.workspace_id, call.idempotency_key))
    if key is not None and key.call_id == call.call_id:
        key.completed = True
        key.answer = answer
