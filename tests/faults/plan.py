"""What a run does, as pure functions of its seed: which calls are made, and what each provider does with each try."""

import random
from dataclasses import asdict, dataclass
from enum import StrEnum

PROVIDERS = ("alpha", "beta", "gamma")
OUTAGE = ("alpha", 0.40, 0.46)
"""This provider answers nothing but 500 for this part of the calls, which opens its circuit."""
PROVIDERS_PATIENCE_S = 5
"""How long a gateway waits for a provider that falls silent: longer than a busy machine makes one wait for a core."""
FAULT_SHARE = 0.22
SPEECH_SHARE = 0.08


class Kind(StrEnum):
    CHAT = "chat"
    STREAM = "stream"
    EMBEDDING = "embedding"
    SPEECH = "speech"


FLOWING = {Kind.STREAM, Kind.SPEECH}
"""Their answers come piece by piece."""


@dataclass(frozen=True)
class PlannedCall:
    """One call. `key`: its Idempotency-Key. `leave_after_s`, `leave_after_writes` of the gateway's: when its client goes
    away. `twice`: sent to both gateways at
    once. `again`: sent once more after it was answered."""

    number: int
    kind: Kind
    model: str
    wallet: int
    gateway: int
    key: str | None
    leave_after_s: float | None
    leave_after_writes: int | None
    twice: bool
    again: bool
    words: int
    max_tokens: int
    choices: int

    def body(self) -> dict[str, object]:
        text = f"{self.number} " + "wörd " * self.words
        if self.kind is Kind.EMBEDDING:
            return {"model": "vectors", "input": text}
        if self.kind is Kind.SPEECH:
            return {"model": "voice", "input": text, "voice": "alloy"}
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": self.max_tokens,
        }
        if self.choices > 1:
            body["n"] = self.choices
        return body | ({"stream": True} if self.kind is Kind.STREAM else {})


def call_of(seed: int, number: int, wallets: int, gateways: int) -> PlannedCall:
    """The call of this number."""
    chance = random.Random(f"call:{seed}:{number}")
    kind = chance.choices((Kind.CHAT, Kind.STREAM, Kind.EMBEDDING), (45, 45, 10))[0]
    if random.Random(f"speech:{seed}:{number}").random() < SPEECH_SHARE:
        kind = Kind.SPEECH
    leaves = chance.random() < 0.08
    leaves_within = kind in FLOWING and not leaves and chance.random() < 0.12
    keyed = chance.random() < 0.4
    return PlannedCall(
        number=number,
        kind=kind,
        model=chance.choice(["routed", "routed", "solo"]),
        wallet=chance.randrange(wallets),
        gateway=chance.randrange(gateways),
        key=f"key-{seed}-{number}" if keyed else None,
        leave_after_s=chance.choice([0.0, chance.uniform(0, 0.05), chance.uniform(0, 0.4)]) if leaves else None,
        leave_after_writes=chance.randint(1, 8) if leaves_within else None,
        twice=keyed and chance.random() < 0.2,
        again=keyed and chance.random() < 0.2,
        words=chance.randint(1, 40),
        max_tokens=chance.randint(20, 120),
        choices=2 if kind is Kind.CHAT and chance.random() < 0.1 else 1,
    )


class Fault(StrEnum):
    """Before any output where the script has no chunks before it."""

    NONE = "none"
    STATUS = "status"  # 500, 503 with Retry-After, 429, 400, 401
    CLOSE = "close"  # the connection closes
    RESET = "reset"  # the connection is reset
    STALL = "stall"  # silence
    GARBAGE = "garbage"  # no JSON, or within sound no chunk
    TRUNCATED = "truncated"  # half an event, answer or chunk of sound, then the connection closes
    ERROR = "error"  # an error object in place of an answer or event; of sound always before it


class Report(StrEnum):
    """What is said of the usage, by sound nothing; in a stream by EARLY only at its beginning, by RUNNING in each chunk."""

    TRUE = "true"
    NONE = "none"
    NEGATIVE = "negative"
    TEXT = "text"
    ABSURD = "absurd"
    ABOVE = "above"
    INCONSISTENT = "inconsistent"
    EARLY = "early"
    RUNNING = "running"


@dataclass(frozen=True)
class Script:
    """What a provider does with one try. `fault_at`: after so many chunks of a stream. `doubled`: that chunk comes twice."""

    pieces: tuple[str, ...]
    fault: Fault = Fault.NONE
    fault_at: int = 0
    status: int = 200
    retry_after: str = ""
    report: Report = Report.TRUE
    input_tokens: int = 10
    doubled: int | None = None
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    tool_call: bool = False
    finish_reason: str = "stop"

    def summary(self) -> dict[str, object]:
        known = asdict(self)
        return {name: known[name] for name in ("fault", "fault_at", "status", "report", "doubled")}


def script_of(seed: int, provider: str, number: int, nth: int, calls: int, *, streamed: bool) -> Script:
    """What `provider` does with the `nth` try of this call, of `calls` in all."""
    name, begin, end = OUTAGE
    if provider == name and begin * calls <= number < end * calls:
        return Script((), Fault.STATUS, status=500)
    chance = random.Random(f"script:{seed}:{provider}:{number}:{nth}")
    pieces = tuple(chance.choice(["word ", "ein ", "ñandú ", "語 "]) for _ in range(chance.choice([0, *range(1, 15)])))
    report = chance.choices(list(Report), (70, 5, 3, 2, 2, 4, 4, 5, 5))[0]
    if not streamed and report in {Report.EARLY, Report.RUNNING}:
        report = Report.TRUE
    fault, fault_at, status, retry_after = Fault.NONE, 0, 200, ""
    if chance.random() < FAULT_SHARE:
        faults = [each for each in Fault if each is not Fault.NONE]
        fault = chance.choices(faults, (30, 15, 15, 6, 12, 12, 10))[0]
        fault_at = chance.choice([0, 0, chance.randint(0, len(pieces))]) if streamed else 0
        if fault is Fault.STATUS:
            fault_at = 0
            status = chance.choices([500, 503, 429, 400, 401], (40, 20, 15, 20, 5))[0]
            retry_after = (
                chance.choice(["", "0.05", "0.3", "1.5"]) if status in {503, 429} and provider == "beta" else ""
            )
    return Script(
        pieces=pieces,
        fault=fault,
        fault_at=fault_at,
        status=status,
        retry_after=retry_after,
        report=report,
        input_tokens=chance.randint(5, 60),
        doubled=chance.randrange(len(pieces)) if pieces and streamed and chance.random() < 0.08 else None,
        delay_s=chance.choice([0, 0, 0, chance.uniform(0, 0.2)]),
        chunk_delay_s=chance.choice([0, chance.uniform(0, 0.03), chance.uniform(0.005, 0.05)]),
        tool_call=bool(pieces) and not streamed and chance.random() < 0.1,
        finish_reason=chance.choices(["stop", "length", "content_filter"], (80, 10, 10))[0],
    )
