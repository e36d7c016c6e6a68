"""The circuit breakers of all providers, as this process sees them: shared through Redis, its own while that is away.

A call to a provider whose circuit is closed costs one look into a dict. Redis is told of failures and of trials only,
behind the call's back, and asked once a second which circuits are open. Failure policy: while Redis does not answer,
each process decides by what it sees itself; when it is back, what Redis says holds.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Final

from gateway.metrics import CIRCUIT, CIRCUIT_FAULTS
from gateway.rules import circuit
from gateway.rules.circuit import Circuit, CircuitTerms, Passage
from metering.redis_pipeline import Argument, LinkDown, Script, ScriptLink

POLL_S: Final = 1.0
FORGET_GOOD_S: Final = 30.0
"""Successes are counted here and told with the next failure; older ones are forgotten."""

_CIRCUIT: Final = Script.named("circuit")
_PREFIX: Final = b"tg:{providers}:"
_HALF_OPEN, _OPEN = 1, 2
_logger = logging.getLogger(__name__)


class Breakers:
    """One per process."""

    def __init__(
        self,
        link: ScriptLink,
        terms: Mapping[str, CircuitTerms],
        *,
        clock: Callable[[], float] = time.monotonic,
        test_clock: Callable[[], int] | None = None,
    ) -> None:
        """`terms` by provider; one with 0 failures never opens. `test_clock` (milliseconds) replaces the server's."""
        self._link = link
        self._terms = {name: each for name, each in terms.items() if each.failures}
        self._clock = clock
        self._test_clock = test_clock
        self._open: dict[str, float] = {}
        """Open circuits, with the instant from which trials may begin."""
        self._good = dict.fromkeys(self._terms, 0)
        self._bad: dict[str, int] = {}
        self._local = {name: Circuit() for name in self._terms}
        self._away = False
        self._reporting: set[asyncio.Task[None]] = set()
        for name in terms:
            CIRCUIT.labels(provider=name).set(0)

    def is_closed(self, provider: str) -> bool:
        """Whether calls pass without asking further."""
        return provider not in self._open

    async def admit(self, provider: str) -> Passage:
        """Whether a call may go to a provider whose circuit is open; a trial's end must be told as such."""
        trials_from = self._open.get(provider)
        if trials_from is None:
            return Passage.CLOSED
        if self._clock() < trials_from:
            return Passage.OPEN
        try:
            answer, lasts_ms = await self._run([provider], b"admit", circuit.TRIAL_MS)
        except LinkDown:
            self._lost()
            return circuit.admit(self._local[provider], self._local_ms())
        match answer:
            case 0:
                self._closed(provider)
                return Passage.CLOSED
            case 1:
                return Passage.TRIAL
            case _:
                self._opened(provider, lasts_ms)
                return Passage.OPEN

    def succeeded(self, provider: str, *, trial: bool = False) -> None:
        """A try was answered."""
        if provider not in self._good:
            return
        self._good[provider] += 1
        if trial:
            self._closed(provider)
            self._tell_soon(self._report(provider, 1, 0, trial=True))

    def failed(self, provider: str, *, trial: bool = False) -> None:
        """A try failed by the provider's fault."""
        if provider not in self._good:
            return
        if trial:
            self._tell_soon(self._report(provider, 0, 1, trial=True))
            return
        self._bad[provider] = self._bad.get(provider, 0) + 1
        if self._bad[provider] == 1:  # else it goes with the report that is about to start
            self._tell_soon(self._report_all(provider))

    async def run(self) -> None:
        """Look which circuits others opened and closed, until cancelled."""
        forget_at = self._clock() + FORGET_GOOD_S
        while self._terms:
            await asyncio.sleep(POLL_S)
            await self.look()
            if self._clock() >= forget_at:
                forget_at = self._clock() + FORGET_GOOD_S
                self._good = dict.fromkeys(self._good, 0)

    async def look(self) -> None:
        """Once."""
        names = list(self._terms)
        try:
            states = await self._run(names, b"look")
        except LinkDown:
            self._lost()
            return
        self._away = False
        for name, remaining_ms in zip(names, states, strict=True):
            self._take(name, remaining_ms)

    async def close(self) -> None:
        """Wait until all that happened is told."""
        if self._reporting:
            await asyncio.wait(self._reporting)

    def _tell_soon(self, report: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(report, name="circuit-report")
        self._reporting.add(task)
        task.add_done_callback(self._reporting.discard)

    async def _report_all(self, provider: str) -> None:
        good, bad = self._good[provider], self._bad.pop(provider)
        self._good[provider] = 0
        await self._report(provider, good, bad, trial=False)

    async def _report(self, provider: str, good: int, bad: int, *, trial: bool) -> None:
        terms = self._terms[provider]
        outcome: list[Argument] = [good, bad, int(trial), terms.failures, terms.cooldown_ms]
        try:
            answer = await self._run([provider], b"report", *outcome, circuit.MAX_COOLDOWN_MS, circuit.WINDOW_MS)
        except LinkDown:
            self._lost()
            own, now_ms = self._local[provider], self._local_ms()
            circuit.report(own, terms, now_ms, good, bad, trial=trial)
            self._take(provider, max(0, own.open_until_ms - now_ms) if own.open_until_ms else -1)
            return
        self._take(provider, answer[0])

    async def _run(self, providers: Sequence[str], action: bytes, *arguments: Argument) -> list[int]:
        now_ms = self._test_clock() if self._test_clock else 0
        keys = [_PREFIX + name.encode() for name in providers]
        return await self._link.run(_CIRCUIT, keys, [action, now_ms, *arguments])

    def _take(self, provider: str, remaining_ms: int) -> None:
        if remaining_ms < 0:
            self._closed(provider)
        else:
            self._opened(provider, remaining_ms)

    def _opened(self, provider: str, remaining_ms: int) -> None:
        if provider not in self._open:
            _logger.warning("provider %s keeps failing: it is left alone for %d ms", provider, remaining_ms)
        self._open[provider] = self._clock() + remaining_ms / 1000
        CIRCUIT.labels(provider=provider).set(_OPEN if remaining_ms else _HALF_OPEN)

    def _closed(self, provider: str) -> None:
        if self._open.pop(provider, None) is not None:
            _logger.warning("provider %s answers again", provider)
            CIRCUIT.labels(provider=provider).set(0)

    def _lost(self) -> None:
        """Redis does not answer: what it said of open circuits goes on here."""
        CIRCUIT_FAULTS.inc()
        if self._away:
            return
        self._away = True
        _logger.warning("circuits of providers are not shared: Redis is away")
        at, now_ms = self._clock(), self._local_ms()
        for name, trials_from in self._open.items():
            remaining_ms = max(1, int((trials_from - at) * 1000))
            self._local[name] = Circuit(open_until_ms=now_ms + remaining_ms, openings=1)
        for name in self._local.keys() - self._open.keys():
            self._local[name] = Circuit()

    def _local_ms(self) -> int:
        return int(self._clock() * 1000)
