"""The single steps that postings are made of: each moves credits of one lot and writes its ledger entry."""

from collections.abc import Iterable
from uuid import UUID

from metering.rules.burn import is_lapsed
from metering.rules.state import Lot, State, Taken, Wallet

Reference = tuple[str, str]
"""(reference kind, reference id) of an entry."""


def write_entry(
    state: State,
    wallet: Wallet,
    lot: Lot,
    kind: str,
    amount: int,
    counter: str,
    reference: Reference,
    description: str,
    call_id: UUID | None = None,
) -> None:
    """Record a movement of `amount` (signed) that the lot has made, and its effect on the wallet's balance."""
    wallet.balance += amount
    wallet.touched = lot.touched = True
    state.changes.entries.append(
        (
            state.new_id(),
            wallet.id,
            lot.id,
            kind,
            amount,
            wallet.balance,
            counter,
            call_id,
            reference[0],
            reference[1],
            description,
        )
    )


def write_shortfall(state: State, call_id: UUID, request_id: str, amount: int, description: str) -> None:
    """Record what the platform bears of a call (`amount` positive), or bears no longer (negative)."""
    state.changes.entries.append(
        (
            state.new_id(),
            None,
            None,
            "SHORTFALL",
            -amount,
            None,
            "REVENUE",
            call_id,
            "REQUEST",
            request_id,
            description,
        )
    )


def reserve(wallet: Wallet, amount: int) -> list[tuple[Lot, int]]:
    """Hold `amount`, which must be available, on live lots in burn order."""
    parts: list[tuple[Lot, int]] = []
    if not amount:
        return parts
    rest = amount
    for lot in wallet.lots:
        if not lot.live:
            continue
        part = lot.remaining - lot.held
        if part <= 0:
            continue
        part = min(part, rest)
        lot.held += part
        lot.touched = True
        parts.append((lot, part))
        rest -= part
        if not rest:
            break
    wallet.held += amount
    wallet.available -= amount
    return parts


def consume(lot: Lot, amount: int) -> None:
    """Use credits of this lot, counted neither as held nor as available any more, for a call; `write_charge` follows."""
    lot.remaining -= amount
    lot.spent += amount


def write_charge(
    state: State, wallet: Wallet, lot: Lot, amount: int, call_id: UUID, request_id: str, description: str
) -> None:
    """The entry of what a call consumed of this lot."""
    write_entry(state, wallet, lot, "USAGE", -amount, "REVENUE", ("REQUEST", request_id), description, call_id)


def put_back(state: State, wallet: Wallet, lot: Lot, amount: int) -> None:
    """What returns to a lot is available again, or expires at once where the lot has lapsed meanwhile."""
    if lot.live:
        wallet.available += amount
    elif is_lapsed(lot, state.now):
        lapse(state, wallet, lot, amount)


def lapse(state: State, wallet: Wallet, lot: Lot, amount: int) -> None:
    """Expire free credits of a lapsed lot."""
    lot.remaining -= amount
    lot.expired += amount
    write_entry(state, wallet, lot, "EXPIRY", -amount, "EXPIRED", ("GRANT", str(lot.id)), "Expired")


def restore(state: State, wallet: Wallet, lot: Lot) -> None:
    """After credits were added back to a lot by an entry: expire them where it has lapsed."""
    if is_lapsed(lot, state.now) and lot.free:
        lapse(state, wallet, lot, lot.free)


def refresh_live(wallet: Wallet, lot: Lot, live: bool) -> None:
    """Move the free part of a lot into or out of what is available."""
    if lot.live != live:
        wallet.available += lot.free if live else -lot.free
        lot.live = live


def take_free(wallet: Wallet, lots: Iterable[Lot], amount: int) -> list[tuple[Lot, int]]:
    """Which free parts of these lots, in their order, make up `amount` at most; takes them out of what is available."""
    parts: list[tuple[Lot, int]] = []
    rest = amount
    for lot in lots:
        if not rest:
            break
        part = min(lot.free, rest)
        if part > 0:
            parts.append((lot, part))
            rest -= part
            if lot.live:
                wallet.available -= part
    return parts


def taken_of(state: State, reference: Reference, lot: Lot) -> Taken:
    """What this reference has moved of this lot so far."""
    return state.references.setdefault(reference, {}).setdefault(lot.id, Taken())
