"""When a provider is left alone: a circuit that opens on failures, lets single trials pass after a while, and closes.

The same steps as metering/lua/circuit.lua, which shares them between processes; these here decide in one process while
Redis is away. All times are milliseconds of one clock that is handed in.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kit.records import record

WINDOW_MS: Final = 60_000
"""Failures older than this are forgotten."""
TRIAL_MS: Final = 10_000
"""A trial that has not come back by then is given up, and another may be made."""
MAX_COOLDOWN_MS: Final = 60_000


class Passage(StrEnum):
    """Whether a call may go to a provider."""

    CLOSED = "closed"  # the circuit is closed: calls pass
    TRIAL = "trial"  # this one call may try whether the provider is back
    OPEN = "open"  # none may


@record
class CircuitTerms:
    """`failures` within the window, at least half of its calls, open it for `cooldown_ms` at first; 0 failures never."""

    failures: int
    cooldown_ms: int


@dataclass(slots=True)
class Circuit:
    """One provider's. `open_until_ms` 0: closed. `openings`: how often it has opened since it was last closed."""

    window_at_ms: int = 0
    good: int = 0
    bad: int = 0
    open_until_ms: int = 0
    openings: int = 0
    trial_until_ms: int = 0


def report(circuit: Circuit, terms: CircuitTerms, now_ms: int, good: int, bad: int, *, trial: bool) -> None:
    """Take up how calls ended; `trial` where it is the one that was let through. Late ends of others change nothing."""
    if circuit.open_until_ms:
        if not trial:
            return
        if bad:
            _open(circuit, terms, now_ms)
        elif good:
            _close(circuit)
        return
    if not 0 <= now_ms - circuit.window_at_ms < WINDOW_MS:
        circuit.window_at_ms = now_ms
        circuit.good = circuit.bad = 0
    circuit.good += good
    circuit.bad += bad
    if terms.failures and circuit.bad >= terms.failures and circuit.bad >= circuit.good:
        _open(circuit, terms, now_ms)


def admit(circuit: Circuit, now_ms: int) -> Passage:
    """Whether a call may pass now; a trial is one call's at a time."""
    if not circuit.open_until_ms:
        return Passage.CLOSED
    if now_ms < circuit.open_until_ms or now_ms < circuit.trial_until_ms:
        return Passage.OPEN
    circuit.trial_until_ms = now_ms + TRIAL_MS
    return Passage.TRIAL


def _open(circuit: Circuit, terms: CircuitTerms, now_ms: int) -> None:
    circuit.openings += 1
    circuit.open_until_ms = now_ms + min(terms.cooldown_ms * 2 ** min(circuit.openings - 1, 10), MAX_COOLDOWN_MS)
    circuit.trial_until_ms = circuit.window_at_ms = circuit.good = circuit.bad = 0


def _close(circuit: Circuit) -> None:
    circuit.open_until_ms = circuit.openings = circuit.trial_until_ms = 0
    circuit.window_at_ms = circuit.good = circuit.bad = 0
