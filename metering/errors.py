"""What metering refuses, one class per reason."""

from uuid import UUID

from kit.errors import Code, Refusal, Unavailable
from kit.money import format_micro


class PostingRejected(Refusal):
    """The ledger cannot do this operation as asked; nothing of it was written."""

    code = Code.CONFLICT


class UnknownWallet(PostingRejected):
    """The wallet does not exist."""

    code = Code.NOT_FOUND

    def __init__(self, wallet_id: UUID) -> None:
        """Says which."""
        super().__init__(f"wallet {wallet_id} does not exist")
        self.wallet_id = wallet_id


class UnknownGrant(PostingRejected):
    """The grant does not exist in this wallet."""

    code = Code.NOT_FOUND

    def __init__(self, grant_id: UUID) -> None:
        """Says which."""
        super().__init__(f"grant {grant_id} does not exist in this wallet")
        self.grant_id = grant_id


class UnknownCall(PostingRejected):
    """No hold, no charge and no ended call has this id."""

    code = Code.NOT_FOUND

    def __init__(self, call_id: UUID) -> None:
        """Says which."""
        super().__init__(f"call {call_id} is not known to the ledger")
        self.call_id = call_id


class CallEnded(PostingRejected):
    """The call has ended in another way."""

    def __init__(self, call_id: UUID) -> None:
        """Says which."""
        super().__init__(f"call {call_id} has ended already")
        self.call_id = call_id


class CallIdTaken(PostingRejected):
    """Another request holds credits under this call id."""

    def __init__(self, call_id: UUID) -> None:
        """Says which."""
        super().__init__(f"call {call_id} belongs to another request")
        self.call_id = call_id


class AmountRefused(PostingRejected):
    """The amount is not one that this operation takes."""

    code = Code.INVALID_INPUT


class InsufficientCredits(PostingRejected):
    """Fewer free credits than asked for."""

    code = Code.INSUFFICIENT_CREDITS

    def __init__(self, needed_micro: int, available_micro: int) -> None:
        """Both are shown to the caller."""
        super().__init__(
            f"{format_micro(needed_micro)} credits are needed and {format_micro(available_micro)} are free"
        )
        self.needed_micro = needed_micro
        self.available_micro = available_micro


class StatementFailed(PostingRejected):
    """The database refused this one operation (a constraint, a value out of range); its batch-mates were not touched."""

    def __init__(self, sqlstate: str, detail: str) -> None:
        """`sqlstate` is PostgreSQL's five characters."""
        super().__init__("the ledger could not write this operation")
        self.sqlstate = sqlstate
        self.detail = detail


class IdempotencyKeyReused(Refusal):
    """The key was used with another input."""

    code = Code.IDEMPOTENCY_KEY_REUSED

    def __init__(self, key: str) -> None:
        """Names the key."""
        super().__init__(
            f"the idempotency key {key!r} was used with another input; use another key for another request",
            field=["idempotencyKey"],
        )


class LedgerUnavailable(Unavailable):
    """The database cannot be reached, or too much waits for it; nothing was charged."""


class SettlementDelayed(Unavailable):
    """A settlement could not be written in time: the caller journals it. Its outcome may yet turn out written."""


class JournalUnusable(Exception):
    """The journal's folder cannot keep settlements: said at start, before any call is taken."""
