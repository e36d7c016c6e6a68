"""The one pure engine of money: operations in order, on loaded state, give outcomes and the changes to write."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from metering.operations import (
    Adjust,
    Checkpoint,
    Clawback,
    Expire,
    Freeze,
    Grant,
    Operation,
    PlaceHold,
    Reap,
    Refund,
    Reinstate,
    Release,
    ReverseTransfer,
    Settle,
    Thaw,
    TransferOut,
)
from metering.rules import calls, lots
from metering.rules.state import State
from metering.views import Outcome

# Any: each function takes its own operation type, which is the key it stands under.
_POSTINGS: Final[dict[type, Callable[[State, Any], Outcome]]] = {
    PlaceHold: calls.place_hold,
    Settle: calls.settle,
    Release: calls.release,
    Checkpoint: calls.checkpoint,
    Reap: calls.reap,
    Grant: lots.grant,
    Expire: lots.expire,
    Freeze: lots.freeze,
    Thaw: lots.thaw,
    Refund: lots.refund,
    Clawback: lots.clawback,
    Reinstate: lots.reinstate,
    TransferOut: lots.transfer_out,
    ReverseTransfer: lots.reverse_transfer,
    Adjust: lots.adjust,
}


def post(state: State, operations: Iterable[Operation]) -> list[Outcome]:
    """Do the operations in order; each sees what those before it did. A rejected one changes nothing."""
    return [_POSTINGS[type(operation)](state, operation) for operation in operations]
